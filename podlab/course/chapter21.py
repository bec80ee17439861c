"""Chapter 21, Monitoring with Prometheus: its exercises with their visible checks, hints and debriefs.

Three hand in PromQL or a rule. A check writes a history, of which it knows every request, into a real Prometheus of
its own, and asks that. The last hands in an autoscaler, and is checked on the cluster with its add-on.
"""

from __future__ import annotations

from podlab.checks.api import Object
from podlab.course import workload
from podlab.course.monitoring import alerting, counting, latency, scaling

EXERCISES = [counting.EXERCISE, latency.EXERCISE, alerting.EXERCISE, scaling.EXERCISE]


def objects() -> list[Object]:
    """What the lab's namespace holds from the start: the serving program and its settings, and the cinema's program."""
    return [*workload.objects(), scaling.program()]
