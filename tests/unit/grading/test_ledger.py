"""Our booking and nbgrader's own autograde and generate_feedback leave the same gradebook, notebooks and pages."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import sys
import warnings
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from bs4 import BeautifulSoup
from test_records_and_books import COURSE, RECORDS

sys.path.insert(0, str(COURSE))

from autograder.corpus.kills import tables
from podlab.grading import records
from podlab.grading.bookkeeping import Books, new_gradebook, quiet
from podlab.grading.records import Outcome
from podlab.grading.samples import ASSIGNMENT
from podlab.grading.submissions import Submission
from podlab.grading.term import load

ON_TIME, LATE = datetime(2026, 10, 1, 9, tzinfo=UTC), datetime(2026, 10, 3, 9, tzinfo=UTC)
TERM = f"""
course = "{COURSE}"

lessons = "https://example.org/course"

[late]
percent_per_day = 10

[deadlines]
"{ASSIGNMENT}" = 2026-10-02T09:00:00Z
"""


def books(folder: Path) -> Books:
    return Books(folder, ASSIGNMENT, COURSE / "source" / ASSIGNMENT / f"{ASSIGNMENT}.ipynb")


def answered(release: str) -> str:
    """The release with something written into its first answer cell, with a picture and markup in its output."""
    notebook = json.loads(release)
    cell = next(each for each in notebook["cells"] if each["metadata"].get("nbgrader", {}).get("solution"))
    cell["source"] = "# <b>mine</b>\nprint('done')"
    return json.dumps(notebook)


def entered(folder: Path) -> Books:
    """A course folder with the class of RECORDS handed in, of which ada is late."""
    folder.mkdir()
    made = books(folder)
    release = made.open()
    handed_in = folder.parent / "class"
    handed_in.mkdir(exist_ok=True)
    submissions = []
    for learner in RECORDS:
        path = handed_in / f"{learner}.ipynb"
        path.write_text(answered(release.read_text()) if learner == "ada" else release.read_text())
        received = {"ada": LATE, "bob": ON_TIME}.get(learner)
        submissions.append(Submission(learner, ASSIGNMENT, path, received=received))
    made.enter(submissions, release, None)
    for record in RECORDS.values():
        records.write(folder, record)
    return made


def mark_by_hand(folder: Path) -> None:
    from nbgrader.api import Gradebook

    with Gradebook(f"sqlite:///{folder / 'gradebook.db'}") as book:
        notebook = book.find_submission(ASSIGNMENT, "ada").notebooks[0]
        next(each for each in notebook.grades if each.name == "checks-15-2").manual_score = 9.0
        next(each for each in notebook.comments if each.name == "answer-15-1").manual_comment = "Well *put*."
        book.db.commit()


def by_nbgrader(made: Books) -> None:
    """What `nbgrader autograde` and `nbgrader generate_feedback` do in the folder, with nbgrader's own exporter."""
    configuration = made._configuration

    def stock() -> Any:
        config = configuration()
        config.GenerateFeedback.exporter_class = "nbconvert.exporters.HTMLExporter"
        return config

    made._configuration = stock  # type: ignore[method-assign]
    with quiet(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made._convert("Autograde", force=True)
        made._convert("GenerateFeedback", force=True)


def waiting_as_ours(folder: Path) -> None:
    """What is not nbgrader's: what the machine kept from being judged is no zero, and marks by hand are final."""
    with sqlite3.connect(folder / "gradebook.db") as book:
        waiting = [learner for learner, record in RECORDS.items() if record.outcome is Outcome.INFRASTRUCTURE]
        book.execute(
            "update grade set auto_score = null, needs_manual_grade = 1 where notebook_id in (select n.id from "
            "submitted_notebook n join submitted_assignment s on n.assignment_id = s.id where s.student_id = ?)",
            waiting,
        )
        book.execute("update grade set needs_manual_grade = 0 where manual_score is not null")


def pages(folder: Path) -> dict[str, str]:
    return {page.parts[-3]: str(BeautifulSoup(page.read_text(), "html.parser")) for page in folder.rglob("*.html")}


def files(folder: Path) -> dict[str, tuple[str, int]]:
    return {
        str(file.relative_to(folder)): (file.read_text(), file.stat().st_mode)
        for file in folder.rglob("*")
        if file.is_file()
    }


def test_a_new_gradebook_is_one_of_nbgraders_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from nbgrader.api import Gradebook

    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")  # it runs alembic
    (tmp_path / "theirs").mkdir()
    with Gradebook(f"sqlite:///{tmp_path / 'theirs' / 'gradebook.db'}"):
        pass
    ours = books(tmp_path / "ours")
    ours.folder.mkdir()
    new_gradebook(ours.folder)
    assert tables(ours.folder / "gradebook.db") == tables(tmp_path / "theirs" / "gradebook.db")


@pytest.mark.slow
def test_a_release_made_again_by_nbgraders_own_command_is_the_same(tmp_path: Path) -> None:
    release = books(tmp_path).open()
    ours = release.read_text()
    command = [sys.executable, "-m", "nbgrader", "generate_assignment", ASSIGNMENT, "--force"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    assert release.read_text() == ours


@pytest.mark.slow
def test_the_books_are_what_nbgraders_own_commands_leave(tmp_path: Path) -> None:
    ours, theirs = entered(tmp_path / "ours"), entered(tmp_path / "theirs")
    for round_ in range(2):
        for made in (ours, theirs):
            if not round_:
                (made.folder / "term.toml").write_text(TERM)
                made.term = load(made.folder)
                made.set_deadlines(RECORDS)
            if round_:
                mark_by_hand(made.folder)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            ours.book(RECORDS.values())
        by_nbgrader(theirs)
        waiting_as_ours(theirs.folder)
        assert tables(ours.folder / "gradebook.db") == tables(theirs.folder / "gradebook.db")
        assert files(ours.folder / "autograded") == files(theirs.folder / "autograded")
        assert pages(ours.folder / "feedback").keys() == set(RECORDS)
    assert ours.booked()["ada"].penalty > 0
    # The pages of theirs were written before the unjudged were marked: the same state for both.
    shutil.rmtree(theirs.folder / "feedback")
    with quiet():
        theirs._convert("GenerateFeedback", force=True)
    assert pages(ours.folder / "feedback") == pages(theirs.folder / "feedback")
    assert "Well <em>put</em>." in pages(ours.folder / "feedback")["ada"]
