"""Calls between services: deadline, one more try within a budget, breaker."""

from __future__ import annotations

import asyncio
import time

import httpx
import pytest

from movies import calls, telemetry
from movies.calls import Peer
from movies.errors import Unavailable


class Other:
    """A service as an ASGI application that answers with the statuses it is told; 200 at the end of the list."""

    def __init__(self, *codes: int | str) -> None:
        self.codes, self.asked = list(codes), list[dict[str, str]]()

    async def __call__(self, scope, receive, send):
        self.asked.append({name.decode(): value.decode() for name, value in scope["headers"]})
        code = self.codes.pop(0) if self.codes else 200
        if code == "hangs":
            await asyncio.Event().wait()
        await send({"type": "http.response.start", "status": code, "headers": []})
        await send({"type": "http.response.body", "body": b"{}"})


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def peer(other: Other, seconds: float = 30.0, clock: Clock | None = None) -> Peer:
    client = httpx.AsyncClient(transport=httpx.ASGITransport(other), base_url="http://other")
    return Peer("me", "other", client, seconds, "", clock or time.monotonic)


async def test_a_failure_is_repeated_once() -> None:
    other = Other(503)
    assert (await peer(other).call("GET", "/")).status_code == 200
    assert len(other.asked) == 2
    twice = Other(503, 503)
    with pytest.raises(Unavailable, match="status 503"):
        await peer(twice).call("GET", "/")
    assert len(twice.asked) == 2


async def test_what_does_harm_twice_is_not_repeated() -> None:
    other = Other(503)
    with pytest.raises(Unavailable):
        await peer(other).call("POST", "/", again=False)
    assert len(other.asked) == 1


async def test_a_service_that_hangs_is_given_up() -> None:
    other = Other("hangs")
    with pytest.raises(Unavailable, match="did not answer within"):
        await peer(other, seconds=0.05).call("GET", "/", again=False)


async def test_the_caller_s_deadline_leaves_time_for_an_answer_without_it() -> None:
    other = Other()
    token = calls.deadline.set(time.monotonic() + 10)
    try:
        await peer(other, seconds=60).call("GET", "/")
    finally:
        calls.deadline.reset(token)
    assert 0 < float(other.asked[0]["x-seconds-left"]) <= 7


async def test_the_trace_is_handed_on() -> None:
    other, trace = Other(), telemetry.begin()
    with telemetry.within(trace, "me"):
        await peer(other).call("GET", "/")
    assert other.asked[0]["traceparent"] == trace.header


async def test_the_breaker_opens_rests_lets_one_through_and_closes() -> None:
    clock, other = Clock(), Other(*[500] * 5)
    one = peer(other, clock=clock)
    for _ in range(5):
        with pytest.raises(Unavailable):
            await one.call("GET", "/", again=False)
    assert one.open
    with pytest.raises(Unavailable, match="left alone after 5 failures"):
        await one.call("GET", "/")
    assert len(other.asked) == 5, "an open breaker lets nothing through"
    clock.now += 3
    other.codes = [500]
    with pytest.raises(Unavailable):
        await one.call("GET", "/")
    assert one.open and len(other.asked) == 6, "a failed trial is not repeated, and it rests again"
    clock.now += 3
    assert (await one.call("GET", "/")).status_code == 200
    assert not one.open and (await one.call("GET", "/")).status_code == 200


async def test_after_the_rest_only_one_call_tries() -> None:
    clock, other = Clock(), Other(*[500] * 5)
    one = peer(other, clock=clock)
    for _ in range(5):
        with pytest.raises(Unavailable):
            await one.call("GET", "/", again=False)
    clock.now += 3
    other.codes = ["hangs"]
    trial = asyncio.create_task(one.call("GET", "/", again=False))
    while len(other.asked) < 6:
        await asyncio.sleep(0)
    with pytest.raises(Unavailable, match="left alone"):
        await one.call("GET", "/")
    assert len(other.asked) == 6
    trial.cancel()


async def test_repetition_is_bounded_when_everything_fails() -> None:
    clock, other = Clock(), Other(*[500] * 1000)
    one = peer(other, clock=clock)
    for _ in range(100):
        clock.now += 3  # the breaker always rests long enough: what bounds is the budget
        with pytest.raises(Unavailable):
            await one.call("GET", "/")
    assert len(other.asked) <= 100 + 10 + 100 * 0.1


async def test_an_answer_that_says_no_is_no_failure() -> None:
    other = Other(*[404] * 20)
    one = peer(other)
    for _ in range(10):
        with pytest.raises(Unavailable, match="404"):
            await one.call("GET", "/")
    assert (await one.call("GET", "/", allowed=(404,))).status_code == 404
    assert not one.open


@pytest.mark.parametrize("header", ["", "x", "nan", "-1", "1e9", "inf"])
def test_a_strange_deadline_is_not_heeded(header: str) -> None:
    before = calls.deadline.get()
    calls.heed(header)
    assert calls.deadline.get() is before
