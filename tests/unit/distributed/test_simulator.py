"""The simulator: one seed is one run, faults do what their names say, and all of it is in the record."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from podlab.distributed import simulator as simulator_module
from podlab.distributed.context import Message, Node
from podlab.distributed.election import simulated
from podlab.distributed.network import Conditions, Line
from podlab.distributed.simulator import Simulator, fingerprint
from podlab.errors import LaboratoryError, NodeFailed, UsageError

QUICK = Conditions(delay=(0.01, 0.01))


class Echo(Node):
    """Answers "ping" with "pong", and notes what it hears; counts its lives on disk."""

    def start(self) -> None:
        self.context.storage.put(lives=self.context.storage.get("lives", 0) + 1)

    def receive(self, source: str, message: Message) -> None:
        self.context.record("heard", source=source, kind=message["type"])
        if message["type"] == "ping":
            self.context.storage.put(last=source)
            self.context.send(source, {"type": "pong"})


class Ticker(Node):
    """Pings "echo" every second of its own clock."""

    def start(self) -> None:
        self.count = 0
        self.context.set_timer("tick", 1.0)

    def timer(self, name: str) -> None:
        self.count += 1
        self.context.record("tick", count=self.count)
        self.context.send("echo", {"type": "ping", "count": self.count})
        self.context.set_timer("tick", 1.0)

    def receive(self, source: str, message: Message) -> None:
        self.context.record("heard", source=source, kind=message["type"])


def pair(**clock: float) -> Simulator:
    simulator = Simulator(1, QUICK)
    simulator.add("ticker", Ticker, **clock)
    simulator.add("echo", Echo)
    return simulator


def times(simulator: Simulator, event: str, node: str) -> list[float]:
    return [round(one["time"], 6) for one in simulator.record if one["event"] == event and one.get("node") == node]


def test_messages_timers_and_time() -> None:
    simulator = pair()
    simulator.run(2.5)
    assert simulator.time == 2.5
    assert times(simulator, "tick", "ticker") == [1.0, 2.0]
    assert times(simulator, "heard", "echo") == [1.01, 2.01]
    assert times(simulator, "heard", "ticker") == [1.02, 2.02]


def test_clocks_drift_and_are_off() -> None:
    simulator = pair(offset=100.0, drift=0.25)
    simulator.run(4.1)
    ticks = [one for one in simulator.record if one["event"] == "tick"]
    assert [one["time"] for one in ticks] == pytest.approx([0.8, 1.6, 2.4, 3.2, 4.0])
    assert [one["local"] for one in ticks] == pytest.approx([101.0, 102.0, 103.0, 104.0, 105.0])
    simulator.clock("ticker", drift=0.0)
    simulator.run(3.0)
    assert times(simulator, "tick", "ticker")[-2:] == pytest.approx([5.8, 6.8])


def test_run_until() -> None:
    simulator = pair()
    assert simulator.run_until(lambda run: run.tally["delivered"] >= 3, within=10)
    assert simulator.time == pytest.approx(2.01)
    assert not simulator.run_until(lambda run: False, within=5)
    assert simulator.time == pytest.approx(7.01)


def test_a_crash_loses_memory_and_timers_but_not_the_disk() -> None:
    simulator = pair()
    simulator.run(1.5)
    simulator.crash("echo")
    assert not simulator.up("echo")
    simulator.run(1.0)
    assert simulator.tally["down"] == 1
    simulator.restart("echo")
    simulator.restart("echo")
    simulator.run(1.0)
    assert simulator.node("echo").context.storage.get("lives") == 2
    assert times(simulator, "heard", "echo") == [1.01, 3.01]
    simulator.crash("ticker")
    simulator.run(5.0)
    assert len(times(simulator, "tick", "ticker")) == 3


@pytest.mark.parametrize(("moment", "stored"), [("put", "ticker"), ("send", "ticker"), ("now", None)])
def test_a_crash_inside_a_handler(moment: Any, stored: str | None) -> None:
    simulator = pair()
    simulator.run(0.5)
    simulator.crash("echo", moment)
    simulator.run(1.0)
    assert not simulator.up("echo")
    assert simulator.tally["delivered"] == (0 if moment == "now" else 1)
    simulator.restart("echo")
    simulator.run(0.1)
    assert simulator.node("echo").context.storage.get("last") == stored


def test_a_pause_defers_everything_and_the_clock_goes_on() -> None:
    simulator = pair()
    simulator.run(0.5)
    simulator.pause("echo")
    simulator.run(3.0)
    assert times(simulator, "heard", "echo") == []
    simulator.resume("echo")
    simulator.run(0.001)
    assert times(simulator, "heard", "echo") == [3.5, 3.5, 3.5]
    assert [one["deferred"] for one in simulator.record if one["event"] == "resume"] == [3]


def test_a_pause_between_deciding_and_sending() -> None:
    simulator = pair()
    simulator.run(0.5)
    simulator.pause("ticker", "send")
    simulator.run(4.0)
    assert times(simulator, "tick", "ticker") == [1.0]
    assert times(simulator, "heard", "echo") == []
    simulator.resume("ticker")
    simulator.run(0.02)
    assert times(simulator, "heard", "echo")[0] == 4.51


def test_cuts_have_a_direction_and_partitions_groups() -> None:
    simulator = pair()
    simulator.cut("echo", "ticker")
    simulator.run(1.5)
    assert len(times(simulator, "heard", "echo")) == 1 and not times(simulator, "heard", "ticker")
    assert simulator.tally["cut"] == 1
    simulator.partition(["ticker"])
    simulator.run(1.0)
    assert len(times(simulator, "heard", "echo")) == 1
    simulator.heal()
    simulator.run(1.0)
    assert len(times(simulator, "heard", "ticker")) == 1


def test_slow_links_until_healed() -> None:
    simulator = pair()
    simulator.slow("ticker", "echo", 0.5)
    simulator.run(1.9)
    assert times(simulator, "heard", "echo") == [1.51]
    simulator.heal()
    simulator.run(0.2)
    assert times(simulator, "heard", "echo") == [1.51, 2.01]


def test_loss_and_duplication_are_tallied_and_recorded() -> None:
    simulator = Simulator(3, Conditions(loss=0.3, duplication=0.3))
    simulator.add("ticker", Ticker)
    simulator.add("echo", Echo)
    simulator.run(200.5)
    drops = [one for one in simulator.record if one["event"] == "drop"]
    assert len(drops) == simulator.tally["lost"] > 30
    assert simulator.tally["duplicated"] > 30
    assert simulator.tally["delivered"] == simulator.tally["sent"] - len(drops) + simulator.tally["duplicated"]


def test_one_seed_is_one_run_in_any_interpreter() -> None:
    program = (
        "from podlab.distributed.election import simulated\n"
        "from podlab.distributed.simulator import fingerprint\n"
        "print(fingerprint(simulated(7, trace=True).record))"
    )
    here = fingerprint(simulated(7, trace=True).record)
    for hashes in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": hashes}
        told = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True)
        assert told.stdout.strip() == here, told.stderr
    assert fingerprint(simulated(8, trace=True).record) != here


def test_without_trace_the_run_is_the_same() -> None:
    def marks(trace: bool) -> list[dict[str, Any]]:
        return [one for one in simulated(5, trace=trace).record if one["event"] in ("lease", "crash", "write")]

    assert marks(True) == marks(False)


def test_nodes_share_nothing() -> None:
    class Changer(Node):
        def receive(self, source: str, message: Message) -> None:
            message["list"].append("changed")

    simulator = Simulator(0, QUICK)
    simulator.add("a", Changer)
    simulator.run(0.1)
    given_list = [1]
    simulator.inject("a", {"list": given_list})
    simulator.run(0.1)
    assert given_list == [1]
    assert [one["message"] for one in simulator.record if one["event"] == "deliver"] == [{"list": [1]}]


class Faulty(Node):
    def receive(self, source: str, message: Message) -> None:
        if message["type"] == "set":
            self.context.send("a", {"value": {1, 2}})
        if message["type"] == "stranger":
            self.context.send("nobody", {})
        if message["type"] == "negative":
            self.context.set_timer("t", -1)
        raise KeyError("term")


@pytest.mark.parametrize(
    ("kind", "error", "words"),
    [
        ("raise", NodeFailed, "Node a raised KeyError: 'term' while handling the message"),
        ("set", LaboratoryError, "cannot be written as JSON"),
        ("stranger", NodeFailed, "'nobody', which is no node"),
        ("negative", NodeFailed, "must be 0 or more"),
    ],
)
def test_errors_of_node_code_are_told_with_seed_and_time(kind: str, error: type[Exception], words: str) -> None:
    simulator = Simulator(11)
    simulator.add("a", Faulty)
    simulator.inject("a", {"type": kind})
    with pytest.raises(error, match=words):
        simulator.run(1)


def test_a_run_without_end_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    class Spinner(Node):
        def start(self) -> None:
            self.context.set_timer("again", 0)

        timer = lambda self, name: self.start()  # noqa: E731

    monkeypatch.setattr(simulator_module, "MOST_EVENTS", 500)
    simulator = Simulator()
    simulator.add("a", Spinner)
    with pytest.raises(LaboratoryError, match="stopped at"):
        simulator.run(1)


def test_misuse_is_refused() -> None:
    simulator = pair()
    with pytest.raises(UsageError, match="ticker, echo"):
        simulator.crash("nobody")
    with pytest.raises(UsageError):
        simulator.add("echo", Echo)
    with pytest.raises(UsageError):
        simulator.at(-1, "heal")
    with pytest.raises(UsageError):
        simulator.at(1, "no_such_fault")
    with pytest.raises(UsageError):
        Conditions(loss=2)
    with pytest.raises(UsageError):
        Conditions(delay=(2, 1))


@given(st.integers(), st.floats(0, 1), st.floats(0, 1), st.lists(st.floats(0, 10), min_size=2, max_size=30))
def test_a_line_keeps_order_unless_it_holds_back(seed: int, loss: float, twice: float, sent: list[float]) -> None:
    chance, line = random.Random(seed), Line()
    conditions = Conditions(loss=loss, duplication=twice, delay=(0.0, 3.0))
    first = [line.fate(now, conditions, chance).arrivals[:1] for now in sorted(sent)]
    arrivals = [one[0] for one in first if one]
    assert arrivals == sorted(arrivals)


def test_the_nth_message_meets_the_same_fate_whenever_it_is_sent() -> None:
    conditions = Conditions(loss=0.3, duplication=0.3, reorder=0.3)

    def fates(gap: float) -> list[tuple[str, ...]]:
        chance, line = random.Random(4), Line()
        return [line.fate(n * gap, conditions, chance).names for n in range(100)]

    assert fates(0.001) == fates(5.0)
    json.dumps(fates(1.0))
