"""Nodes hosted in another process behave as in the simulator itself, and what they cannot do is said."""

from __future__ import annotations

from functools import partial

import pytest

from podlab.checks.bench import Bench
from podlab.checks.talks import TalkEnded
from podlab.course.hosting import Fleet, Stopped
from podlab.distributed.context import Message, Node
from podlab.distributed.network import Conditions
from podlab.distributed.simulator import Simulator

SOURCE = '''
from podlab.distributed.context import Node

seen = []


class Echo(Node):
    """Counts its lives, answers what it hears, and records a lease for each answer."""

    def __init__(self, context, others):
        super().__init__(context)
        self.others = others

    def start(self):
        self.context.storage.put(lives=self.context.storage.get("lives", 0) + 1)
        self.context.set_timer("go", 0.5)

    def timer(self, name):
        seen.append(name)
        for other in self.others:
            if other != self.context.name:
                self.context.send(other, {"n": len(seen), "lives": self.context.storage.get("lives")})
        self.context.set_timer("go", 0.5)

    def receive(self, source, message):
        self.context.record("lease", term=message["n"], until=self.context.now() + message["lives"])
'''


def run_of(make: object, seed: int = 1) -> Simulator:
    simulator = Simulator(seed, Conditions(delay=(0.01, 0.05), loss=0.1))
    for name in ("a", "b"):
        simulator.add(name, make, offset=3.0)  # type: ignore[arg-type]
    simulator.at(1.2, "crash", "a")
    simulator.at(2.2, "restart", "a")
    simulator.at(3.0, "pause", "b")
    simulator.at(4.1, "resume", "b")
    return simulator


def facts(simulator: Simulator) -> list[dict[str, object]]:
    return [event for event in simulator.record if event["event"] in ("lease", "deliver", "timer")]


class Echo(Node):
    """The same node, in this process."""

    def __init__(self, context, others):
        super().__init__(context)
        self.others, self.seen = others, 0

    def start(self):
        self.context.storage.put(lives=self.context.storage.get("lives", 0) + 1)
        self.context.set_timer("go", 0.5)

    def timer(self, name):
        # What the hosted one keeps in a global name of its cell outlives a crash of the node; this one does the same.
        COUNTS[self.context.name] = COUNTS.get(self.context.name, 0) + 1
        for other in self.others:
            if other != self.context.name:
                lives = self.context.storage.get("lives")
                self.context.send(other, {"n": COUNTS[self.context.name], "lives": lives})
        self.context.set_timer("go", 0.5)

    def receive(self, source: str, message: Message):
        self.context.record("lease", term=message["n"], until=self.context.now() + message["lives"])


COUNTS: dict[str, int] = {}


@pytest.fixture(scope="module")
def bench():
    with Bench(seed=1) as bench:
        yield bench


def test_a_hosted_node_does_what_the_same_node_does_here(bench):
    COUNTS.clear()
    here = run_of(partial(Echo, others=["a", "b"]))
    here.run(6.0)
    with Fleet(bench, SOURCE, "Echo", [["a", "b"]]) as fleet:
        there = run_of(fleet.make)
        fleet.run([there], 6.0)
    assert facts(there) == facts(here) and there.time == here.time
    assert max(event["message"]["lives"] for event in facts(there) if event["event"] == "deliver") == 2


def test_runs_side_by_side_are_runs_of_their_own(bench):
    with Fleet(
        bench, SOURCE.replace("seen = []", "seen = [0]").replace("len(seen)", "1"), "Echo", [["a", "b"]]
    ) as fleet:
        many = [run_of(fleet.make, seed) for seed in (1, 2, 3)]
        fleet.run(many, 6.0)
        alone = run_of(fleet.make, 2)
        fleet.run([alone], 6.0)
    assert facts(many[1]) == facts(alone) != facts(many[0])


def test_a_life_that_knows_more_than_it_was_told_is_another_one_when_it_is_lived_alone(bench):
    honest = SOURCE.replace("len(seen)", "1")
    for source in (honest, SOURCE):
        fleet = Fleet(bench, source, "Echo", [["a", "b"]])
        fleet.run([run_of(fleet.make, seed) for seed in range(20)], 4.0)
        if source == honest:
            fleet.relive()
            continue
        with pytest.raises(Stopped) as caught:
            fleet.relive()
        problem = caught.value.problem
        assert "did something else" in problem.observed and "memory" in problem.cause


@pytest.mark.parametrize(
    ("broken", "error", "words"),
    [
        (("def timer(self, name):", "def timer(self, name):\n        1 / 0"), TalkEnded, "ZeroDivisionError"),
        (("self.context.send(other,", "self.context.send('nobody',"), Stopped, "nobody"),
        (('self.context.set_timer("go", 0.5)', 'self.context.set_timer("go", 0.0)'), Stopped, "after 6000 events"),
        (("until=self.context.now()", "until='late' and None, x=self.context.now()"), Stopped, "needs numbers"),
        (("from podlab.distributed.context", "import podlab.distributed.election\nfrom x"), TalkEnded, "election"),
    ],
)
def test_what_a_node_cannot_do_ends_the_run_with_words(bench, broken, error, words):
    source = SOURCE.replace(*broken)
    if "needs numbers" in words:
        source = source.replace(' + message["lives"])', ")")
    with Fleet(bench, source, "Echo", [["a", "b"]]) as fleet, pytest.raises(error) as caught:
        fleet.run([run_of(fleet.make)], 6.0)
    problem = caught.value
    told = problem.problem.observed if isinstance(problem, Stopped) else f"{problem}"
    assert words in told
