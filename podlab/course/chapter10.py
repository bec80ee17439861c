"""Chapter 10, Five services: its exercises with their visible checks, hints and debriefs.

One for each stall. Faults are real: processes are killed, writes are cut short, neighbours refuse or break off.
"""

from __future__ import annotations

from podlab.course.five_services import features, ingestion, pages, serving, training

EXERCISES = [ingestion.EXERCISE, features.EXERCISE, training.EXERCISE, serving.EXERCISE, pages.EXERCISE]
