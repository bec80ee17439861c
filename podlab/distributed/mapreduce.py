"""MapReduce on real processes: workers may die or dawdle, the result has the same bytes all the same.

After Dean and Ghemawat, MapReduce (2004). The coordinator (this process) hands out one task at a time over a socket
to each worker. A task writes its files under names of its own attempt and the coordinator renames those of the
first attempt that ends: so a task counts once, however often it ran. A task of a dead worker runs again on another;
near the end of a phase, idle workers run backups of tasks that take much longer than the others.
"""

from __future__ import annotations

import json
import selectors
import shutil
import socket
import statistics
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from operator import itemgetter
from pathlib import Path
from typing import Any

from podlab.distributed.frames import Frames, send
from podlab.distributed.harness import Harness, Worker, announce
from podlab.distributed.mapreduce_tasks import Job, Pair, map_task, order, partition, reduce_task
from podlab.errors import LaboratoryError, UsageError, WorkerFailed

__all__ = ["Engine", "Event", "Job", "Result", "order", "partition", "run", "sequential", "splits_of"]

Event = dict[str, Any]


@dataclass
class Result:
    """Where a job's output is, and the log of all that happened: `events` with seconds since the start."""

    files: list[Path]
    events: list[Event] = field(repr=False)

    def pairs(self) -> Iterator[Pair]:
        """All keys with their values, file by file."""
        for path in self.files:
            with path.open() as file:
                for line in file:
                    key, value = json.loads(line)
                    yield key, value

    def count(self, event: str) -> int:
        """How often something happened."""
        return sum(1 for one in self.events if one["event"] == event)


def sequential(job: Job, splits: Iterable[Iterable[Any]]) -> list[Pair]:
    """The same job in one loop of one process: what the result must be, sorted by key."""
    values: dict[str, tuple[Any, list[Any]]] = {}
    for split in splits:
        for record in split:
            for key, value in job.map(record):
                values.setdefault(order(key), (key, []))[1].append(value)
    return [(key, job.reduce(key, some)) for _, (key, some) in sorted(values.items(), key=itemgetter(0))]


