"""Exercise 01.3: tasks of very different length, dealt so that no worker is long behind the others."""

from __future__ import annotations

import heapq
import random
from itertools import accumulate
from typing import Any

from podlab.checks.bench import Bench
from podlab.checks.contract import Answer, Exercise, HandIn, Hint, Inconclusive, Json
from podlab.course.plain import Problem, computed, judged, short, values
from podlab.course.split_and_conquer.split import LESSON
from podlab.distributed.farm import farm
from podlab.waiting import pause

NAME = "assign"
#: How much longer than longest-first a deal may take.
TOLERANCE = 1.1
#: How much slower than told the tasks are done, tried in this order, until the machine's delays are small beside them.
PACES = (1.0, 3.0, 9.0)


def stage(answer: Answer, _bench: Bench) -> str:
    """The source of the learner's function."""
    return answer[NAME]


EXERCISE = Exercise(
    id="01.3",
    title="Long tasks and short ones",
    points=10,
    handed_in=(HandIn(NAME, "function"),),
    stage=stage,
    cluster=False,
    lesson=f"{LESSON}#Pieces-that-are-not-equal",
    hints=(
        Hint(
            "Every worker has the same number of tasks in your deal. Has every worker the same number of seconds?",
            lambda situation: situation.failed("skewed"),
        ),
        Hint(
            "You deal in the order in which the tasks come. What happens if the longest comes last?",
            lambda situation: situation.failed("long-last"),
        ),
        Hint("If you pack a car, do you begin with the suitcases or with the socks?"),
        Hint("Which worker should have the next task, if you know what each has so far?"),
    ),
    debrief=(
        "Longest first, each to whoever has least so far: never more than a third longer than the best deal there is "
        "(Graham, 1969), and finding the very best one takes exponential time. If lengths are not known beforehand, "
        "let workers ask for chunks, and make the last chunks small."
    ),
)


def longest_first(seconds: list[float], workers: int) -> float:
    """The time that the longest-first deal takes."""
    loads = [0.0] * workers
    for one in sorted(seconds, reverse=True):
        heapq.heapreplace(loads, loads[0] + one)
    return max(loads)


def skewed(chance: random.Random, count: int) -> list[float]:
    """Lengths of tasks, most of them short, some very long."""
    return [round(0.1 * chance.paretovariate(1.1), 3) for _ in range(count)]


def deal(scene: str, bench: Bench, cases: list[list[Json]]) -> list[list[list[int]]] | Problem:
    """The tasks of all workers for every case, or a Problem where a deal is none."""
    found = []
    for (seconds, workers), value in zip(cases, values(bench, scene, NAME, cases), strict=True):
        asked = f"assign({short(seconds, 80)}, {workers})"
        fits = isinstance(value, list) and all(
            isinstance(mine, list) and all(type(task) is int for task in mine) for mine in value
        )
        if not fits or len(value) != workers:
            return Problem(
                f"{asked} returned {short(value)}",
                f"It is not a list of {workers} lists with the numbers of tasks.",
                "Return one list per worker; tasks are called by their index, from 0.",
            )
        dealt = sorted(task for mine in value for task in mine)
        if dealt != list(range(len(seconds))):
            return Problem(
                f"{asked} deals {len(dealt)} tasks of {len(seconds)}, {len(set(dealt))} of them different",
                "Tasks are left out or dealt twice, or seconds are returned in place of numbers.",
                "Sort the indices by their seconds: sorted(range(len(seconds)), key=...).",
            )
        found.append(value)
    return found


def loads(seconds: list[float], dealt: list[list[int]]) -> list[float]:
    """The seconds that each worker has."""
    return [sum(seconds[task] for task in mine) for mine in dealt]


def picture(seconds: list[float], dealt: list[list[int]]) -> dict[str, Any]:
    """Evidence for `lab.replay`: the chart of a deal, computed."""
    spans = []
    for worker, mine in enumerate(dealt):
        ends = list(accumulate(seconds[task] for task in mine))
        spans += [[worker, task, end - seconds[task], end] for task, end in zip(mine, ends, strict=True)]
    return {"replay": {"kind": "gantt", "workers": len(dealt), "spans": spans, "mode": "simulation"}}


