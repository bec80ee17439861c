"""The events of a MapReduce job that is only computed, tick by tick: the same as the engine's, without a process.

For pictures to play with: kill a worker, slow one down, take backups away, and see what it costs. One seed, one run.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from podlab.distributed.mapreduce import Event, partition

#: Ticks for each record that is mapped, and for each value that is reduced; a second has this many ticks.
TICKS = 10
#: A task gets a backup once it has taken this many times the median of those that ended.
SLOW = 1.5


@dataclass(frozen=True)
class Plan:
    """A job and its troubles. `killed` (0: nobody) dies in the middle of its first task; `slow` is worker 1's factor.

    `splits` holds records, each a list of words.
    """

    splits: Sequence[Sequence[Sequence[str]]]
    workers: int = 3
    reducers: int = 3
    combine: bool = False
    killed: int = 0
    slow: float = 1.0
    backups: bool = True


def corpus(seed: int, splits: int, records: int = 4) -> list[list[list[str]]]:
    """Splits of records of three words, drawn from a few; some words are much more frequent than others."""
    chance = random.Random(seed)
    words = ["love", "war", "train", "desert", "dream", "river", "winter"]
    weights = [1 / rank for rank in range(1, len(words) + 1)]
    return [[chance.choices(words, weights, k=3) for _ in range(records)] for _ in range(splits)]


@dataclass
class _Task:
    kind: str
    number: int
    left: float
    attempts: int = 0
    began: int = 0
    ended: bool = False
    holders: list[_Hand] = field(default_factory=list)


@dataclass
class _Hand:
    name: str
    number: int
    task: _Task | None = None
    attempt: int = 0
    left: float = 0.0
    whole: float = 0.0


def events(plan: Plan) -> list[Event]:
    """All that happens, in order, with `time` in seconds; ends with "done"."""
    return _Run(plan).run()


class _Run:
    def __init__(self, plan: Plan) -> None:
        self.plan, self.tick = plan, 0
        self.told: list[Event] = []
        self.names = count(1)
        self.hands = [self._hired() for _ in range(plan.workers)]
        self.doomed = plan.killed
        self.parts: dict[int, list[int]] = {}

    def run(self) -> list[Event]:
        maps = [_Task("map", number, float(len(split))) for number, split in enumerate(self.plan.splits)]
        self._phase(maps)
        arrived = [sum(parts[reducer] for parts in self.parts.values()) for reducer in range(self.plan.reducers)]
        self._phase([_Task("reduce", number, max(1.0, values / 3)) for number, values in enumerate(arrived)])
        self._tell("done")
        return self.told

    def _tell(self, event: str, **fields: Any) -> None:
        self.told.append({"time": self.tick / TICKS, "event": event, **fields})

    def _hired(self) -> _Hand:
        number = next(self.names)
        self._tell("worker", worker=f"worker-{number}", pid=0)
        return _Hand(f"worker-{number}", number)

    def _phase(self, tasks: list[_Task]) -> None:
        lengths: list[int] = []
        while not all(task.ended for task in tasks):
            for hand in self.hands:
                if hand.task is None:
                    self._give(hand, tasks, lengths)
            self.tick += 1
            for hand in list(self.hands):
                self._work(hand, lengths)

    def _give(self, hand: _Hand, tasks: list[_Task], lengths: list[int]) -> None:
        waiting = [task for task in tasks if not task.ended and not task.holders]
        task, event = (waiting[0], "start") if waiting else (self._late(tasks, lengths), "backup")
        if task is None:
            return
        task.attempts += 1
        task.began = task.began if task.holders else self.tick
        task.holders.append(hand)
        hand.task, hand.attempt = task, task.attempts
        hand.whole = hand.left = task.left * 2 * (self.plan.slow if hand.number == 1 else 1.0)
        self._tell(event, kind=task.kind, task=task.number, attempt=task.attempts, worker=hand.name)

    def _late(self, tasks: list[_Task], lengths: list[int]) -> _Task | None:
        if not self.plan.backups or not lengths:
            return None
        limit = SLOW * sorted(lengths)[len(lengths) // 2]
        late = [task for task in tasks if not task.ended and len(task.holders) == 1 and self.tick - task.began > limit]
        return min(late, key=lambda task: task.began, default=None)

    def _work(self, hand: _Hand, lengths: list[int]) -> None:
        task = hand.task
        if task is None:
            return
        hand.left -= 1
        if hand.number == self.doomed and hand.left <= hand.whole / 2:
            self._died(hand, task)
        elif hand.left <= 0:
            hand.task = None
            task.holders.remove(hand)
            told: dict[str, Any] = {
                "kind": task.kind,
                "task": task.number,
                "attempt": hand.attempt,
                "worker": hand.name,
            }
            told |= self._made(task)
            if task.ended:
                self._tell("discard", **told)
                return
            task.ended = True
            lengths.append(self.tick - task.began)
            if task.kind == "map":
                self.parts[task.number] = told["parts"]
            self._tell("end", **told)

    def _died(self, hand: _Hand, task: _Task) -> None:
        self.doomed = 0
        task.holders.remove(hand)
        self.hands.remove(hand)
        self._tell("lost", worker=hand.name, how="was killed by SIGKILL", task=task.number)
        self.hands.append(self._hired())

    def _made(self, task: _Task) -> dict[str, Any]:
        """What a task reads and gives: records and, of a map task, values for each reducer."""
        if task.kind == "reduce":
            return {"records": sum(parts[task.number] for parts in self.parts.values())}
        split = self.plan.splits[task.number]
        counts = Counter(word for record in split for word in record)
        parts = [0] * self.plan.reducers
        for word, times in counts.items():
            parts[partition(word, self.plan.reducers)] += 1 if self.plan.combine else times
        return {"records": len(split), "parts": parts}
