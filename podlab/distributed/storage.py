"""Disks of nodes: a simulated one, which survives simulated crashes, and a file that survives real ones."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from podlab.errors import LaboratoryError

_SCALARS = frozenset((int, str, float, bool, type(None)))


def copied(value: Any, what: str) -> Any:
    """A copy as JSON would make it, so that nodes share nothing; LaboratoryError if JSON cannot carry it."""
    if type(value) is dict:
        for key, part in value.items():
            if type(part) not in _SCALARS or type(key) is not str:
                break
        else:
            return dict(value)
    try:
        return json.loads(json.dumps(value))
    except (TypeError, ValueError) as error:
        raise LaboratoryError(f"{what} cannot be written as JSON: {error}. It was {value!r:.200}.") from error


class Disk:
    """A simulated node's storage: survives crashes; `put` is all or nothing."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.values: dict[str, Any] = {}
        self.crash_at_put: Callable[[], None] | None = None

    def get(self, key: str, default: Any = None) -> Any:
        """The value last put under `key`."""
        value = self.values.get(key, default)
        return value if type(value) in _SCALARS else copied(value, f"What {self.name} stored")

    def put(self, **values: Any) -> None:
        """Store all `values`; the node crashes right after it where that was asked for."""
        self.values.update(copied(values, f"What {self.name} stores"))
        if self.crash_at_put:
            self.crash_at_put()


class FileDisk:
    """Storage in one JSON file, replaced as a whole and flushed to the device with every `put`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._values: dict[str, Any] = json.loads(path.read_text())
        except FileNotFoundError:
            self._values = {}

    def get(self, key: str, default: Any = None) -> Any:
        """The value last put under `key`."""
        return copied(self._values.get(key, default), f"What {self.path.stem} stored")

    def put(self, **values: Any) -> None:
        """Store all `values`; the file is either the old one or the new one, whenever the process is killed."""
        self._values.update(copied(values, f"What {self.path.stem} stores"))
        new = self.path.with_suffix(".new")
        with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            json.dump(self._values, file)
            file.flush()
            os.fsync(file.fileno())
        new.replace(self.path)
