"""The frame around every service: health, limits, faults, traces, metrics, the log."""

from __future__ import annotations

import asyncio
import json
import logging
import tracemalloc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from fastapi import APIRouter
from pydantic import BaseModel

from movies import telemetry
from movies.config import Settings
from movies.errors import StorageFull, Unavailable
from movies.web import PROBLEMS, Site


class Body(BaseModel):
    text: str


class Shop:
    """A part with a few routes."""

    name = "shop"

    def __init__(self) -> None:
        self.router = APIRouter(responses=PROBLEMS)
        self.gate, self.inside = asyncio.Event(), 0
        self.reason: str | None = None
        self.failures = 0

        @self.router.get("/fast")
        async def fast() -> dict[str, str]:
            return {"at": "once"}

        @self.router.get("/held/{number}")
        async def held(number: int) -> dict[str, int]:
            self.inside += 1
            await self.gate.wait()
            return {"number": number}

        @self.router.post("/body")
        async def body(body: Body) -> Body:
            return body

        @self.router.get("/away")
        async def away() -> None:
            raise Unavailable("the baker is away")

        @self.router.get("/full")
        async def full() -> None:
            raise StorageFull("no shelf left")

        @self.router.get("/bug")
        async def bug() -> None:
            raise RuntimeError("secret detail")

    async def start(self) -> None:
        if self.failures:
            self.failures -= 1
            raise Unavailable("the key is not here yet")

    async def stop(self) -> None:
        pass

    def unready(self) -> str | None:
        return self.reason


