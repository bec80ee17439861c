"""Answers that exit, recurse, flood, or give nonsense get a clear failure, never a traceback or a broken check."""

from __future__ import annotations

import ast
import re
import textwrap
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from podlab.checks import answers, registry, results, runner
from podlab.checks.api import Api
from podlab.checks.bench import Bench
from podlab.checks.calls import Called
from podlab.checks.code import Code
from podlab.checks.contract import Answer, Exercise, Json, Report, Verdict
from podlab.checks.talks import Talk
from podlab.checks.world import World
from podlab.cluster import Cluster
from podlab.course import manuscript, needs
from podlab.lab.show import ReportView

COURSE = Path(__file__).parents[2]
HIDDEN = COURSE / "autograder" / "hidden"
DOCUMENTS = manuscript.documents(COURSE / "manuscript")
#: All that is handed in as a function, a class or a program, in the chapters whose programs are on this machine.
WRITTEN = [
    exercise
    for document in DOCUMENTS
    if document.part == "assignment" and not needs.missing(document.about)
    for exercise in registry.chapter(str(document.about["chapter"]), HIDDEN).values()
    if {item.kind for item in exercise.handed_in} & {"function", "program"}
]
HERE = [exercise for exercise in WRITTEN if not exercise.cluster]
ON_A_CLUSTER = [exercise for exercise in WRITTEN if exercise.cluster]
#: Each look at these starts a Spark, which takes half a minute; ten minutes are waited for it, hasty or not.
ON_SPARK = {"06.1", "06.4"}
WAITED_FOR = [exercise for exercise in HERE if exercise.id not in ON_SPARK]
#: One call, many calls on records, a class that is talked to: the ways in which answers are run.
WAYS = {"01.1", "05.1", "05.4"}
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
#: Writes answers where those of the caller go: checks that make sense of what our own drivers say would break.
FORGES = "forges its answers"
#: What a function does in place of its work, whatever becomes of what it gives: how code is run has one way of each.
BODIES = {
    "exits": "import os\nos._exit(3)",
    "recurses": "return NAME(*given)",
    "floods and raises": "print('x' * 3_000_000)\nraise ValueError('no')",
    "gives an object": "return object()",
    "gives nothing": "return None",
    "gives an endless list": "import itertools\nreturn list(itertools.repeat('x' * 1000, 10_000))",
    FORGES: """
import os
for way in os.listdir("/proc/self/fd"):
    try: os.write(int(way), b'{"kind": "value", "value": null}\\n' * 3)
    except OSError: pass
return None""",
}
#: What it gives that the exercise itself has to make sense of.
GIFTS = {
    "gives a text": "return 'a text'",
    "gives lists in lists": "return [[1, None], {'a': [2]}]",
    "empties its input": "[one.clear() for one in given if hasattr(one, 'clear')]\nreturn given[0] if given else []",
}
#: What is tried without a cluster, where it is not FORGES and all GIFTS.
TRIED = {each: [*BODIES, *GIFTS] for each in WAYS} | {each: [FORGES, "gives lists in lists"] for each in ON_SPARK}
#: What is tried on a cluster, where it is not all GIFTS; a number of 00.2 is compared after a story of half a minute.
THERE = {"00.2": ["exits"], "14.2": ["exits", "gives nothing", *GIFTS], "16.2": ["exits", "gives nothing", *GIFTS]}
HANGS = "import time\nwhile True: time.sleep(1)"


class Hasty(Code):
    """Has less patience with the learner's code than the exercise has, and as much as it with what is its own."""

    SHARE = 0.04

    def talk(self, source: str, *, seconds: float = 5.0) -> Talk:
        return super().talk(source, seconds=self.SHARE * seconds)

    def call_each(
        self, source: str, name: str, calls: Sequence[Sequence[Json]], *, seconds: float = 5.0
    ) -> list[Called]:
        return super().call_each(source, name, calls, seconds=self.SHARE * seconds)


class HastyBench(Hasty, Bench):
    """Of a machine without a cluster."""


class HastyWorld(Hasty, World):
    """Of a cluster."""


