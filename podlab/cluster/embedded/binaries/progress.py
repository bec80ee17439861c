"""What is said while binaries are fetched or built."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Report:
    """One moment of the work: `step` names it, `detail` says what is at hand.

    `done` and `total` count `unit`; `total` is 0 while it is not known. A report of kind "note" is a plain
    fact to be kept on the screen (a source that was skipped and why); "done" ends the step.
    """

    step: str
    detail: str = ""
    done: int = 0
    total: int = 0
    unit: Literal["bytes", "packages"] = "bytes"
    kind: Literal["progress", "note", "done"] = "progress"


Progress = Callable[[Report], None]


def silent(report: Report) -> None:
    """Say nothing."""
