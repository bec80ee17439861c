"""Answers of which the manuscript says how they fail."""

from __future__ import annotations

from collections.abc import Sequence

from podlab.checks.contract import Line, Result, Verdict
from podlab.course import manuscript


def said(result: Result) -> str:
    """All that a learner is told of a check."""
    return "\n".join((result.expected, result.observed, result.cause, result.next_step))


def fails_as_told(case: manuscript.Case, lines: Sequence[Line]) -> bool:
    """Whether a wrong answer fails what it must with the words for it, a start state everything: no machine does."""
    failed = {line.check: said(line.result) for line in lines if line.result.verdict is Verdict.FAIL}
    if case.kind == "wrong":
        return all(check in failed and words in failed[check] for check, words in case.fails.items())
    return case.kind == "start" and len(failed) == len(lines)
