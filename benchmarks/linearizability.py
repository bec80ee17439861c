"""Time to judge generated histories of 100 to 10,000 operations with known verdicts, and how it grows.

The floor is one pass over the same history that only applies each operation to a dictionary, in the order of its
beginning: what merely reading it costs.
"""

from __future__ import annotations

import random
import sys
import time
from pathlib import Path

from common import Figure, announce, finish, machine, median, options, table

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "unit" / "distributed"))

from register_histories import broken, register_history

from podlab.distributed.histories import Operation
from podlab.distributed.linearizability import check_linearizable

SIZES = (100, 300, 1000, 3000, 10_000)
PROCESSES = 10


def one_pass(history: list[Operation]) -> None:
    registers: dict[str, object] = {}
    for one in sorted(history, key=lambda one: one.begin):
        if one.name == "write":
            registers[one.key] = one.argument
        elif one.name == "cas" and registers.get(one.key) == one.argument[0]:
            registers[one.key] = one.argument[1]


def timed(function: object, history: list[Operation]) -> tuple[float, object]:
    began = time.process_time()
    result = function(history)  # type: ignore[operator]
    return time.process_time() - began, result


def main() -> None:
    given = options(__doc__, seeds=(10, 2, "histories of each size"), most=(10_000, 1000, "largest size"))
    here = machine()
    announce("linearizability", here)
    rows, wrong = [], 0
    value = floor = 0.0
    sizes = [size for size in SIZES if size <= given.most]
    for size in sizes:
        good, bad, reading, reasons, states = [], [], [], [], []
        for seed in range(given.seeds):
            chance = random.Random(f"{size}/{seed}")
            history = register_history(chance, size, processes=PROCESSES, keys=max(1, size // 200), unanswered=0.01)
            spoiled, lie = broken(chance, history)
            seconds, right = timed(check_linearizable, history)
            good.append(seconds)
            seconds, found = timed(check_linearizable, spoiled)
            bad.append(seconds)
            reading.append(timed(one_pass, history)[0])
            wrong += (right.holds is not True) + (found.holds is not False or found.culprit != lie)
            reasons.append(len(found.reason))
            states.append(right.states)
        value, floor = median(good), median(reading)
        rows.append(
            (size, value * 1000, max(good) * 1000, median(bad) * 1000, max(bad) * 1000, median(states), max(reasons))
        )
    headings = ("operations", "yes ms", "worst", "no ms", "worst", "states", "longest reason")
    table(f"Histories of {PROCESSES} clients, 1 % without an answer; a key for each 200 operations", headings, rows)
    growth = (rows[-1][1] / rows[0][1]) / (sizes[-1] / sizes[0])
    more = {
        "operations": sizes[-1],
        "wrong_verdicts": wrong,
        "growth_over_linear": round(growth, 2),
        "worst_no_ms": round(max(row[4] for row in rows), 1),
        "longest_reason": max(row[6] for row in rows),
    }
    finish(Figure("linearizability", value * 1000, "ms", floor * 1000, "no wrong verdict", wrong == 0, more), here)


if __name__ == "__main__":
    main()
