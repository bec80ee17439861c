from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from podlab.node.backoff import Backoff, BackoffPolicy, duration

POLICY = BackoffPolicy()


def restarts(lengths_of_run: list[float], policy: BackoffPolicy = POLICY) -> list[float]:
    """The pause before each restart of a container whose runs last as long as given."""
    now, backoff, pauses = 1000.0, Backoff(), []
    for length in lengths_of_run:
        finished = now + length
        now = backoff.ready_at(finished, policy)
        pauses.append(now - finished)
        backoff = backoff.next(finished, now, policy)
    return pauses


def test_a_crashing_container_waits_as_the_kubelet_documents() -> None:
    assert restarts([0.5] * 9) == [0, 10, 20, 40, 80, 160, 300, 300, 300]


def test_ten_minutes_of_running_reset_the_pause() -> None:
    assert restarts([0.5, 0.5, 0.5, 601, 0.5]) == [0, 10, 20, 0, 10]


def test_a_run_just_below_the_reset_keeps_the_history() -> None:
    assert restarts([0.5, 0.5, 0.5, 500])[-1] == 40


@given(st.lists(st.floats(0, 2000), max_size=40))
def test_the_pause_never_leaves_its_bounds(lengths: list[float]) -> None:
    pauses = restarts(lengths)
    assert all(0 <= pause <= POLICY.longest + 1e-6 for pause in pauses)
    # A restart without a pause is only allowed at first, or after a long run.
    for index in range(1, len(lengths)):
        if lengths[index] < POLICY.reset - POLICY.longest - 1:
            assert pauses[index] > 0


def test_the_history_of_a_failed_pull_begins_at_the_failure() -> None:
    backoff = Backoff().failed(50.0, POLICY)
    assert backoff == Backoff(10.0, 50.0)
    assert backoff.failed(61.0, POLICY).pause == 20.0


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(10, "10s"), (80, "1m20s"), (300, "5m0s"), (3600, "1h0m0s"), (0.5, "0.5s"), (61.25, "1m1.25s")],
)
def test_durations_read_as_in_go(seconds: float, text: str) -> None:
    assert duration(seconds) == text
