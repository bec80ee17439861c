"""A learner reads the same in the notebook, in HTML and in CSV, also of an answer that handed in nothing."""

from __future__ import annotations

import csv
import json
import re
from html import unescape
from pathlib import Path
from xml.etree import ElementTree

import pytest
from test_records_and_books import COURSE

from podlab.checks import registry, runner
from podlab.grading import exports, records, worker
from podlab.grading.bookkeeping import Books
from podlab.grading.records import Outcome
from podlab.grading.submissions import Submission
from podlab.grading.transplant import nbgrader_of

NAME = "01-split-and-conquer"
#: What stands in the answer cells, and what is observed of it.
ANSWERS = {
    "01.1": ("raise ValueError('a < b & c')", "The answer cell raised ValueError: a < b & c"),
    "01.2": ("something_else = 1", "The answer cell defines none of the names that are asked for."),
}
LABELS = ("expected", "observed", "likely cause", "next")

Words = list[tuple[str, ...]]


@pytest.fixture(scope="module")
def graded(tmp_path_factory: pytest.TempPathFactory) -> Books:
    """One learner's submission, graded in a process without a box, booked and exported."""
    folder = tmp_path_factory.mktemp("words")
    release = COURSE / "release" / NAME / f"{NAME}.ipynb"
    notebook = json.loads(release.read_text())
    for cell in notebook["cells"]:
        for exercise, (source, _) in ANSWERS.items():
            if nbgrader_of(cell).get("grade_id") == f"answer-{exercise.replace('.', '-')}":
                cell["source"] = source
    submitted = folder / "ada.ipynb"
    submitted.write_text(json.dumps(notebook))
    out = folder / "out"
    out.mkdir()
    books = Books(out, NAME, COURSE / "source" / NAME / f"{NAME}.ipynb")
    books.enter([Submission("ada", NAME, submitted)], books.open(), None)
    job = worker.Job("ada", NAME, str(submitted), str(release), None, str(out), "", "", unsafe=True)
    with worker.Grader() as grader:
        records.write(out, grader.grade(job))
    found = records.read_all(out, NAME)
    books.book(found)
    books.export(found)
    return books


def in_notebook(books: Books) -> Words:
    notebook = json.loads((books.folder / "autograded" / "ada" / NAME / f"{NAME}.ipynb").read_text())
    shown = [output["data"]["text/plain"] for cell in notebook["cells"] for output in cell.get("outputs", [])
             if output["output_type"] == "display_data"]  # fmt: skip
    text = "\n".join("".join(each) for each in shown)
    facts = "".join(rf"\n    {label}: (.*)" for label in LABELS)
    return re.findall(rf"✗ (.*): fail \(weight (\d+)\){facts}", text)


def in_html(books: Books) -> Words:
    page = (books.folder / "feedback" / "ada" / NAME / f"{NAME}.html").read_text()
    facts = "".join(f"<li>{label}: (.*?)</li>" for label in LABELS)
    found = re.findall(rf"<strong>✗ (.*?)</strong>: fail \(weight (\d+)\)<ul>{facts}</ul>", page)
    return [tuple(map(unescape, each)) for each in found]


def in_csv(books: Books) -> Words:
    columns = ("check", "weight", "expected", "observed", "likely cause", "next step")
    with (books.folder / "feedback.csv").open(newline="") as file:
        return [tuple(row[name] for name in columns) for row in csv.DictReader(file) if row["verdict"] == "fail"]


@pytest.mark.slow
def test_an_answer_that_handed_in_nothing_has_the_words_of_lab_check_everywhere(graded: Books) -> None:
    expected = []
    for id, (_, observed) in ANSWERS.items():
        report = runner.run(registry.exercise(id), {}, lambda: pytest.fail("no world is needed"))
        for line in report.lines:
            words = (line.result.expected, observed, line.result.cause, line.result.next_step)
            expected.append((line.title, str(line.weight), *words))
    assert expected and all(all(each) for each in expected)
    assert in_notebook(graded) == in_html(graded) == in_csv(graded) == expected


@pytest.mark.slow
def test_such_an_answer_has_no_points_and_is_no_fault_of_the_machine(graded: Books) -> None:
    (record,) = records.read_all(graded.folder, NAME)
    assert record.outcome is Outcome.GRADED and set(record.scores.values()) == {0.0}
    assert set(record.reports) == set(ANSWERS)
    assert {each.reason for each in record.unanswered} == {worker.UNTOUCHED}
    assert graded.booked()["ada"].score == 0 and not graded.booked()["ada"].needs_person


@pytest.mark.slow
def test_junit_says_for_each_check_what_was_observed_of_it(graded: Books, tmp_path: Path) -> None:
    exports.junit_xml(exports.facts_of(graded), tmp_path / "junit.xml")
    failures = ElementTree.parse(tmp_path / "junit.xml").getroot().findall(".//failure")
    for _, observed in ANSWERS.values():
        assert any((each.text or "").startswith(f"observed {observed}\nlikely cause: ") for each in failures)
