"""Seeded runs of five nodes that elect a leader, and what is done to them: two strikes, then peace until the end.

A strike is aimed at whoever leads when it comes. Each kind of trouble asks for one thing that an answer must get right.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from podlab.distributed.context import Context, Node
from podlab.distributed.histories import Verdict, check_leases, leases
from podlab.distributed.network import Conditions
from podlab.distributed.simulator import Simulator

MEMBERS = ("n1", "n2", "n3", "n4", "n5")
#: Seconds at which a strike may come, at which all is well again, and at which a run ends.
STRIKES, PEACE, END = ((4.0, 5.0), (10.5, 11.5)), 16.0, 26.0
#: Most seconds without a leader after that.
BOUND = 8.0

CALM = Conditions(delay=(0.002, 0.02))
ROUGH = Conditions(delay=(0.002, 0.02), duplication=0.6, loss=0.02, reorder=0.05, hold=1.0)

#: What happens to the leader: (simulator, chance, leader, the others in an order of chance).
Strike = Callable[[Simulator, random.Random, str, list[str]], None]


def _later(simulator: Simulator, seconds: float, verb: str, *arguments: Any) -> None:
    simulator.at(simulator.time + seconds, verb, *arguments)


def _halves(simulator: Simulator, chance: random.Random, leader: str, others: list[str]) -> None:
    """The leader is left with one other, or alone."""
    simulator.partition([leader, *others[: chance.randint(0, 1)]])
    _later(simulator, chance.uniform(3.0, 5.0), "heal")


def _one_way(simulator: Simulator, chance: random.Random, leader: str, others: list[str]) -> None:
    """The leader no longer hears the others, or is no longer heard."""
    simulator.cut(*((others, leader) if chance.random() < 0.5 else (leader, others)))
    _later(simulator, chance.uniform(3.0, 5.0), "heal")


def _deaf(simulator: Simulator, chance: random.Random, leader: str, others: list[str]) -> None:
    """One of the others and the leader do not hear each other, so that it stands; the rest hear both."""
    simulator.cut(leader, others[0])
    simulator.cut(others[0], leader)
    _later(simulator, chance.uniform(3.0, 5.0), "heal")


def _pause(simulator: Simulator, chance: random.Random, leader: str, others: list[str]) -> None:
    """The leader freezes, perhaps between deciding and sending, and goes on when another may lead."""
    simulator.pause(leader, chance.choice(("now", "send")))
    _later(simulator, chance.uniform(2.0, 5.0), "resume", leader)


def _apart(simulator: Simulator, chance: random.Random, leader: str, others: list[str]) -> None:
    """Five nodes in groups of two, two and one: no group may have a leader for long."""
    simulator.partition([leader, others[0]], others[1:3], others[3:])
    _later(simulator, chance.uniform(4.0, 5.5), "heal")


def _power(simulator: Simulator, chance: random.Random, leader: str, others: list[str]) -> None:
    """Three voters lose power for a moment, and from then on cannot hear the leader, which still has its lease."""
    out = others[:3]
    simulator.partition(out)
    back = chance.uniform(0.02, 0.3)
    for name in out:
        simulator.crash(name)
        _later(simulator, back, "restart", name)
    _later(simulator, chance.uniform(3.0, 5.0), "heal")


def _relapse(simulator: Simulator, chance: random.Random, leader: str, others: list[str]) -> None:
    """All five lose power while votes are under way, again and again."""
    for after in (0.0, 0.6, 1.2):
        for name in (leader, *others):
            _later(simulator, after + chance.uniform(0, 0.1), "crash", name, "now")
            _later(simulator, after + chance.uniform(0.15, 0.3), "restart", name)


def _behind(simulator: Simulator, chance: random.Random, leader: str, others: list[str]) -> None:
    """Two hear nothing of an election. Its winner dies; when no promise binds any more, the two are back, and stand
    in the very term that the winner had."""
    simulator.partition(others[:2])
    simulator.crash(leader)
    _later(simulator, 0.2, "restart", leader)

    def winner_dies() -> None:
        if winner := leader_of(simulator):
            simulator.crash(winner)
            _later(simulator, 4.0, "restart", winner)
        _later(simulator, chance.uniform(1.9, 2.1), "heal")

    simulator.at(simulator.time + chance.uniform(2.8, 3.2), winner_dies)


def _late_answers(simulator: Simulator, chance: random.Random, leader: str, others: list[str]) -> None:
    """The leader's clock is slow, the others' are fast, their answers take their time; then it is cut off."""
    _clocks(simulator, leader, others)
    simulator.slow(others, leader, chance.uniform(0.38, 0.45))
    _later(simulator, chance.uniform(1.5, 2.5), "partition", [leader])
    _later(simulator, 5.0, "heal")


def _slow_clock(simulator: Simulator, chance: random.Random, leader: str, others: list[str]) -> None:
    """The leader's clock is slow, the others' are fast; then it is cut off."""
    _clocks(simulator, leader, others)
    _later(simulator, chance.uniform(0.5, 1.5), "partition", [leader])
    _later(simulator, 5.0, "heal")


def _clocks(simulator: Simulator, leader: str, others: list[str]) -> None:
    simulator.clock(leader, drift=-0.05)
    for name in others:
        simulator.clock(name, drift=0.05)


@dataclass(frozen=True)
class Trouble:
    """A kind of trouble: the network's conditions, and the strikes that chance picks from."""

    strikes: tuple[Strike, ...]
    conditions: Conditions = CALM
    #: Whether the leader and one more are lost for good when all others are well again.
    lost: bool = False


