"""The client of the Kubernetes API against an HTTPS server on loopback that asks for a client certificate."""

from __future__ import annotations

import asyncio
import json
import ssl
import tracemalloc
from asyncio import sslproto
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from podlab.node.api import (
    AlreadyExists,
    ApiClient,
    ApiError,
    Conflict,
    Event,
    Forbidden,
    Gone,
    Invalid,
    NotFound,
    Unreachable,
    error_of,
)
from podlab.node.objects import ObjectReader
from podlab.waiting import until_async


class Store:
    """A tiny list-and-watch server: what it holds can be changed, and its watches broken."""

    def __init__(self) -> None:
        self.items: dict[str, dict[str, Any]] = {}
        self.version = 10
        self.watches: list[asyncio.Queue[bytes | None]] = []
        self.lists = 0
        self.gets: list[str] = []
        self.delay: asyncio.Event | None = None
        self.broken = 0

    def put(self, name: str, *, uid: str = "", tell: bool = True, size: int = 0) -> None:
        self.version += 1
        known = name in self.items
        metadata = {
            "name": name,
            "namespace": "shop",
            "uid": uid or f"uid-{name}",
            "resourceVersion": str(self.version),
            "managedFields": [{"manager": "x"}],
        }
        self.items[name] = {"metadata": metadata, "data": {"fill": "x" * size}}
        if tell:
            self.send("MODIFIED" if known else "ADDED", self.items[name])

    def remove(self, name: str, *, tell: bool = True) -> None:
        gone = self.items.pop(name)
        if tell:
            self.send("DELETED", gone)

    def send(self, kind: str, obj: dict[str, Any]) -> None:
        for watch in self.watches:
            watch.put_nowait(json.dumps({"type": kind, "object": obj}).encode() + b"\n")

    def break_watches(self) -> None:
        for watch in self.watches:
            watch.put_nowait(None)
        self.watches.clear()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        if request.query.get("watch"):
            return await self._watch(request)
        self.lists += 1
        if self.broken:
            self.broken -= 1
            return web.Response(status=503, text="not yet")
        metadata = {"resourceVersion": str(self.version)}
        body = {"kind": "PodList", "apiVersion": "v1", "metadata": metadata, "items": list(self.items.values())}
        return web.json_response(body)

    async def _watch(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        queue: asyncio.Queue[bytes | None] = asyncio.Queue()
        bookmark = {"kind": "Pod", "metadata": {"resourceVersion": str(self.version)}}
        queue.put_nowait(json.dumps({"type": "BOOKMARK", "object": bookmark}).encode() + b"\n")
        self.watches.append(queue)
        while (line := await queue.get()) is not None:
            await response.write(line)
        return response

    async def get(self, request: web.Request) -> web.Response:
        name = request.match_info["name"]
        self.gets.append(name)
        found = self.items.get(name)
        if self.delay:
            await self.delay.wait()
        if not found:
            status = {"kind": "Status", "reason": "NotFound", "message": f'"{name}" not found', "code": 404}
            return web.json_response(status, status=404)
        return web.json_response(found)


@pytest.fixture
async def world(pki: Path) -> AsyncIterator[tuple[Store, ApiClient]]:
    store = Store()
    application = web.Application()
    application.router.add_get("/api/v1/pods", store.handle)
    application.router.add_get("/api/v1/namespaces/shop/configmaps/{name}", store.get)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(pki / "ca.crt"))
    context.load_cert_chain(pki / "serving.crt", pki / "serving.key")
    context.verify_mode = ssl.CERT_REQUIRED
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context)
    await site.start()
    port = runner.addresses[0][1]
    files = [str(pki / name) for name in ("ca.crt", "somebody.crt", "somebody.key")]
    client = ApiClient(f"https://127.0.0.1:{port}", *files)
    yield store, client
    await client.close()
    store.break_watches()
    await runner.cleanup()


class Reader:
    """Takes events from a watch one by one."""

    def __init__(self, client: ApiClient) -> None:
        self._events = client.list_and_watch("/api/v1/pods", field_selector="spec.nodeName=n")

    async def next(self) -> tuple[str, str]:
        async with asyncio.timeout(60):
            event: Event = await anext(self._events)
        return event.type, event.object.get("metadata", {}).get("name", "")

    async def take(self, count: int) -> list[tuple[str, str]]:
        return [await self.next() for _ in range(count)]

    async def close(self) -> None:
        await self._events.aclose()  # type: ignore[attr-defined]


async def test_a_list_then_changes(world: tuple[Store, ApiClient]) -> None:
    store, client = world
    store.put("a")
    reader = Reader(client)
    assert await reader.take(2) == [("ADDED", "a"), ("SYNC", "")]
    follow = asyncio.ensure_future(reader.take(3))
    await until_async(lambda: _true(store.watches), "the watch", timeout=60)
    store.put("b")
    store.put("a")
    store.remove("b")
    assert await follow == [("ADDED", "b"), ("MODIFIED", "a"), ("DELETED", "b")]
    await reader.close()


async def _true(value: Any) -> Any:
    return value


