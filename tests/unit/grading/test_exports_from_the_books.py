"""Exports from a real gradebook: never a zero for work that was handed in, and no traceback for books in trouble."""

from __future__ import annotations

import contextlib
import csv
import os
import shutil
import sqlite3
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from test_records_and_books import COURSE, HALF, RECORDS, another_version
from test_records_and_books import report as reported
from typer.testing import CliRunner

from podlab.commands.term import app
from podlab.errors import GradingError
from podlab.grading import exports, receipts, records, report
from podlab.grading.bookkeeping import BACKUPS, Books
from podlab.grading.ledger import Ledger
from podlab.grading.receipts import Receipt
from podlab.grading.records import Record
from podlab.grading.samples import ASSIGNMENT
from podlab.grading.submissions import Submission
from podlab.grading.term import FILE, ROSTER, Member, Term

DUE = datetime(2026, 10, 2, 9, tzinfo=UTC)
NOW = datetime(2026, 11, 1, tzinfo=UTC)
CLASS = ("ada", "bob", "cyd", "dan", "eve")


@pytest.fixture(scope="module")
def graded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A term's folder: ada, bob and cyd are graded, dan is entered only, eve has handed in nothing."""
    folder = tmp_path_factory.mktemp("term") / "autumn"
    folder.mkdir()
    books = of(folder)
    release = books.open()
    entered = [Submission(who, ASSIGNMENT, release, received=DUE) for who in CLASS[:4]]
    books.enter(entered, release, None)
    books.set_deadlines([each.learner for each in entered])
    receipts.write(folder, ASSIGNMENT, [Receipt(who, DUE, who, "", f"{who}.ipynb") for who in CLASS[:4]])
    for record in RECORDS.values():
        records.write(folder, replace(record, digest=record.learner))
    books.book(records.read_all(folder, ASSIGNMENT))
    return folder


@pytest.fixture
def books(graded: Path, tmp_path: Path) -> Books:
    return of(Path(shutil.copytree(graded, tmp_path / "autumn")))


def of(folder: Path) -> Books:
    term = Term(folder, COURSE, deadlines={ASSIGNMENT: DUE}, roster={who: Member(who) for who in CLASS})
    return Books(folder, ASSIGNMENT, COURSE / "source" / ASSIGNMENT / f"{ASSIGNMENT}.ipynb", term)


def finals(books: Books) -> dict[str, str]:
    facts = exports.facts_of(books, NOW)
    return {who: facts.final(who) for who in facts.members}


@pytest.mark.slow
def test_only_who_has_handed_in_nothing_has_a_zero_without_being_graded(books: Books, tmp_path: Path) -> None:
    assert finals(books) == {"ada": "15", "bob": "0", "cyd": "", "dan": "", "eve": "0"}
    assert exports.facts_of(books, NOW).ungraded == ["dan"]
    for path in exports.export(exports.facts_of(books, NOW), tmp_path / "to", list(exports.FORMS)):
        assert "ada" in path.read_text()


@pytest.mark.slow
def test_the_report_is_of_what_it_is_given_whatever_is_written_meanwhile(books: Books) -> None:
    facts = exports.facts_of(books, NOW)
    shutil.rmtree(books.folder / "records")
    page = report.write(books, facts)
    with (page.parent / "submissions.csv").open() as file:
        found = {row["learner"]: row["final"] for row in csv.DictReader(file)}
    assert found == {who: facts.final(who) for who in RECORDS}


@pytest.mark.slow
def test_a_later_version_that_nobody_has_graded_has_no_grade(books: Books) -> None:
    known = receipts.read(books.folder, ASSIGNMENT)
    receipts.write(books.folder, ASSIGNMENT, [*known, Receipt("bob", NOW, "new", "", "new.ipynb")])
    assert finals(books)["bob"] == ""


def feedback(books: Books) -> str:
    """What `podlab feedback` says, which books the records once more."""
    (books.folder / FILE).write_text(f'course = "{COURSE}"\n[deadlines]\n"{ASSIGNMENT}" = {DUE:%Y-%m-%dT%H:%M:%SZ}\n')
    (books.folder / ROSTER).write_text("\n".join(["learner,first_name,last_name,email,login,canvas_id", *CLASS]))
    words = ["feedback", "--assignment", ASSIGNMENT, "--term", str(books.folder)]
    return CliRunner().invoke(app, words, catch_exceptions=False).output


