"""Grades in the forms that others read: nbgrader's CSV, Canvas' and Moodle's columns, JUnit XML, JSON.

Scores come from the gradebook, so an instructor's own marks count, and penalties for being late are taken off. What
waits for a person, or to be graded, has an empty grade: an LMS leaves it as it is.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as xml

from podlab import paths
from podlab.checks.contract import Verdict
from podlab.grading import receipts, records
from podlab.grading.bookkeeping import Booked, Books, write_csv
from podlab.grading.receipts import Receipt
from podlab.grading.records import Outcome, Record
from podlab.grading.term import Member


@dataclass(frozen=True)
class Facts:
    """Everything that an export is made of, by learner where it is a mapping."""

    assignment: str
    booked: Mapping[str, Booked]
    records: Mapping[str, Record]
    members: Mapping[str, Member]
    receipts: Mapping[str, Receipt]
    #: Learners whose deadline has passed: who of them has handed in nothing has 0, the others have no grade yet.
    closed: Collection[str] = ()

    @property
    def maximum(self) -> float:
        """The points of the assignment."""
        return max((each.max_score for each in self.booked.values()), default=0.0)

    @property
    def ungraded(self) -> list[str]:
        """Learners whose work has come and has no grade yet, or a grade of an earlier version only."""
        return [who for who in self.receipts if self.is_ungraded(who)]

    def is_ungraded(self, learner: str) -> bool:
        """Whether a learner is one of `ungraded`."""
        receipt = self.receipts.get(learner)
        if receipt is None:
            return False
        record, booked = self.records.get(learner), self.booked.get(learner)
        if record is None:  # lost, or not there yet; a person's marks count
            return booked is None or booked.needs_person
        return booked is None or record.digest != receipt.made_of

    def final(self, learner: str) -> str:
        """The grade that counts; empty for what waits for a person or to be graded."""
        if self.is_ungraded(learner):
            return ""
        booked = self.booked.get(learner)
        if booked is None:
            return "0" if learner in self.closed and learner not in self.records else ""
        return "" if booked.needs_person else f"{booked.final:g}"


def export(facts: Facts, folder: Path, forms: Sequence[str]) -> list[Path]:
    """Write the forms into `folder`; returns the paths."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    written = []
    for form in forms:
        name, write = FORMS[form]
        write(facts, folder / name)
        written.append(folder / name)
    return written


def facts_of(books: Books, now: datetime | None = None) -> Facts:
    """The facts of one assignment: everybody in the roster, and who has handed in."""
    now = now or datetime.now(UTC)
    booked = books.booked()
    known = {each.learner: each for each in records.read_all(books.folder, books.assignment)}
    members = dict(books.term.roster) if books.term else {}
    members |= {learner: Member(learner) for learner in sorted(booked) if learner not in members}
    got = receipts.counting(receipts.read(books.folder, books.assignment))
    closed = []
    if books.term:
        dues = {learner: books.term.deadline(books.assignment, learner) for learner in members}
        closed = [learner for learner, due in dues.items() if due and due < now]
    return Facts(books.assignment, booked, known, members, got, closed)


def nbgrader_csv(facts: Facts, path: Path) -> None:
    """The columns of `nbgrader export`, with cells quoted where they must be."""
    head = ("assignment", "duedate", "timestamp", "student_id", "last_name", "first_name", "email", "raw_score")
    rows = []
    for learner, member in facts.members.items():
        booked = facts.booked.get(learner, Booked(0.0, facts.maximum, 0.0, False, None, None))
        final = facts.final(learner)
        rows.append(
            (
                facts.assignment,
                booked.due or "",
                booked.received or "",
                learner,
                member.last_name,
                member.first_name,
                member.email,
                booked.score if final else "",
                booked.penalty,
                final,
                booked.max_score,
            )
        )
    write_csv(path, (*head, "late_submission_penalty", "score", "max_score"), rows)


def canvas_csv(facts: Facts, path: Path) -> None:
    """Canvas' import of a gradebook: a line of points possible, then a line for each learner."""
    rows: list[tuple[str, ...]] = [("    Points Possible", "", "", "", "", f"{facts.maximum:g}")]
    for learner, member in facts.members.items():
        receipt = facts.receipts.get(learner)
        number = member.canvas_id or (receipt.number if receipt and "_assignsubmission_" not in receipt.origin else "")
        name = ", ".join(filter(None, (member.last_name, member.first_name))) or learner
        rows.append((name, number, "", member.login or learner, "", facts.final(learner)))
    write_csv(path, ("Student", "ID", "SIS User ID", "SIS Login ID", "Section", facts.assignment), rows)


