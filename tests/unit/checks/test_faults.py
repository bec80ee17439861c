"""Which nodes a check may count on: those that are Ready and take pods."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from little_api import LittleApi

from podlab.checks.api import Api
from podlab.checks.contract import Inconclusive
from podlab.checks.faults import ready_nodes, ready_to_lose_one

CONTROL_PLANE = {"taints": [{"key": "node-role.kubernetes.io/control-plane", "effect": "NoSchedule"}]}


@pytest.fixture
def little() -> Iterator[LittleApi]:
    with LittleApi() as api:
        yield api


@pytest.fixture
def api(little: LittleApi, tmp_path: Path) -> Api:
    return Api.connect(little.kubeconfig(tmp_path / "config"))


def add(little: LittleApi, name: str, spec: dict[str, Any], ready: str = "True") -> None:
    status = {"conditions": [{"type": "Ready", "status": ready}]}
    little.objects[f"/api/v1/nodes/{name}"] = {
        "kind": "Node",
        "metadata": {"name": name},
        "spec": spec,
        "status": status,
    }


def test_nodes_that_take_no_pods_are_not_counted(little: LittleApi, api: Api) -> None:
    add(little, "control-plane", CONTROL_PLANE)
    add(little, "cordoned", {"unschedulable": True})
    add(little, "lost", {}, ready="Unknown")
    add(little, "reserved", {"taints": [{"key": "team", "effect": "NoExecute"}]})
    add(little, "discouraged", {"taints": [{"key": "team", "effect": "PreferNoSchedule"}]})
    add(little, "back", {"taints": [{"key": "node.kubernetes.io/unreachable", "effect": "NoExecute"}]})
    add(little, "well", {})
    assert ready_nodes(api) == ["back", "discouraged", "well"]


def test_with_two_workers_no_node_is_lost_and_the_cure_is_said(little: LittleApi, api: Api) -> None:
    add(little, "control-plane", CONTROL_PLANE)
    for name in ("worker-1", "worker-2"):
        add(little, name, {})
    with pytest.raises(Inconclusive, match=r"only 2 nodes .* `podlab cluster up --provider kind --nodes 4"):
        ready_to_lose_one(api)
    add(little, "worker-3", {})
    assert ready_to_lose_one(api) == ["worker-1", "worker-2", "worker-3"]
