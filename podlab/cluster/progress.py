"""Progress of what a provider does: named steps with their times."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from podlab.cluster.provider import Progress, StepReport


@contextmanager
def step(name: str, progress: Progress) -> Iterator[Callable[[str], None]]:
    """Report a step that this process does itself; yields a function that says a detail."""
    began, last = time.monotonic(), ""

    def say(detail: str) -> None:
        nonlocal last
        last = detail
        progress(StepReport(name, "running", time.monotonic() - began, detail))

    say("")
    try:
        yield say
    except BaseException as error:
        progress(StepReport(name, "failed", time.monotonic() - began, str(error)))
        raise
    progress(StepReport(name, "done", time.monotonic() - began, last))
