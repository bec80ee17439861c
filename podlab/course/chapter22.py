"""Chapter 22, Logging with the ELK stack: its exercises with their visible checks, hints and debriefs.

Three are checked without a cluster, with a real VictoriaLogs as a process; the last on the cluster's own add-on.
"""

from __future__ import annotations

from podlab.checks.api import Object
from podlab.course.logs import events, searching, shipping, surviving

EXERCISES = [searching.EXERCISE, events.EXERCISE, shipping.EXERCISE, surviving.EXERCISE]


def objects() -> list[Object]:
    """What the lesson's namespace holds from the start: the program of the stalls."""
    return surviving.objects()
