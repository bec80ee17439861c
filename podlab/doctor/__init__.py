"""What this machine lacks for the course and its cluster, and how to get it."""

from __future__ import annotations

from podlab.doctor.facts import Facts, collect
from podlab.doctor.judgements import Finding, can_run, judge

__all__ = ["Facts", "Finding", "can_run", "collect", "diagnose", "judge"]


def diagnose() -> list[Finding]:
    """Look at this machine and return the findings. Changes nothing."""
    return judge(collect())