@pytest.mark.slow
def test_no_page_that_says_zero_is_handed_to_somebody_who_is_not_judged_yet(books: Books) -> None:
    handed = books.folder / "handed-back" / ASSIGNMENT
    before = handed / "cyd" / f"{ASSIGNMENT}.html"  # of an earlier version of the work, or of podlab
    before.parent.mkdir(parents=True)
    before.write_text("0 points")
    assert "Held back, since a person must look at them in formgrader: cyd." in feedback(books)
    assert {page.parent.name for page in handed.glob("*/*")} == {"ada", "bob"}


@pytest.mark.slow
def test_the_grades_of_another_version_are_none_of_a_renewed_assignment(books: Books, tmp_path: Path) -> None:
    old = {file.name: file.read_bytes() for file in (books.folder / "records" / ASSIGNMENT).iterdir()}
    books.source = another_version(tmp_path, "15.3")
    release = books.open(renew=True)
    books.enter([Submission(who, ASSIGNMENT, release, received=DUE) for who in CLASS[:4]], release, None)
    books.set_deadlines(CLASS[:4])
    dan = replace(RECORDS["ada"], learner="dan", digest="dan")  # the first that is graded by the new one
    records.write(books.folder, dan)
    books.book([dan])
    feedback(books)
    assert finals(books) == {"ada": "", "bob": "", "cyd": "", "dan": "15", "eve": "0"}
    assert exports.facts_of(books, NOW).ungraded == ["ada", "bob", "cyd"]
    (kept,) = (books.folder / "backups").glob(f"before-renew-of-{ASSIGNMENT}-records-*")
    assert {file.name: file.read_bytes() for file in kept.iterdir()} == old


@pytest.mark.slow
def test_what_is_graded_while_the_class_is_booked_again_stays(books: Books, monkeypatch: pytest.MonkeyPatch) -> None:
    before, book = finals(books), Ledger.book

    def overtaken(self: Ledger, record: Record) -> None:
        """Between the reading of a record and its booking, what a running `podlab grade` does."""
        monkeypatch.setattr(Ledger, "book", book)
        reports = {"15.1": reported("15.1", HALF), "15.2": reported("15.2", HALF)}
        for who in ("ada", "bob"):
            newer = replace(RECORDS["ada"], learner=who, digest=who, reports=reports)
            records.write(books.folder, newer)
            books.book([newer])
        book(self, record)

    monkeypatch.setattr(Ledger, "book", overtaken)
    feedback(books)
    assert finals(books) == {**before, "ada": "10", "bob": "10"}


@pytest.mark.slow
def test_a_lost_gradebook_gives_nobody_a_zero(books: Books) -> None:
    (books.folder / "gradebook.db").unlink()
    with pytest.raises(GradingError, match="is lost"):
        exports.facts_of(books, NOW)
    assert not (books.folder / "gradebook.db").exists()


@pytest.mark.slow
def test_a_damaged_gradebook_is_said_with_what_to_do(books: Books) -> None:
    (books.folder / "gradebook.db").write_bytes(b"not a database" * 100)
    with pytest.raises(GradingError, match="is damaged") as said:
        exports.facts_of(books, NOW)
    assert "backups" in (said.value.hint or "")


@pytest.mark.slow
def test_feedback_writes_nothing_into_a_damaged_gradebook_and_keeps_a_copy(books: Books) -> None:
    damaged = _without_an_index(books.folder / "gradebook.db")
    with pytest.raises(GradingError, match="is damaged"):
        feedback(books)
    assert (books.folder / "gradebook.db").read_bytes() == damaged
    (kept,) = (books.folder / "backups").glob("damaged-*.db")
    assert kept.read_bytes() == damaged


def _without_an_index(gradebook: Path) -> bytes:
    """Overwrite the first page of an index: every table can still be read and, for the most part, written."""
    with contextlib.closing(sqlite3.connect(gradebook)) as book:
        size = book.execute("pragma page_size").fetchone()[0]
        page = book.execute("select max(rootpage) from sqlite_master where type = 'index'").fetchone()[0]
    content = bytearray(gradebook.read_bytes())
    content[(page - 1) * size : page * size] = bytes([13]) + bytes(size - 1)
    gradebook.write_bytes(content)
    return bytes(content)


@pytest.mark.slow
def test_a_gradebook_that_somebody_writes_to_is_said(books: Books, monkeypatch: pytest.MonkeyPatch) -> None:
    connect = sqlite3.connect
    holder = connect(books.folder / "gradebook.db", isolation_level=None)
    holder.execute("begin exclusive")
    # SQLite itself waits five seconds for the other one.
    monkeypatch.setattr(sqlite3.dbapi2, "connect", lambda *given, **more: connect(*given, **more | {"timeout": 0}))
    for use in (books.booked, lambda: books.set_deadlines(["ada"]), lambda: books.book([RECORDS["ada"]])):
        with pytest.raises(GradingError, match="locked"):
            use()
    holder.close()
    assert finals(books)["ada"] == "15"


