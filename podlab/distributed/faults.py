"""Schedules of faults as data: drawn from a seed, applied to a simulator or to real processes alike."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

from podlab.distributed.network import Conditions


@dataclass(frozen=True)
class Fault:
    """One call of a runner's method `verb` at `time` seconds after the start."""

    time: float
    verb: str
    arguments: tuple[Any, ...] = ()


class Runner(Protocol):
    """What faults act on: Simulator, RealRun."""

    def at(self, time: float, verb: str | Callable[[], object], *arguments: Any) -> None:
        """Call a fault, or a function, at a time to come."""


#: How a kind of fault is drawn: chance, victim, others, begin, end.
Draw = Callable[[random.Random, str, list[str], float, float], list[Fault]]


def apply(schedule: Iterable[Fault], runner: Runner) -> None:
    """Hand faults to a runner."""
    for fault in schedule:
        runner.at(fault.time, fault.verb, *fault.arguments)


def _crash(chance: random.Random, victim: str, others: list[str], begin: float, end: float) -> list[Fault]:
    moment = chance.choice(("now", "put", "send"))
    return [Fault(begin, "crash", (victim, moment)), Fault(end, "restart", (victim,))]


def _pause(chance: random.Random, victim: str, others: list[str], begin: float, end: float) -> list[Fault]:
    moment = chance.choice(("now", "send"))
    return [Fault(begin, "pause", (victim, moment)), Fault(end, "resume", (victim,))]


def _halves(chance: random.Random, victim: str, others: list[str], begin: float, end: float) -> list[Fault]:
    with_it = chance.sample(others, len(others) // 2 - 1 + chance.randint(0, 1)) if len(others) > 1 else []
    away = [name for name in others if name not in with_it]
    return [Fault(begin, "partition", ([victim, *with_it], away)), Fault(end, "heal")]


def _isolated(chance: random.Random, victim: str, others: list[str], begin: float, end: float) -> list[Fault]:
    return [Fault(begin, "partition", ([victim], others)), Fault(end, "heal")]


def _one_way(chance: random.Random, victim: str, others: list[str], begin: float, end: float) -> list[Fault]:
    directions = ([victim], others) if chance.random() < 0.5 else (others, [victim])
    return [Fault(begin, "cut", directions), Fault(end, "heal")]


def _slow_then_cut(chance: random.Random, victim: str, others: list[str], begin: float, end: float) -> list[Fault]:
    """All that one node hears, or says, is slow; then it is cut off, or only no longer heard."""
    directions = (others, [victim]) if chance.random() < 0.7 else ([victim], others)
    seconds = chance.uniform(0.2, 0.45) if chance.random() < 0.5 else chance.uniform(0.7, 1.7)
    middle = begin + (end - begin) * chance.uniform(0.3, 0.7)
    return [
        Fault(begin, "slow", (*directions, seconds)),
        Fault(middle, chance.choice(("partition", "cut")), ([victim], others)),
        Fault(end, "heal"),
    ]


def _power_cut(chance: random.Random, victim: str, others: list[str], begin: float, end: float) -> list[Fault]:
    """All but the victim and one more lose power for a moment, and stay cut off from those two."""
    spared = [victim, *others[:1]]
    some = [name for name in others if name not in spared]
    back = min(end, begin + chance.uniform(0.05, 0.5))
    crashes = [Fault(begin, "crash", (name,)) for name in some]
    restarts = [Fault(back, "restart", (name,)) for name in some]
    return [Fault(begin, "partition", (some, spared)), *crashes, *restarts, Fault(end, "heal")]


#: Kinds of faults: each draws one that begins and one that ends it.
KINDS: dict[str, Draw] = {
    "crash": _crash,
    "pause": _pause,
    "halves": _halves,
    "isolated": _isolated,
    "one-way": _one_way,
    "slow": _slow_then_cut,
    "power": _power_cut,
}


def unleash(
    runner: Runner,
    seed: int | str,
    names: Sequence[str],
    seconds: float,
    *,
    victim: Callable[[], str | None] = lambda: None,
    kinds: Sequence[str] = tuple(KINDS),
    every: float = 2.5,
    last: tuple[float, float] = (0.3, 6.0),
    quiet: float = 10.0,
) -> None:
    """Let faults loose on a run of `seconds`: one about every `every` seconds, each lasting between bounds `last`.

    Two of three strike `victim()`, asked at that moment, if it gives a name: the lead node, say; all others strike
    whomever chance picks. They may overlap. In the final `quiet` seconds everything works again, so that progress
    can be asked for.
    """
    chance = random.Random(f"{seed}/faults")
    stop = seconds - quiet

    def strike(kind: str, begin: float, end: float) -> None:
        hit = chance.choice(list(names))
        if chance.random() < 2 / 3:
            hit = victim() or hit
        others = [name for name in names if name != hit]
        apply(KINDS[kind](chance, hit, chance.sample(others, len(others)), begin, end), runner)

    time = chance.expovariate(1 / every)
    while time < stop:
        runner.at(time, partial(strike, chance.choice(list(kinds)), time, min(stop, time + chance.uniform(*last))))
        time += chance.expovariate(1 / every)
    runner.at(stop, "heal")
    for name in names:
        runner.at(stop, "resume", name)
        runner.at(stop, "restart", name)


def clocks(seed: int | str, names: Sequence[str], drift: float) -> dict[str, tuple[float, float]]:
    """For each node an offset in seconds, whatever it is, and a drift within bounds, often at one of them."""
    chance = random.Random(f"{seed}/clocks")
    if chance.random() < 0.5:
        slow = chance.sample(list(names), len(names) // 2)
        drifts = {name: -drift if name in slow else drift for name in names}
    else:
        drifts = {name: chance.uniform(-drift, drift) for name in names}
    return {name: (chance.uniform(0, 1000), drifts[name]) for name in names}


def conditions(seed: int | str) -> Conditions:
    """A network as bad as chance makes it: some loss, duplicates, delays, and messages held back for long."""
    chance = random.Random(f"{seed}/conditions")
    return Conditions(
        loss=chance.choice((0.0, 0.02, 0.1)),
        duplication=chance.choice((0.0, 0.05, 0.2)),
        delay=(0.001, chance.choice((0.005, 0.005, 0.05, 0.3))),
        reorder=chance.choice((0.0, 0.02, 0.1)),
        hold=chance.choice((0.1, 1.0, 4.0)),
    )