TROUBLES = {
    "none": Trouble(()),
    "partitions": Trouble((_halves, _deaf, _one_way, _pause, _apart)),
    "crashes": Trouble((_power, _relapse, _behind, _behind), lost=True),
    "clocks": Trouble((_late_answers, _slow_clock)),
    "duplicates": Trouble((_apart, _halves), ROUGH),
}


def leader_of(simulator: Simulator) -> str | None:
    """Who took the last lease, if it is running."""
    for event in reversed(simulator.record):
        if event["event"] == "lease":
            return event["node"] if simulator.up(event["node"]) else None
    return None


def prepared(
    seed: str, trouble: str, make: Callable[[Context], Node], members: Sequence[str] = MEMBERS, trace: bool = False
) -> Simulator:
    """A simulator with five nodes and its strikes to come; run it to `END`."""
    kind = TROUBLES[trouble]
    simulator = Simulator(seed, kind.conditions, trace=trace)
    chance = random.Random(f"{seed}/strikes")
    for name in members:
        simulator.add(name, make, offset=chance.uniform(0, 1000))

    def strike() -> None:
        leader = leader_of(simulator) or chance.choice(list(members))
        others = [name for name in members if name != leader]
        chance.choice(kind.strikes)(simulator, chance, leader, chance.sample(others, len(others)))

    if kind.strikes:
        for first, last in STRIKES:
            simulator.at(chance.uniform(first, last), strike)
    simulator.at(PEACE, "heal")
    for name in members:
        simulator.at(PEACE, "resume", name)
        simulator.at(PEACE, "restart", name)

    def lose() -> None:
        leader = leader_of(simulator) or members[0]
        for name in (leader, chance.choice([name for name in members if name != leader])):
            simulator.crash(name)

    if kind.lost:
        simulator.at(PEACE + 0.1, lose)
    return simulator


def bitten(simulator: Simulator) -> bool:
    """Whether something has happened to a leader, or to messages."""
    kinds = {event["event"] for event in simulator.record}
    return bool(kinds & {"crash", "pause"} or simulator.tally["cut"])


def safe(simulator: Simulator) -> Verdict:
    """Whether there was one holder at most at any time and in any term."""
    return check_leases(simulator.record)


def alive(simulator: Simulator) -> bool:
    """Whether somebody led in the last seconds, when all had been well for a while."""
    return any(lease.end > PEACE + BOUND for lease in leases(simulator.record))
