"""docs/authoring.md is true: its worked example passes and fails as it says, and its budgets are those of the check."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from podlab.checks import answers, runner
from podlab.checks.bench import Bench
from podlab.course import inspection, manuscript

TEXT = (Path(__file__).parents[3] / "docs" / "authoring.md").read_text()
HEADER = '# ---\n# title: t\n# chapter: "17"\n# minutes: 1\n# needs: n\n# ---\n\n'


@pytest.fixture(autouse=True)
def home(monkeypatch, tmp_path):
    monkeypatch.setenv("PODLAB_HOME", str(tmp_path))


def test_the_worked_example_tells_right_from_wrong(tmp_path):
    module, cells = re.findall(r"```python\n(.*?)```", TEXT.partition("## A worked example")[2], re.DOTALL)
    space: dict[str, object] = {"__name__": "example"}
    exec(compile("from __future__ import annotations\n" + module, "first.py", "exec"), space)
    exercise = space["EXERCISE"]
    file = tmp_path / "assignment.py"
    file.write_text(HEADER + cells)
    found = {case.kind: case for case in manuscript.cases(manuscript.read(file))}
    assert found.keys() == {"start", "reference", "alternative", "wrong"}
    for kind, case in found.items():
        given = answers.collect([exercise], case.names)["17.1"]
        # What fails here is known to: a busy machine is no reason to look again.
        report = runner.run(exercise, given, lambda: Bench(seed=1), convinced=lambda _lines: True)
        assert report.passed is (kind in ("reference", "alternative")), kind
        for check, words in case.fails.items():
            assert words in report.result(check).cause


def test_the_budgets_are_those_of_the_check():
    told = " ".join(TEXT.split())
    cells = inspection.LESSON_CELLS
    assert f"{cells.start} to {cells.stop - 1} cells" in told
    words = inspection.MOST_WORDS
    assert f"{words['lesson']} words in a cell of prose ({words['assignment']} in an assignment)" in told
    assert f"{inspection.MOST_LINES} lines in one of code, {inspection.MEDIAN_LINES} in the median" in told
    assert f"{inspection.PROSE_TO_TEN} cells of prose to 10 of code" in told
    least = f"{inspection.WRONG_ANSWERS} wrong answers and {inspection.ALTERNATIVES} alternatives"
    assert least in told
    assert all(section.removeprefix("## ") in told for section in inspection.SECTIONS)
