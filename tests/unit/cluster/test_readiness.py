"""When a node counts as ready in bring-up: registered, alive since the start, Ready, and without node taints."""

from __future__ import annotations

from typing import Any

import pytest

from podlab.cluster.embedded.objects import why_not

SINCE = 1_800_000_000.0
FRESH = {"spec": {"renewTime": "2027-01-15T08:00:01.000000Z"}}
STALE = {"spec": {"renewTime": "2027-01-15T07:59:59.000000Z"}}


def node(status: str = "True", taints: list[str] | None = None) -> dict[str, Any]:
    conditions = [{"type": "Ready", "status": status, "reason": "KubeletNotReady", "message": "no network"}]
    return {"spec": {"taints": [{"key": key} for key in taints or []]}, "status": {"conditions": conditions}}


@pytest.mark.parametrize(
    ("found", "lease", "reason"),
    [
        (node(), FRESH, ""),
        (None, None, "not registered"),
        (node(), None, "no sign of life"),
        (node(), {"spec": None}, "no sign of life"),
        (node(), STALE, "no sign of life"),
        (node("Unknown"), FRESH, "not Ready: no network"),
        ({"spec": {}}, FRESH, "not Ready: no condition yet"),
        (node(taints=["node.kubernetes.io/not-ready"]), FRESH, "tainted with node.kubernetes.io/not-ready"),
        (node(taints=["example.com/mine"]), FRESH, ""),
    ],
)
def test_why_not(found: dict[str, Any] | None, lease: dict[str, Any] | None, reason: str) -> None:
    said = why_not(found, lease, SINCE)
    assert said.startswith(reason) if reason else said == ""