@asynccontextmanager
async def opened(started: bool = True, **settings: Any) -> AsyncIterator[tuple[Shop, Site, httpx.AsyncClient]]:
    shop = Shop()
    site = Site("shop", [("", shop)], Settings(**settings))
    if started:
        await site.start()
    transport = httpx.ASGITransport(site.app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://shop") as client:
        yield shop, site, client


async def test_health_follows_the_life_of_a_service() -> None:
    async with opened(started=False) as (shop, site, client):
        codes = [(await client.get(path)).status_code for path in ("/healthz", "/startupz", "/readyz")]
        assert codes == [200, 503, 503]
        shop.failures = 1
        await site.start()
        codes = [(await client.get(path)).status_code for path in ("/healthz", "/startupz", "/readyz")]
        assert codes == [200, 200, 200]
        shop.reason = "the oven is cold"
        answer = await client.get("/readyz")
        assert answer.status_code == 503 and answer.json()["reasons"] == ["shop: the oven is cold"]
        shop.reason, site.state.draining = None, True
        assert (await client.get("/readyz")).json()["reasons"] == ["draining"]
        fast = await client.get("/fast")
        assert fast.status_code == 200 and fast.headers["connection"] == "close"


async def test_nothing_but_its_health_is_told_before_the_start_is_over() -> None:
    async with opened(started=False) as (_, site, client):
        for answer in (await client.get("/fast"), await client.post("/body", json={"text": "x"})):
            assert answer.status_code == 503 and answer.headers["retry-after"] == "1"
            assert "still starting" in answer.json()["detail"]
        assert (await client.get("/metrics")).status_code == (await client.get("/faults")).status_code == 200
        await site.start()
        assert (await client.get("/fast")).status_code == 200


async def test_too_many_at_once_are_refused_and_those_inside_are_answered() -> None:
    async with opened(max_in_flight=3) as (shop, _, client):
        inside = [asyncio.create_task(client.get(f"/held/{number}")) for number in range(3)]
        while shop.inside < 3:
            await asyncio.sleep(0)
        more = await client.get("/fast")
        assert more.status_code == 429 and more.headers["retry-after"] == "1"
        assert (await client.get("/healthz")).status_code == 200
        shop.gate.set()
        assert [(await one).status_code for one in inside] == [200] * 3
        assert (await client.get("/fast")).status_code == 200


async def test_large_bodies_are_refused_whether_they_say_their_length_or_not() -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(100):
            yield b"x" * 10

    async with opened(body_bytes=500) as (_, _, client):
        told = await client.post("/body", content=b"x" * 501)
        untold = await client.post("/body", content=pieces())
        for answer in (told, untold):
            assert answer.status_code == 413 and "500 bytes" in answer.json()["detail"]
            assert answer.headers["connection"] == "close"
        assert (await client.post("/body", json={"text": "x" * 400})).status_code == 200


async def test_a_body_that_does_not_come_is_not_waited_for() -> None:
    async with opened(body_seconds=0.05) as (_, site, _client):
        sent: list[dict[str, Any]] = []

        async def receive() -> dict[str, Any]:
            await asyncio.Event().wait()
            raise AssertionError

        async def send(message: Any) -> None:
            sent.append(message)

        headers = [(b"content-type", b"application/json"), (b"content-length", b"5")]
        scope = {"type": "http", "method": "POST", "path": "/body", "query_string": b"", "headers": headers}
        await site.app({**scope, "raw_path": b"/body", "root_path": "", "scheme": "http"}, receive, send)
        assert sent[0]["status"] == 408


async def test_errors_say_what_is_wrong_and_no_more() -> None:
    async with opened() as (_, _, client):
        away = await client.get("/away")
        assert (away.status_code, away.json()["detail"]) == (503, "the baker is away")
        assert away.headers["retry-after"] == "1"
        assert (await client.get("/full")).status_code == 507
        bug = await client.get("/bug")
        assert bug.status_code == 500 and "secret" not in bug.text
        wrong = await client.post("/body", json={"text": 5})
        assert wrong.status_code == 422 and "body.text" in wrong.json()["detail"]
        assert (await client.post("/body", content=b"{")).status_code == 422


async def test_a_trace_is_taken_up_and_a_forged_one_is_not() -> None:
    async with opened() as (_, _, client):
        trace = "4bf92f3577b34da6a3ce929d0e0e4736"
        known = await client.get("/fast", headers={"traceparent": f"00-{trace}-00f067aa0ba902b7-01"})
        assert known.headers["x-trace-id"] == trace
        for bad in ("", "x", f"00-{'0' * 32}-00f067aa0ba902b7-01", f"00-{trace}-{'0' * 16}-01", "00-" + "é" * 32):
            answer = await client.get("/fast", headers={"traceparent": bad.encode()})
            assert len(answer.headers["x-trace-id"]) == 32 and answer.headers["x-trace-id"] != trace


async def test_faults_bite_and_are_counted() -> None:
    async with opened(faults=True) as (_, _, client):
        await client.put("/faults", json={"failing": 1})
        assert (await client.get("/fast")).status_code == 500
        assert (await client.get("/readyz")).status_code == 200
        await client.put("/faults", json={"unready": True})
        assert (await client.get("/readyz")).status_code == 503
        assert (await client.get("/fast")).status_code == 200
        await client.put("/faults", json={"leaking": 1000, "slow": 0.01})
        assert (await client.get("/fast")).status_code == 200
        report = (await client.get("/faults")).json()
        assert report["bitten"] == {"failing": 1, "leaking": 1, "slow": 1} and report["leaking"] == 1000
        assert (await client.put("/faults", json={"slow": -1})).status_code == 422
        assert (await client.put("/faults", json={"other": 1})).status_code == 422


async def test_a_slow_service_holds_every_answer_back_until_it_is_switched_off() -> None:
    async with opened(faults=True) as (_, site, client):
        await client.put("/faults", json={"slow": 120})
        held = [asyncio.create_task(client.get("/fast")) for _ in range(3)]
        while site.state.faults.bitten.get("slow", 0) < 3:
            await asyncio.sleep(0)
        assert (await client.get("/healthz")).status_code == 200, "its health is as fast as ever"
        assert not any(one.done() for one in held)
        await client.put("/faults", json={})
        assert [(await one).status_code for one in held] == [200] * 3


async def test_a_leaking_service_keeps_memory_with_every_request_until_it_is_switched_off() -> None:
    size, requests = 1_000_000, 10
    async with opened(faults=True) as (_, _, client):
        await client.put("/faults", json={"leaking": size})
        tracemalloc.start()
        try:
            for _ in range(requests):
                assert (await client.get("/fast")).status_code == 200
            kept, _ = tracemalloc.get_traced_memory()
            await client.put("/faults", json={})
            left, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert kept >= size * requests and left < size


async def test_a_wedged_service_answers_nothing_until_it_is_freed() -> None:
    async with opened(faults=True) as (_, site, client):
        await client.put("/faults", json={"wedged": True})
        waiting = [asyncio.create_task(client.get(path)) for path in ("/fast", "/healthz")]
        while site.state.faults.bitten.get("wedged", 0) < 2:
            await asyncio.sleep(0)
        assert not any(one.done() for one in waiting)
        await client.put("/faults", json={})
        assert [(await one).status_code for one in waiting] == [200, 200]


async def test_faults_cannot_be_switched_where_that_is_not_allowed() -> None:
    async with opened() as (_, _, client):
        answer = await client.put("/faults", json={"failing": 1})
        assert answer.status_code == 403 and "MOVIES_FAULTS" in answer.json()["detail"]
        assert (await client.get("/fast")).status_code == 200
    async with opened(fault="failing=1") as (_, _, client):
        assert (await client.get("/fast")).status_code == 500


async def test_metrics_name_routes_and_not_paths() -> None:
    async with opened() as (shop, _, client):
        shop.gate.set()
        for number in range(7):
            await client.get(f"/held/{number}")
        await client.get("/nothing/here")
        await client.request("BREW", "/fast")
        text = (await client.get("/metrics")).text
        assert 'movies_requests_total{code="200",method="GET",route="/held/{number}",service="shop"}' in text
        assert "/held/1" not in text and "nothing" not in text and "BREW" not in text
        assert 'movies_ready{service="shop"} 1.0' in text


def test_a_log_line_is_one_line_of_json_whatever_is_in_it() -> None:
    record = logging.makeLogRecord({"msg": "a\nb\r\u2028 %s", "args": ('"}{',), "levelname": "INFO", "id": "x\n{}"})
    trace = telemetry.begin()
    with telemetry.within(trace, "inner"):
        line = telemetry.JsonLines("outer").format(record)
    assert len(line.splitlines()) == 1
    told = json.loads(line)
    assert told["message"] == 'a\nb\r\u2028 "}{' and told["id"] == "x\n{}"
    assert told["service"] == "inner" and told["trace_id"] == trace.trace_id


@pytest.mark.parametrize(
    ("environment", "named"),
    [
        ({"MOVIES_PORT": "x", "MOVIES_FAULTS": "maybe"}, ["MOVIES_PORT='x'", "MOVIES_FAULTS='maybe'"]),
        ({"MOVIES_PROT": "1"}, ["MOVIES_PROT is not known"]),
        ({"MOVIES_SERVING_URL": "serving:8000"}, ["MOVIES_SERVING_URL", "http://"]),
        ({"MOVIES_CALL_SECONDS": "nan"}, ["MOVIES_CALL_SECONDS"]),
        *(
            ({f"MOVIES_{name}": "0"}, [f"MOVIES_{name}='0'", "above 0"])
            for name in ("MAX_IN_FLIGHT", "BODY_BYTES", "BODY_SECONDS", "CALL_SECONDS", "STREAM_BYTES")
        ),
    ],
)
def test_wrong_settings_are_named(environment: dict[str, str], named: list[str]) -> None:
    from movies import config
    from movies.errors import ConfigError

    with pytest.raises(ConfigError) as caught:
        config.read(environment)
    assert all(one in str(caught.value) for one in named)


def test_a_wrong_fault_is_named() -> None:
    from movies.errors import ConfigError
    from movies.faults import parse

    assert parse("slow=0.5, failing=0.1").slow == 0.5 and parse("").failing == 0
    with pytest.raises(ConfigError, match="MOVIES_FAULT"):
        parse("sloow=1")
