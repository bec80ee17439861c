"""JSON schemas that lie beside modules, and in words what does not fit one."""

from __future__ import annotations

import json
from functools import cache
from importlib import resources
from typing import Any

from podlab import imports


def misfit(package: str, file: str, data: Any) -> str:
    """Where and how `data` does not fit the schema in a package's file ("at points: ..."); empty where it fits."""
    error = next(_validator(package, file).iter_errors(data), None)
    if error is None:
        return ""
    where = "/".join(str(part) for part in error.absolute_path) or "the whole"
    return f"at {where}: {error.message[:300]}"


@cache
def _validator(package: str, file: str) -> Any:
    """What compares data with a schema; made once, since looking the schema itself over costs more than that."""
    imports.without_extras()
    import jsonschema

    schema = json.loads(resources.files(package).joinpath(file).read_text())
    kind = jsonschema.validators.validator_for(schema)
    kind.check_schema(schema)
    return kind(schema)
