"""Chapter 03, The lead node: its exercises with their visible checks, hints and debriefs.

Each hands in a class or numbers. A check tells the class what happened, or drives it through a simulated group.
"""

from __future__ import annotations

from podlab.course.lead_node import detector, election, fencing, lease, predict

EXERCISES = [detector.EXERCISE, lease.EXERCISE, election.EXERCISE, fencing.EXERCISE, predict.EXERCISE]
