"""Exercise 03.5: predict from its timers how long a group is without a leader; then it is measured, in many runs."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from functools import cache, partial
from statistics import median
from typing import Any

from podlab.checks.bench import Bench
from podlab.checks.contract import Answer, Exercise, HandIn, Hint
from podlab.course.lead_node.election import LESSON
from podlab.course.lead_node.runs import CALM, MEMBERS, leader_of
from podlab.course.plain import Problem, judged
from podlab.distributed.election import Elector
from podlab.distributed.simulator import Simulator

TYPICAL, SHORTEST, CHANGE, PRICE = "typical_recovery", "shortest_recovery", "best_change", "price"
#: Seeded runs that are measured for each setting.
RUNS = 120


@dataclass(frozen=True)
class Timers:
    """The settings of a group, in seconds."""

    lease: float = 6.0
    renew: float = 2.0
    spread: float = 1.0

    def group(self, seed: str) -> Simulator:
        """Five nodes with these timers."""
        elector = type("Timed", (Elector,), {"LEASE": self.lease, "RENEW": self.renew, "SPREAD": self.spread})
        simulator = Simulator(seed, CALM, trace=False)
        for name in MEMBERS:
            simulator.add(name, partial(elector, members=MEMBERS))
        return simulator

    def recovery(self, seed: str) -> float:
        """Seconds from a leader's death, at a moment of chance, to the next lease."""
        simulator = self.group(seed)
        simulator.run(3 * self.lease + random.Random(seed).uniform(0, self.renew))
        first = leader_of(simulator)
        assert first is not None
        simulator.crash(first)
        died = simulator.time
        simulator.run_until(lambda run: leader_of(run) not in (None, first), within=10 * self.lease)
        return simulator.time - died

    def loses(self, freeze: float, seed: str) -> bool:
        """Whether a leader that is frozen for `freeze` seconds is replaced by another."""
        simulator = self.group(seed)
        simulator.run(3 * self.lease + random.Random(seed).uniform(0, self.renew))
        first = leader_of(simulator)
        assert first is not None
        simulator.pause(first)
        simulator.run(freeze)
        simulator.resume(first)
        simulator.run(self.lease)
        return leader_of(simulator) != first


TIMERS = Timers()
CHANGES = {
    "halve the lease": replace(TIMERS, lease=TIMERS.lease / 2),
    "halve the time between renewals": replace(TIMERS, renew=TIMERS.renew / 2),
    "halve the spread": replace(TIMERS, spread=TIMERS.spread / 2),
}
FREEZE = 3.0
PRICES = (
    "a leader that is frozen for 3 s is replaced",
    "two leaders at the same time",
    "twice as many messages",
    "nothing",
)


@cache
def recoveries(timers: Timers, seed: int) -> tuple[float, ...]:
    """Measured recoveries, ascending."""
    return tuple(sorted(timers.recovery(f"{seed}/{number}") for number in range(RUNS)))


def stage(answer: Answer, _bench: Bench) -> dict[str, Any]:
    """The answers as they are."""
    return dict(answer)


EXERCISE = Exercise(
    id="03.5",
    title="How long without a leader",
    points=10,
    handed_in=(
        HandIn(TYPICAL, "prediction"),
        HandIn(SHORTEST, "prediction"),
        HandIn(CHANGE, "choice"),
        HandIn(PRICE, "choice"),
    ),
    stage=stage,
    cluster=False,
    lesson=f"{LESSON}#How-long-without-a-leader",
    hints=(
        Hint(
            "The leader dies right after a renewal, or right before the next: how long are the voters still bound?",
            lambda situation: situation.failed("typical", "shortest"),
        ),
        Hint("Four nodes wait for a moment between 0 and spread. When does the first of them stand, on the average?"),
        Hint("Recovery = what is left of the promise + the wait of the first to stand + two questions. Which is most?"),
        Hint("What does the shorter lease make of a leader that is only slow?"),
    ),
    debrief=(
        "Most of the time without a leader is spent waiting for a promise to a dead node to end. A shorter lease "
        "makes recovery faster, and every pause of the leader more dangerous: a garbage collection, a slow disk, a "
        "machine that is moved. There is no right number, only a price for each."
    ),
)


