"""Whether this machine keeps up, by what Linux counts: the time in which some process waits for a processor.

A load average counts who computes and says nothing of who waits; see "pressure stall information" in the kernel's
documentation (admin-guide/accounting/psi).
"""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path

from podlab.errors import WaitTimeout
from podlab.waiting import pause, until

PRESSURE = Path("/proc/pressure/cpu")
#: Seconds of one look.
LOOK = 2.0
#: The share of a look in which somebody may wait for a processor, and checks can still be trusted to measure.
MOST = 0.7


def pressure(seconds: float = LOOK, source: Path = PRESSURE) -> float:
    """The share (0 to 1) of the next `seconds` in which some process waits for a processor; 0 if nobody counts that."""
    try:
        before = _waited(source)
        pause(seconds)
        return min(1.0, (_waited(source) - before) / seconds)
    except (OSError, ValueError):  # a kernel without it, or one that refuses
        return 0.0


def wait(patience: float, most: float = MOST, source: Path = PRESSURE) -> bool:
    """Wait up to `patience` seconds for a calm look at the machine; whether there was one."""
    with suppress(WaitTimeout):
        return until(lambda: pressure(source=source) <= most, "a calm machine", timeout=patience, interval=0)
    return False


def _waited(source: Path) -> float:
    """Seconds since the machine's start in which somebody waited for a processor; ValueError if that is not told."""
    found = re.search(r"^some .*total=(\d+)", source.read_text(), re.MULTILINE)
    if not found:
        raise ValueError(f"{source} does not say how long somebody waited.")
    return int(found[1]) / 1e6
