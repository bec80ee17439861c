"""One record per submission, as JSON on disk: what happened to it, and the report of every exercise.

A record is written by the grader's own process, never by anything that ran the learner's code.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from podlab import paths
from podlab.checks import results, schemas
from podlab.checks.contract import Report
from podlab.errors import GradingError


class Outcome(StrEnum):
    """What became of a submission. Only `INFRASTRUCTURE` has no score."""

    GRADED = "graded"
    #: The file cannot be read as a notebook. Nothing in it could be looked at, so it has 0 points and is listed.
    NOT_GRADABLE = "not gradable"
    #: The learner's code did not end in time; what it had answered until then was graded.
    TIMED_OUT = "timed out"
    #: The learner's code ended its kernel; what it had answered until then was graded.
    CRASHED = "crashed"
    #: The machine was in the way. Never scored, tried again.
    INFRASTRUCTURE = "infrastructure error"


@dataclass(frozen=True)
class Unanswered:
    """An exercise whose checks did not run: its answer cell is as it was released, or was removed; the file is no
    notebook; or the machine was in the way. Earlier versions also made it of a cell that raised or defines nothing.
    """

    exercise: str
    title: str
    points: int
    reason: str


@dataclass(frozen=True)
class Record:
    """Everything that is known about one graded submission. Times in seconds."""

    learner: str
    assignment: str
    outcome: Outcome
    reason: str = ""
    reports: Mapping[str, Report] = field(default_factory=dict)
    unanswered: Sequence[Unanswered] = ()
    notes: Sequence[str] = ()
    #: SHA-256 of the submitted file, so that a re-run knows whether it has this one already.
    digest: str = ""
    seconds: float = 0.0
    attempts: int = 1
    #: Digest of the release and the checks by which it was graded: with others it is graded again.
    basis: str = ""

    @property
    def scores(self) -> dict[str, float | None]:
        """Points by exercise id; None where the machine was in the way."""
        unanswered = None if self.outcome is Outcome.INFRASTRUCTURE else 0.0
        found: dict[str, float | None] = {each.exercise: unanswered for each in self.unanswered}
        found |= {name: report.score for name, report in self.reports.items()}
        return dict(sorted(found.items()))

    @property
    def points(self) -> dict[str, int]:
        """Points that could be earned, by exercise id."""
        found = {each.exercise: each.points for each in self.unanswered}
        found |= {name: report.points for name, report in self.reports.items()}
        return dict(sorted(found.items()))

    @property
    def score(self) -> float | None:
        """The sum of all scores; None for a submission that the machine kept from being judged."""
        if self.outcome is Outcome.INFRASTRUCTURE:
            return None
        return round(sum(score or 0.0 for score in self.scores.values()), 2)

    @property
    def maximum(self) -> int:
        """The sum of all points."""
        return sum(self.points.values())


SCHEMA = 1
#: Notes of one record that are kept, and characters of one: there can be one for each cell of a submission.
MOST_NOTES, LONGEST_NOTE = 100, 400
#: Bytes of the largest file that is read as a record: what `write` makes of six exercises is smaller.
LARGEST_RECORD = 8 * results.LARGEST_REPORT


def to_json(record: Record) -> dict[str, Any]:
    """The record as plain values, all of whose text can be written."""
    values = {
        "schema": SCHEMA,
        "learner": record.learner,
        "assignment": record.assignment,
        "outcome": record.outcome.value,
        "reason": record.reason,
        "reports": {name: results.to_json(report) for name, report in sorted(record.reports.items())},
        "unanswered": [vars(each) for each in record.unanswered],
        "notes": [note[:LONGEST_NOTE] for note in record.notes[:MOST_NOTES]],
        "digest": record.digest,
        "seconds": record.seconds,
        "attempts": record.attempts,
        "basis": record.basis,
        "score": record.score,
        "maximum": record.maximum,
    }
    found: dict[str, Any] = _writable(values)
    return found


def _writable(value: Any) -> Any:
    """Plain values without half characters, which no file can hold: the text of a learner's error may have them."""
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, dict):
        return {_writable(key): _writable(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_writable(each) for each in value]
    return value


def from_json(data: Any) -> Record:
    """The record in `data`; GradingError if it does not fit the schema. Scores are computed again, never read."""
    if wrong := schemas.misfit("podlab.grading", "record.schema.json", data):
        raise GradingError(f"A record of grading is malformed {wrong}.")
    return Record(
        data["learner"],
        data["assignment"],
        Outcome(data["outcome"]),
        data["reason"],
        {name: results.from_json(report) for name, report in data["reports"].items()},
        tuple(Unanswered(**each) for each in data["unanswered"]),
        tuple(data["notes"]),
        data["digest"],
        data["seconds"],
        data["attempts"],
        data.get("basis", ""),
    )


def path(folder: Path, assignment: str, learner: str) -> Path:
    """Where the record of one submission lies."""
    return folder / "records" / assignment / f"{learner}.json"


def write(folder: Path, record: Record) -> None:
    """Write a record whole or not at all."""
    file = path(folder, record.assignment, record.learner)
    file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    try:
        with paths.whole_file(file) as stream:
            json.dump(to_json(record), stream, indent=1)
    except OSError as error:
        raise GradingError(
            f"The record of {record.learner} cannot be written to {file}: {error.strerror}.",
            hint="Make room or choose another folder with --out; graded submissions are kept.",
        ) from error


def read(folder: Path, assignment: str, learner: str) -> Record | None:
    """The record of one submission, or None when it has not been graded."""
    file = path(folder, assignment, learner)
    try:
        if (size := file.stat().st_size) > LARGEST_RECORD:
            raise ValueError(f"it has {size} bytes, {LARGEST_RECORD} are the most")
        return from_json(_writable(json.loads(file.read_text(), parse_constant=_no_number)))
    except FileNotFoundError:
        return None
    except GradingError as error:
        raise GradingError(f"{file} is damaged: {error}", hint="Grade again with --regrade.") from error
    except (ValueError, RecursionError) as error:
        raise GradingError(f"{file} is damaged: {error}.", hint="Grade again with --regrade.") from error


def _no_number(text: str) -> Any:
    raise ValueError(f"{text} is no number")


def read_all(folder: Path, assignment: str) -> list[Record]:
    """All records of an assignment, by learner."""
    files = sorted((folder / "records" / assignment).glob("*.json"))
    return [record for file in files if (record := read(folder, assignment, file.stem)) is not None]
