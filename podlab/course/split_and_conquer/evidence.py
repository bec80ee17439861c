"""A task that leaves evidence: which process took it up and ended it, in what order. Runs in the learner's processes.

All processes append to one file, so the order of its lines is the order of what happened: no clock is compared.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from podlab import waiting

Line = dict[str, Any]


@dataclass(frozen=True)
class Work:
    """Called with a chunk [number, seconds], waits that long and returns a value that only this run knows.

    Chunks wait at their begin until `together` of them have been in hand at once, and chunk `last` until all
    `count` others have ended. Whoever has waited `patience` seconds without any news gives up, for all.
    """

    path: str
    nonce: str
    count: int
    fails: int = -1
    together: int = 0
    last: int = -1
    patience: float = 2.0

    def __call__(self, chunk: list[float]) -> str:
        number, seconds = int(chunk[0]), chunk[1]
        self._tell("begin", number)
        if number == self.last:
            self._await(lambda told: sum(line["event"] == "end" for line in told) >= self.count - 1, number)
        elif self.together:
            self._await(lambda told: most_in_hand(told) >= self.together, number)
        waiting.pause(seconds)
        self._tell("end", number)
        if number == self.fails:
            raise ValueError(f"chunk {number} cannot be done")
        return result(self.nonce, number)

    def _tell(self, event: str, number: int) -> None:
        told = {"event": event, "chunk": number, "pid": os.getpid(), "at": time.monotonic()}
        descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            os.write(descriptor, json.dumps(told).encode() + b"\n")
        finally:
            os.close(descriptor)

    def _await(self, met: Callable[[list[Line]], bool], number: int) -> None:
        seen, since = 0, time.monotonic()
        while True:
            told = read(self.path)
            if met(told) or any(line["event"] == "gave up" for line in told):
                return
            if len(told) > seen:
                seen, since = len(told), time.monotonic()
            elif time.monotonic() - since > self.patience:
                return self._tell("gave up", number)
            waiting.pause(0.005)


def read(path: str) -> list[Line]:
    """All lines so far; none if nothing has begun."""
    try:
        return [json.loads(line) for line in Path(path).read_text().splitlines()]
    except FileNotFoundError:
        return []


def most_in_hand(told: Iterable[Line]) -> int:
    """How many chunks were in hand at once at most."""
    now = most = 0
    for line in told:
        now += {"begin": 1, "end": -1}.get(line["event"], 0)
        most = max(most, now)
    return most


def result(nonce: str, number: int) -> str:
    """What the work on a chunk gives."""
    return f"{nonce}-{number}"
