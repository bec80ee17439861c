"""What is recorded is what nbgrader books, what the learner reads, and what the CSV says."""

from __future__ import annotations

import csv
import json
import sqlite3
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from podlab.checks import registry
from podlab.checks.contract import Line, Report, Result, Verdict, failed, passed
from podlab.errors import GradingError
from podlab.grading import feedback, records, worker
from podlab.grading.bookkeeping import Books
from podlab.grading.records import Outcome, Record, Unanswered
from podlab.grading.samples import ASSIGNMENT
from podlab.grading.submissions import Submission, discover

COURSE = Path(__file__).parents[3]
HOSTILE = "<script>alert(1)</script>"


def report(exercise: str, verdicts: Sequence[Verdict]) -> Report:
    found = registry.exercise(exercise)
    made = {
        Verdict.PASS: passed("it answers", "it answered"),
        Verdict.FAIL: failed("it answers", HOSTILE, cause="=1+1", next_step="look"),
        Verdict.NOT_GRADABLE: Result(Verdict.NOT_GRADABLE, "a node", "none"),
        Verdict.INFRASTRUCTURE: Result(Verdict.INFRASTRUCTURE, "a node", "the machine is slow"),
    }
    lines = [Line(f"c{n}", f"check {n}", 1, False, made[verdict]) for n, verdict in enumerate(verdicts)]
    return Report(exercise, found.title, found.points, tuple(lines), 7, "abc")


def unanswered(*exercises: str) -> list[Unanswered]:
    return [
        Unanswered(id, each.title, each.points, "The answer cell is as it was released.")
        for id, each in registry.chapter("15").items()
        if id in exercises
    ]


HALF = (Verdict.PASS, Verdict.FAIL)
RECORDS = {
    "ada": Record(
        "ada",
        ASSIGNMENT,
        Outcome.GRADED,
        reports={"15.1": report("15.1", [Verdict.PASS] * 2), "15.2": report("15.2", HALF)},
        unanswered=unanswered("15.3", "15.4"),
    ),
    "bob": Record(
        "bob",
        ASSIGNMENT,
        Outcome.NOT_GRADABLE,
        f"not a notebook {HOSTILE}",
        unanswered=unanswered("15.1", "15.2", "15.3", "15.4"),
    ),
    "cyd": Record(
        "cyd",
        ASSIGNMENT,
        Outcome.INFRASTRUCTURE,
        "the machine is slow",
        reports={"15.1": report("15.1", [Verdict.INFRASTRUCTURE])},
        unanswered=unanswered("15.2", "15.3", "15.4"),
    ),
}


def test_scores_are_sums_and_the_machines_trouble_has_none() -> None:
    assert (RECORDS["ada"].score, RECORDS["ada"].maximum) == (15.0, 40)
    assert RECORDS["bob"].score == 0
    assert RECORDS["cyd"].score is None


def test_a_record_survives_its_file(tmp_path: Path) -> None:
    for record in RECORDS.values():
        records.write(tmp_path, record)
        assert records.to_json(records.read(tmp_path, ASSIGNMENT, record.learner)) == records.to_json(record)


def test_a_score_in_a_file_is_never_believed(tmp_path: Path) -> None:
    records.write(tmp_path, RECORDS["ada"])
    file = records.path(tmp_path, ASSIGNMENT, "ada")
    data = json.loads(file.read_text())
    data["score"] = data["reports"]["15.2"]["score"] = 1000
    file.write_text(json.dumps(data))
    assert records.read(tmp_path, ASSIGNMENT, "ada").score == 15.0


@pytest.mark.parametrize("text", ["", "{}", '{"schema": 2}', "[" * 5000, '{"schema": 1, "learner": 3}'])
def test_a_damaged_record_is_refused(tmp_path: Path, text: str) -> None:
    file = records.path(tmp_path, ASSIGNMENT, "ada")
    file.parent.mkdir(parents=True)
    file.write_text(text)
    with pytest.raises(GradingError):
        records.read(tmp_path, ASSIGNMENT, "ada")


#: What a record may not say, by the place where it stands.
UNFIT = {
    "seconds": ["1", -1, True, None, float("nan"), float("inf")],
    "notes": ["a note", [1], None],
    "attempts": ["1", 1.5, -1],
    "unanswered": [
        [{"exercise": "15.1", "title": "T", "points": points, "reason": ""}] for points in ("10", -5, 0, 1e9)
    ]
    + [[{"exercise": "15.1"}], [3], {}],
    "reports": [[], {"15.1": 3}, {"15.1": {}}],
    "reason": [None, 3],
    "learner": [3],
    "digest": [None],
    "basis": [3],
    "outcome": ["excellent"],
    "schema": [2],
    "more": [1],
}


