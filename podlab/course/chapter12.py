"""Chapter 12, Fit for a cluster: its exercises with their visible checks, hints and debriefs.

Each hands in a program, which runs as real processes and is asked, signalled and listened to from outside.
"""

from __future__ import annotations

from podlab.course.fit_for_a_cluster import asked, counted, leaving, told, traced

EXERCISES = [told.EXERCISE, asked.EXERCISE, leaving.EXERCISE, traced.EXERCISE, counted.EXERCISE]
