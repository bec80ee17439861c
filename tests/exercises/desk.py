"""Where answers are checked: without a cluster as they are, with one side by side, with harmed nodes one by one."""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path

from known_answers import fails_as_told
from providers import PROVIDER
from turnstile import Turnstile

from podlab import cluster as clusters
from podlab.checks import answers, faults, registry, runner, seeds
from podlab.checks.api import Api
from podlab.checks.bench import Bench
from podlab.checks.contract import Exercise, Report
from podlab.checks.world import World
from podlab.cluster import Cluster
from podlab.course import manuscript

COURSE = Path(__file__).parents[2]
#: How many answers are checked side by side: without a cluster (they compute), on one (they mostly wait), and with
#: nodes that are lost (on a cluster each, since nobody else may be disturbed).
AT_ONCE = {"plain": 2, "quiet": 14, "nodes": 2}
if PROVIDER == "kind":
    # A pod of kind takes a processor for a second until it runs: with more inside, nobody could be measured.
    AT_ONCE = {"plain": 2, "quiet": 6, "nodes": 1}


def case_name(case: manuscript.Case) -> str:
    return f"{case.exercise} {case.kind} {case.title}"


def place_of(exercise: Exercise) -> str:
    """Where an exercise is checked: a key of AT_ONCE."""
    if not exercise.cluster:
        return "plain"
    return "nodes" if exercise.disruptive else "quiet"


class Desk:
    """Runs all wanted cases, side by side: `report` waits for one of them."""

    def __init__(self, cluster_for: Callable[[str], Cluster], wanted: Iterable[manuscript.Case]) -> None:
        self.cluster_for = cluster_for
        self.pools = {place: ThreadPoolExecutor(number) for place, number in AT_ONCE.items()}
        self.turnstile = Turnstile(2) if PROVIDER == "kind" else Turnstile()
        self.free: queue.SimpleQueue[str] = queue.SimpleQueue()
        for number in range(AT_ONCE["nodes"]):
            self.free.put(f"nodes-{number + 1}")
        self.runs: dict[str, Future[Report]] = {}
        self.lock = threading.Lock()
        # Those of later chapters take longer: they begin first, or the end would be theirs alone.
        ordered = sorted(wanted, key=lambda case: case.exercise, reverse=True)
        chosen = [(registry.exercise(case.exercise, COURSE / "autograder" / "hidden"), case) for case in ordered]
        self.to_harm = sum(place_of(exercise) == "nodes" for exercise, _ in chosen)
        for exercise, case in chosen:
            self.runs[case_name(case)] = self.pools[place_of(exercise)].submit(self.run, exercise, case)

    def close(self) -> None:
        """End; what has not begun is left."""
        for pool in self.pools.values():
            pool.shutdown(cancel_futures=True)

    def report(self, case: manuscript.Case) -> Report:
        """The report of a wanted case."""
        return self.runs[case_name(case)].result()

    def run(self, exercise: Exercise, case: manuscript.Case) -> Report:
        """Check one answer with all checks, in a world of its own."""
        seed = seeds.seed_for(case.title, case.exercise)
        answer = answers.collect([exercise], case.names)[exercise.id]
        check = partial(runner.run, exercise, answer, hidden=True, convinced=partial(fails_as_told, case))
        if not exercise.cluster:
            return check(lambda: Bench(seed=seed))
        with self.place(exercise) as name:
            cluster = self.cluster_for(name)  # the machine is no measure of how many can be inside before it is up
            with self.turnstile.passed(case_name(case)):
                return check(partial(self.world, cluster, seed))

    @staticmethod
    def world(cluster: Cluster, seed: int) -> World:
        """A namespace of its own on the cluster."""
        api, nodes = Api.connect(cluster.kubeconfig), faults.of_cluster(cluster.name)
        return World(api, seed=seed, cluster=cluster.name, nodes=nodes)

    @contextlib.contextmanager
    def place(self, exercise: Exercise) -> Iterator[str]:
        """The name of the cluster to check on. Of those that harm it the last takes it away: idle, it computes on."""
        if not exercise.disruptive:
            yield "quiet"
            return
        name = self.free.get()
        with self.lock:
            self.to_harm -= 1
        try:
            yield name
        finally:
            if self.to_harm:
                self.free.put(name)
            else:
                clusters.down(name)
