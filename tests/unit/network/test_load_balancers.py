"""Addresses of load balancers: given once, kept, free again with their Service."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from ipaddress import IPv4Network
from typing import Any

import pytest

from podlab.network import load_balancers
from podlab.network.load_balancers import CLASS, LoadBalancers, free_address, pool, wants_address
from podlab.waiting import until_async

POOL = IPv4Network("127.70.1.0/24")


@dataclass
class Event:
    type: str
    object: dict[str, Any]


class Api:
    """Services as a list of events; patches are kept, and seen as events like all others."""

    def __init__(self, *events: Event) -> None:
        self.events = list(events)
        self.patched: list[tuple[str, str]] = []
        self.failures: list[Exception] = []

    async def list_and_watch(self, path: str) -> AsyncIterator[Event]:
        for event in self.events:
            yield event
            await asyncio.sleep(0)  # what the event began has its turn before the next

    async def patch(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        if self.failures:
            raise self.failures.pop(0)
        (ingress,) = body["status"]["loadBalancer"]["ingress"]
        assert ingress["ipMode"] == "Proxy" and body["metadata"]["resourceVersion"] == "1"
        self.patched.append((path, ingress["ip"]))
        return body


class Answer(Exception):
    """What the API server says instead of doing it."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


def service(name: str, kind: str = "LoadBalancer", ip: str = "", **spec: Any) -> dict[str, Any]:
    ingress = [{"ip": ip}] if ip else []
    return {
        "metadata": {"namespace": "shop", "name": name, "resourceVersion": "1"},
        "spec": {"type": kind, **spec},
        "status": {"loadBalancer": {"ingress": ingress}},
    }


def given(*events: Event) -> list[tuple[str, str]]:
    """(Service, address) in the order in which addresses were given."""
    api = Api(*events)
    asyncio.run(LoadBalancers(api, POOL).run())
    return [(path.split("/")[-2], ip) for path, ip in api.patched]


def test_addresses_are_given_after_the_list_so_that_none_is_given_twice() -> None:
    events = [Event("ADDED", service("new")), Event("ADDED", service("old", ip="127.70.1.1")), Event("SYNC", {})]
    assert given(*events) == [("new", "127.70.1.2")]


def test_an_address_is_free_again_with_its_service_or_its_type() -> None:
    sync = Event("SYNC", {})
    a, b = Event("ADDED", service("a", ip="127.70.1.1")), Event("ADDED", service("b"))
    assert given(sync, a, Event("DELETED", a.object), b) == [("b", "127.70.1.1")]
    assert given(sync, a, Event("MODIFIED", service("a", kind="ClusterIP")), b) == [("b", "127.70.1.1")]
    assert given(sync, a, b) == [("b", "127.70.1.2")]


@pytest.mark.parametrize(
    ("asked", "wanted"),
    [
        (service("a"), True),
        (service("a", loadBalancerClass=CLASS), True),
        (service("a", loadBalancerClass="other.example/lb"), False),
        (service("a", kind="NodePort"), False),
        (service("a", ip="127.70.1.9"), False),
        (service("a", ip="192.0.2.1"), False),
        (service("a", ip="127.99.3.1"), True),
    ],
)
def test_who_waits_for_an_address(asked: dict[str, Any], wanted: bool) -> None:
    assert wants_address(asked, POOL) is wanted


def test_a_service_that_changed_meanwhile_is_asked_about_by_its_next_event() -> None:
    api = Api(Event("SYNC", {}), Event("ADDED", service("a")))
    api.failures = [Answer("changed meanwhile", 409)]
    asyncio.run(LoadBalancers(api, POOL).run())
    assert api.patched == []


def test_a_write_without_an_answer_is_repeated_with_the_same_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load_balancers, "RETRY_FIRST", 0.01)
    api = Api(Event("SYNC", {}), Event("ADDED", service("a")), Event("ADDED", service("b")))
    api.failures = [OSError("timed out")]
    asyncio.run(LoadBalancers(api, POOL).run())
    assert sorted((path.split("/")[-2], ip) for path, ip in api.patched) == [("a", "127.70.1.1"), ("b", "127.70.1.2")]


class Refusing(Api):
    """Refuses the Service `a`, which is deleted when another has its address."""

    async def list_and_watch(self, path: str) -> AsyncIterator[Event]:
        for event in self.events:
            yield event
        await until_async(self._given, "the other Service's address", timeout=60, interval=0.01)
        yield Event("DELETED", service("a"))

    async def _given(self) -> bool:
        return bool(self.patched)

    async def patch(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        if path.endswith("/a/status"):
            raise Answer("a webhook says no", 403)
        return await super().patch(path, body)


def test_a_service_that_is_refused_does_not_hold_up_another() -> None:
    api = Refusing(Event("SYNC", {}), Event("ADDED", service("a")), Event("ADDED", service("b")))
    asyncio.run(LoadBalancers(api, POOL).run())
    assert [ip for _, ip in api.patched] == ["127.70.1.2"]


def test_all_taken() -> None:
    assert free_address([], POOL) == "127.70.1.1"
    assert free_address((str(host) for host in POOL.hosts()), POOL) is None


def test_clusters_have_addresses_of_their_own() -> None:
    pools = {pool(port) for port in range(49152, 65536)}
    assert len(pools) == 65536 - 49152
    assert all(one.subnet_of(IPv4Network("127.64.0.0/10")) for one in pools)
