"""What the exercises with a learner's Spark code share: runs of it on known data, each with what Spark measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from podlab.checks.bench import Bench
from podlab.checks.calls import Called
from podlab.checks.contract import Json
from podlab.checks.talks import TalkEnded
from podlab.course.inside_spark.asking import Beside
from podlab.course.plain import Problem

LESSON = "notebooks/06-inside-apache-spark.ipynb"
#: How many times as many records a larger trial has, and how much its bytes may grow for it.
LARGER, GROWTH = 4, 1.6

#: An RDD that is given to the learner's function: its records and in how many partitions they are.
Given = tuple[list[Json], int]


@dataclass
class Scene:
    """How the learner's function did on each trial, by name, and what was given."""

    name: str
    given: Mapping[str, tuple[Given, ...]]
    calls: Mapping[str, Called]

    def facts(self, trial: str) -> dict[str, Any] | Problem:
        """What was measured in a trial; TalkEnded if the code came to nothing."""
        called = self.calls[trial]
        if not called.ok:
            raise TalkEnded(called, f"{self.name}(...)")
        if "returned" in called.value:
            return Problem(
                f"{self.name}(...) returned {'nothing' if called.value['returned'] == 'NoneType' else ''}"
                f"{'' if called.value['returned'] == 'NoneType' else 'a ' + called.value['returned']}, not an RDD",
                "An action such as collect() or countByValue() was called, or a return is missing.",
                "Return the RDD itself: the check collects it.",
            )
        return called.value

    def growth(self, fact: str, small: str = "small", large: str = "large") -> tuple[int, int] | Problem:
        """A measured number in the small trial and in the larger one."""
        first, second = self.facts(small), self.facts(large)
        if isinstance(first, Problem):
            return first
        if isinstance(second, Problem):
            return second
        return first[fact], second[fact]


def tried(bench: Bench, source: str, name: str, given: Mapping[str, tuple[Given, ...]]) -> Scene:
    """Run the learner's function on every trial, all beside one Spark."""
    calls = {}
    with Beside(bench, source) as beside:
        started = beside.start(name, len(next(iter(given.values()))))
        if not started.ok:
            return Scene(name, given, dict.fromkeys(given, started))
        for trial, some in given.items():
            calls[trial] = beside.call(name, *some)
    return Scene(name, given, calls)
