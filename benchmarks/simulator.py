"""Seeded runs of the five-node election a minute, the reference over many seeds, and wrong variants until caught.

The floor is a bare loop over a heap that handles as many events as the run did and does nothing with them. Time is
CPU time of this process, so other work on the machine does not count.
"""

from __future__ import annotations

import heapq
import random
import sys
import time
from functools import partial
from itertools import cycle, islice
from pathlib import Path
from typing import Any

from common import Figure, announce, finish, machine, options, say, table

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "unit" / "distributed"))

from wrong_electors import ELECTORS, Unfenced, runs_until_caught

from podlab.course import manuscript
from podlab.course.lead_node import runs
from podlab.distributed.election import simulated
from podlab.distributed.histories import check_fencing, check_leases

#: Runs in which each wrong variant must be caught, from several first seeds.
MOST = 100
FIRST_SEEDS = (0, 100_000, 200_000, 300_000, 400_000)


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


def answers() -> dict[str, Any]:
    """The wrong answers of exercise 03.3, by title: classes, as the manuscript defines them."""
    file = Path(__file__).parents[1] / "manuscript" / "03-the-lead-node" / "assignment.py"
    cases = manuscript.cases(manuscript.read(file))
    return {case.title: case.names["Voter"] for case in cases if case.exercise == "03.3" and case.kind == "wrong"}


def runs_until_refused(voter: Any, most: int, first: int) -> int | None:
    """How many runs of the exercise's troubles, in turn, it takes until one is not safe or not alive."""
    for number, trouble in enumerate(islice(cycle(runs.TROUBLES), most)):
        run = runs.prepared(f"{first + number}", trouble, partial(voter, members=runs.MEMBERS))
        run.run(runs.END)
        if not (runs.safe(run) and runs.alive(run)):
            return number + 1
    return None


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
    for title, voter in answers().items():
        caught = [runs_until_refused(voter, MOST, first) for first in FIRST_SEEDS[: given.seeds]]
        rows.append((f"03.3: {title}", " ".join(str(number or f"> {MOST}") for number in caught)))
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
