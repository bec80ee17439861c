from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest

from podlab.network import health_checks
from podlab.network.health_checks import HealthChecks, port_of, ready_here
from podlab.network.watching import SERVICES_PATH, SLICES_PATH, ServiceTable
from podlab.waiting import until_async

LOCAL = {"type": "LoadBalancer", "externalTrafficPolicy": "Local"}


@dataclass
class Event:
    type: str
    object: dict[str, Any]


def service(name: str = "web", **spec: Any) -> dict[str, Any]:
    return {"metadata": {"namespace": "shop", "name": name}, "spec": spec}


def slice_of(*endpoints: tuple[str, str, bool | None], name: str = "web") -> dict[str, Any]:
    """Endpoints as (address, node, ready)."""
    labels = {"kubernetes.io/service-name": name}
    made = [{"addresses": [one], "nodeName": node, "conditions": {"ready": ready}} for one, node, ready in endpoints]
    return {"metadata": {"namespace": "shop", "name": f"{name}-x", "labels": labels}, "endpoints": made}


def free_port() -> int:
    with socket.socket() as made:
        made.bind(("127.0.0.1", 0))
        return made.getsockname()[1]


async def asked(port: int) -> tuple[int, int]:
    """(status, number of endpoints) that a health check answers; (0, 0) if nobody does."""
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
        writer.close()
    except ConnectionError:
        return 0, 0
    assert json.loads(body)["service"] == {"namespace": "shop", "name": "web"}
    count = json.loads(body)["localEndpoints"]
    assert f"X-Load-Balancing-Endpoint-Weight: {count}".encode() in head
    return int(head.split()[1]), count


async def becomes(port: int, expected: tuple[int, int]) -> None:
    async def is_so() -> bool:
        return await asked(port) == expected

    await until_async(is_so, f"{expected} from {port}", timeout=60, interval=0.01)


@pytest.fixture
async def table(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[ServiceTable]:
    """What a node called node-1 knows, whose health checks are at 127.0.0.1."""
    monkeypatch.setattr(health_checks, "RETRY", 0.01)
    known = ServiceTable()
    for path in (SERVICES_PATH, SLICES_PATH):
        known.apply(path, Event("SYNC", {}))
    running = asyncio.create_task(HealthChecks(known, "node-1", "127.0.0.1").run())
    yield known
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


def test_only_load_balancers_of_local_traffic_have_one() -> None:
    assert port_of(service(**LOCAL, healthCheckNodePort=30001)) == 30001
    for other in ({"type": "NodePort"}, {"externalTrafficPolicy": "Cluster"}):
        assert port_of(service(**LOCAL | other, healthCheckNodePort=30001)) == 0
    assert port_of(None) == port_of(service(**LOCAL)) == 0


def test_endpoints_count_that_are_here_and_ready() -> None:
    seen = slice_of(
        ("10.244.1.2", "node-1", True),
        ("10.244.1.3", "node-1", None),
        ("10.244.1.4", "node-1", False),
        ("10.244.2.2", "node-2", True),
    )
    assert ready_here([seen, seen, {"metadata": {}, "endpoints": None}], "node-1") == 2


async def test_a_node_says_whether_it_has_endpoints_while_it_is_asked_for(table: ServiceTable) -> None:
    one, other = free_port(), free_port()
    table.apply(SERVICES_PATH, Event("ADDED", service(**LOCAL, healthCheckNodePort=one)))
    await becomes(one, (503, 0))
    table.apply(SLICES_PATH, Event("ADDED", slice_of(("10.244.1.2", "node-1", True))))
    await becomes(one, (200, 1))
    table.apply(SLICES_PATH, Event("MODIFIED", slice_of(("10.244.1.2", "node-1", False))))
    await becomes(one, (503, 0))
    table.apply(SERVICES_PATH, Event("MODIFIED", service(**LOCAL, healthCheckNodePort=other)))
    await becomes(other, (503, 0))
    assert await asked(one) == (0, 0)
    table.apply(SERVICES_PATH, Event("MODIFIED", service(type="LoadBalancer", externalTrafficPolicy="Cluster")))
    await becomes(other, (0, 0))


async def test_a_port_that_another_has_is_taken_as_soon_as_it_is_free(table: ServiceTable) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        table.apply(SERVICES_PATH, Event("ADDED", service(**LOCAL, healthCheckNodePort=port)))
    await becomes(port, (503, 0))


async def test_who_asks_nothing_sensible_holds_nobody_up(table: ServiceTable) -> None:
    port = free_port()
    table.apply(SERVICES_PATH, Event("ADDED", service(**LOCAL, healthCheckNodePort=port)))
    await becomes(port, (503, 0))
    silent = [await asyncio.open_connection("127.0.0.1", port) for _ in range(3)]
    for (_, writer), text in zip(silent, (b"", b"\0" * 9000, b"GET"), strict=True):
        writer.write(text)
    assert await asked(port) == (503, 0)
    for _, writer in silent:
        writer.close()
