"""Chapter 05, MapReduce from scratch: its exercises with their visible checks, hints and debriefs.

Functions are called in processes of their own; a coordinator is asked what real workers are to do, while some of
them are killed or stopped.
"""

from __future__ import annotations

from podlab.course.map_reduce import backups, coordinator, means, partitioner, words

EXERCISES = [words.EXERCISE, means.EXERCISE, partitioner.EXERCISE, coordinator.EXERCISE, backups.EXERCISE]
