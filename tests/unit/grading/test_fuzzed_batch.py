"""Whatever learners hand in, and whatever checks say of it: no notebook and no record stops a class."""

from __future__ import annotations

import csv
import json
import shutil
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from test_records_and_books import COURSE, RECORDS

sys.path.insert(0, str(COURSE))

from autograder.corpus import notebooks as corpus
from podlab.checks import registry
from podlab.checks.contract import Line, Report, Result, Verdict
from podlab.grading import classes, records, suspicion
from podlab.grading.bookkeeping import Books
from podlab.grading.records import Outcome, Record, Unanswered
from podlab.grading.samples import ASSIGNMENT
from podlab.grading.submissions import Submission, Unreadable, read_notebook
from podlab.grading.transplant import transplant

EXERCISES = registry.chapter(ASSIGNMENT[:2])
RELEASE = json.loads((COURSE / "release" / ASSIGNMENT / f"{ASSIGNMENT}.ipynb").read_text())
#: Any text that a program can come to hold: half characters, no characters, markup, formulas.
TEXTS = st.text(st.characters(exclude_categories=()), max_size=30) | st.sampled_from(
    ["\ud800", "\x00", "\x1b[31m", "=1+1", "<script>", "</p>{{ 1 }}", "<img src=x>", "\u2028", "#" * 3_000]
)
NUMBERS = st.integers() | st.floats()
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=8,
)
NAMES = st.sampled_from([f"answer-{id.replace('.', '-')}" for id in EXERCISES]) | TEXTS
CELLS = st.fixed_dictionaries(
    {},
    optional={
        "cell_type": st.sampled_from(["code", "markdown", "raw"]) | VALUES,
        "source": TEXTS | st.lists(TEXTS, max_size=3) | VALUES,
        "outputs": VALUES,
        "metadata": VALUES
        | st.fixed_dictionaries(
            {"nbgrader": st.fixed_dictionaries({"grade_id": NAMES | VALUES, "solution": st.booleans() | VALUES})}
        ),
    },
)
NOTEBOOKS = st.fixed_dictionaries({"cells": st.lists(CELLS | VALUES, max_size=6)}, optional={"metadata": VALUES})
FILES = NOTEBOOKS.map(lambda made: json.dumps(made).encode()) | VALUES.map(lambda made: json.dumps(made).encode())
FILES |= st.binary(max_size=60)


def lines(draw: Callable[..., Any]) -> list[Line]:
    found = []
    for number in range(draw(st.integers(1, 3))):
        words = [draw(TEXTS) for _ in range(4)]
        evidence = draw(st.dictionaries(TEXTS, VALUES, max_size=2))
        result = Result(draw(st.sampled_from(Verdict)), *words, evidence=evidence)
        found.append(Line(f"c{number}", f"check {number}", 1, draw(st.booleans()), result, draw(st.floats(0, 1e6))))
    return found


