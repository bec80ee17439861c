"""The cluster in which a submission is graded: a fresh one, or one that was proven clean after the last."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

from podlab import paths
from podlab.checks import faults
from podlab.checks.api import Api
from podlab.checks.world import MADE_BY, World
from podlab.errors import GradingError, PodlabError, WaitTimeout
from podlab.grading.boxed import BoxedCode
from podlab.grading.house import House
from podlab.grading.inventory import Inventory, inventory, is_settled, proven_clean
from podlab.waiting import until

Say = Callable[[str], None]

#: Seconds to wait for a turn to start a cluster.
PATIENCE = 120.0


def _nowhere(*_arguments: object) -> NoReturn:
    raise GradingError("A learner's code was to be called outside of a box: the grader does not do that.")


class OwnCluster:
    """A cluster of the submission's own, as its administrator sees it."""

    def __init__(self, name: str, kubeconfig: Path) -> None:
        self.name = name
        self.api = Api.connect(kubeconfig)
        self.nodes = faults.of_cluster(name)

    def world(self, seed: int, label: str = "check") -> World:
        """A world in it, in which no learner's code runs."""
        return World(
            self.api,
            seed=seed,
            label=label,
            cluster=self.name,
            nodes=self.nodes,
            start=_nowhere,
            # No learner may write there, and it need not be made and taken down for each exercise.
            measured_in="default",
        )

    @contextlib.contextmanager
    def boxed_world(self, seed: int, house: Callable[[], House]) -> Iterator[World]:
        """A world in it whose calls of the learner's code run in a box, as those without a cluster do."""
        with BoxedCode(house) as code, self.world(seed) as world:
            world.start = code.start
            yield world

    def stretch(self) -> float:
        """How much slower than an idle machine this one is now."""
        with self.world(0, "grade") as world:
            return world.stretch

    def delete_namespaces(self) -> None:
        """Delete every namespace that was made for checks or for the learner's box."""
        for item in self.api.list("Namespace"):
            if MADE_BY in item["metadata"].get("labels", {}):
                self.api.delete("Namespace", item["metadata"]["name"])


@contextlib.contextmanager
def fresh(name: str, nodes: int, say: Say) -> Iterator[OwnCluster]:
    """A new cluster; it is gone when the block ends."""
    from podlab import cluster

    with contextlib.ExitStack() as stack:
        with turn():
            say("Starting its cluster.")
            sweep(name)  # left by a grader that was killed
            handle = stack.enter_context(cluster.up(name, nodes=nodes, guarded=True))
        yield OwnCluster(name, handle.kubeconfig)


@contextlib.contextmanager
def turn() -> Iterator[None]:
    """One of as many turns as there are cores, for what takes a whole core; the kernel ends that of a killed worker.

    More clusters that start at a time would all be ready late, and their submissions would then wait in step, and
    compute in step. Whoever waits for longer than PATIENCE goes on without a turn: it is about speed only.
    """
    folder, cores = paths.private(paths.data() / "locks"), len(os.sched_getaffinity(0))
    with contextlib.ExitStack() as stack:
        files = [stack.enter_context(Path(folder, f"turn-{number}").open("a")) for number in range(cores)]
        with contextlib.suppress(WaitTimeout):
            until(
                lambda: any(faults.lock(file.fileno(), fcntl.LOCK_EX) for file in files),
                "a turn to start a cluster",
                timeout=PATIENCE,
                interval=0.1,
            )
        yield


def sweep(wanted: str) -> None:
    """End the cluster of this name, and those of workers, which have their number after it."""
    from podlab import cluster

    for name in cluster.list_clusters():
        if name == wanted or name.startswith(f"{wanted}-"):
            with contextlib.suppress(PodlabError):
                cluster.down(name)


class Pool:
    """One warm cluster, lent to one submission after the other as long as it is proven to be as it was when new."""

    def __init__(self, say: Say) -> None:
        self._say = say
        self._stack = contextlib.ExitStack()
        self._cluster: OwnCluster | None = None
        self._baseline: Inventory | None = None
        #: How many submissions were given a cluster that had served before, and how many clusters were thrown away.
        self.reused = 0
        self.destroyed = 0

    @contextlib.contextmanager
    def lent(self, name: str, nodes: int) -> Iterator[OwnCluster]:
        """The cluster for one submission. After an error, or when it is not as it was, the next one gets another."""
        if self._cluster is None:
            self._cluster = self._stack.enter_context(fresh(name, nodes, self._say))
            api = self._cluster.api
            until(lambda: is_settled(api), "the namespaces of the new cluster having all that is theirs", timeout=60)
            self._baseline = inventory(api)
        else:
            self.reused += 1
        try:
            yield self._cluster
        except BaseException:
            self.close()
            raise
        self._prove(self._cluster)

    def _prove(self, lent: OwnCluster) -> None:
        assert self._baseline is not None
        self._say("Proving that the cluster is as it was.")
        try:
            lent.delete_namespaces()
            left = proven_clean(lent.api, self._baseline)
        except PodlabError as error:
            left = [str(error)]
        if left:
            self.destroyed += 1
            self._say(f"The cluster is not as it was and is thrown away: {'; '.join(left[:3])}.")
            self.close()

    def close(self) -> None:
        """End the cluster; the next submission gets a new one."""
        self._cluster = None
        self._stack.close()
