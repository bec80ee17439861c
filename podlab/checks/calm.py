"""Whether this machine keeps up, by what Linux counts: the time in which some process waits for a processor.

A load average counts who computes and says nothing of who waits; see "pressure stall information" in the kernel's
documentation (admin-guide/accounting/psi).
"""

from __future__ import annotations

import re
import time
from contextlib import suppress
from pathlib import Path

from podlab.errors import WaitTimeout
from podlab.waiting import pause, until

PRESSURE = Path("/proc/pressure/cpu")
#: Seconds of one look.
LOOK = 2.0
#: The share of a look in which somebody may wait for a processor, and checks can still be trusted to measure.
MOST = 0.7
#: The share of a longer time from which on the machine is crowded: deadlines grow, and failures are doubted.
CROWDED = 0.85


class Meter:
    """Counts from its making on."""

    def __init__(self, source: Path | None = None) -> None:
        self._source = source or PRESSURE
        self._began, self._before = time.monotonic(), self._waited()

    def share(self) -> float:
        """The share (0 to 1) of the time in which some process waited for a processor; 0 if nobody counts that."""
        now, waited = time.monotonic(), self._waited()
        if self._before is None or waited is None or now <= self._began:
            return 0.0
        return min(1.0, (waited - self._before) / (now - self._began))

    def _waited(self) -> float | None:
        """Seconds since the machine's start in which somebody waited; None if the kernel does not say."""
        try:
            found = re.search(r"^some .*total=(\d+)", self._source.read_text(), re.MULTILINE)
        except OSError:
            return None
        return int(found[1]) / 1e6 if found else None


def pressure(seconds: float = LOOK) -> float:
    """The share (0 to 1) of the next `seconds` in which some process waits for a processor; 0 if nobody counts that."""
    meter = Meter()
    pause(seconds)
    return meter.share()


def wait(patience: float) -> bool:
    """Wait up to `patience` seconds for a calm look at the machine; whether there was one."""
    with suppress(WaitTimeout):
        return until(lambda: pressure() <= MOST, "a calm machine", timeout=patience, interval=0)
    return False
