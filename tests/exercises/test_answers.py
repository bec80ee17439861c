"""Every answer of the manuscript with all checks, the hidden ones too: what is right passes, what is wrong says why.

Answers that need no cluster are checked as they are; those that harm no node side by side on one cluster; those that
lose a node one after the other on clusters of their own. Each test then looks at the report of its own answer. A
report is also what the exercise costs: its seconds are shown with `pytest --durations`.
"""

from __future__ import annotations

import contextlib
import json
import queue
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest
from turnstile import Turnstile

from podlab.checks import answers, faults, registry, results, runner, seeds
from podlab.checks.api import Api
from podlab.checks.bench import Bench
from podlab.checks.contract import Exercise, Json, Report, Verdict
from podlab.checks.world import World
from podlab.cluster import Cluster
from podlab.course import manuscript, needs
from podlab.lab.show import ReportView
from podlab.widgets import replays

pytestmark = [pytest.mark.slow]

COURSE = Path(__file__).parents[2]
ASSIGNMENTS = [document for document in manuscript.documents(COURSE / "manuscript") if document.part == "assignment"]
CASES = [case for document in ASSIGNMENTS for case in manuscript.cases(document)]
#: Chapter -> programs that it needs and that are not here; its answers are passed over then.
MISSING = {str(document.about["chapter"]): needs.missing(document.about) for document in ASSIGNMENTS}
#: How many answers are checked side by side: without a cluster (they compute), on one (they mostly wait), and with
#: nodes that are lost (on a cluster each, since nobody else may be disturbed).
AT_ONCE = {"plain": 2, "quiet": 14, "nodes": 2}

#: Checks whose failure is a moment in what was going on: each keeps it for lab.replay.
MOMENTS = {
    "14.2": {"gap", "expired"},
    "14.3": {"accepted", "unnoticed", "scaler-alone"},
    "14.4": {"makes", "heals"},
    "16.3": {"own-name", "found-while-starting", "follows"},
}


def case_name(case: manuscript.Case) -> str:
    return f"{case.exercise} {case.kind} {case.title}"


def place_of(exercise: Exercise) -> str:
    """Where an exercise is checked: a key of AT_ONCE."""
    if not exercise.cluster:
        return "plain"
    return "nodes" if exercise.disruptive else "quiet"


def parameters() -> list[object]:
    """The cases; those that need a cluster carry the mark for it, and those that need more are passed over."""
    return [pytest.param(case, id=case_name(case), marks=marks(case)) for case in CASES]


def marks(case: manuscript.Case) -> list[pytest.MarkDecorator]:
    """The marks of a case."""
    exercise = registry.exercise(case.exercise)
    found = [pytest.mark.cluster] if exercise.cluster else []
    if why := passed_over(exercise):
        found.append(pytest.mark.skip(reason=why))
    return found


def passed_over(exercise: Exercise) -> str:
    """Why the answers of an exercise are not checked here; "" if they are."""
    lacks = MISSING[exercise.chapter]
    return needs.told(lacks) if lacks else ""


class Desk:
    """Runs all wanted cases at once when the first is asked for."""

    def __init__(self, cluster_for: Callable[[str], Cluster]) -> None:
        self.cluster_for = cluster_for
        self.pools = {place: ThreadPoolExecutor(number) for place, number in AT_ONCE.items()}
        self.lock, self.turnstile = threading.Lock(), Turnstile()
        self.free: queue.SimpleQueue[str] = queue.SimpleQueue()
        for number in range(AT_ONCE["nodes"]):
            self.free.put(f"nodes-{number + 1}")
        self.runs: dict[str, Future[Report]] = {}

    def report(self, case: manuscript.Case, wanted: list[manuscript.Case]) -> Report:
        """The report of `case`; all of `wanted` are begun."""
        with self.lock:
            for other in wanted:
                name = case_name(other)
                if name not in self.runs:
                    exercise = registry.exercise(other.exercise, COURSE / "autograder" / "hidden")
                    self.runs[name] = self.pools[place_of(exercise)].submit(self.run, exercise, other)
        return self.runs[case_name(case)].result()

    def run(self, exercise: Exercise, case: manuscript.Case) -> Report:
        """Check one answer with all checks, in a world of its own."""
        seed = seeds.seed_for(case.title, case.exercise)
        answer = answers.collect([exercise], case.names)[exercise.id]
        if not exercise.cluster:
            return runner.run(exercise, answer, lambda: Bench(seed=seed), hidden=True)
        with self.place(exercise) as name, self.turnstile.passed(case_name(case)):
            return self.run_on(self.cluster_for(name), exercise, answer, seed)

    @contextlib.contextmanager
    def place(self, exercise: Exercise) -> Iterator[str]:
        """The name of the cluster to check on."""
        if not exercise.disruptive:
            yield "quiet"
            return
        name = self.free.get()
        try:
            yield name
        finally:
            self.free.put(name)

    def run_on(self, cluster: Cluster, exercise: Exercise, answer: dict[str, Json], seed: int) -> Report:
        """Check one answer on a cluster."""
        api = Api.connect(cluster.kubeconfig)
        nodes = faults.of_cluster(cluster.name)
        return runner.run(
            exercise, answer, lambda: World(api, seed=seed, cluster=cluster.name, nodes=nodes), hidden=True
        )


@pytest.fixture(scope="session")
def desk(cluster_for: Callable[[str], Cluster]) -> Iterator[Desk]:
    found = Desk(cluster_for)
    yield found
    for pool in found.pools.values():
        pool.shutdown(cancel_futures=True)


@pytest.fixture(scope="session")
def wanted(request: pytest.FixtureRequest) -> list[manuscript.Case]:
    """The cases that this run has selected."""
    items = [item.callspec.params.get("case") for item in request.session.items if hasattr(item, "callspec")]
    cases = [case for case in items if isinstance(case, manuscript.Case)]
    return [case for case in cases if not passed_over(registry.exercise(case.exercise))]


@pytest.mark.parametrize("case", parameters())
def test_answer(case: manuscript.Case, desk: Desk, wanted: list[manuscript.Case]) -> None:
    report = desk.report(case, wanted)
    told = ReportView(report).text
    results.validate(results.to_json(report))
    assert report.score is not None, told
    assert {line.result.verdict for line in report.lines} <= {Verdict.PASS, Verdict.FAIL}, told
    if case.kind == "start":
        assert report.score == 0.0, told
    elif case.kind in ("reference", "alternative"):
        assert report.score == float(report.points), told
    else:
        assert report.score < report.points, told
        for check, words in case.fails.items():
            result = report.result(check)
            assert result.verdict is Verdict.FAIL, told
            said = "\n".join((result.expected, result.observed, result.cause, result.next_step))
            assert words in said, told
            assert "replay" in result.evidence or check not in MOMENTS.get(case.exercise, ()), told
    for line in report.lines:
        if kept := line.result.evidence.get("replay"):
            assert len(json.dumps(line.result.evidence)) <= results.LARGEST_EVIDENCE, told
            assert line.result.observed in replays.of(kept, line.title, line.result.observed).to_text()
        assert line.result.expected and line.result.observed, told
        if line.result.verdict is Verdict.FAIL:
            assert line.result.cause and line.result.next_step, told
            assert "Traceback" not in told
