from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest

from podlab.network import proxy as proxy_module
from podlab.network.netfilter import NetfilterError
from podlab.network.nftables_messages import Kind, Message
from podlab.network.proxy import ServiceProxy
from podlab.network.watching import SERVICES_PATH, SLICES_PATH, ServiceTable
from podlab.waiting import until_async

WEB = ("default", "web")


@dataclass
class Event:
    type: str
    object: dict[str, Any]


def service(name: str = "web", **spec: Any) -> dict[str, Any]:
    ports = [{"name": "main", "port": 80}]
    return {
        "metadata": {"namespace": "default", "name": name},
        "spec": {"clusterIP": "10.96.0.50", "ports": ports, **spec},
    }


def slice_of(name: str, owner: str | None, *addresses: str) -> dict[str, Any]:
    labels = {"kubernetes.io/service-name": owner} if owner else {}
    return {
        "metadata": {"namespace": "default", "name": name, "labels": labels},
        "addressType": "IPv4",
        "ports": [{"name": "main", "port": 8080}],
        "endpoints": [{"addresses": [address], "nodeName": "node-1"} for address in addresses],
    }


def test_the_table_is_complete_when_both_lists_have_been_given() -> None:
    table = ServiceTable()
    table.apply(SERVICES_PATH, Event("SYNC", {}))
    assert not table.synced.is_set()
    table.apply(SERVICES_PATH, Event("SYNC", {}))
    assert not table.synced.is_set()
    table.apply(SLICES_PATH, Event("SYNC", {}))
    assert table.synced.is_set()


def test_subscribers_hear_of_every_service_and_of_its_endpoints() -> None:
    table = ServiceTable()
    table.apply(SERVICES_PATH, Event("ADDED", service()))
    heard: list[tuple[str, str]] = []
    table.subscribe(heard.append)
    assert heard == [WEB]
    table.apply(SLICES_PATH, Event("ADDED", slice_of("web-1", "web", "10.244.1.2")))
    table.apply(SERVICES_PATH, Event("DELETED", service()))
    assert heard == [WEB] * 3
    assert table.services == {} and len(table.slices(WEB)) == 1


def test_a_slice_that_changes_its_owner_is_moved() -> None:
    table = ServiceTable()
    heard: list[tuple[str, str]] = []
    table.subscribe(heard.append)
    table.apply(SLICES_PATH, Event("ADDED", slice_of("s", "web", "10.244.1.2")))
    table.apply(SLICES_PATH, Event("MODIFIED", slice_of("s", "other", "10.244.1.2")))
    assert table.slices(WEB) == [] and len(table.slices(("default", "other"))) == 1
    assert set(heard) == {WEB, ("default", "other")}
    table.apply(SLICES_PATH, Event("MODIFIED", slice_of("s", None)))
    assert table.slices(("default", "other")) == []


def test_a_deletion_that_shows_only_metadata_finds_its_service() -> None:
    table = ServiceTable()
    table.apply(SLICES_PATH, Event("ADDED", slice_of("s", "web", "10.244.1.2")))
    table.apply(SLICES_PATH, Event("DELETED", {"metadata": {"namespace": "default", "name": "s"}}))
    table.apply(SLICES_PATH, Event("DELETED", {"metadata": {"namespace": "default", "name": "never"}}))
    assert table.slices(WEB) == [] and table._slices == {} and table._owner == {}


async def test_both_kinds_are_watched() -> None:
    class Api:
        async def list_and_watch(self, path: str) -> AsyncIterator[Event]:
            made = service() if path == SERVICES_PATH else slice_of("s", "web", "10.244.1.2")
            yield Event("ADDED", made)
            yield Event("SYNC", {})
            await asyncio.Event().wait()

    table = ServiceTable()
    running = asyncio.create_task(table.run(Api()))
    await asyncio.wait_for(table.synced.wait(), 5)
    assert WEB in table.services and len(table.slices(WEB)) == 1
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running


class FakeNetfilter:
    """Takes batches; refuses as many as it is told to."""

    def __init__(self, refusals: int = 0) -> None:
        self.refusals = refusals
        self.commits: list[list[Message]] = []

    def __enter__(self) -> FakeNetfilter:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def commit_all(self, batches: list[list[Message]]) -> None:
        if self.refusals:
            self.refusals -= 1
            raise NetfilterError("refused", 16)
        self.commits.append([message for batch in batches for message in batch])

    def forget(self, _protocol: int, _which: Any) -> int:
        return 0


async def running(netfilter: FakeNetfilter) -> tuple[ServiceTable, ServiceProxy, asyncio.Task[None]]:
    table = ServiceTable()
    proxy = ServiceProxy(table, "node-1", "172.18.0.11", netfilter=lambda: netfilter)  # type: ignore[arg-type,return-value]
    task = asyncio.create_task(proxy.run())
    return table, proxy, task


