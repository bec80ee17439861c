"""Chapter 21, Monitoring with Prometheus: its exercises with their visible checks, hints and debriefs.

Each hands in PromQL or a rule. A check writes a history, of which it knows every request, into a real Prometheus of
its own, and asks that. No cluster is needed for it; the lesson has one.
"""

from __future__ import annotations

from podlab.checks.api import Object
from podlab.course import workload
from podlab.course.monitoring import alerting, counting, latency

EXERCISES = [counting.EXERCISE, latency.EXERCISE, alerting.EXERCISE]


def objects() -> list[Object]:
    """What the lesson's namespace holds from the start: the serving program and its settings."""
    return workload.objects()
