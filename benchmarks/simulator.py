"""Seeded runs of the five-node election a minute, the reference over many seeds, and wrong variants until caught.

The floor is a bare loop over a heap that handles as many events as the run did and does nothing with them. Time is
CPU time of this process, so other work on the machine does not count. Of chapter 03, the wrong answers are sought whose
exercises meet the simulator's messages, 03.3 and 03.4; the others get numbers (03.1, 03.2) or are numbers (03.5).
"""

from __future__ import annotations

import copy
import heapq
import random
import sys
import time
from functools import partial
from itertools import cycle, islice
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from common import Figure, announce, finish, machine, options, say, table

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "unit" / "distributed"))

from wrong_electors import ELECTORS, Unfenced, runs_until_caught

from podlab.course import manuscript
from podlab.course.lead_node import fencing, runs
from podlab.distributed.election import simulated
from podlab.distributed.histories import check_fencing, check_leases

#: Runs in which each wrong variant must be caught, from several first seeds.
MOST = 100
FIRST_SEEDS = (0, 100_000, 200_000, 300_000, 400_000)
#: The check of 03.4 whose writes are made by hand: in no simulated election do two former leaders write in a row.
BY_HAND = "old"


def bare(events: int) -> float:
    """CPU seconds of a heap that is never empty, for that many events."""
    chance = random.Random(0).random
    queue = [(chance(), number, None) for number in range(40)]
    heapq.heapify(queue)
    began = time.process_time()
    for number in range(events):
        now, _, _ = heapq.heappop(queue)
        heapq.heappush(queue, (now + chance(), number, None))
    return time.process_time() - began


def answers(exercise: str, name: str, kind: str = "wrong") -> dict[str, Any]:
    """The answers of a kind to an exercise of chapter 03, by title: classes, as the manuscript defines them."""
    file = Path(__file__).parents[1] / "manuscript" / "03-the-lead-node" / "assignment.py"
    cases = manuscript.cases(manuscript.read(file))
    found = [case for case in cases if (case.exercise, case.kind) == (exercise, kind)]
    return {case.title: case.names[name] for case in found if case.fails.keys() != {BY_HAND}}


def runs_until_refused(voter: Any, most: int, first: int) -> int | None:
    """How many runs of the exercise's troubles, in turn, it takes until one is not safe or not alive."""
    for number, trouble in enumerate(islice(cycle(runs.TROUBLES), most)):
        run = runs.prepared(f"{first + number}", trouble, partial(voter, members=runs.MEMBERS))
        run.run(runs.END)
        if not (runs.safe(run) and runs.alive(run)):
            return number + 1
    return None


class Disk:
    """What a store keeps when it crashes."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}

    def get(self, key: str, default: Any = None) -> Any:
        """A copy of what is kept."""
        return copy.deepcopy(self.values.get(key, default))

    def put(self, **values: Any) -> None:
        """Keep copies of values."""
        self.values.update(copy.deepcopy(values))


def runs_until_wrong(make: Any, most: int, first: int) -> int | None:
    """How many elections, whose writes reach a store that crashes now and then, it takes until it answers wrongly."""
    for number in range(most):
        seed, disk, truth = first + number, Disk(), fencing.Truth()
        store = make(disk)
        for step in fencing.election(SimpleNamespace(seed=seed, random=random.Random(seed)), 0, crashes=True):
            if step.what == "crash":
                store = make(disk)
            elif getattr(store, step.what)(*step.arguments) != truth.answer(step):
                return number + 1
    return None


#: By exercise the class that is asked for, and how many runs it takes until a wrong one is found out.
CAUGHT = {"03.3": ("Voter", runs_until_refused), "03.4": ("Store", runs_until_wrong)}


def main() -> None:
    given = options(
        __doc__,
        runs=(10_000, 200, "runs of the reference"),
        seeds=(len(FIRST_SEEDS), 1, "first seeds from which wrong variants are sought"),
    )
    here = machine()
    announce("simulator", here)
    bad: list[str] = []
    events = elections = stale = 0
    used = 0.0
    for seed in range(given.runs):
        began = time.process_time()
        run = simulated(seed)
        used += time.process_time() - began
        verdicts = (check_leases(run.record), check_fencing(run.record))
        bad += [f"seed {seed}: {verdict}" for verdict in verdicts if not verdict]
        events += run.tally["delivered"] + run.tally["sent"]
        elections += len(verdicts[0].evidence)
        stale += sum(1 for one in run.record if one["event"] == "write" and not one["accepted"])
        if (seed + 1) % 1000 == 0:
            say(f"  {seed + 1} runs, {len(bad)} with two holders or a stale write")
    for line in bad[:10]:
        say(line)
    a_minute = given.runs / used * 60
    floor = given.runs / bare(events) * 60

    rows = []
    for wrong in (*ELECTORS, Unfenced):
        caught = [runs_until_caught(wrong, MOST, first) for first in FIRST_SEEDS[: given.seeds]]
        rows.append((wrong.__name__, " ".join(str(number or f"> {MOST}") for number in caught)))
    for exercise, (name, until) in CAUGHT.items():
        for title, made in answers(exercise, name).items():
            caught = [until(made, MOST, first) for first in FIRST_SEEDS[: given.seeds]]
            rows.append((f"{exercise}: {title}", " ".join(str(number or f"> {MOST}") for number in caught)))
    table("Wrong variants: runs until a checker objects", ("variant", "from each first seed"), rows)
    missed = sum(row[1].count(">") for row in rows)
    table(
        "Five electors and a store, 60 simulated seconds under faults",
        ("what", "value"),
        [
            ("runs", given.runs),
            ("runs a CPU minute", a_minute),
            ("leases", elections),
            ("stale writes refused", stale),
            ("runs with two holders or a stale write", len(bad)),
        ],
    )
    met = a_minute >= 1000 and not bad and not missed
    more = {"runs": given.runs, "violations": len(bad), "missed": missed, "variants": len(rows), "leases": elections}
    limit = f">= 1000, no violation in {given.runs}, each variant caught within {MOST}"
    finish(Figure("simulator", a_minute, "runs/min", floor, limit, met, more), here)


if __name__ == "__main__":
    main()