@pytest.mark.parametrize(("key", "value"), [(key, value) for key, values in UNFIT.items() for value in values])
def test_a_record_that_does_not_fit_the_schema_is_refused_as_a_damaged_one(
    tmp_path: Path, key: str, value: object
) -> None:
    records.write(tmp_path, RECORDS["ada"])
    file = records.path(tmp_path, ASSIGNMENT, "ada")
    file.write_text(json.dumps(json.loads(file.read_text()) | {key: value}))
    with pytest.raises(GradingError, match=r"ada\.json is damaged"):
        records.read(tmp_path, ASSIGNMENT, "ada")


def test_a_record_without_a_basis_as_the_first_version_wrote_it_can_be_read(tmp_path: Path) -> None:
    records.write(tmp_path, RECORDS["ada"])
    file = records.path(tmp_path, ASSIGNMENT, "ada")
    data = json.loads(file.read_text())
    del data["basis"]
    file.write_text(json.dumps(data))
    assert records.read(tmp_path, ASSIGNMENT, "ada") == records.from_json(records.to_json(RECORDS["ada"]))


HALF_A_CHARACTER = "ValueError: \ud800"


def torn() -> Record:
    """Ada's record, with half a character in every text that may come from her code."""
    broken = report("15.1", [Verdict.PASS])
    line = replace(
        broken.lines[0], result=failed("x", HALF_A_CHARACTER, cause="x", next_step="x", said=HALF_A_CHARACTER)
    )
    return replace(
        RECORDS["ada"],
        reason=HALF_A_CHARACTER,
        reports={"15.1": replace(broken, lines=(line,), notes=(HALF_A_CHARACTER,))},
        unanswered=[replace(each, reason=HALF_A_CHARACTER) for each in unanswered("15.2", "15.3", "15.4")],
        notes=[HALF_A_CHARACTER],
    )


def test_half_a_character_is_written_out_when_a_record_is_written_and_when_one_is_read(tmp_path: Path) -> None:
    records.write(tmp_path, torn())
    file = records.path(tmp_path, ASSIGNMENT, "ada")
    assert r"ValueError: \\ud800" in file.read_text()
    file.write_text(file.read_text().replace(r"\\ud800", r"\ud800"))  # as earlier versions have written it
    read = records.read(tmp_path, ASSIGNMENT, "ada")
    assert read.reason == r"ValueError: \ud800"
    repr(records.to_json(read)).encode()


@pytest.mark.slow
def test_half_a_character_keeps_nobody_from_being_booked(tmp_path: Path) -> None:
    books = Books(tmp_path, ASSIGNMENT, COURSE / "source" / ASSIGNMENT / f"{ASSIGNMENT}.ipynb")
    opened = books.open()
    books.enter([Submission(learner, ASSIGNMENT, opened) for learner in ("ada", "bob")], opened, None)
    for record in (torn(), RECORDS["bob"]):
        records.write(tmp_path, record)
    found = records.read_all(tmp_path, ASSIGNMENT)
    books.book(found)
    assert set(books.booked()) == {"ada", "bob"}
    for learner in ("ada", "bob"):
        assert (tmp_path / "feedback" / learner / ASSIGNMENT / f"{ASSIGNMENT}.html").is_file()
    for table in books.export(found):
        assert r"\ud800" in table.read_text() and "bob" in table.read_text()


@pytest.mark.slow
def test_nbgrader_books_what_was_recorded(tmp_path: Path) -> None:
    """One class through nbgrader: gradebook, feedback, CSV, and a second run that changes nothing."""
    submitted = tmp_path / "class"
    submitted.mkdir()
    release = (COURSE / "release" / ASSIGNMENT / f"{ASSIGNMENT}.ipynb").read_text()
    for learner in RECORDS:
        (submitted / f"{learner}.ipynb").write_text("no notebook" if learner == "bob" else release)
    books = Books(tmp_path / "out", ASSIGNMENT, COURSE / "source" / ASSIGNMENT / f"{ASSIGNMENT}.ipynb")
    books.folder.mkdir()
    opened = books.open()
    assert opened.read_text() == release
    books.enter(discover(submitted, ASSIGNMENT), opened, books.folder / "received")
    for record in RECORDS.values():
        records.write(books.folder, record)
    for _ in range(2):
        books.book(RECORDS.values())
        assert books.scores() == {"ada": 15.0, "bob": 0.0, "cyd": 0.0}
    assert _waiting_for_a_person(books) == {"cyd"}
    page = (books.folder / "feedback" / "ada" / ASSIGNMENT / f"{ASSIGNMENT}.html").read_text()
    assert "it answered" in page
    assert HOSTILE not in page
    grades, words = books.export(list(RECORDS.values()))
    with grades.open() as file:
        rows = {row["learner"]: row for row in csv.DictReader(file)}
    assert [rows[name]["score"] for name in ("ada", "bob", "cyd")] == ["15", "0", ""]
    assert ",'=1+1," in words.read_text()
    assert (books.folder / "received" / "bob.ipynb").read_text() == "no notebook"


