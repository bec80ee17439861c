"""Chapter 14, A cluster and its API: its exercises with their visible checks, hints and debriefs."""

from __future__ import annotations

from podlab.checks.api import Object
from podlab.course import workload
from podlab.course.cluster_and_api import following, handing_over, reconciling, returning

EXERCISES = [returning.EXERCISE, following.EXERCISE, handing_over.EXERCISE, reconciling.EXERCISE]


def objects() -> list[Object]:
    """What the chapter's namespace holds from the start: the serving program and its settings."""
    return workload.objects()
