from __future__ import annotations

import asyncio
import dataclasses
from pathlib import Path
from typing import Any

from api_room import configuration
from pods import NOW

from podlab.node import registration
from podlab.node.events import EventRecorder
from podlab.node.registration import HEALTHY, Registration, capacity, conditions, labels, node_info
from podlab.waiting import until_async


def test_capacity_is_the_machines_unless_configured() -> None:
    found = capacity({"cpu": "1", "pods": "20"}, 8, 16 << 30, 100 << 30)
    assert found == {"cpu": "1", "memory": "16777216Ki", "ephemeral-storage": "104857600Ki", "pods": "20"}


def test_transition_times_change_only_with_the_status() -> None:
    before = [
        {"type": "Ready", "status": "Unknown", "lastTransitionTime": "2020-01-01T00:00:00Z"},
        {"type": "PIDPressure", "status": "False", "lastTransitionTime": "2020-01-01T00:00:00Z"},
    ]
    found = {c["type"]: c for c in conditions(HEALTHY, before, NOW)}
    assert found["Ready"]["status"] == "True"
    assert found["Ready"]["lastTransitionTime"] == found["Ready"]["lastHeartbeatTime"] == "2027-01-15T08:00:00Z"
    assert found["PIDPressure"]["lastTransitionTime"] == "2020-01-01T00:00:00Z"


class Server:
    """Stands for the API server: keeps one Node, and each time that an Event was written, anew or counted again."""

    def __init__(self) -> None:
        self.node: dict[str, Any] = {}
        self.made: list[dict[str, Any]] = []
        self.events: list[dict[str, Any]] = []
        self.requests: list[tuple[str, str]] = []

    async def post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        if path.endswith("/events"):
            self.made.append(body)
            self.events.append(body)
            return body
        self.requests.append(("POST", path))
        self.node = {**body, "metadata": {**body["metadata"], "uid": "n-1"}}
        return self.node

    async def patch(self, path: str, body: dict[str, Any], **_: Any) -> dict[str, Any]:
        if "/events/" in path:
            self.events.append(next(one for one in self.made if path.endswith(one["metadata"]["name"])))
            return body
        self.requests.append(("PATCH", path))
        self.node = {**self.node, "status": body["status"]}
        return self.node


def registered(tmp_path: Path, pki: Path, **changes: Any) -> tuple[Registration, Server]:
    made = dataclasses.replace(configuration(tmp_path, pki, 0), folder=str(tmp_path), **changes)
    server: Any = Server()
    recorder = EventRecorder(server, made.name)
    return Registration(server, made, lambda: [(("podlab/toolbox:1",), 5)], recorder), server


async def test_a_new_node(tmp_path: Path, pki: Path) -> None:
    found, server = registered(tmp_path, pki, labels={"topology.kubernetes.io/zone": "a"})
    await found.register()
    assert server.node["spec"]["podCIDR"] == found._configuration.pod_cidr
    assert server.node["metadata"]["labels"]["topology.kubernetes.io/zone"] == "a"
    status = server.node["status"]
    limits = next(c for c in status["conditions"] if c["type"] == "LimitsNotEnforced")
    assert limits["status"] == "True" and "CPU limits are not enforced" in limits["message"]
    assert status["daemonEndpoints"]["kubeletEndpoint"]["Port"] == found._configuration.kubelet_port
    assert status["images"] == [{"names": ["podlab/toolbox:1"], "sizeBytes": 5}]
    assert {c["type"]: c["status"] for c in status["conditions"]}["Ready"] == "True"
    assert found.uid == "n-1"


async def test_a_node_whose_containers_have_cgroups_says_that_limits_are_kept(tmp_path: Path, pki: Path) -> None:
    found, server = registered(tmp_path, pki)
    found.controllers = ("cpu", "pids")
    await found.register()
    limits = next(c for c in server.node["status"]["conditions"] if c["type"] == "LimitsNotEnforced")
    assert (limits["status"], limits["reason"]) == ("False", "Cgroups")
    assert limits["message"].startswith("CPU limits are enforced by cgroups; a watcher kills")


async def test_a_node_that_others_declared_unknown_is_put_right_at_once(tmp_path: Path, pki: Path) -> None:
    found, server = registered(tmp_path, pki)
    await found.register()
    assert not found._refresh.is_set()
    found.apply(server.node)
    assert not found._refresh.is_set()
    broken = {**server.node, "status": {"conditions": [{"type": "Ready", "status": "Unknown"}]}}
    found.apply(broken)
    assert found._refresh.is_set()


async def told(found: Registration, server: Server, count: int) -> list[str]:
    """The reasons of the next `count` Events, sent by the real recorder."""
    sending = asyncio.create_task(found._recorder.run())

    async def sent() -> bool:
        return len(server.events) >= count

    await until_async(sent, f"{count} Events", timeout=60)
    sending.cancel()
    new, server.events = server.events, []
    name = found._configuration.name
    for event in new:
        assert (event["involvedObject"]["kind"], event["involvedObject"]["name"]) == ("Node", name)
        now = event["message"] == f"Node {name} status is now: {event['reason']}"
        assert now != (event["reason"] == "Starting") and event["type"] == "Normal"
    return [event["reason"] for event in new]


async def test_the_turns_of_a_nodes_conditions_are_events(tmp_path: Path, pki: Path) -> None:
    found, server = registered(tmp_path, pki)
    found.starting()
    await found.register()
    well = ["NodeHasSufficientMemory", "NodeHasNoDiskPressure", "NodeHasSufficientPID", "NodeReady"]
    assert await told(found, server, 5) == ["Starting", *well]
    await found.write()
    found.disk.press(1.0)
    found.memory.press(1.0)
    await found.write()
    await found.write()
    found.disk.relieve(1e9)
    await found.write()
    turns = ["NodeHasInsufficientMemory", "NodeHasDiskPressure", "NodeHasNoDiskPressure"]
    assert await told(found, server, 3) == turns
    found.apply({**server.node, "status": {"conditions": [{"type": "Ready", "status": "Unknown"}]}})
    found.memory.relieve(1e9)
    await found.write()
    assert await told(found, server, 4) == well


async def test_a_node_that_is_cordoned_and_uncordoned_tells_it_once(tmp_path: Path, pki: Path) -> None:
    found, server = registered(tmp_path, pki)
    await found.register()
    await told(found, server, 4)
    for cordoned in (False, True, True, False):
        found.apply({**server.node, "spec": {"unschedulable": cordoned} if cordoned else {}})
    assert await told(found, server, 2) == ["NodeNotSchedulable", "NodeSchedulable"]


def test_labels_and_identity(tmp_path: Path, pki: Path) -> None:
    made = configuration(tmp_path, pki, 0)
    assert labels(made)["kubernetes.io/hostname"] == made.name
    assert labels(made)["kubernetes.io/os"] == "linux"
    info = node_info(made)
    assert info["kubeletVersion"] == made.kubernetes_version and len(info["machineID"]) == 32
    other = dataclasses.replace(made, name="node-2")
    assert node_info(other)["machineID"] != info["machineID"]
    assert registration.IMAGES_MAX == 50
