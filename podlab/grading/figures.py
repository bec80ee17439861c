"""The figures of a graded class: pure counting over its records."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from podlab.checks.contract import Verdict
from podlab.grading.records import Outcome, Record


@dataclass(frozen=True)
class CheckFigures:
    """How one check went in the class. `tried` counts the runs that came to pass or fail."""

    exercise: str
    check: str
    title: str
    hidden: bool
    weight: int
    tried: int
    failed: int
    not_gradable: int
    infrastructure: int
    seconds: float

    @property
    def failure_rate(self) -> float | None:
        """Failures by tries; None where it was never tried."""
        return self.failed / self.tried if self.tried else None


@dataclass(frozen=True)
class Flake:
    """A submission that had to be tried again, or an exercise whose checks had."""

    learner: str
    exercise: str
    what: str


def checks(records: Sequence[Record]) -> list[CheckFigures]:
    """One line for each check, in the order of exercises and declaration."""
    reports = [report for record in records for report in record.reports.values()]
    lines = [(report.exercise, line) for report in reports for line in report.lines]
    order = list(dict.fromkeys((exercise, line.check) for exercise, line in lines))
    found = []
    for exercise, check in sorted(order, key=lambda each: each[0]):
        own = [line for name, line in lines if (name, line.check) == (exercise, check)]
        kinds = Counter(line.result.verdict for line in own)
        found.append(
            CheckFigures(
                exercise,
                check,
                own[0].title,
                own[0].hidden,
                own[0].weight,
                kinds[Verdict.PASS] + kinds[Verdict.FAIL],
                kinds[Verdict.FAIL],
                kinds[Verdict.NOT_GRADABLE],
                kinds[Verdict.INFRASTRUCTURE],
                round(statistics.median(line.seconds for line in own), 2),
            )
        )
    return found


def distribution(scores: Sequence[float], maximum: float, bins: int = 10) -> list[int]:
    """How many scores are in each of `bins` equal parts of 0 to `maximum`; the last one includes the maximum."""
    found = [0] * bins
    for score in scores:
        found[min(bins - 1, int(score / maximum * bins)) if maximum else 0] += 1
    return found


def flakes(records: Sequence[Record]) -> list[Flake]:
    """What was tried more than once, or could not be measured at all."""
    found = []
    for record in records:
        if record.attempts > 1 or record.outcome is Outcome.INFRASTRUCTURE:
            words = f"{record.attempts} attempts" + (f"; {record.reason}" if record.reason else "")
            found.append(Flake(record.learner, "", words))
        for report in record.reports.values():
            if report.attempts > 1:
                words = "; ".join((f"{report.attempts} runs", *report.notes))
                found.append(Flake(record.learner, report.exercise, words))
    return found
