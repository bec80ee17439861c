"""One job of a crew under a coordinator: hand out, take in, and look after every step whether it was right.

Nothing here waits for a time to pass: a job is stuck when every living worker is idle and was told that there is
nothing for it, while tasks have not counted.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from typing import Any, Protocol

from podlab.checks.contract import Json
from podlab.course.map_reduce.crew import Crew
from podlab.course.plain import Problem
from podlab.distributed.harness import Proof


class Desk(Protocol):
    """A coordinator, as asked for by the shift: the learner's, or one of ours that asks the learner."""

    def next(self, worker: str) -> Json:
        """The task for a free worker, or None."""

    def ended(self, worker: str, task: int) -> Json:
        """Whether this result counts."""

    def lost(self, worker: str) -> None:
        """A worker is gone."""

    def finished(self) -> Json:
        """Whether every task has counted."""


class Wrong(Exception):
    """The coordinator did something wrong; `problem` says what, with the log as evidence."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.observed)
        self.problem = problem


class Shift:
    """A job of `tasks` tasks. Tasks in `hold` do not end by themselves the first time that they are given."""

    def __init__(self, crew: Crew, desk: Desk, tasks: int, *, hold: set[int] | None = None, backups: bool = False):
        self.crew, self.desk, self.tasks, self.backups = crew, desk, tasks, backups
        self.hold = hold or set()
        self.idle = list(crew.workers)
        self.hands: dict[str, int] = {}
        self.since: dict[str, float] = {}
        #: Given up, but not dead: what they report is told to the coordinator, and they get nothing more.
        self.absent: set[str] = set()
        self.counted: dict[int, str] = {}
        self.given: Counter[int] = Counter()
        self.lengths: list[float] = []
        self.log: list[dict[str, Any]] = []
        self._began = time.monotonic()
        for name, worker in crew.workers.items():
            self._note("worker", worker=name, pid=worker.pid)

    def go_on(self, until: Callable[[], bool]) -> None:
        """Hand out and take in until something is true, or the job is over (Wrong if it cannot be any more)."""
        while True:
            self.hand_out()
            if until() or self.over():
                return
            if not self.hands:
                self._stuck()
            self.take(None)

    def to_the_end(self) -> None:
        """Go on until all is done."""
        self.go_on(lambda: False)

    def take(self, seconds: float | None) -> list[str]:
        """Take in what workers say next; returns who has become idle."""
        freed = []
        for worker, task in self.crew.news(seconds):
            if task is None:
                self.gone(worker)
                continue
            freed.append(worker)
            self._ended(worker, task)
        return freed

    def gone(self, worker: str) -> None:
        """Tell the coordinator that a worker is lost."""
        self._note("lost", worker=worker, how=self.crew.workers[worker].describe(), task=self.hands.get(worker))
        self._leave(worker)
        self.desk.lost(worker)

    def kill(self, worker: str) -> Proof:
        """Kill a worker in the middle of its task, or idle, and let the news of it come in."""
        proof = self.crew.kill(worker, self.hands.get(worker))
        while worker in self.hands or worker in self.idle:
            self.take(None)
        return proof

    def holder(self, task: int) -> str:
        """Who has a task in hand; Wrong if nobody has ever got it."""
        for worker, mine in self.hands.items():
            if mine == task:
                return worker
        raise self.wrong(
            f"task {task} was never handed out",
            "Some task is skipped.",
            "Which tasks does next(worker) give, one after the other, to a single worker?",
        )

    def hand_out(self) -> None:
        """Ask for every idle worker; those that are told None stay idle."""
        for worker in list(self.idle):
            task = self.desk.next(worker)
            if task is None:
                continue
            self._look_at(worker, task)
            self.idle.remove(worker)
            first = self.given[task] == 0
            self.given[task] += 1
            again = task in self.hands.values()
            self.hands[worker], self.since[worker] = task, time.monotonic()
            event = "backup" if again else "start"
            self._note(event, kind="task", task=task, attempt=self.given[task], worker=worker)
            self.crew.give(worker, task, hold=first and task in self.hold)

    def _look_at(self, worker: str, task: Json) -> None:
        if type(task) is not int or not 0 <= task < self.tasks:
            raise self.wrong(
                f"{worker} was given {task!r}; tasks are numbered from 0 to {self.tasks - 1}",
                "It returns something else than the number of a task.",
                "Return a number, or None if there is nothing for this worker now.",
            )
        if task in self.counted:
            raise self.wrong(
                f"{worker} was given task {task}, which had counted already for {self.counted[task]}",
                "Tasks that are done are put back, or were never taken off the list.",
                "What do you have to forget when a worker is lost: what it has done, or what it has in hand?",
            )
        held = [name for name, mine in self.hands.items() if mine == task]
        if held and (not self.backups or len(held) > 1):
            raise self.wrong(
                f"{worker} was given task {task}, which is in the hands of {' and '.join(held)}",
                "A task stays on the list while somebody has it in hand.",
                "Keep apart what waits, what is in somebody's hands, and what has counted.",
            )

    def _ended(self, worker: str, task: int) -> None:
        counts = self.desk.ended(worker, task)
        if not isinstance(counts, bool):
            raise self.wrong(
                f"ended({worker!r}, {task}) returned {counts!r}",
                "It returns something else than True or False.",
                "Return True if this result counts, False if the task has counted already.",
            )
        told = {"kind": "task", "task": task, "attempt": self.given[task], "worker": worker}
        self._note("end" if counts else "discard", **told)
        if counts and task in self.counted:
            raise self.wrong(
                f"task {task} counted twice: for {self.counted[task]}, and again for {worker}",
                "Whoever reports an end is believed, also if another has done the same task already.",
                "Before a result counts: has one of the same task counted?",
            )
        if not counts and task not in self.counted:
            raise self.wrong(
                f"{worker} ended task {task} as the first, and its result did not count",
                "A result is refused though there is no other; the task would have to be done again.",
                "It makes no difference who ends a task: the first result counts.",
            )
        if counts:
            self.counted[task] = worker
            self.lengths.append(time.monotonic() - self.since[worker])
        self._leave(worker)
        if worker not in self.absent:
            self.idle.append(worker)

    def _leave(self, worker: str) -> None:
        self.hands.pop(worker, None)
        if worker in self.idle:
            self.idle.remove(worker)

    def over(self) -> bool:
        """Whether the job is finished; Wrong if the coordinator and the results do not agree about it."""
        told = self.desk.finished()
        missing = sorted(set(range(self.tasks)) - set(self.counted))
        if told is True and missing:
            raise self.wrong(
                f"finished() says True while {_tasks(missing)} {'has' if len(missing) == 1 else 'have'} not counted",
                "Nothing is left to hand out, but that is not the end: what is in somebody's hands may still be lost.",
                "A job is finished when every task has counted.",
            )
        if not missing and told is not True:
            raise self.wrong(
                f"all {self.tasks} tasks have counted, and finished() says {told!r}",
                "The job never ends.",
                "Compare the number of tasks that have counted with the number of tasks.",
            )
        return told is True

    def _stuck(self) -> None:
        missing = sorted(set(range(self.tasks)) - set(self.counted))
        idle = ", ".join(self.idle) or "nobody"
        raise self.wrong(
            f"{_tasks(missing)} {'has' if len(missing) == 1 else 'have'} not counted, nobody has "
            f"{'it' if len(missing) == 1 else 'them'} in hand, and idle workers ({idle}) are told None",
            "What a lost worker had in hand was not put back: the job waits for ever.",
            "When a worker is lost, which task has to be handed out again, and how do you know?",
        )

    def wrong(self, observed: str, cause: str, next_step: str) -> Wrong:
        """What is wrong, with the log so far as a picture."""
        return Wrong(Problem(observed, cause, next_step, {"replay": {"kind": "shuffle", "events": self.log}}))

    def _note(self, event: str, **fields: Any) -> None:
        self.log.append({"time": round(time.monotonic() - self._began, 3), "event": event, **fields})


def _tasks(numbers: list[int]) -> str:
    return f"task {numbers[0]}" if len(numbers) == 1 else f"tasks {', '.join(map(str, numbers))}"
