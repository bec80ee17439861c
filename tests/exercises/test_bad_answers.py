"""Answers that exit, recurse, flood, or give nonsense get a clear failure, never a traceback or a broken check."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest

from podlab.checks import registry, results, runner
from podlab.checks.bench import Bench
from podlab.checks.contract import Exercise, Verdict
from podlab.lab.show import ReportView

HIDDEN = Path(__file__).parents[2] / "autograder" / "hidden"
#: One call, many calls on records, a class that is talked to: the ways in which answers are run.
EXERCISES = [registry.chapter(number[:2], HIDDEN)[number] for number in ("01.1", "05.1", "05.4")]
#: What a function does in place of its work.
BODIES = {
    "exits": "import os\nos._exit(3)",
    "recurses": "return NAME(*given)",
    "floods and raises": "print('x' * 3_000_000)\nraise ValueError('no')",
    "gives an object": "return object()",
    "gives nothing": "return None",
    "empties its input": "[one.clear() for one in given if hasattr(one, 'clear')]\nreturn given[0]",
    "gives an endless list": "import itertools\nreturn list(itertools.repeat('x' * 1000, 10_000))",
}


def source(name: str, body: str) -> str:
    """A function, or a class whose methods are all like that."""
    text = textwrap.indent(body, "    ")
    if name[0].islower():
        return f"def {name}(*given):\n{text}\n".replace("NAME", name)
    methods = "".join(
        f"    def {one}(self, *given):\n{textwrap.indent(text, '    ')}\n".replace("NAME", f"self.{one}")
        for one in ("next", "ended", "lost", "finished")
    )
    return f"class {name}:\n    def __init__(self, tasks):\n        pass\n{methods}"


@pytest.mark.parametrize("what", BODIES)
@pytest.mark.parametrize("exercise", EXERCISES, ids=lambda exercise: exercise.id)
def test_a_bad_answer_is_told_what_it_does(exercise: Exercise, what: str) -> None:
    answer = {item.name: source(item.name, BODIES[what]) for item in exercise.handed_in}
    report = runner.run(exercise, answer, lambda: Bench(seed=1), hidden=True)
    told = ReportView(report).text
    results.validate(results.to_json(report))
    assert {line.result.verdict for line in report.lines} <= {Verdict.PASS, Verdict.FAIL}, told
    assert report.score is not None and report.score <= report.points / 2, told
    assert "Traceback" not in told
    for line in report.lines:
        assert line.result.passed or (line.result.cause and line.result.next_step), told


@pytest.mark.slow
def test_an_answer_that_hangs_is_ended_and_told() -> None:
    """One exercise for all: each call of a function goes through the same talk with the same deadline."""
    exercise = registry.exercise("01.1")
    answer = {item.name: source(item.name, "import time\nwhile True: time.sleep(1)") for item in exercise.handed_in}
    report = runner.run(exercise, answer, lambda: Bench(seed=1))
    told = ReportView(report).text
    assert report.score == 0 and "Traceback" not in told
    assert all(line.result.cause and line.result.next_step for line in report.lines), told
