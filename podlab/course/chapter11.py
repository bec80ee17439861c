"""Chapter 11, When a stall closes: its exercises with their visible checks, hints and debriefs.

Each hands in functions or a class. Time is the checker's where a schedule is judged, and real where processes hang.
"""

from __future__ import annotations

from podlab.course.closed_stall import breaker, budget, once_more, page

EXERCISES = [once_more.EXERCISE, breaker.EXERCISE, page.EXERCISE, budget.EXERCISE]