@pytest.mark.slow
@pytest.mark.parametrize("clock", [-86_400, 86_400], ids=["set back", "set ahead"])
def test_every_state_of_the_gradebook_is_copied_once_whatever_was_done_to_the_clock(books: Books, clock: int) -> None:
    gradebook, backups = books.folder / "gradebook.db", books.folder / "backups"
    books.open()
    before = set(backups.glob("[0-9]*.db"))
    now = gradebook.stat().st_mtime + clock
    with contextlib.closing(sqlite3.connect(gradebook)) as book, book:
        book.execute("update grade set manual_score = 3")
    os.utime(gradebook, (now, now))
    for _ in range(2):
        books.open()
    (copy,) = set(backups.glob("[0-9]*.db")) - before
    assert copy.stat().st_mtime_ns == gradebook.stat().st_mtime_ns


@pytest.mark.slow
def test_the_copy_of_now_stays_also_where_a_clock_that_was_set_back_made_newer_names(books: Books) -> None:
    gradebook, backups = books.folder / "gradebook.db", books.folder / "backups"
    books.open()
    for number in range(BACKUPS):
        shutil.copy2(gradebook, backups / f"20990101T00000{number}.000000Z.db")
    with contextlib.closing(sqlite3.connect(gradebook)) as book, book:
        book.execute("update grade set manual_score = 3")
    books.open()
    dated = list(backups.glob("[0-9]*.db"))
    assert len(dated) == BACKUPS and gradebook.stat().st_mtime_ns in {each.stat().st_mtime_ns for each in dated}


@pytest.mark.slow
def test_what_is_written_to_the_gradebook_and_changes_nothing_in_it_takes_no_copys_place(books: Books) -> None:
    gradebook, backups = books.folder / "gradebook.db", books.folder / "backups"
    books.open()
    before = set(backups.iterdir())
    for day in (1, 2):
        with contextlib.closing(sqlite3.connect(gradebook)) as book:
            for _ in range(2):
                with book:
                    book.execute("update grade set needs_manual_grade = 1 - needs_manual_grade")
        os.utime(gradebook, (day * 86_400, day * 86_400))
        books.open()
    assert set(backups.iterdir()) == before


@pytest.mark.slow
def test_pages_that_are_made_again_leave_the_gradebook_as_it_is(books: Books) -> None:
    (books.folder / FILE).write_text(f'course = "{COURSE}"\n[late]\npercent_per_day = 10\n')
    late = Submission("ada", ASSIGNMENT, books.release, received=datetime(2026, 10, 4, 9, tzinfo=UTC))
    books.enter([late], books.release, None)
    everything = records.read_all(books.folder, ASSIGNMENT)
    books.book(everything)
    assert finals(books)["ada"] == "12"
    before = (books.folder / "gradebook.db").read_bytes()
    books.book(everything)
    assert (books.folder / "gradebook.db").read_bytes() == before


@pytest.mark.slow
def test_a_few_copies_of_the_gradebook_are_kept_and_those_of_renewed_assignments_for_good(books: Books) -> None:
    backups = books.folder / "backups"
    shutil.rmtree(backups, ignore_errors=True)
    marks = sqlite3.connect(books.folder / "gradebook.db")
    changed = books.folder.parent / f"{ASSIGNMENT}.ipynb"
    changed.write_text(books.source.read_text() + "\n")
    books.source = changed
    books.open(renew=True)
    (renewed,) = backups.glob("before-renew-*.db")
    scores = "select auto_score from grade where auto_score > 0"
    assert sqlite3.connect(renewed).execute(scores).fetchall() and not marks.execute(scores).fetchall()
    before = renewed.read_bytes()
    for number in range(BACKUPS + 2):
        marks.execute("update assignment set duedate = ?", (f"2026-01-{number + 1:02} 00:00:00",))
        marks.commit()
        for _ in range(2):
            books.open()
    marks.close()
    dated = sorted(backups.glob("[0-9]*.db"))
    assert len(dated) == BACKUPS
    last = sqlite3.connect(dated[0]).execute("select duedate from assignment").fetchone()[0]
    assert last.startswith("2026-01-03"), "what has not changed takes no copy's place"
    assert renewed.read_bytes() == before
