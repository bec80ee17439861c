"""Chapter 06, Inside Apache Spark: its exercises with their visible checks, hints and debriefs.

Real Spark in processes of their own: beside the learner's code, which gets RDDs, and alone, to say what is true of
plans and lost partitions.
"""

from __future__ import annotations

from podlab.course.inside_spark import cuts, joins, lineage, words

EXERCISES = [words.EXERCISE, cuts.EXERCISE, lineage.EXERCISE, joins.EXERCISE]
