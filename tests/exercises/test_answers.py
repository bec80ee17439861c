"""Every answer of the manuscript with all checks, the hidden ones too: what is right passes, what is wrong says why.

Answers that need no cluster are checked as they are; those that harm no node side by side on one cluster; those that
lose a node one after the other on clusters of their own (desk.py). Each test then looks at the report of its own
answer.
"""

from __future__ import annotations

import json

import pytest
from desk import COURSE, Desk, case_name
from known_answers import said
from providers import PROVIDER

from podlab.checks import registry, results
from podlab.checks.contract import Exercise, Verdict
from podlab.course import manuscript, needs
from podlab.lab.show import ReportView
from podlab.widgets import replays

pytestmark = [pytest.mark.slow]

ASSIGNMENTS = [document for document in manuscript.documents(COURSE / "manuscript") if document.part == "assignment"]
CASES = [case for document in ASSIGNMENTS for case in manuscript.cases(document)]
#: Chapter -> programs that it needs and that are not here; its answers are passed over then.
MISSING = {str(document.about["chapter"]): needs.missing(document.about) for document in ASSIGNMENTS}

#: Checks whose failure is a moment in what was going on: each keeps it for lab.replay.
MOMENTS = {
    "01.3": {"skewed", "equal", "long-last"},
    "03.1": {"stopped", "killed", "steady", "learns", "old-news", "never-heard"},
    "03.2": {"holds", "ends", "lost", "drift", "late"},
    "03.3": {"partitions", "crashes", "again", "clocks", "duplicates"},
    "03.4": {"fresh", "stale", "crash", "whole", "old"},
    "05.4": {"all", "crash", "once", "last", "early"},
    "05.5": {"real"},
    "11.2": {"opens", "in-a-row", "one-tries", "recovers"},
    "12.3": {"load"},
    "14.2": {"gap", "expired"},
    "14.3": {"accepted", "unnoticed", "scaler-alone"},
    "14.4": {"makes", "heals"},
    "15.1": {"slow-is-not-dead"},
    "15.2": {"not-restarted", "comes-back"},
    "15.3": {"comes-up", "stays-up", "still-guarded"},
    "16.1": {"spreads", "only-serving", "unready-none"},
    "16.3": {"own-name", "found-while-starting", "follows"},
    "16.4": {"remembered"},
    "16.5": {"both-ports", "moves", "lossless", "arriving"},
    "21.3": {"rush", "blip", "slight", "night"},
}


def parameters() -> list[object]:
    """The cases; those that need a cluster carry the mark for it, and those that need more are passed over."""
    return [pytest.param(case, id=case_name(case), marks=marks(case)) for case in CASES]


def marks(case: manuscript.Case) -> list[pytest.MarkDecorator]:
    """The marks of a case."""
    exercise = registry.exercise(case.exercise)
    found = [pytest.mark.cluster] if exercise.cluster else []
    if why := passed_over(exercise):
        found.append(pytest.mark.skip(reason=why))
    return found


def passed_over(exercise: Exercise) -> str:
    """Why the answers of an exercise are not checked here; "" if they are."""
    if lacks := MISSING[exercise.chapter]:
        return needs.told(lacks)
    return (
        "" if exercise.cluster or PROVIDER == "embedded" else "it needs no cluster: every provider's answer is the same"
    )


# A case waits for all that were begun before it, which is no fault of its own.
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("case", parameters())
def test_answer(case: manuscript.Case, desk: Desk) -> None:
    report = desk.report(case)
    told = ReportView(report).text
    results.validate(results.to_json(report))
    assert report.score is not None, told
    assert {line.result.verdict for line in report.lines} <= {Verdict.PASS, Verdict.FAIL}, told
    if case.kind == "start":
        assert report.score == 0.0, told
    elif case.kind in ("reference", "alternative"):
        assert report.score == float(report.points), told
    else:
        assert report.score < report.points, told
        for check, words in case.fails.items():
            result = report.result(check)
            assert result.verdict is Verdict.FAIL, told
            assert words in said(result), told
            assert "replay" in result.evidence or check not in MOMENTS.get(case.exercise, ()), told
    for line in report.lines:
        if kept := line.result.evidence.get("replay"):
            assert len(json.dumps(line.result.evidence)) <= results.LARGEST_EVIDENCE, told
            assert line.result.observed in replays.of(kept, line.title, line.result.observed).to_text()
        assert line.result.expected and line.result.observed, told
        if line.result.verdict is Verdict.FAIL:
            assert line.result.cause and line.result.next_step, told
            assert "Traceback" not in told
