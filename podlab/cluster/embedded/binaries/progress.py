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


def counted(report: Report) -> str:
    """How far a report is, in its unit: "12 of 96 MB", "30 of at most 2077 packages", or nothing."""
    if report.kind != "progress" or not (report.done or report.total):
        return ""
    if report.unit == "bytes":
        of = f" of {report.total / 1e6:.0f}" if report.total else ""
        return f"{report.done / 1e6:.0f}{of} MB"
    return f"{report.done} of at most {report.total} packages" if report.total else ""


def words(report: Report) -> str:
    """A report as one line: its step, and how far that is or what is at hand."""
    return ": ".join(part for part in (report.step, counted(report) or report.detail) if part)


def silent(report: Report) -> None:
    """Say nothing."""
