"""The world of an exercise that needs no cluster: a seed, a nonce, deadlines measured on this machine, calls.

It has what checks of every kind use (seed, random, nonce, deadline, steady, say), so that the runner needs not care.
"""

from __future__ import annotations

import random
import secrets
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager

from podlab.checks.calls import Start, start_here
from podlab.checks.code import Code

#: Seconds that a small Python process takes from start to end on an idle machine; deadlines are meant for that.
USUAL_START = 0.05
MOST_STRETCH = 10.0
#: Seconds for which what was measured holds for the next bench of this process.
HOLDS = 5.0
_measured: tuple[float, float] | None = None


class Bench(Code, AbstractContextManager["Bench"]):
    """One run's surroundings without a cluster. `start` starts Python for the learner's code; default: here."""

    cluster = ""

    def __init__(
        self,
        *,
        seed: int,
        label: str = "check",
        start: Start = start_here,
        say: Callable[[str], None] = lambda _text: None,
    ) -> None:
        self.seed = seed
        self.random = random.Random(seed)
        self.nonce = secrets.token_hex(4)
        self.label = label
        self.start = start
        self.say = say
        self.stretch = 1.0
        self.baseline = 0.0

    def __enter__(self) -> Bench:
        if _measured is None or time.monotonic() > _measured[0] + HOLDS:
            self.measure()
        else:
            self._stretch_by(_measured[1])
        return self

    def __exit__(self, *_error: object) -> None:
        """Nothing is left: every call has ended its own processes."""

    def afresh(self) -> None:
        """Have the learner's code run where nothing is left of it, no file and no process; here it stays where it is.

        Not while some of it runs.
        """

    def measure(self) -> float:
        """Measure how long a small process takes (the middle of three), set the stretch from it, return seconds."""
        self._stretch_by(sorted(_start() for _ in range(3))[1])
        global _measured
        _measured = time.monotonic(), self.baseline
        return self.baseline

    def _stretch_by(self, baseline: float) -> None:
        self.baseline = baseline
        self.stretch = min(MOST_STRETCH, max(1.0, baseline / USUAL_START))

    def deadline(self, seconds: float) -> float:
        """`seconds` as meant for an idle machine, stretched to this one as measured."""
        return seconds * self.stretch

    def steady(self) -> bool:
        """Whether the machine is about as quick as when the bench was opened (measured again)."""
        most = 4 * max(self.baseline, USUAL_START)
        return _start() <= most or self.measure() <= most


def _start() -> float:
    """Seconds that a small process takes."""
    began = time.monotonic()
    subprocess.run([sys.executable, "-S", "-c", "pass"], check=True, stdin=subprocess.DEVNULL)
    return time.monotonic() - began
