"""Times as Kubernetes writes them. Internally every time is a float: seconds since the epoch."""

from __future__ import annotations

import functools
from datetime import UTC, datetime


def timestamp(seconds: float) -> str:
    """metav1.Time: whole seconds, as 2026-01-02T03:04:05Z."""
    return _second(int(seconds))


@functools.lru_cache(maxsize=1024)
def _second(seconds: int) -> str:
    # The same few times are written again and again: the statuses of a hundred pods name a dozen.
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def micro_timestamp(seconds: float) -> str:
    """metav1.MicroTime: with six decimals."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def parse(text: str | None) -> float | None:
    """Seconds since the epoch of either form; None for an absent or broken time."""
    if not text:
        return None
    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError:
        return None


def whole(seconds: float) -> float:
    """`seconds` cut to what `timestamp` shows, so that an agent's restart does not move a deadline."""
    return float(int(seconds))
