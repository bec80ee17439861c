"""The pauses before a restart or a retry, as the kubelet computes them. Pure: every time is an argument.

A first failure is answered at once; each further one waits twice as long as the one before. A container that
ran longer than `reset` seconds, counted from its restart to its end, begins anew
(k8s.io/client-go/util/flowcontrol.Backoff, used by the kubelet for crashes and image pulls).
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class BackoffPolicy:
    """First and longest pause, and the time after which the history is forgotten, in seconds."""

    first: float = 10.0
    longest: float = 300.0
    reset: float = 600.0


@dataclass(frozen=True, slots=True)
class Backoff:
    """The pause in force and when it was set. `Backoff()` has no history."""

    pause: float = 0.0
    since: float = 0.0

    def ready_at(self, finished: float, policy: BackoffPolicy) -> float:
        """The time at which a container that ended at `finished` may start again."""
        return finished if self._forgotten(finished, policy) else finished + self.pause

    def next(self, finished: float, now: float, policy: BackoffPolicy) -> Backoff:
        """The back-off after a restart at `now` of a container that ended at `finished`."""
        if self._forgotten(finished, policy):
            return Backoff(policy.first, now)
        return Backoff(min(self.pause * 2, policy.longest), now)

    def failed(self, now: float, policy: BackoffPolicy) -> Backoff:
        """The back-off after a try that failed at `now` (an image pull): its pause begins at `now`."""
        return self.next(now, now, policy)

    def _forgotten(self, finished: float, policy: BackoffPolicy) -> bool:
        return self.pause <= 0 or finished - self.since > policy.reset


def duration(seconds: float) -> str:
    """`seconds` in the form of Go's time.Duration: 10s, 1m20s, 5m0s, 1h0m0s; 1.5s with a fraction."""
    whole = int(seconds)
    fraction = round(seconds - whole, 3)
    hours, rest = divmod(whole, 3600)
    minutes, rest = divmod(rest, 60)
    tail = f"{rest + fraction:g}s"
    if hours:
        return f"{hours}h{minutes}m{tail}"
    return f"{minutes}m{tail}" if minutes else tail