def too_long(scene: str, bench: Bench, cases: list[list[Json]], cause: str, next_step: str) -> str | Problem:
    """Compare each deal with the longest-first one."""
    deals = deal(scene, bench, cases)
    if isinstance(deals, Problem):
        return deals
    worst = 0.0
    for (seconds, workers), dealt in zip(cases, deals, strict=True):
        have, good = loads(seconds, dealt), longest_first(seconds, workers)
        worst = max(worst, max(have) / good)
        if max(have) > TOLERANCE * good + 1e-9:
            return Problem(
                f"{len(seconds)} tasks on {workers} workers: the last worker ends after {max(have):.1f} s, "
                f"the first after {min(have):.1f} s; {good:.1f} s were possible",
                cause,
                next_step,
                picture(seconds, dealt),
            )
    return f"{len(cases)} deals, the worst {100 * (worst - 1):.0f} % longer than longest-first"


@EXERCISE.check("once", "Every task is dealt once", weight=2)
@computed("the lists of all workers together hold every task number exactly once")
def once(scene: str, bench: Bench) -> str | Problem:
    """Add the lists up."""
    chance = bench.random
    cases = [[skewed(chance, chance.randint(1, 40)), chance.randint(1, 6)] for _ in range(20)]
    deals = deal(scene, bench, cases)
    return deals if isinstance(deals, Problem) else f"{len(cases)} deals were complete"


@EXERCISE.check("skewed", "Nobody is long behind", weight=3)
@computed("with very different tasks, the last worker ends at most 10 % later than in the longest-first deal")
def spread(scene: str, bench: Bench) -> str | Problem:
    """Many random deals."""
    chance = bench.random
    cases = [[skewed(chance, chance.randint(20, 60)), chance.randint(2, 6)] for _ in range(30)]
    return too_long(
        scene,
        bench,
        cases,
        "Tasks were counted, and not their seconds: equal numbers of tasks are not equal work.",
        "Keep for each worker the seconds that it has so far.",
    )


@EXERCISE.check("equal", "Equal tasks are dealt evenly", weight=1, needs=["once"])
@computed("with equal tasks, no worker has two tasks more than another")
def equal(scene: str, bench: Bench) -> str | Problem:
    """All tasks of one length."""
    cases: list[list[Json]] = [[[1.0] * count, 4] for count in (4, 9, 16, 30)]
    return too_long(
        scene,
        bench,
        cases,
        "Somebody gets nothing, or one worker gets all that is left over.",
        "Deal 30 equal tasks to 4 workers on paper: who gets the last two?",
    )


def lasted(seconds: list[float], dealt: list[list[int]], pace: float) -> float:
    """The seconds that a deal takes with real processes, which wait; `pace` stretches all times alike."""
    parts = [[pace * seconds[task] for task in mine] for mine in dealt if mine]
    return farm(pause, parts, len(dealt), order="dealt").seconds / pace


@EXERCISE.check("real", "Real processes end sooner with it", weight=2, needs=["once"])
@judged("run by real processes, your deal takes less time than the same tasks dealt like cards")
def real(scene: str, bench: Bench) -> str | Problem:
    """Run both deals with processes that wait."""
    seconds = [0.3, 0.02, 0.02, 0.2, 0.02, 0.02, 0.22, 0.02, 0.02, 0.26, 0.02, 0.02]
    mine = deal(scene, bench, [[seconds, 3]])
    if isinstance(mine, Problem):
        return mine
    deals = [list(range(one, len(seconds), 3)) for one in range(3)], mine[0]
    computed = [max(loads(seconds, dealt)) for dealt in deals]
    for pace in PACES:
        took = [lasted(seconds, dealt, pace) for dealt in deals]
        if took[0] < 1.5 * computed[0] and took[1] < 1.5 * computed[1]:
            break
    else:
        raise Inconclusive(
            f"the pauses took {took[0]:.2f} and {took[1]:.2f} s, not {computed[0]:.2f}, {computed[1]:.2f}"
        )
    if took[1] < 0.8 * took[0]:
        return f"{took[1]:.2f} s, dealt like cards {took[0]:.2f} s"
    return Problem(
        f"{took[1]:.2f} s, dealt like cards {took[0]:.2f} s",
        "All long tasks went to one worker.",
        "Look at the deal: assign([0.3, 0.02, 0.02, 0.2, 0.02, 0.02], 3).",
    )