def _waiting_for_a_person(books: Books) -> set[str]:
    from nbgrader.api import Gradebook

    with Gradebook(f"sqlite:///{books.folder / 'gradebook.db'}") as book:
        return {each.student_id for each in book.assignment_submissions(ASSIGNMENT) if each.needs_manual_grade}


def test_a_damaged_gradebook_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "gradebook.db").write_bytes(b"not a database" * 100)
    books = Books(tmp_path, ASSIGNMENT, COURSE / "source" / ASSIGNMENT / f"{ASSIGNMENT}.ipynb")
    for _ in range(2):
        with pytest.raises(GradingError, match="damaged"):
            books.open()
    assert (tmp_path / "gradebook.db").read_bytes() == b"not a database" * 100
    assert not (tmp_path / "source").exists()
    (kept,) = (tmp_path / "backups").iterdir()
    assert kept.name.startswith("damaged-") and kept.read_bytes() == b"not a database" * 100


@pytest.mark.slow
def test_a_lost_gradebook_is_made_again_from_the_records(tmp_path: Path) -> None:
    submitted = tmp_path / "class"
    submitted.mkdir()
    (submitted / "ada.ipynb").write_text((COURSE / "release" / ASSIGNMENT / f"{ASSIGNMENT}.ipynb").read_text())
    books = Books(tmp_path / "out", ASSIGNMENT, COURSE / "source" / ASSIGNMENT / f"{ASSIGNMENT}.ipynb")
    books.folder.mkdir()
    for _ in range(2):
        books.enter(discover(submitted, ASSIGNMENT), books.open(), None)
        books.book([RECORDS["ada"]])
        assert books.scores() == {"ada": 15.0}
        (books.folder / "gradebook.db").unlink()


def test_a_locked_gradebook_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    connect = sqlite3.connect
    holder = connect(tmp_path / "gradebook.db", isolation_level=None)
    holder.execute("create table t (x)")
    holder.execute("begin exclusive")
    monkeypatch.setattr(sqlite3, "connect", lambda file, timeout=0: connect(file, timeout=0))
    books = Books(tmp_path, ASSIGNMENT, COURSE / "source" / ASSIGNMENT / f"{ASSIGNMENT}.ipynb")
    with pytest.raises(GradingError, match="locked"):
        books.open()
    holder.close()


def job(tmp_path: Path, text: str) -> worker.Job:
    path = tmp_path / "ada.ipynb"
    path.write_text(text)
    release = COURSE / "release" / ASSIGNMENT / f"{ASSIGNMENT}.ipynb"
    return worker.Job("ada", ASSIGNMENT, str(path), str(release), None, str(tmp_path), "image", "no-cluster")


@pytest.mark.parametrize("text", ["", "not json", '{"cells": 1}', "\x00"])
def test_what_is_no_notebook_has_a_record_without_a_cluster(tmp_path: Path, text: str) -> None:
    record = worker.Grader().grade(job(tmp_path, text))
    assert record.outcome is Outcome.NOT_GRADABLE
    assert (record.score, record.maximum) == (0, 40)
    assert record.reason


def test_an_untouched_assignment_has_no_points_and_needs_no_cluster(tmp_path: Path) -> None:
    record = worker.Grader().grade(job(tmp_path, (COURSE / "release" / ASSIGNMENT / f"{ASSIGNMENT}.ipynb").read_text()))
    assert record.outcome is Outcome.GRADED
    assert (record.score, record.maximum) == (0, 40)
    assert {each.reason for each in record.unanswered} == {"The answer cell is as it was released."}


def test_feedback_links_to_the_lesson_where_learners_find_it() -> None:
    text, plain = feedback.of_exercise(RECORDS["ada"], "15.2")
    assert "notebooks/15-self-healing.ipynb#" in text and "<a " not in plain
    for exercise in ("15.2", "15.3"):
        _, html = feedback.of_exercise(RECORDS["ada"], exercise, "https://example.org/course/")
        assert '<a href="https://example.org/course/notebooks/15-self-healing.ipynb#' in html


