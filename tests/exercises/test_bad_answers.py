"""Answers that exit, recurse, flood, or give nonsense get a clear failure, never a traceback or a broken check."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from podlab.checks import answers, registry, results, runner
from podlab.checks.api import Api
from podlab.checks.bench import Bench
from podlab.checks.contract import Exercise, Report, Verdict
from podlab.checks.world import World
from podlab.cluster import Cluster
from podlab.lab.show import ReportView

HIDDEN = Path(__file__).parents[2] / "autograder" / "hidden"
#: One call, many calls on records, a class that is talked to: the ways in which answers are run.
EXERCISES = [registry.chapter(number[:2], HIDDEN)[number] for number in ("01.1", "05.1", "05.4")]
#: The same on a cluster: a class that is talked to, with answers of the API, and a function that is given objects.
ON_A_CLUSTER = [registry.chapter(number[:2], HIDDEN)[number] for number in ("14.2", "16.2")]
#: What is to be one of several texts; and, on a cluster, what is to be a manifest's or a table's plain value.
CHOICES = [registry.chapter(number[:2], HIDDEN)[number] for number in ("01.4", "03.5")]
VALUES = [registry.chapter("14", HIDDEN)["14.3"]]
WRONG_TYPES: dict[str, Any] = {
    "a list": [1, "two"],
    "a dictionary": {"a": {"b": 1}},
    "a number": 10**400,
    "a truth value": True,
    "a text": "neither of them",
    "no plain value": object(),
    "nothing": None,
}
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
        for one in ("next", "ended", "lost", "finished", "request", "listed", "event", "held")
    )
    return f"class {name}:\n    def __init__(self, *tasks):\n        pass\n{methods}"


def bad(exercise: Exercise, what: str) -> dict[str, Any]:
    return {item.name: source(item.name, BODIES[what]) for item in exercise.handed_in}


def mistyped(exercise: Exercise, value: Any) -> Mapping[str, Any]:
    """As the learner's names are collected: no prediction is right, and everything else is `value`."""
    names = {item.name: 0 if item.kind == "prediction" else value for item in exercise.handed_in}
    return answers.collect([exercise], names)[exercise.id]


def on(cluster: Cluster) -> Callable[[], World]:
    return lambda: World(Api.connect(cluster.kubeconfig), seed=1, label="bad")


def is_told_what_it_does(report: Report) -> None:
    told = ReportView(report).text
    results.validate(results.to_json(report))
    assert {line.result.verdict for line in report.lines} <= {Verdict.PASS, Verdict.FAIL}, told
    assert report.score is not None and report.score <= report.points / 2, told
    assert "Traceback" not in told
    for line in report.lines:
        assert line.result.passed or (line.result.cause and line.result.next_step), told


@pytest.mark.parametrize("what", BODIES)
@pytest.mark.parametrize("exercise", EXERCISES, ids=lambda exercise: exercise.id)
def test_a_bad_answer_is_told_what_it_does(exercise: Exercise, what: str) -> None:
    is_told_what_it_does(runner.run(exercise, bad(exercise, what), lambda: Bench(seed=1), hidden=True))


@pytest.mark.cluster
@pytest.mark.slow
@pytest.mark.parametrize("what", BODIES)
@pytest.mark.parametrize("exercise", ON_A_CLUSTER, ids=lambda exercise: exercise.id)
def test_a_bad_answer_on_a_cluster_is_told_what_it_does(
    exercise: Exercise, what: str, cluster_for: Callable[[str], Cluster]
) -> None:
    is_told_what_it_does(runner.run(exercise, bad(exercise, what), on(cluster_for("quiet")), hidden=True))


@pytest.mark.slow
@pytest.mark.parametrize("what", WRONG_TYPES)
@pytest.mark.parametrize("exercise", CHOICES, ids=lambda exercise: exercise.id)
def test_a_choice_of_the_wrong_type_is_a_wrong_answer(exercise: Exercise, what: str) -> None:
    is_told_what_it_does(
        runner.run(exercise, mistyped(exercise, WRONG_TYPES[what]), lambda: Bench(seed=1), hidden=True)
    )


@pytest.mark.cluster
@pytest.mark.slow
@pytest.mark.parametrize("what", WRONG_TYPES)
@pytest.mark.parametrize("exercise", VALUES, ids=lambda exercise: exercise.id)
def test_a_value_of_the_wrong_type_is_a_wrong_answer(
    exercise: Exercise, what: str, cluster_for: Callable[[str], Cluster]
) -> None:
    answer = mistyped(exercise, WRONG_TYPES[what])
    is_told_what_it_does(runner.run(exercise, answer, on(cluster_for("quiet")), hidden=True))


@pytest.mark.slow
def test_an_answer_that_hangs_is_ended_and_told() -> None:
    """One exercise for all: each call of a function goes through the same talk with the same deadline."""
    exercise = registry.exercise("01.1")
    answer = {item.name: source(item.name, "import time\nwhile True: time.sleep(1)") for item in exercise.handed_in}
    report = runner.run(exercise, answer, lambda: Bench(seed=1))
    told = ReportView(report).text
    assert report.score == 0 and "Traceback" not in told
    assert all(line.result.cause and line.result.next_step for line in report.lines), told
