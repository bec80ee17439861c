"""All attempts at a submission are of one count, those of workers that have died included; records are bounded."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from test_records_and_books import COURSE, RECORDS, report

from podlab.checks import results
from podlab.checks.contract import Line, Verdict, failed
from podlab.errors import GradingError
from podlab.grading import records, worker
from podlab.grading.records import Outcome
from podlab.grading.transplant import nbgrader_of

NAME = "01-split-and-conquer"


@pytest.mark.parametrize("first", [1, 3])
def test_attempts_go_on_where_a_worker_before_has_ended(tmp_path: Path, first: int) -> None:
    release = COURSE / "release" / NAME / f"{NAME}.ipynb"
    notebook = json.loads(release.read_text())
    for cell in notebook["cells"]:
        if nbgrader_of(cell).get("grade_id") == "answer-01-1":
            cell["source"] = "def split(items, parts):\n    return []"
    (tmp_path / "ada.ipynb").write_text(json.dumps(notebook))
    begun: list[int] = []
    job = worker.Job("ada", NAME, str(tmp_path / "ada.ipynb"), str(release), None, str(tmp_path), "no/image:1", "")
    with worker.Grader(begun=begun.append) as grader:
        record = grader.grade(replace(job, attempt=first))
    assert begun == list(range(first, worker.ATTEMPTS + 1))
    assert (record.outcome, record.attempts) == (Outcome.INFRASTRUCTURE, worker.ATTEMPTS)


def large(exercise: str, lines: int) -> object:
    made = report(exercise, [Verdict.PASS])
    wordy = failed("x" * 3_000, "\ud800é😀" * 1_000, cause="c" * 3_000, next_step="n", said="w" * 19_000)
    return replace(made, lines=[Line(f"c{n}", "c", 1, False, wordy) for n in range(lines)])


def test_no_report_is_written_or_read_that_is_larger_than_a_megabyte() -> None:
    made = results.to_json(large("15.1", 60))  # type: ignore[arg-type]
    assert len(json.dumps(made, ensure_ascii=False)) <= results.LARGEST_REPORT
    assert results.to_json(results.from_json(made)) == made
    made["lines"][0]["evidence"] = {"said": "w" * results.LARGEST_REPORT}
    for form in (made, json.dumps(made)):
        with pytest.raises(GradingError, match="characters"):
            results.from_json(form)


def test_a_record_of_the_largest_reports_and_a_note_for_each_of_many_cells_can_be_read_again(tmp_path: Path) -> None:
    reports = {id: large(id, 60) for id in ("15.1", "15.2", "15.3", "15.4")}
    record = replace(RECORDS["ada"], reports=reports, unanswered=(), notes=["a cell " * 1_000] * 50_000)  # type: ignore[arg-type]
    records.write(tmp_path, record)
    assert records.path(tmp_path, record.assignment, "ada").stat().st_size < records.LARGEST_RECORD
    read = records.read(tmp_path, record.assignment, "ada")
    assert read is not None and read.scores == record.scores and len(read.notes) == records.MOST_NOTES


def test_a_file_that_is_far_too_large_for_a_record_is_refused_unread(tmp_path: Path) -> None:
    file = records.path(tmp_path, NAME, "ada")
    file.parent.mkdir(parents=True)
    with file.open("wb") as stream:
        stream.truncate(100 * records.LARGEST_RECORD)
    with pytest.raises(GradingError, match="are the most"):
        records.read(tmp_path, NAME, "ada")
