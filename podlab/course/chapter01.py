"""Chapter 01, Split and conquer: its exercises with their visible checks, hints and debriefs.

Each hands in functions or numbers. A check calls them in a process of its own, or runs the job that they describe.
"""

from __future__ import annotations

from podlab.course.split_and_conquer import assign, dispatch, predict, split

EXERCISES = [split.EXERCISE, dispatch.EXERCISE, assign.EXERCISE, predict.EXERCISE]
