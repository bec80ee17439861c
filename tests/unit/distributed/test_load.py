"""The load generator in virtual time: it does not wait for answers, and its latencies hide nothing."""

from __future__ import annotations

import asyncio
import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from virtual_time import run

from podlab.distributed.load import Report, Request, arrivals, generate, percentile
from podlab.errors import UsageError
from podlab.waiting import pause_async


def test_arrivals() -> None:
    assert list(arrivals(4, 1, process="even")) == [0.0, 0.25, 0.5, 0.75]
    due = list(arrivals(100, 50, seed=1))
    assert due == sorted(due) and due[-1] < 50
    assert due == list(arrivals(100, 50, seed=1)) != list(arrivals(100, 50, seed=2))
    assert 4500 < len(due) < 5500
    gaps = [b - a for a, b in itertools.pairwise(due)]
    mean = sum(gaps) / len(gaps)
    assert 0.8 < math.sqrt(sum((gap - mean) ** 2 for gap in gaps) / len(gaps)) / mean < 1.2
    for wrong in ({"rate": 0, "seconds": 1}, {"rate": 1, "seconds": 1, "process": "odd"}):
        with pytest.raises(UsageError):
            list(arrivals(**wrong))


@given(st.lists(st.floats(0, 100), min_size=1), st.floats(0, 100))
def test_percentile_is_the_smallest_that_covers(values: list[float], percent: float) -> None:
    found = percentile(values, percent)
    assert found in values
    assert sum(value <= found for value in values) >= len(values) * percent / 100 - 1e-9
    smaller = [value for value in values if value < found]
    if smaller and percent > 0:
        assert len(smaller) < len(values) * percent / 100 + 1e-9


def test_percentiles_at_the_edges() -> None:
    assert percentile([3, 1, 2], 0) == 1 and percentile([3, 1, 2], 100) == 3 and percentile([3, 1, 2], 50) == 2
    assert math.isnan(percentile([], 50))
    with pytest.raises(UsageError):
        percentile([1], 101)


def test_it_does_not_wait_for_answers() -> None:
    under_way = most = 0

    async def slow(number: int) -> int:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        await pause_async(2.0)
        under_way -= 1
        return number

    report: Report = run(generate(slow, arrivals(10, 5, process="even")))
    assert most == 20
    assert [one.value for one in report.requests] == list(range(50))
    assert report.percentile(50) == pytest.approx(2.0)
    assert report.lateness == pytest.approx(0.0, abs=1e-6)
    assert report.throughput == pytest.approx(50 / 6.9)


def test_a_stall_is_paid_by_all_who_would_have_come() -> None:
    """A server with one place stalls 10 s once; asked in turn, one request of 100 would have been slow."""

    async def measure() -> Report:
        place = asyncio.Lock()

        async def server(number: int) -> None:
            async with place:
                await pause_async(10.0 if number == 10 else 0.001)

        return await generate(server, arrivals(10, 10, process="even"))

    report: Report = run(measure())
    slow = [one for one in report.requests if one.latency > 0.1]
    assert len(slow) > 80
    assert report.percentile(50) == pytest.approx(5.0, abs=0.1)
    assert 5 < report.percentile(99) <= 10.1


def test_a_late_generator_shows_in_latency_and_lateness() -> None:
    """Whatever keeps the generator itself from sending is counted as waiting too."""
    request = Request(0, due=1.0, sent=4.0, ended=4.5)
    assert (request.latency, request.service) == (3.5, 0.5)
    assert Report([request]).lateness == 3.0


def test_errors_timeouts_and_too_many() -> None:
    async def server(number: int) -> None:
        if number % 2:
            raise ConnectionError("refused")
        await pause_async(100)

    report: Report = run(generate(server, arrivals(2, 2, process="even"), timeout=1.0))
    assert report.errors == {"ConnectionError": 2, "TimeoutError": 2}
    assert report.throughput == 0.0 and math.isnan(report.percentile(50))
    assert report.percentile(100, errors=True) == pytest.approx(1.0)

    async def slow(number: int) -> None:
        await pause_async(5)

    full: Report = run(generate(slow, arrivals(10, 1, process="even"), most=3))
    assert full.errors == {"TooManyUnderWay": 7} and len(full.answered) == 3
    assert "10 requests, 7 failed" in str(full)
