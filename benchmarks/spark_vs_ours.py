"""spark-vs-ours: the words of chapter 05 by our engine, by Spark here, by Spark in pods and by Indexed Jobs.

Every way has two workers and the same splits, whose lines take 2 ms each: what goes beyond half of that is the way's
own. CPU is that of this process, its children and the cluster; memory is what the most that these had together
(proportional) is above what they had before the way began. In every second run one worker is killed while it holds a
task whose work is done. The floor is our engine. `--pods 0` leaves out the two ways that need a cluster.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field

from clusters import supervisor, taken_down
from common import Figure, announce, finish, machine, median, options, say, table
from processes import Used, descendants, used

from podlab import addons, cluster
from podlab.checks.api import Api
from podlab.errors import EnvironmentUnsuitable
from podlab.lab import four_ways
from podlab.lab.four_ways import Outcome, Way
from podlab.spark import missing

#: Seconds between two looks at memory.
LOOK = 0.25
KILLED = ("killed_s", "killed_more_s", "killed_more_tasks")


@dataclass
class Runs:
    """What a way took: seconds until the job could begin, the first run, which finds no cache warm, then the others."""

    start: list[float] = field(default_factory=list)
    first: list[Outcome] = field(default_factory=list)
    memory: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    calm: list[Outcome] = field(default_factory=list)
    killed: list[Outcome] = field(default_factory=list)


def now(roots: list[int]) -> Used:
    """What all processes below some use."""
    pids = {pid for root in roots for pid in descendants(root)}
    return sum((used(pid) for pid in pids), Used())


class Peak:
    """The most and the least memory (proportional bytes) of all processes below some; `cpu` of looking."""

    def __init__(self, roots: list[int]) -> None:
        self.roots, self.most, self.least, self.cpu = roots, 0, sys.maxsize, 0.0
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._look)

    def _look(self) -> None:
        while not self._end.wait(LOOK):
            held = now(self.roots).proportional
            self.most, self.least = max(self.most, held), min(self.least, held)
            self.cpu = time.thread_time()

    def __enter__(self) -> Peak:
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._end.set()
        self._thread.join()


def measure(kind: type[Way], lines: list[str], api: Api | None, roots: list[int], runs: Runs) -> None:
    """One start, a first run, a calm one, and one with a kill."""
    rest, began = now(roots), time.perf_counter()
    with kind(lines, api) as way:
        runs.start.append(time.perf_counter() - began)
        runs.first.append(way.run())
        before = now(roots)
        with Peak(roots) as peak:
            runs.calm.append(way.run())
        runs.cpu.append(now(roots).since(before) - peak.cpu)
        # What the way before had may have gone only now.
        runs.memory.append((peak.most - min(rest.proportional, peak.least)) / 2**20)
        runs.killed.append(way.run(kill=True))
    say(f"  {kind.name}: {runs.calm[-1].seconds:.1f} s, a worker killed {runs.killed[-1].seconds:.1f} s")


def middle(runs: list[Outcome], of: Callable[[Outcome], float]) -> float:
    """The middle of some runs."""
    return median([of(one) for one in runs])


def main() -> None:
    given = options(
        __doc__,
        lines=(8000, 1000, "lines"),
        repeats=(3, 1, "starts of each way, in turn"),
        pods=(1, 0, "0: without the two ways that need a cluster"),
    )
    if lacks := missing():
        raise EnvironmentUnsuitable(f"{' and '.join(lacks)} not installed.", hint="pip install 'podlab[spark]'")
    about, lines = machine(), four_ways.corpus(given.lines)
    announce("spark-vs-ours", about)
    ways = four_ways.WAYS if given.pods else four_ways.WAYS[:2]
    found = {kind.name: Runs() for kind in ways}
    with ExitStack() as stack:
        api, roots = None, [os.getpid()]
        if given.pods:
            made = cluster.up(stack.enter_context(taken_down()), nodes=2)
            addons.enable("spark", made.name)
            api = Api.connect(made.kubeconfig)
            roots.append(supervisor())
        for _ in range(given.repeats):
            for kind in ways:
                measure(kind, lines, api, roots, found[kind.name])
    finish(figure(given.lines, found, four_ways.counts(lines)), about)


def figure(lines: int, found: dict[str, Runs], right: dict[str, int]) -> Figure:
    """The table and the last line."""
    rows = {}
    for name, runs in found.items():
        calm, killed = (middle(some, lambda one: one.seconds) for some in (runs.calm, runs.killed))
        rows[name] = {
            "start_s": median(runs.start),
            "first_s": middle(runs.first, lambda one: one.seconds),
            "job_s": calm,
            "cpu_s": median(runs.cpu),
            "memory_mib": median(runs.memory),
            "shuffled_bytes": int(middle(runs.calm, lambda one: one.shuffled)),
            "killed_s": killed,
            "killed_more_s": killed - calm,
            "killed_more_tasks": middle(runs.killed, lambda one: one.tasks) - middle(runs.calm, lambda one: one.tasks),
        }
    title = f"{lines} lines, {four_ways.WORKERS} workers, {four_ways.SPLITS} splits; the middle of the runs"
    for heads in (("start_s", "first_s", "job_s", "cpu_s", "memory_mib"), ("shuffled_bytes", *KILLED)):
        table(title, ("way", *heads), [(name, *(row[head] for head in heads)) for name, row in rows.items()])
    wrong = sum(one.counts != right for runs in found.values() for one in [*runs.first, *runs.calm, *runs.killed])
    more = {key: {name: round(row[key], 2) for name, row in rows.items()} for key in next(iter(rows.values()))} | {
        "wrong_results": wrong
    }
    spark, ours = rows[four_ways.SparkHere.name]["job_s"], rows[four_ways.Ours.name]["job_s"]
    return Figure("spark-vs-ours", spark, "s", ours, "the same counts, killed or not", wrong == 0, more)


if __name__ == "__main__":
    main()
