"""For which part the processor works: a look at the stack for every 5 ms of processor time.

The kernel counts (ITIMER_PROF), so that a process that waits is not looked at. What a part asks another is the
other's time; what belongs to no part (the web server, the log of events, the interpreter) is `other`.
"""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections.abc import Iterable
from types import FrameType

from prometheus_client import REGISTRY
from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector

EVERY = 0.005
OTHER = "other"
#: Modules by the part that alone uses them; the services and the pages are found by their own names.
_OF = {"movies.recommender": "serving", "movies.store": "features", "movies.snapshot": "features"}


class Profile(Collector):
    """Processor seconds by part, for Prometheus. Filled by a signal handler, which must take no lock."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = time.process_time()

    def collect(self) -> Iterable[CounterMetricFamily]:
        """The seconds so far."""
        family = CounterMetricFamily("movies_processor_seconds", "Processor time by part, sampled.", labels=["part"])
        for part, seconds in list(self.seconds.items()):
            family.add_metric([part], seconds)
        yield family

    def sample(self, _number: int, frame: FrameType | None) -> None:
        """Book all processor time since the last sample for the part that is at work now."""
        now = time.process_time()
        part = _part(frame) or _in_a_thread() or OTHER
        self.seconds[part] = self.seconds.get(part, 0.0) + now - self._last
        self._last = now


def start() -> Profile:
    """Sample this process from now on, for as long as it lives; in its main thread only."""
    profile = Profile()
    REGISTRY.register(profile)
    signal.signal(signal.SIGPROF, profile.sample)
    signal.setitimer(signal.ITIMER_PROF, EVERY, EVERY)
    return profile


def _part(frame: FrameType | None) -> str | None:
    """The part in whose code a stack is, the innermost one; None in nobody's."""
    while frame is not None:
        module = frame.f_globals.get("__name__", "")
        if module.startswith("movies.services."):
            return module.split(".")[2]
        if module.startswith("movies.ui.") and module != "movies.ui.plain":  # that is around every request
            return "ui"
        if module in _OF:
            return _OF[module]
        frame = frame.f_back
    return None


def _in_a_thread() -> str | None:
    """The part of which another thread runs something, while the main thread is in nobody's code."""
    main = threading.main_thread().ident
    for thread, frame in sys._current_frames().items():
        if thread != main and (part := _part(frame)):
            return part
    return None
