"""Chapter 00, Start here: two small exercises that show how checks, hints and handing in work."""

from __future__ import annotations

from podlab.course.start_here import average, wishes

EXERCISES = [average.EXERCISE, wishes.EXERCISE]