def moodle_csv(facts: Facts, path: Path) -> None:
    """Moodle's offline grading worksheet: participants by number where their work came from Moodle, else by address."""
    rows = []
    for learner, member in facts.members.items():
        receipt = facts.receipts.get(learner)
        number = receipt.number if receipt and "_assignsubmission_" in receipt.origin else ""
        identifier = f"Participant {number}" if number else ""
        rows.append(
            (identifier, member.name, member.email, facts.final(learner), f"{facts.maximum:g}", _note(facts, learner))
        )
    head = ("Identifier", "Full name", "Email address", "Grade", "Maximum Grade", "Feedback comments")
    write_csv(path, head, rows)


def _note(facts: Facts, learner: str) -> str:
    record, booked = facts.records.get(learner), facts.booked.get(learner)
    if record is None or facts.is_ungraded(learner):
        return "Not graded yet." if learner in facts.receipts else "Nothing was handed in."
    words = [f"{id}: {'not judged' if score is None else f'{score:g}'}" for id, score in record.scores.items()]
    if booked and booked.penalty:
        words.append(f"late: -{booked.penalty:g}")
    return "; ".join(words)


def junit_xml(facts: Facts, path: Path) -> None:
    """JUnit XML: a suite for each learner, a case for each check. Its words are the feedback's."""
    root = xml.Element("testsuites", name=facts.assignment)
    for learner, record in facts.records.items():
        cases = [case for report in record.reports.values() for case in _cases(report)]
        cases += [_unanswered(each.exercise, each.title, each.reason, record.outcome) for each in record.unanswered]
        suite = xml.SubElement(root, "testsuite", name=learner, tests=str(len(cases)), time=f"{record.seconds:g}")
        for kind, plural in (("failure", "failures"), ("error", "errors"), ("skipped", "skipped")):
            suite.set(plural, str(sum(case.find(kind) is not None for case in cases)))
        suite.extend(cases)
    with paths.whole_file(path, "wb") as file:
        xml.ElementTree(root).write(file, encoding="utf-8", xml_declaration=True)


#: What JUnit calls the verdicts that are no pass.
_KINDS = {Verdict.FAIL: "failure", Verdict.INFRASTRUCTURE: "error", Verdict.NOT_GRADABLE: "skipped"}


def _cases(report: Any) -> list[xml.Element]:
    cases = []
    for line in report.lines:
        case = xml.Element("testcase", classname=report.exercise, name=line.title, time=f"{line.seconds:g}")
        result = line.result
        if kind := _KINDS.get(result.verdict):
            trouble = xml.SubElement(case, kind, message=_printable(f"expected {result.expected}"))
            trouble.text = _printable(
                f"observed {result.observed}\nlikely cause: {result.cause}\nnext: {result.next_step}"
            )
        cases.append(case)
    return cases


def _unanswered(exercise: str, title: str, reason: str, outcome: Outcome) -> xml.Element:
    case = xml.Element("testcase", classname=exercise, name=title, time="0")
    kind = "error" if outcome is Outcome.INFRASTRUCTURE else "failure"
    xml.SubElement(case, kind, message=_printable(reason))
    return case


#: Characters that XML has no way to write.
_UNPRINTABLE = re.compile("[^\t\n\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def _printable(text: str) -> str:
    return _UNPRINTABLE.sub("", text)


def as_json(facts: Facts, path: Path) -> None:
    """Everything that is known, as JSON: the records with what the gradebook makes of them."""
    learners = {}
    for learner in facts.members:
        record, booked = facts.records.get(learner), facts.booked.get(learner)
        learners[learner] = {
            "final": None if not facts.final(learner) else float(facts.final(learner)),
            "penalty": booked.penalty if booked else 0.0,
            "received": str(booked.received) if booked and booked.received else None,
            "needs_person": bool(booked and booked.needs_person),
            "ungraded": facts.is_ungraded(learner),
            "record": records.to_json(record) if record else None,
        }
    with paths.whole_file(path) as file:
        json.dump({"assignment": facts.assignment, "maximum": facts.maximum, "learners": learners}, file, indent=1)


FORMS: dict[str, tuple[str, Callable[[Facts, Path], None]]] = {
    "nbgrader": ("nbgrader.csv", nbgrader_csv),
    "canvas": ("canvas.csv", canvas_csv),
    "moodle": ("moodle.csv", moodle_csv),
    "junit": ("junit.xml", junit_xml),
    "json": ("grades.json", as_json),
}
