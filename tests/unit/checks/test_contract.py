"""Scores are exact and bounded; declarations that make no sense are refused where they are written."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from podlab.checks.contract import (
    Check,
    Exercise,
    HandIn,
    Line,
    Report,
    Result,
    Verdict,
    failed,
    passed,
    score,
)


def nothing(*_arguments: object) -> Result:
    return passed("x", "y")


def make(**changes: object) -> Exercise:
    facts = {"id": "15.1", "title": "T", "points": 10, "handed_in": (HandIn("a"),), "stage": nothing, **changes}
    return Exercise(**facts)  # type: ignore[arg-type]


lines = st.lists(st.tuples(st.integers(1, 9), st.sampled_from(list(Verdict))), max_size=8)


@given(st.integers(1, 1000), lines)
def test_a_score_lies_between_nothing_and_all_points(points, rows):
    value = score(points, rows)
    gradable = [verdict for _, verdict in rows if verdict is not Verdict.NOT_GRADABLE]
    if Verdict.INFRASTRUCTURE in gradable or not gradable:
        assert value is None
    else:
        assert type(value) is float and 0 <= value <= points
        assert (value == points) == all(verdict is Verdict.PASS for verdict in gradable)
        assert (value == 0) == all(verdict is Verdict.FAIL for verdict in gradable)


def test_what_is_not_gradable_costs_nothing():
    rows = [(3, Verdict.PASS), (7, Verdict.NOT_GRADABLE)]
    assert score(10, rows) == 10.0
    assert score(10, [*rows, (3, Verdict.FAIL)]) == 5.0


def test_a_third_is_rounded_to_cents():
    assert score(10, [(1, Verdict.PASS), (2, Verdict.FAIL)]) == 3.33


@pytest.mark.parametrize(
    "changes",
    [{"id": "15"}, {"id": "one"}, {"points": 0}, {"points": 2.5}, {"points": True}, {"handed_in": ()}],
)
def test_an_exercise_that_makes_no_sense_is_refused(changes):
    with pytest.raises(ValueError):
        make(**changes)


def test_a_check_must_have_a_new_id_a_whole_weight_and_known_needs():
    exercise = make()
    exercise.check("one", "One", weight=1)(nothing)
    for bad in (
        Check("one", "again", 1, nothing),
        Check("two", "Two", 0, nothing),
        Check("two", "Two", 1.5, nothing),
        Check("two", "Two", 1, nothing, needs=("three",)),
    ):
        with pytest.raises(ValueError):
            exercise.add(bad)


def test_the_visible_exercise_has_no_hidden_check_and_the_whole_one_keeps_it():
    exercise = make()
    exercise.check("one", "One", weight=1)(nothing)
    exercise.check("two", "Two", weight=1, hidden=True)(nothing)
    assert [check.id for check in exercise.visible().checks] == ["one"]
    assert [check.id for check in exercise.checks] == ["one", "two"]


def test_a_verdict_is_never_a_bare_word():
    with pytest.raises(TypeError):
        Result("pass", "x", "y")


def test_a_report_has_passed_only_if_something_was_gradable_and_all_of_it_passed():
    def report(*results: Result) -> Report:
        rows = [Line(f"c{n}", "C", 1, False, result) for n, result in enumerate(results)]
        return Report("15.1", "T", 10, rows, 1, "n")

    fail = failed("x", "y", cause="z", next_step="w")
    away = Result(Verdict.NOT_GRADABLE, "x", "y")
    assert report(passed("x", "y"), away).passed
    assert not report(away).passed
    assert not report(passed("x", "y"), fail).passed
