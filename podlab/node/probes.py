"""When a probe's answers count: thresholds and timing. Pure; the asking itself is in prober.py."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

ProbeKind = Literal["startup", "readiness", "liveness"]
FIELDS: dict[ProbeKind, str] = {
    "startup": "startupProbe",
    "readiness": "readinessProbe",
    "liveness": "livenessProbe",
}


@dataclass(frozen=True, slots=True)
class Settings:
    """A probe's numbers, in seconds and counts, with Kubernetes' defaults."""

    initial_delay: float = 0.0
    period: float = 10.0
    timeout: float = 1.0
    success: int = 1
    failure: int = 3

    @property
    def first_counted(self) -> float:
        """Seconds after the start from which a failure counts: the kubelet's first tick after the delay."""
        return max(self.initial_delay, self.period)

    @classmethod
    def of(cls, probe: Mapping[str, Any]) -> Settings:
        """The settings of a probe as it stands in a pod."""
        return cls(
            initial_delay=probe.get("initialDelaySeconds") or 0,
            period=max(1, probe.get("periodSeconds") or 10),
            timeout=max(1, probe.get("timeoutSeconds") or 1),
            success=max(1, probe.get("successThreshold") or 1),
            failure=max(1, probe.get("failureThreshold") or 3),
        )


@dataclass(frozen=True, slots=True)
class Tally:
    """Equal answers in a row, and the verdict in force (None: no threshold was reached yet)."""

    verdict: bool | None = None
    last: bool | None = None
    run: int = 0

    def after(self, healthy: bool, settings: Settings) -> Tally:
        """The tally after one more answer; the verdict turns only when a threshold is reached."""
        run = self.run + 1 if healthy == self.last else 1
        reached = run >= (settings.success if healthy else settings.failure)
        return Tally(healthy if reached else self.verdict, healthy, run)


#: Pauses before a probe is asked again that found nobody listening, while the container is just starting.
EAGER = (0.05, 0.1, 0.2, 0.4, 0.8)


def is_early(kind: ProbeKind, tally: Tally, early: float) -> bool:
    """Whether a failure now is left out of account: `early` seconds before failures begin to count.

    The kubelet asks first one period after the start. Here a readiness or startup probe is asked at once, so
    that a pod is ready when it is and not a period later; but nothing is held against it before its time.
    """
    return kind != "liveness" and tally.last is None and early > 0


def eager_pause(tries: int, refused: bool, early: float) -> float:
    """Seconds until the next early try: soon while nobody listens at all, else when failures count."""
    return min(EAGER[tries], early) if refused and tries < len(EAGER) else early


def killed_message(name: str, kind: ProbeKind, restart: bool) -> str:
    """What the Killing event says of a container that failed a probe."""
    tail = ", will be restarted" if restart else ""
    return f"Container {name} failed {kind} probe{tail}"