def splits_of(records: Sequence[Any], count: int) -> list[Sequence[Any]]:
    """`records` in `count` parts of nearly equal length, in order."""
    bounds = [len(records) * number // count for number in range(count + 1)]
    return [records[a:b] for a, b in pairwise(bounds)]


# In a worker


def _work(connection: socket.socket, job: Job, splits: Sequence[Iterable[Any]], folder: Path) -> None:
    """A worker's life: take a task, do it, say so; an exception is told and does not end the worker."""
    frames = Frames()
    while True:
        data = connection.recv(65536)
        if not data:
            return
        for task in frames.feed(data):
            announce(f"{task['kind']}-{task['number']}")
            try:
                if task["kind"] == "map":
                    done = map_task(job, splits[task["number"]], folder, task["number"], task["attempt"])
                else:
                    done = reduce_task(job, len(splits), folder, task["number"], task["attempt"])
                answer: dict[str, Any] = {**task, **done}
            except Exception as error:
                answer = {**task, "error": f"{type(error).__name__}: {error}", "trace": traceback.format_exc()}
            announce(None)
            send(connection, answer)


# The coordinator


@dataclass
class _Hand:
    """One worker as the coordinator sees it: its task, if any, and since when."""

    worker: Worker
    connection: socket.socket
    frames: Frames = field(default_factory=Frames)
    task: dict[str, Any] | None = None
    since: float = 0.0


class Engine:
    """Runs one job. `watch(event, engine)` sees every event as it happens, and may strike `engine.workers`.

    `attempts`: how often a task may lose its worker before the job fails. `slow`: a running task gets a backup once
    it has taken that many times the median of its phase, and at least `patience` seconds.
    """

    def __init__(
        self,
        job: Job,
        splits: Sequence[Iterable[Any]],
        folder: Path,
        *,
        workers: int = 4,
        backups: bool = True,
        attempts: int = 4,
        slow: float = 1.5,
        patience: float = 0.05,
        watch: Callable[[Event, Engine], None] | None = None,
    ) -> None:
        if workers < 1 or job.reducers < 1:
            raise UsageError(f"A job needs workers and reducers, not {workers} and {job.reducers}.")
        self.job, self.splits, self.folder = job, splits, folder
        self.backups, self.attempts, self.slow, self.patience = backups, attempts, slow, patience
        self.events: list[Event] = []
        self._count, self._watch = workers, watch
        self._began = time.monotonic()
        self._harness = Harness()
        self._selector = selectors.DefaultSelector()
        self._hands: dict[str, _Hand] = {}
        self._number = 0

    @property
    def workers(self) -> dict[str, Worker]:
        """The living workers by name."""
        return {name: hand.worker for name, hand in self._hands.items()}

    def run(self) -> Result:
        """Do the job and return its result; LaboratoryError if user code raised, WorkerFailed if workers kept dying."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        scratch = self.folder / "scratch"
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir(mode=0o700)
        self._scratch = scratch
        try:
            with self._harness:
                for _ in range(self._count):
                    self._hire()
                self._phase("map", len(self.splits))
                self._phase("reduce", self.job.reducers)
        finally:
            for hand in self._hands.values():
                hand.connection.close()
            self._selector.close()
        files = [self.folder / f"part-{number:05d}" for number in range(self.job.reducers)]
        for old in set(self.folder.glob("part-*")) - set(files):
            old.unlink()
        for path in files:
            (scratch / path.name).replace(path)
        shutil.rmtree(scratch, ignore_errors=True)
        self._note("done")
        return Result(files, self.events)

    def _note(self, event: str, **fields: Any) -> None:
        told = {"time": time.monotonic() - self._began, "event": event, **fields}
        self.events.append(told)
        if self._watch:
            self._watch(told, self)

    def _hire(self) -> None:
        ours, theirs = socket.socketpair()
        name = f"worker-{self._number}"
        self._number += 1
        try:
            worker = self._harness.spawn(self._life, ours, theirs, name=name)
        finally:
            theirs.close()
        self._hands[name] = _Hand(worker, ours)
        self._selector.register(ours, selectors.EVENT_READ, name)
        self._note("worker", worker=name, pid=worker.pid)

    def _life(self, ours: socket.socket, theirs: socket.socket) -> None:
        ours.close()
        for hand in self._hands.values():
            hand.connection.close()
        _work(theirs, self.job, self.splits, self._scratch)

    def _phase(self, kind: str, count: int) -> None:
        """All tasks of a kind. A task is waiting, in hands, or done; one with a backup is in two hands."""
        waiting, done, lost = deque(range(count)), set[int](), dict[int, int]()
        lengths: list[float] = []
        tried: dict[int, int] = {}

        def give(hand: _Hand, number: int, event: str = "start") -> None:
            tried[number] = tried.get(number, 0) + 1
            hand.task = {"kind": kind, "number": number, "attempt": f"{tried[number]}"}
            hand.since = time.monotonic()
            try:
                send(hand.connection, hand.task)
            except OSError:
                pass  # it died just now: its socket says so next
            self._note(event, kind=kind, task=number, attempt=tried[number], worker=hand.worker.name)

        while len(done) < count:
            for hand in [hand for hand in self._hands.values() if hand.task is None]:
                if waiting:
                    give(hand, waiting.popleft())
                elif self.backups and (late := self._late(kind, done, lengths)) is not None:
                    give(hand, late, "backup")
            for key, _ in self._selector.select(timeout=self.patience if self.backups else 1.0):
                hand = self._hands[key.data]
                for answer in self._received(hand):
                    hand.task = None
                    self._ended(hand, answer, done, lengths)
                if hand.connection.fileno() == -1:
                    self._buried(hand, kind, done, waiting, lost)

    def _received(self, hand: _Hand) -> list[dict[str, Any]]:
        try:
            data = hand.connection.recv(65536)
        except ConnectionError:
            data = b""
        if not data:
            self._selector.unregister(hand.connection)
            hand.connection.close()
        return list(hand.frames.feed(data))

    def _ended(self, hand: _Hand, answer: dict[str, Any], done: set[int], lengths: list[float]) -> None:
        kind, number = answer["kind"], answer["number"]
        late = not self._current(kind, number, done)
        # What another attempt has done already cannot fail any more: its straggler may say what it likes.
        if "error" in answer and not late:
            raise LaboratoryError(f"{kind} task {number} raised {answer['error']}\n{answer['trace']}")
        told = {"kind": kind, "task": number, "attempt": int(answer["attempt"]), "worker": hand.worker.name}
        told |= {name: answer[name] for name in ("records", "bytes", "parts") if name in answer}
        told["seconds"] = time.monotonic() - hand.since
        names = (
            [f"map-{number}-{reducer}" for reducer in range(self.job.reducers)]
            if kind == "map"
            else [f"part-{number:05d}"]
        )
        if late:
            for name in names:
                (self._scratch / f"{name}.{answer['attempt']}").unlink(missing_ok=True)
            self._note("discard", **told)
            return
        for name in names:
            (self._scratch / f"{name}.{answer['attempt']}").replace(self._scratch / name)
        done.add(number)
        lengths.append(told["seconds"])
        self._note("end", **told)

    def _current(self, kind: str, number: int, done: set[int]) -> bool:
        """Whether this is the first attempt of the task to end; a late backup of an earlier phase is not."""
        return number not in done and not (kind == "map" and (self._scratch / f"map-{number}-0").exists())

    def _buried(self, hand: _Hand, kind: str, done: set[int], waiting: deque[int], lost: dict[int, int]) -> None:
        """A worker is gone: its task waits again, at the front, and a new worker takes its place."""
        del self._hands[hand.worker.name]
        task = hand.task
        hand.worker.wait()
        number = task["number"] if task else None
        self._note("lost", worker=hand.worker.name, how=hand.worker.describe(), task=number)
        if task and task["kind"] == kind and number not in done:
            lost[task["number"]] = lost.get(task["number"], 0) + 1
            if lost[task["number"]] >= self.attempts:
                raise WorkerFailed(
                    f"{kind} task {number} lost its worker {self.attempts} times. {hand.worker.failure().message}",
                    hint="Does the task itself end the process?",
                )
            others = [other.task for other in self._hands.values() if other.task]
            if not any((other["kind"], other["number"]) == (kind, number) for other in others):
                waiting.appendleft(task["number"])
        self._hire()

    def _late(self, kind: str, done: set[int], lengths: list[float]) -> int | None:
        """The task to back up, if any: alone in one hand, and much slower than the median of those that ended."""
        if not lengths:
            return None
        limit = max(self.patience, self.slow * statistics.median(lengths))
        now = time.monotonic()
        hands = [hand for hand in self._hands.values() if hand.task and hand.task["kind"] == kind]
        numbers = [hand.task["number"] for hand in hands if hand.task]
        late = [
            (now - hand.since, hand.task["number"])
            for hand in hands
            if hand.task and hand.task["number"] not in done and numbers.count(hand.task["number"]) == 1
        ]
        longest = max(late, default=(0.0, 0))
        return longest[1] if longest[0] > limit else None


def run(job: Job, splits: Sequence[Iterable[Any]], folder: Path, **options: Any) -> Result:
    """Run `job` over `splits` with the options of Engine; the output goes to `folder/part-NNNNN` as JSON lines."""
    return Engine(job, splits, folder, **options).run()
