"""Real Apache Spark on this machine, without an installed Java: sessions on loopback, and what they did, measured."""

from __future__ import annotations

from podlab.spark.local import SparkAway, missing, session
from podlab.spark.measured import Run, Stage, measured

__all__ = ["Run", "SparkAway", "Stage", "measured", "missing", "session"]
