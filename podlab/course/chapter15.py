"""Chapter 15, Self-healing: its exercises with their visible checks, hints and debriefs.

Each exercise hands in manifests. A check runs them, breaks something, and watches what Kubernetes does about it.
"""

from __future__ import annotations

from podlab.checks.api import Object
from podlab.course import workload
from podlab.course.self_healing import hanging, node_loss, slow_start, traffic

EXERCISES = [hanging.EXERCISE, traffic.EXERCISE, slow_start.EXERCISE, node_loss.EXERCISE]


def objects() -> list[Object]:
    """What the chapter's namespace holds from the start: the serving program and its settings."""
    return workload.objects()
