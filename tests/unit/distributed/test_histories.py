"""Recorders and the checkers of counters, leases and fencing: histories with known verdicts."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from podlab.distributed.histories import (
    Operation,
    Recorder,
    check_counter,
    check_exactly_once,
    check_fencing,
    check_leases,
    leases,
)
from podlab.errors import UsageError


def test_recorder_keeps_answers_open_calls_and_forgets_failures() -> None:
    ticks = iter(range(10))
    recorder = Recorder(clock=lambda: float(next(ticks)))
    first = recorder.begin("a", "write", "x", 1)
    second = recorder.begin("b", "read", "x")
    third = recorder.begin("c", "write", "x", 2)
    recorder.end(second, 1)
    recorder.fail(third)
    assert recorder.operations() == [
        Operation("a", "write", "x", 1, None, 0.0, None),
        Operation("b", "read", "x", None, 1, 1.0, 3.0),
    ]
    recorder.end(first)
    with pytest.raises(UsageError, match="not open"):
        recorder.end(first)
    assert "no answer" in str(Operation("a", "write", "x", 1, None, 0.0, None))


@given(st.lists(st.tuples(st.integers(-3, 3), st.booleans(), st.booleans())))
def test_counter_accepts_whatever_unanswered_calls_did(calls: list[tuple[int, bool, bool]]) -> None:
    history = [Operation("p", "add", "", amount, None, 0.0, 1.0 if answered else None) for amount, answered, _ in calls]
    final = sum(amount for amount, answered, happened in calls if answered or happened)
    assert check_counter(history, final)


def test_counter_finds_lost_and_repeated_requests() -> None:
    history = [Operation("p", "add", "", None, None, 0.0, 1.0)] * 5 + [Operation("p", "add", "", None, None, 0.0, None)]
    assert check_counter(history, 5) and check_counter(history, 6)
    assert "1 missing" in check_counter(history, 4).observed
    assert "more than once" in check_counter(history, 7).observed


def test_exactly_once_by_request_ids() -> None:
    assert check_exactly_once(["a", "b"], ["b", "a", "c"], sent=["a", "b", "c"])
    wrong = check_exactly_once(["a", "b"], ["b", "b", "z"], sent=["a", "b"])
    assert not wrong
    assert wrong.evidence == ["a", "b", "z"]
    assert "1 acknowledged but not applied (first: a)" in wrong.observed


def lease(node: str, term: int, time: float, until: float, **more: float) -> dict[str, object]:
    return {"event": "lease", "node": node, "term": term, "time": time, "until": until, **more}


def test_one_lease_after_the_other_holds() -> None:
    record = [lease("a", 1, 0.0, 2.0), lease("a", 1, 1.0, 3.0), lease("b", 2, 3.0, 5.0)]
    assert check_leases(record)
    assert [(one.holder, one.begin, one.end) for one in leases(record)] == [("a", 0.0, 3.0), ("b", 3.0, 5.0)]


@pytest.mark.parametrize("ending", ["released", "crash"])
def test_a_lease_ends_with_release_or_crash(ending: str) -> None:
    record = [lease("a", 1, 0.0, 9.0), {"event": ending, "node": "a", "time": 2.0}, lease("b", 2, 2.5, 4.0)]
    assert check_leases(record)
    assert not check_leases([record[0], record[2]])


def test_a_short_lease_inside_a_long_one_does_not_hide_the_next() -> None:
    record = [lease("a", 1, 0.0, 10.0), lease("a", 2, 10.5, 11.0), lease("b", 3, 10.7, 12.0)]
    assert "two holders for 0.3000 s" in check_leases(record).observed


def test_two_holders_in_one_term_even_apart_in_time() -> None:
    verdict = check_leases([lease("a", 1, 0.0, 1.0), lease("b", 1, 5.0, 6.0)])
    assert not verdict and "term 1" in verdict.observed


def test_local_times_are_turned_into_true_ones() -> None:
    fast = lease("a", 1, 10.0, 104.0, local=100.0, rate=2.0)
    assert leases([fast])[0].end == 12.0
    slowed = {"event": "clock", "node": "a", "time": 11.0, "local": 102.0, "rate": 1.0}
    assert leases([fast, slowed])[0].end == 13.0


def test_fencing() -> None:
    def write(time: float, token: int, accepted: bool) -> dict[str, object]:
        return {"event": "write", "time": time, "writer": f"n{token}", "token": token, "accepted": accepted}

    assert check_fencing([write(0, 1, True), write(1, 2, True), write(2, 1, False), write(3, 2, True)])
    verdict = check_fencing([write(0, 1, True), write(1, 2, True), write(2, 1, True)])
    assert not verdict and "n1 wrote with token 1" in verdict.observed