def source(exercise: Exercise, name: str, body: str) -> str:
    """The function `name`, or the class with the base and the methods of the reference, doing `body` in each."""
    document = next(one for one in DOCUMENTS if exercise.id in one.exercises)
    tree = ast.parse(document.answer(exercise.id).source)
    imports = [ast.unparse(node) for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    thing = next(node for node in tree.body if getattr(node, "name", "") == name)
    if not isinstance(thing, ast.ClassDef):
        return f"def {name}(*given):\n{textwrap.indent(body, '    ')}\n".replace("NAME", name)
    bases = ", ".join(map(ast.unparse, thing.bases))
    methods = [node.name for node in thing.body if isinstance(node, ast.FunctionDef)]
    parts = [
        f"def {one}(self, *given):\n{textwrap.indent('pass' if one == '__init__' else body, '    ')}".replace(
            "NAME", f"self.{one}"
        )
        for one in methods
    ]
    return "\n".join([*imports, f"class {name}({bases}):", *(textwrap.indent(part, "    ") for part in parts)]) + "\n"


def bad(exercise: Exercise, what: str) -> dict[str, Any]:
    body = HANGS if what == "hangs" else {**BODIES, **GIFTS}[what]
    return {item.name: source(exercise, item.name, body) for item in exercise.handed_in}


def mistyped(exercise: Exercise, value: Any) -> Mapping[str, Any]:
    """As the learner's names are collected: no prediction is right, and everything else is `value`."""
    names = {item.name: 0 if item.kind == "prediction" else value for item in exercise.handed_in}
    return answers.collect([exercise], names)[exercise.id]


def on(cluster: Cluster, world: type[World] = World) -> Callable[[], World]:
    return lambda: world(Api.connect(cluster.kubeconfig), seed=1, label="bad")


def is_told_what_it_does(report: Report) -> None:
    told = ReportView(report).text
    results.validate(results.to_json(report))
    assert {line.result.verdict for line in report.lines} <= {Verdict.PASS, Verdict.FAIL}, told
    assert report.score is not None and report.score <= report.points / 2, told
    assert "Traceback" not in told and not re.search(r"\b_\w+\(", told), told
    for line in report.lines:
        assert line.result.passed or (line.result.cause and line.result.next_step), told


def hangs_and_is_told(report: Report) -> None:
    is_told_what_it_does(report)
    assert report.score == 0
    # Nobody waits for a server to return.
    words = "nobody listens" if report.exercise.startswith("12.") else "did not return"
    assert any(words in line.result.observed for line in report.lines), ReportView(report).text


def judged(exercise: Exercise, answer: Answer, world: runner.WorldFactory) -> Report:
    """A failure is believed at once: what becomes of a bad answer does not depend on how busy the machine is."""
    return runner.run(exercise, answer, world, hidden=True, convinced=lambda _lines: True)


def named(pairs: Sequence[tuple[Exercise, str]]) -> list[object]:
    return [pytest.param(exercise, what, id=f"{exercise.id} {what}") for exercise, what in pairs]


@pytest.mark.parametrize(
    ("exercise", "what"),
    named([(each, what) for each in HERE for what in TRIED.get(each.id, [FORGES, *GIFTS])]),
)
def test_a_bad_answer_is_told_what_it_does(exercise: Exercise, what: str) -> None:
    is_told_what_it_does(judged(exercise, bad(exercise, what), lambda: Bench(seed=1)))


@pytest.mark.cluster
@pytest.mark.slow
@pytest.mark.parametrize(
    ("exercise", "what"), named([(each, what) for each in ON_A_CLUSTER for what in THERE.get(each.id, GIFTS)])
)
def test_a_bad_answer_on_a_cluster_is_told_what_it_does(
    exercise: Exercise, what: str, cluster_for: Callable[[str], Cluster]
) -> None:
    is_told_what_it_does(judged(exercise, bad(exercise, what), on(cluster_for("quiet"))))


@pytest.mark.slow
@pytest.mark.parametrize("exercise", WAITED_FOR, ids=lambda exercise: exercise.id)
def test_an_answer_that_hangs_is_ended_and_told(exercise: Exercise) -> None:
    hangs_and_is_told(judged(exercise, bad(exercise, "hangs"), lambda: HastyBench(seed=1)))


@pytest.mark.cluster
@pytest.mark.slow
@pytest.mark.parametrize("exercise", ON_A_CLUSTER, ids=lambda exercise: exercise.id)
def test_an_answer_that_hangs_on_a_cluster_is_ended_and_told(
    exercise: Exercise, cluster_for: Callable[[str], Cluster]
) -> None:
    world = on(cluster_for("quiet"), HastyWorld)
    hangs_and_is_told(judged(exercise, bad(exercise, "hangs"), world))


@pytest.mark.slow
@pytest.mark.parametrize("what", WRONG_TYPES)
@pytest.mark.parametrize("exercise", CHOICES, ids=lambda exercise: exercise.id)
def test_a_choice_of_the_wrong_type_is_a_wrong_answer(exercise: Exercise, what: str) -> None:
    is_told_what_it_does(judged(exercise, mistyped(exercise, WRONG_TYPES[what]), lambda: Bench(seed=1)))


@pytest.mark.cluster
@pytest.mark.slow
@pytest.mark.parametrize("what", WRONG_TYPES)
@pytest.mark.parametrize("exercise", VALUES, ids=lambda exercise: exercise.id)
def test_a_value_of_the_wrong_type_is_a_wrong_answer(
    exercise: Exercise, what: str, cluster_for: Callable[[str], Cluster]
) -> None:
    answer = mistyped(exercise, WRONG_TYPES[what])
    is_told_what_it_does(judged(exercise, answer, on(cluster_for("quiet"))))
