"""What an import can do without."""

from __future__ import annotations

import sys


def without_extras() -> None:
    """Keep jsonschema, if it is imported later, from an extra that costs more than a second and that nothing needs."""
    sys.modules.setdefault("rfc3987_syntax", None)  # type: ignore[arg-type]