async def test_nothing_is_written_before_the_table_is_complete() -> None:
    netfilter = FakeNetfilter()
    table, proxy, task = await running(netfilter)
    await asyncio.sleep(0)
    table.apply(SERVICES_PATH, Event("ADDED", service()))
    table.apply(SERVICES_PATH, Event("SYNC", {}))
    for _ in range(10):
        await asyncio.sleep(0)
    assert netfilter.commits == []
    table.apply(SLICES_PATH, Event("SYNC", {}))
    await asyncio.wait_for(proxy.settled.wait(), 60)
    assert netfilter.commits[0][1].kind == Kind.DELETE_TABLE and proxy.status.changes == 1
    task.cancel()


async def test_a_burst_of_changes_is_one_change_and_equal_states_are_none() -> None:
    netfilter = FakeNetfilter()
    table, proxy, task = await running(netfilter)
    for path in (SERVICES_PATH, SLICES_PATH):
        table.apply(path, Event("SYNC", {}))
    await asyncio.wait_for(proxy.settled.wait(), 60)
    for number in range(50):
        table.apply(SERVICES_PATH, Event("MODIFIED", service()))
        table.apply(SLICES_PATH, Event("MODIFIED", slice_of("s", "web", f"10.244.1.{number + 2}")))
        await asyncio.sleep(0)
    await asyncio.wait_for(proxy.settled.wait(), 60)
    assert len(netfilter.commits) == 2
    table.apply(SERVICES_PATH, Event("MODIFIED", service(selector={"app": "other"})))
    await asyncio.wait_for(proxy.settled.wait(), 60)
    assert len(netfilter.commits) == 2 and proxy.status.changes == 2
    task.cancel()


async def test_a_refused_change_is_said_and_tried_again_from_scratch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proxy_module, "RETRY", 0.01)
    netfilter = FakeNetfilter()
    table, proxy, task = await running(netfilter)
    for path in (SERVICES_PATH, SLICES_PATH):
        table.apply(path, Event("SYNC", {}))
    await asyncio.wait_for(proxy.settled.wait(), 60)
    netfilter.refusals = 2
    table.apply(SERVICES_PATH, Event("ADDED", service()))
    seen = set()

    async def settled() -> bool:
        seen.add(proxy.status.error)
        return proxy.settled.is_set()

    await until_async(settled, "the third try", timeout=60, interval=0.001)
    assert "refused" in seen and proxy.status.error == ""
    kinds = [message.kind for message in netfilter.commits[-1]]
    assert kinds[:3] == [Kind.NEW_TABLE, Kind.DELETE_TABLE, Kind.NEW_TABLE]
    assert any("default/web" in message.what or b"refus" in message.body for message in netfilter.commits[-1])
    task.cancel()


async def test_one_odd_service_does_not_cost_the_others_their_rules(caplog: pytest.LogCaptureFixture) -> None:
    netfilter = FakeNetfilter()
    table, proxy, task = await running(netfilter)
    broken = service("broken", ports=[{"name": "main"}])  # no port number
    for made in (broken, service()):
        table.apply(SERVICES_PATH, Event("ADDED", made))
    table.apply(SLICES_PATH, Event("ADDED", slice_of("s", "web", "10.244.1.2")))
    for path in (SERVICES_PATH, SLICES_PATH):
        table.apply(path, Event("SYNC", {}))
    await asyncio.wait_for(proxy.settled.wait(), 60)
    assert any("default/web" in message.what for message in netfilter.commits[0])
    assert "default/broken has no rules" in caplog.text
    task.cancel()


def test_one_deaf_subscriber_does_not_stop_the_watch(caplog: pytest.LogCaptureFixture) -> None:
    table = ServiceTable()
    heard: list[tuple[str, str]] = []

    def deaf(_key: tuple[str, str]) -> None:
        raise ValueError("not listening")

    table.subscribe(deaf)
    table.subscribe(heard.append)
    table.apply(SERVICES_PATH, Event("ADDED", service()))
    assert heard == [WEB] and "not listening" in caplog.text


async def test_a_node_network_waits_for_what_it_cannot_have_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    from types import SimpleNamespace

    from podlab.network import node
    from podlab.network.node import NodeNetwork

    class Silent:
        async def list_and_watch(self, path: str) -> AsyncIterator[Event]:
            yield Event("SYNC", {})
            await asyncio.Event().wait()

    refused = [NetfilterError("no packet filter", 95)] * 2

    def opened() -> FakeNetfilter:
        if refused:
            raise refused.pop()
        return FakeNetfilter()

    monkeypatch.setattr(node, "RETRY", 0.001)
    place = {"name": "node-1", "address": "127.0.0.1", "labels": {}}
    names = {"dns_service": "127.0.0.1", "cluster_domain": "cluster.local", "outside": "", "resolver": []}
    settings = SimpleNamespace(**place, **names)
    network = NodeNetwork(Silent(), settings)
    monkeypatch.setattr(network.proxy, "_open", opened)
    starts = [OSError(98, "in use"), None]

    async def start() -> None:
        if (error := starts.pop(0)) is not None:
            raise error

    monkeypatch.setattr(network.dns, "start", start)
    task = asyncio.create_task(network.run())
    await asyncio.wait_for(network.proxy.settled.wait(), 60)
    async with asyncio.timeout(60):
        while starts:
            await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
