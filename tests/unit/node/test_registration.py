from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from api_room import configuration
from pods import NOW

from podlab.node import registration
from podlab.node.registration import HEALTHY, Registration, capacity, conditions, labels, node_info


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
    """Stands for the API server: keeps one Node."""

    def __init__(self) -> None:
        self.node: dict[str, Any] = {}
        self.requests: list[tuple[str, str]] = []

    async def post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        self.requests.append(("POST", path))
        self.node = {**body, "metadata": {**body["metadata"], "uid": "n-1"}}
        return self.node

    async def patch(self, path: str, body: dict[str, Any], **_: Any) -> dict[str, Any]:
        self.requests.append(("PATCH", path))
        self.node = {**self.node, "status": body["status"]}
        return self.node


def registered(tmp_path: Path, pki: Path, **changes: Any) -> tuple[Registration, Server]:
    made = dataclasses.replace(configuration(tmp_path, pki, 0), folder=str(tmp_path), **changes)
    server = Server()
    return Registration(server, made, lambda: [(("podlab/toolbox:1",), 5)]), server  # type: ignore[arg-type]


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


async def test_a_node_that_others_declared_unknown_is_put_right_at_once(tmp_path: Path, pki: Path) -> None:
    found, server = registered(tmp_path, pki)
    await found.register()
    assert not found._refresh.is_set()
    found.apply(server.node)
    assert not found._refresh.is_set()
    broken = {**server.node, "status": {"conditions": [{"type": "Ready", "status": "Unknown"}]}}
    found.apply(broken)
    assert found._refresh.is_set()


def test_labels_and_identity(tmp_path: Path, pki: Path) -> None:
    made = configuration(tmp_path, pki, 0)
    assert labels(made)["kubernetes.io/hostname"] == made.name
    assert labels(made)["kubernetes.io/os"] == "linux"
    info = node_info(made)
    assert info["kubeletVersion"] == made.kubernetes_version and len(info["machineID"]) == 32
    other = dataclasses.replace(made, name="node-2")
    assert node_info(other)["machineID"] != info["machineID"]
    assert registration.IMAGES_MAX == 50