@pytest.mark.parametrize("lessons", ["", "https://example.org/course/"])
def test_every_line_of_feedback_says_what_to_read_on_the_web_or_in_the_course(tmp_path: Path, lessons: str) -> None:
    books = Books(tmp_path, ASSIGNMENT, tmp_path / "source.ipynb", lessons=lessons)
    _, words = books.export(list(RECORDS.values()))
    with words.open(newline="") as file:
        found = {row["to read"] for row in csv.DictReader(file)}
    assert found and all(each.startswith(f"{lessons}notebooks/15-self-healing.ipynb#") for each in found)


def another_version(tmp_path: Path, exercise: str) -> Path:
    source = tmp_path / "new" / f"{ASSIGNMENT}.ipynb"
    source.parent.mkdir()
    notebook = json.loads((COURSE / "source" / ASSIGNMENT / f"{ASSIGNMENT}.ipynb").read_text())
    for cell in notebook["cells"]:
        if cell["metadata"].get("nbgrader", {}).get("grade_id") == f"checks-{exercise.replace('.', '-')}":
            cell["source"] = "# new\n" + "".join(cell["source"])
    source.write_text(json.dumps(notebook))
    return source


@pytest.mark.slow
def test_a_changed_assignment_is_refused_by_its_exercise_and_taken_with_renew(tmp_path: Path) -> None:
    old = Books(tmp_path / "out", ASSIGNMENT, COURSE / "source" / ASSIGNMENT / f"{ASSIGNMENT}.ipynb")
    old.folder.mkdir()
    before = old.open().read_text()
    new = Books(tmp_path / "out", ASSIGNMENT, another_version(tmp_path, "15.3"))
    with pytest.raises(GradingError, match=r"exercise 15\.3") as refused:
        new.open()
    assert "--renew" in (refused.value.hint or "")
    assert old.open().read_text() == before
    after = new.open(renew=True).read_text()
    assert after != before and "# new" in after
    assert new.open().read_text() == after
    assert new.scores() == {}


@pytest.mark.slow
def test_what_a_person_has_marked_and_said_is_kept_when_the_class_is_booked_again(tmp_path: Path) -> None:
    from nbgrader.api import Gradebook

    submitted = tmp_path / "class"
    submitted.mkdir()
    (submitted / "ada.ipynb").write_text((COURSE / "release" / ASSIGNMENT / f"{ASSIGNMENT}.ipynb").read_text())
    books = Books(tmp_path / "out", ASSIGNMENT, COURSE / "source" / ASSIGNMENT / f"{ASSIGNMENT}.ipynb")
    books.folder.mkdir()
    books.enter(discover(submitted, ASSIGNMENT), books.open(), None)
    records.write(books.folder, RECORDS["ada"])
    books.book([RECORDS["ada"]])
    with Gradebook(f"sqlite:///{books.folder / 'gradebook.db'}") as book:
        (notebook,) = book.find_submission(ASSIGNMENT, "ada").notebooks
        next(each for each in notebook.grades if each.name == "checks-15-2").manual_score = 9.0
        next(each for each in notebook.comments if each.name == "answer-15-1").manual_comment = "Well put."
        book.db.commit()
    assert books.scores() == {"ada": 19.0}
    books.open()
    books.book([RECORDS["ada"]])
    assert books.scores() == {"ada": 19.0}
    page = (books.folder / "feedback" / "ada" / ASSIGNMENT / f"{ASSIGNMENT}.html").read_text()
    assert "Well put." in page


@pytest.mark.slow
def test_a_person_is_asked_again_only_when_the_checks_say_something_else(tmp_path: Path) -> None:
    from nbgrader.api import Gradebook

    books = Books(tmp_path, ASSIGNMENT, COURSE / "source" / ASSIGNMENT / f"{ASSIGNMENT}.ipynb")
    opened = books.open()
    books.enter([Submission(learner, ASSIGNMENT, opened) for learner in ("ada", "cyd")], opened, None)
    class_ = [RECORDS["ada"], RECORDS["cyd"]]
    books.book(class_)
    assert _waiting_for_a_person(books) == {"cyd"}
    with Gradebook(f"sqlite:///{books.folder / 'gradebook.db'}") as book:
        for learner in ("ada", "cyd"):
            for grade in book.find_submission(ASSIGNMENT, learner).notebooks[0].grades:
                grade.manual_score, grade.needs_manual_grade = 9.0, False
        book.db.commit()
    for _ in range(2):
        books.book(class_)
        assert _waiting_for_a_person(books) == set()
    assert books.booked()["ada"].final == 36
    better = {**RECORDS["ada"].reports, "15.2": report("15.2", [Verdict.PASS] * 2)}
    for _ in range(2):
        books.book([replace(RECORDS["ada"], reports=better)])
        assert _waiting_for_a_person(books) == {"ada"}, "until somebody has looked"
