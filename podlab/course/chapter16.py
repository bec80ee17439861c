"""Chapter 16, Networking and load balancing: its exercises with their visible checks, hints and debriefs."""

from __future__ import annotations

from podlab.checks.api import Object
from podlab.course import workload
from podlab.course.networking import diagnosis, moving, peers, spread, sticky

EXERCISES = [spread.EXERCISE, diagnosis.EXERCISE, peers.EXERCISE, sticky.EXERCISE, moving.EXERCISE]


def objects() -> list[Object]:
    """What the chapter's namespace holds from the start: the serving program and its settings."""
    return workload.objects()