@st.composite
def fuzzed(draw: Callable[..., Any], learner: str) -> Record:
    """A record as the grader might make one of what a learner's code has said."""
    reports, unanswered = {}, []
    for id, each in EXERCISES.items():
        if draw(st.booleans()):
            notes = draw(st.lists(TEXTS, max_size=2))
            reports[id] = Report(id, each.title, each.points, lines(draw), draw(st.integers()), "abc", 1, 0.5, notes)
        else:
            unanswered.append(Unanswered(id, each.title, each.points, draw(TEXTS)))
    outcome, notes = draw(st.sampled_from(Outcome)), draw(st.lists(TEXTS, max_size=3))
    return Record(learner, ASSIGNMENT, outcome, draw(TEXTS), reports, unanswered, notes)


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A course folder with an open gradebook."""
    folder = tmp_path_factory.mktemp("fuzz") / "out"
    folder.mkdir()
    books_in(folder).open()
    return folder


def books_in(folder: Path) -> Books:
    return Books(folder, ASSIGNMENT, COURSE / "source" / ASSIGNMENT / f"{ASSIGNMENT}.ipynb")


@given(st.data())
def test_any_record_can_be_written_and_read_with_the_same_scores(data: st.DataObject) -> None:
    record = data.draw(fuzzed("ada"))
    with tempfile.TemporaryDirectory() as folder:
        records.write(Path(folder), record)
        read = records.read(Path(folder), ASSIGNMENT, "ada")
        assert read is not None and (read.scores, read.outcome) == (record.scores, record.outcome)
        again = replace(read, learner="bob")
        records.write(Path(folder), again)
        assert records.to_json(records.read(Path(folder), ASSIGNMENT, "bob") or read) == records.to_json(again)


@given(st.lists(FILES, min_size=1, max_size=3), st.data())
def test_any_notebooks_can_be_looked_at_for_signs(files: list[bytes], data: st.DataObject) -> None:
    notebooks, found = {}, []
    with tempfile.TemporaryDirectory() as folder:
        for number, content in enumerate(files):
            path = Path(folder, f"learner-{number}.ipynb")
            path.write_bytes(content)
            try:
                notebooks[path.stem] = transplant(RELEASE, read_notebook(path)).notebook
            except Unreadable:
                notebooks[path.stem] = RELEASE
            found.append(data.draw(fuzzed(path.stem)))
    for each in suspicion.suspicions(found, notebooks, RELEASE, EXERCISES):
        assert each.learner in notebooks


@pytest.mark.slow
@settings(max_examples=12, suppress_health_check=list(HealthCheck))
@given(files=st.lists(FILES, min_size=1, max_size=2), data=st.data())
def test_a_class_of_any_files_and_records_is_booked_and_reported(
    opened: Path, files: list[bytes], data: st.DataObject
) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(shutil.copytree(opened, Path(scratch, "out")))
        books, submissions = books_in(folder), []
        for number, content in enumerate(files):
            path = Path(scratch, f"learner-{number}.ipynb")
            path.write_bytes(content)
            submissions.append(Submission(path.stem, ASSIGNMENT, path))
        for path in (Path(scratch, "none.ipynb"), None):
            submissions.append(Submission("nobody" if path else "empty", ASSIGNMENT, path))
        books.enter(submissions, books.release, folder / "received")
        for each in submissions:
            records.write(folder, data.draw(fuzzed(each.learner)))
        records.write(folder, RECORDS["ada"])
        books.enter([Submission("ada", ASSIGNMENT, books.release)], books.release, None)
        books.book(records.read_all(folder, ASSIGNMENT))
        graded = classes.results(books)
        assert {each.learner for each in graded.records} == {"ada", *(each.learner for each in submissions)}
        assert set(books.booked()) == {each.learner for each in graded.records}
        assert books.booked()["ada"].score == 15, "whatever the others have handed in"
        assert "<script>" not in graded.report.read_text()
        graded.report.read_bytes().decode()


@st.composite
def bent(draw: Callable[..., Any]) -> bytes:
    """The file of a notebook of the corpus with answers, some of whose cells are something else."""
    notebook = corpus.answered(
        {id: draw(st.just(corpus.RIGHT[id]) | TEXTS) for id in draw(st.sets(st.sampled_from(corpus.ALL)))}
    )
    cells = notebook["cells"]
    for number in draw(st.sets(st.integers(0, len(cells) - 1), max_size=3)):
        cells[number] = draw(CELLS | VALUES | st.sampled_from(cells))
    return json.dumps(notebook).encode()


@pytest.mark.slow
@pytest.mark.sandbox
@settings(max_examples=2, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
@given(st.lists(FILES, min_size=8, max_size=8), st.lists(bent(), min_size=5, max_size=5))
def test_a_class_of_any_files_is_graded_from_end_to_end(anything: list[bytes], answered: list[bytes]) -> None:
    honest = json.dumps(corpus.answered(corpus.RIGHT)).encode()
    files = {f"learner-{number}": content for number, content in enumerate([*anything, *answered])} | {"honest": honest}
    with tempfile.TemporaryDirectory() as scratch, pytest.MonkeyPatch.context() as patch:
        patch.setenv("PODLAB_EXERCISES", "")  # set by the grader for its workers; restored afterwards
        course, folder = corpus.write_course(Path(scratch, "course")), Path(scratch, "class")
        folder.mkdir()
        for learner, content in files.items():
            (folder / f"{learner}.ipynb").write_bytes(content)
        given = classes.Settings(folder, corpus.NAME, Path(scratch, "out"), course, workers=2)
        graded = classes.grade_class(given, lambda _step: None)
        found = {record.learner: record for record in graded.records}
        assert set(found) == set(files)
        assert [each for each in found.values() if each.outcome is Outcome.INFRASTRUCTURE] == []
        assert found["honest"].score == 40, "whatever the others have handed in"
        with graded.grades.open(newline="") as table:
            assert {row["learner"] for row in csv.DictReader(table)} == set(files)
        for learner in files:
            assert (graded.html / learner / corpus.NAME / f"{corpus.NAME}.html").is_file()
        assert classes.books_of(given, given.out).scores() == {who: record.score for who, record in found.items()}
