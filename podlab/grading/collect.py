"""Collect submissions into a term's folder: whose each file is, when it came, and what became of it, said by name."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from podlab import paths
from podlab.errors import GradingError
from podlab.grading import receipts
from podlab.grading.arrivals import Arrival, arrivals
from podlab.grading.receipts import Receipt
from podlab.grading.term import Term


@dataclass
class Collected:
    """What came of one collection: learners by what happened to their work, and sentences for the instructor."""

    new: list[str] = field(default_factory=list)
    known: list[str] = field(default_factory=list)
    late: list[str] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)
    said: list[str] = field(default_factory=list)


def collect(
    term: Term, assignment: str, source: Path, received: datetime | None = None, now: datetime | None = None
) -> Collected:
    """Take in everything in `source`. `received` is the receipt time of all of it; without, each file's own.

    That is the time at which the file's inode last changed (a folder, an exchange) or which the LMS wrote into its
    zip; never one that a learner's notebook, name or timestamp.txt says. Nothing in `source` is changed.
    """
    now = now or datetime.now(UTC)
    found = arrivals(source, assignment, now)
    if not found:
        raise GradingError(
            f"{source} holds nothing that can be a submission of {assignment}.",
            hint="Known are LEARNER.ipynb, LEARNER/NAME.ipynb, nbgrader's layouts, and exports of Moodle and Canvas.",
        )
    outcome = Collected()
    known = receipts.read(term.folder, assignment)
    for each in sorted(found, key=lambda one: (one.changed, one.path)):
        known = _take(term, assignment, each, received or each.changed, known, outcome)
    receipts.write(term.folder, assignment, known)
    _say_versions(known, outcome)
    return outcome


def _take(
    term: Term, assignment: str, arrival: Arrival, moment: datetime, known: list[Receipt], outcome: Collected
) -> list[Receipt]:
    label = arrival.label
    if arrival.refused:
        outcome.said.append(f"{arrival.path}: not taken. {arrival.refused}")
    if not label.who:
        return known
    fitting = term.members(label.who, label.number if label.way == "canvas" else "")
    if len(fitting) != 1:
        outcome.unknown.append(label.who)
        outcome.said.append(f"{arrival.path}: {_whose(label.who, fitting, term)}")
        return known
    (learner,) = fitting
    if label.way == "exchange" and (owner := _owner(Path(arrival.path).parent)) not in ("", label.who):
        outcome.said.append(f"{arrival.path}: belongs to the user {owner}, not to {label.who}; left where it is.")
        return known
    member = term.roster.get(learner)
    certain = not label.number or (member is not None and member.canvas_id == label.number)
    others = {one.number for one in known if one.learner == learner} - {"", label.number}
    if others and not certain:
        outcome.unknown.append(label.who)
        outcome.said.append(
            f"{arrival.path}: {label.who!r} has the number {label.number} here, and had {', '.join(sorted(others))} "
            "before: somebody else of that name? Left where it is."
        )
        return known
    data = arrival.data
    digest = hashlib.sha256(data if data is not None else arrival.path.encode()).hexdigest()
    file = f"{learner}-{digest[:12]}.ipynb" if data is not None else ""
    new = Receipt(learner, moment.astimezone(UTC), digest, arrival.path, file, arrival.refused, label.number)
    if any((one.learner, one.digest) == (learner, digest) for one in known):
        outcome.known.append(learner)
    else:
        outcome.new.append(learner)
    if data is not None:
        _keep(receipts.folder_of(term.folder, assignment) / "versions" / file, data)
    if term.seconds_late(assignment, learner, new.received) > term.late.grace_minutes * 60:
        outcome.late.append(learner)
    return receipts.added(known, new)


def _whose(who: str, fitting: Sequence[str], term: Term) -> str:
    """What is said of a file that not exactly one member fits."""
    if not fitting:
        return f"{who!r} is not in {term.folder.name}/roster.csv; left where it is."
    return (
        f"{who!r} may be {' or '.join(fitting)}; left where it is. Look whose it is, and collect it under that name: "
        f"{fitting[0]}.ipynb, say."
    )


def _keep(file: Path, data: bytes) -> None:
    if file.is_file() and file.stat().st_size == len(data):
        return  # named by its content
    file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    try:
        with paths.whole_file(file, "wb") as stream:
            stream.write(data)
    except OSError as error:
        raise GradingError(
            f"{file} cannot be written: {error.strerror}.", hint="Make room and collect again; nothing is lost."
        ) from error


def _owner(folder: Path) -> str:
    """The account that owns a folder of the exchange; empty where the system does not know it."""
    import pwd

    try:
        return pwd.getpwuid(os.lstat(folder).st_uid).pw_name
    except (KeyError, OSError):
        return ""


def _say_versions(known: Sequence[Receipt], outcome: Collected) -> None:
    """Name who has handed in more than once, and which one counts."""
    touched = set(outcome.new) | set(outcome.known)
    for learner, counts in receipts.counting(known).items():
        versions = [each for each in known if each.learner == learner]
        if learner in touched and len(versions) > 1:
            later = [each for each in versions if each.refused and each.received > counts.received]
            outcome.said.append(
                f"{learner}: {len(versions)} versions; that of {counts.received.astimezone():%d %B, %H:%M:%S} counts "
                f"({counts.origin})." + "".join(f" A later one was not taken: {each.refused}" for each in later)
            )
