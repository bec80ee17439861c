"""Receipts: what was collected, from whom, when, and which file it is. `received/ASSIGNMENT/receipts.json`.

The collector writes them; nothing that a learner's notebook or folder says of time is believed. Files are kept by
their content, so that collecting again changes nothing, and an earlier version is never lost to a later one.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from pathlib import Path

from podlab import paths
from podlab.errors import GradingError
from podlab.grading.submissions import Submission

SCHEMA = 1


@dataclass(frozen=True)
class Receipt:
    """One version of one learner's work. `refused` says why there is no `file`; `number` is the LMS's own."""

    learner: str
    received: datetime
    digest: str
    origin: str
    file: str = ""
    refused: str = ""
    number: str = ""

    @property
    def made_of(self) -> str:
        """What a record says it was made of (see Record.digest), once this version has been graded."""
        return self.digest if self.file else refusal(self.refused)


def refusal(reason: str) -> str:
    """The digest in the record of a file that was not taken."""
    return hashlib.sha256(reason.encode()).hexdigest()


def folder_of(term: Path, assignment: str) -> Path:
    """Where the files of an assignment and their receipts are."""
    return term / "received" / assignment


def read(term: Path, assignment: str) -> list[Receipt]:
    """All receipts of an assignment, the earliest first; GradingError for a file that is damaged."""
    file = folder_of(term, assignment) / "receipts.json"
    try:
        data = json.loads(file.read_text())
        if data["schema"] != SCHEMA:
            raise ValueError(f"schema {data['schema']!r}")
        found = [Receipt(**each | {"received": datetime.fromisoformat(each["received"])}) for each in data["receipts"]]
    except FileNotFoundError:
        return []
    except (ValueError, KeyError, TypeError) as error:
        raise GradingError(
            f"{file} is damaged: {error!r}.", hint="The files are in versions/ beside it; collect again without it."
        ) from error
    return sorted(found, key=lambda each: (each.received, each.digest))


def write(term: Path, assignment: str, receipts: Sequence[Receipt]) -> None:
    """Write all receipts, whole or not at all."""
    file = folder_of(term, assignment) / "receipts.json"
    file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    rows = [asdict(each) | {"received": each.received.isoformat()} for each in receipts]
    with paths.whole_file(file) as stream:
        json.dump({"schema": SCHEMA, "receipts": rows}, stream, indent=1)


def added(known: Sequence[Receipt], new: Receipt) -> list[Receipt]:
    """`known` with `new`; of the same file twice the earlier time stays."""
    merged = []
    for each in known:
        if (each.learner, each.digest) == (new.learner, new.digest):
            new = replace(new if new.file else each, received=min(each.received, new.received))
        else:
            merged.append(each)
    return sorted([*merged, new], key=lambda each: (each.received, each.digest))


def counting(receipts: Sequence[Receipt]) -> dict[str, Receipt]:
    """The receipt that counts, by learner: the latest that was taken; where none was, the latest refused one."""
    ordered = sorted(receipts, key=lambda each: (bool(each.file), each.received, each.digest))
    return dict(sorted({each.learner: each for each in ordered}.items()))


def submissions(term: Path, assignment: str) -> list[Submission]:
    """What is to be graded: the version that counts of each learner; GradingError when nothing was collected."""
    found = counting(read(term, assignment))
    if not found:
        raise GradingError(f"Nothing was collected for {assignment}.", hint="Run `podlab collect` first.")
    folder = folder_of(term, assignment)
    return [
        Submission(
            each.learner,
            assignment,
            folder / "versions" / each.file if each.file else None,
            each.received,
            each.refused,
        )
        for each in found.values()
    ]
