"""How many long jobs run side by side: as many as the machine can take."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

from podlab.checks import calm
from podlab.waiting import until

#: Seconds of one look at the machine: every job waits for one, and for those of all before it.
LOOK = 1.0
#: How many may always be inside: they mostly wait, also on a machine on which others compute all the time.
FEW = 4


class Turnstile:
    """Lets another job begin when the machine is calm: many side by side that mostly wait, and few that compute."""

    def __init__(self, few: int = FEW) -> None:
        self._few = few
        self._entrance = threading.Lock()
        self._inside: list[str] = []

    @contextlib.contextmanager
    def passed(self, name: str) -> Iterator[None]:
        """Be inside; a few always may."""
        with self._entrance:
            until(
                lambda: len(self._inside) < self._few or calm.pressure(LOOK) <= calm.MOST,
                f"a calm machine for {name}",
                timeout=3600,
                interval=0,
                state=lambda: f"{', '.join(self._inside)} had begun",
            )
            self._inside.append(name)
        try:
            yield
        finally:
            self._inside.remove(name)