async def test_after_a_break_only_the_difference_is_given(world: tuple[Store, ApiClient]) -> None:
    store, client = world
    for name in ("same", "changed", "gone", "replaced"):
        store.put(name)
    reader = Reader(client)
    await reader.take(5)
    follow = asyncio.ensure_future(reader.take(6))
    await until_async(lambda: _true(store.watches), "the watch", timeout=60)
    store.put("changed", tell=False)
    store.put("new", tell=False)
    store.put("replaced", uid="second", tell=False)
    store.remove("gone", tell=False)
    store.break_watches()
    found = await follow
    assert found[-1] == ("SYNC", "")
    assert set(found[:2]) == {("DELETED", "gone"), ("DELETED", "replaced")}
    assert set(found[2:-1]) == {("MODIFIED", "changed"), ("ADDED", "new"), ("ADDED", "replaced")}
    await reader.close()


async def test_an_api_server_that_comes_back_is_listed_again(world: tuple[Store, ApiClient]) -> None:
    store, client = world
    store.broken = 2
    store.put("a")
    reader = Reader(client)
    assert await reader.take(2) == [("ADDED", "a"), ("SYNC", "")]
    assert store.lists == 3
    await reader.close()


async def test_an_expired_watch_lists_again(world: tuple[Store, ApiClient]) -> None:
    store, client = world
    store.put("a")
    reader = Reader(client)
    await reader.take(2)
    follow = asyncio.ensure_future(reader.next())
    await until_async(lambda: _true(store.watches), "the watch", timeout=60)
    store.send("ERROR", {"kind": "Status", "code": 410, "reason": "Expired", "metadata": {}})
    assert await follow == ("SYNC", "")
    assert store.lists == 2
    await reader.close()


async def test_a_large_object_in_a_watch(world: tuple[Store, ApiClient]) -> None:
    store, client = world
    reader = Reader(client)
    await reader.take(1)
    follow = asyncio.ensure_future(reader.next())
    await until_async(lambda: _true(store.watches), "the watch", timeout=60)
    store.put("big", size=3_000_000)
    assert await follow == ("ADDED", "big")
    await reader.close()


async def test_a_connection_that_waits_holds_little_memory(world: tuple[Store, ApiClient]) -> None:
    store, client = world
    tracemalloc.start()
    try:
        reader = Reader(client)
        await reader.take(1)
        follow = asyncio.ensure_future(reader.next())
        await until_async(lambda: _true(store.watches), "the watch", timeout=60)
        traces = tracemalloc.take_snapshot().filter_traces([tracemalloc.Filter(True, sslproto.__file__)])
    finally:
        tracemalloc.stop()
    # The list's connection and the watch's, and the server's two ends of them.
    assert sum(trace.size for trace in traces.traces) < 4 * 100 << 10
    store.put("a")
    await follow
    await reader.close()


async def test_managed_fields_are_left_out(world: tuple[Store, ApiClient]) -> None:
    store, client = world
    store.put("a")
    async for event in client.list_and_watch("/api/v1/pods"):
        assert "managedFields" not in event.object["metadata"] and event.object["kind"] == "Pod"
        break


@pytest.mark.parametrize(
    ("status", "reason", "kind"),
    [
        (404, "NotFound", NotFound),
        (409, "Conflict", Conflict),
        (409, "AlreadyExists", AlreadyExists),
        (403, "Forbidden", Forbidden),
        (410, "Expired", Gone),
        (422, "Invalid", Invalid),
        (500, "InternalError", ApiError),
    ],
)
def test_errors_have_types(status: int, reason: str, kind: type[ApiError]) -> None:
    found = error_of("GET", "/x", status, json.dumps({"reason": reason, "message": "no"}))
    assert type(found) is kind and (found.status, found.reason, found.message) == (status, reason, "no")


@pytest.mark.parametrize("text", ["", "<html>", "[]", "null"])
def test_an_answer_that_is_no_status_is_an_error_too(text: str) -> None:
    assert error_of("GET", "/x", 502, text).status == 502


async def test_nobody_answers(world: tuple[Store, ApiClient], pki: Path) -> None:
    files = [str(pki / name) for name in ("ca.crt", "somebody.crt", "somebody.key")]
    client = ApiClient("https://127.0.0.1:1", *files)
    with pytest.raises(Unreachable, match="got no answer"):
        await client.get("/api")
    await client.close()


# ObjectReader


async def test_those_who_ask_at_the_same_time_share_a_read(world: tuple[Store, ApiClient]) -> None:
    store, client = world
    store.put("c")
    store.delay = asyncio.Event()
    reader = ObjectReader(client)
    asking = [asyncio.ensure_future(reader.read("configmaps", "shop", "c")) for _ in range(50)]
    await until_async(lambda: _true(store.gets), "the first read", timeout=60)
    store.delay.set()
    assert len({found["metadata"]["uid"] for found in await asyncio.gather(*asking) if found}) == 1
    assert len(store.gets) == 2


async def test_nobody_gets_what_was_read_before_the_question(world: tuple[Store, ApiClient]) -> None:
    store, client = world
    store.put("c")
    store.delay = asyncio.Event()
    reader = ObjectReader(client)
    early = asyncio.ensure_future(reader.read("configmaps", "shop", "c"))
    await until_async(lambda: _true(store.gets), "the first read", timeout=60)
    store.put("c")
    late = asyncio.ensure_future(reader.read("configmaps", "shop", "c"))
    store.delay.set()
    first, second = await asyncio.gather(early, late)
    assert first and second
    assert int(second["metadata"]["resourceVersion"]) > int(first["metadata"]["resourceVersion"])


async def test_a_missing_object_is_none(world: tuple[Store, ApiClient]) -> None:
    _, client = world
    reader = ObjectReader(client)
    found = await reader.read_all("shop", [("configmaps", "x"), ("configmaps", "x")])
    assert found == {("configmaps", "x"): None}