def _near(name: str, share: float, pick: Any, what: str) -> None:
    @EXERCISE.check(name.split("_")[0], f"The {what} recovery", weight=2)
    @judged(f"the {what} recovery of {RUNS} runs is predicted to within {100 * share:.0f} %")
    def check(scene: dict[str, Any], bench: Bench) -> str | Problem:
        told, measured = scene[name], pick(recoveries(TIMERS, bench.seed))
        if isinstance(told, bool) or not isinstance(told, int | float):
            return Problem(f"{name} is {told!r}", "It is no number.", f"Write a number of seconds: {name} = 3.5")
        if abs(told - measured) <= share * measured:
            return f"predicted {told:.2f} s, measured {measured:.2f} s"
        if told < 0.6 * measured:
            cause = "Nobody may vote before the promise to the dead leader has ended, and that is most of the time."
        elif told > measured:
            cause = "The promise does not begin when the leader dies: its last renewal was some time before."
        else:
            cause = "Something is missing: the rest of the promise, the wait of the first to stand, or the questions."
        ask = "Draw the last renewal, the death, the end of the promises, and who stands when."
        return Problem(f"predicted {told:.2f} s, measured {measured:.2f} s", cause, ask)


_near(TYPICAL, 0.08, median, "typical")
_near(SHORTEST, 0.08, min, "shortest")


@EXERCISE.check("best-change", "What shortens it most", weight=3)
@judged("the change that shortens the typical recovery most, as measured, is the one that you chose")
def best_change(scene: dict[str, Any], bench: Bench) -> str | Problem:
    """Measure each change."""
    chosen = scene[CHANGE]
    if chosen not in CHANGES:
        return Problem(f"{CHANGE} is {chosen!r}", "It is none of the changes.", f"Copy one: {'; '.join(CHANGES)}.")
    found = {name: median(recoveries(timers, bench.seed)) for name, timers in CHANGES.items()}
    told = ", ".join(f"{name}: {seconds:.2f} s" for name, seconds in found.items())
    if chosen == min(found, key=lambda name: found[name]):
        return told
    return Problem(
        f"you chose “{chosen}”; measured: {told}",
        "What is changed there is not what most of the time is spent on.",
        "Which is longer: the rest of the promise, or the wait of the first to stand?",
    )


@EXERCISE.check("price", "What the shorter lease costs", weight=3)
@judged("what you chose is what happens with half the lease, and does not happen with the whole")
def price(scene: dict[str, Any], bench: Bench) -> str | Problem:
    """Freeze leaders of both groups; count leaders and messages."""
    chosen = scene[PRICE]
    if chosen not in PRICES:
        return Problem(f"{PRICE} is {chosen!r}", "It is none of the prices.", f"Copy one: {'; '.join(PRICES)}.")
    half = CHANGES["halve the lease"]
    lost = {
        timers: sum(timers.loses(FREEZE, f"{bench.seed}/freeze/{number}") for number in range(40))
        for timers in (TIMERS, half)
    }
    sent = {timers: _messages(timers, f"{bench.seed}/sent") for timers in (TIMERS, half)}
    told = (
        f"of 40 leaders that froze for {FREEZE:.0f} s, {lost[TIMERS]} were replaced with a lease of {TIMERS.lease} s "
        f"and {lost[half]} with {half.lease} s; messages in a minute: {sent[TIMERS]} and {sent[half]}; "
        "never two leaders at a time"
    )
    if chosen == PRICES[0]:
        return told
    return Problem(
        f"you chose “{chosen}”; {told}",
        "The lease is for how long the others wait for a leader that they do not hear.",
        "What do the four others do while the leader is frozen, and for how long?",
    )


def _messages(timers: Timers, seed: str) -> int:
    simulator = timers.group(seed)
    simulator.run(60.0)
    return simulator.tally["sent"]
