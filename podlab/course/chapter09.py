"""Chapter 09, The monolith: its exercises with their visible checks, hints and debriefs.

Processor time and memory are measured on real processes; how long something waits counts for nothing.
"""

from __future__ import annotations

from podlab.course.one_process import memory, plan, profile

EXERCISES = [profile.EXERCISE, plan.EXERCISE, memory.EXERCISE]
