"""Limits that the kernel keeps, seen from outside: only where a cgroup is delegated (docs/limits.md says how)."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import Kubectl, Make

from podlab.cluster import clusters
from podlab.cluster.embedded import delegation
from podlab.waiting import until

PATIENCE = 60.0
POD = """
apiVersion: v1
kind: Pod
metadata: {name: spin}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - name: main
    image: podlab/python:latest
    command: [python3, -c, "while True: pass"]
    resources: {limits: {cpu: 200m}}
"""
CONDITION = 'jsonpath={.status.conditions[?(@.type=="LimitsNotEnforced")]'


@pytest.mark.embedded("whether a kubelet keeps limits is not asked")
def test_a_cluster_keeps_cpu_limits_and_leaves_no_cgroup(make: Make, kubectl: Kubectl) -> None:
    offer = delegation.offered()
    if "cpu" not in offer.controllers:
        pytest.skip(offer.why or "the controller cpu is not handed on to this cgroup")
    made = make(nodes=1)
    assert kubectl(made, "get", "node", "node-1", "-o", CONDITION + ".status}") == "False"
    assert made.status.details["limits"].startswith("CPU ")
    kubectl(made, "apply", "-f", "-", stdin=POD)
    kubectl(made, "wait", "--for=condition=Ready", "pod/spin", f"--timeout={PATIENCE:.0f}s")

    def inside(name: str) -> str:
        return kubectl(made, "exec", "spin", "--", "cat", f"/sys/fs/cgroup/{name}")

    assert inside("cpu.max") == "20000 100000\n"

    def counted() -> dict[str, int]:
        return {name: int(count) for name, count in map(str.split, inside("cpu.stat").splitlines())}

    until(lambda: counted()["nr_throttled"] >= 10, "ten periods used up", timeout=PATIENCE, interval=0.3)
    found = counted()
    assert found["usage_usec"] <= (found["nr_periods"] + 1) * 30_000, "a fifth of a processor, and what it may overrun"
    assert list(Path(offer.path or "").glob("podlab-*-node-1/*/*"))
    clusters.down(made.name)
    assert not list(Path(offer.path or "").glob("podlab-*-node-1"))
