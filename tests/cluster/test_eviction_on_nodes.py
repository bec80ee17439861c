"""Who has to leave a node: its memory or its disk gets short, a pod is above its own limits, the node is drained."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from lifecycle import Pods, condition, container, pod

from podlab import paths
from podlab.cluster import Cluster
from podlab.waiting import until

pytestmark = [pytest.mark.embedded("only an embedded node can be given a little memory")]

#: Fills memory in steps that the node can watch, then waits.
HOG = "import time\nheld = []\nwhile True:\n    held.append(bytearray(b'x') * (8 << 20)); time.sleep(0.05)"


def test_a_pod_without_measure_is_evicted(
    make: Callable[..., Cluster], kubectl: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PODLAB_MEMORY", "640Mi")
    cluster = make(nodes=1)
    pods = Pods(kubectl, cluster, "default")

    def pressure() -> dict[str, Any]:
        (node,) = json.loads(kubectl(cluster, "get", "nodes", "-o", "json"))["items"]
        return condition(node["status"], "MemoryPressure")

    before = pressure()
    assert before["status"] == "False"
    asked = {"requests": {"memory": "64Mi"}}
    hog = {"name": "main", "image": "podlab/python:3", "command": ["python", "-c", HOG], "resources": asked}
    pods.apply(pod("neighbour", container(resources=asked)))
    pods.ready("neighbour")
    pods.apply(pod("hog", hog))
    status = pods.phase("hog", "Failed", timeout=120)
    assert status["reason"] == "Evicted"
    assert "low on resource: memory" in status["message"] and "Container main was using" in status["message"]
    assert condition(status, "DisruptionTarget")["reason"] == "TerminationByKubelet"
    assert pods.event("hog", "Evicted")["type"] == "Warning"
    assert pods.container("neighbour")["restartCount"] == 0 and pods.status("neighbour")["phase"] == "Running"

    def over() -> bool:
        """Whether the pressure was shown and is gone: it stays for a while after the memory is free again."""
        now = pressure()
        return now["status"] == "False" and now["lastTransitionTime"] != before["lastTransitionTime"]

    until(over, "the end of the pressure", timeout=120, interval=1, state=pressure)
    (name,) = kubectl(cluster, "get", "nodes", "-o", "name").split()

    def events() -> str:
        return kubectl(cluster, "describe", name).partition("Events:")[2]

    def told() -> bool:
        said, pressed = events(), ("NodeHasInsufficientMemory", "NodeHasSufficientMemory")
        return all(reason in said for reason in ("Starting", "NodeReady", *pressed))

    until(told, "what happened to the node in its Events", timeout=60, interval=1, state=events)
    assert pods.status("neighbour")["phase"] == "Running"


@pytest.fixture
def pods(shared: Cluster, kubectl: Any, namespace: str) -> Pods:
    """The namespace of this test."""
    return Pods(kubectl, shared, namespace)


#: Writes 20 MiB to the folder /data, says so, and waits.
FILL = "head -c 20971520 /dev/zero > /data/full; echo full; exec sleep 1000"


def test_a_pod_above_the_limit_of_its_volume_is_evicted_and_its_files_go(pods: Pods) -> None:
    mounts = {"volumeMounts": [{"name": "data", "mountPath": "/data"}]}
    modest = pod(
        "modest", container(script=FILL, **mounts), volumes=[{"name": "data", "emptyDir": {"sizeLimit": "1Gi"}}]
    )
    greedy = pod(
        "greedy", container(script=FILL, **mounts), volumes=[{"name": "data", "emptyDir": {"sizeLimit": "8Mi"}}]
    )
    pods.apply(modest, greedy)
    status = pods.phase("greedy", "Failed", timeout=120)
    assert status["reason"] == "Evicted"
    assert status["message"] == 'Usage of EmptyDir volume "data" exceeds the limit "8Mi". '
    assert pods.event("greedy", "Evicted")["type"] == "Warning"
    assert pods.status("modest")["phase"] == "Running" and pods.logs("modest").strip() == "full"
    nodes = paths.clusters() / "shared" / "nodes"
    uid = pods.get("pod", "greedy")["metadata"]["uid"]
    until(lambda: not list(nodes.glob(f"*/pods/{uid}/volumes/data/full")), "the files being gone", timeout=60)
    kept = pods.get("pod", "modest")["metadata"]["uid"]
    assert list(nodes.glob(f"*/pods/{kept}/volumes/data/full"))


def test_a_container_above_its_limit_of_disk_is_evicted(pods: Pods) -> None:
    limit = {"resources": {"limits": {"ephemeral-storage": "8Mi"}}}
    script = "mkdir -p /tmp/data; head -c 20971520 /dev/zero > /tmp/data/full; exec sleep 1000"
    pods.apply(pod("greedy", container(script=script, **limit), container("other")))
    status = pods.phase("greedy", "Failed", timeout=120)
    assert status["reason"] == "Evicted" and 'exceeded its local ephemeral storage limit "8Mi"' in status["message"]


def test_drain_keeps_to_the_disruption_budget(
    make: Callable[..., Cluster], kubectl: Any, programs: dict[str, Path], machine: list[str]
) -> None:
    """Two nodes, two replicas, of which one must always be there: the drain moves one after the other."""
    cluster = make(nodes=2)
    web = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "web"},
        "spec": {
            "replicas": 2,
            "selector": {"matchLabels": {"app": "web"}},
            "template": {"metadata": {"labels": {"app": "web"}}, "spec": pod("", container())["spec"]},
        },
    }
    budget = {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": {"name": "web"},
        "spec": {"minAvailable": 2, "selector": {"matchLabels": {"app": "web"}}},
    }
    for one in (web, budget):
        kubectl(cluster, "apply", "-f", "-", stdin=json.dumps(one))
    kubectl(cluster, "rollout", "status", "deployment/web", "--timeout=240s")

    def on(node: str) -> list[str]:
        found = kubectl(cluster, "get", "pods", "-o", "name", "--field-selector", f"spec.nodeName={node}")
        return found.split()

    nodes = [name.removeprefix("node/") for name in kubectl(cluster, "get", "nodes", "-o", "name").split()]
    full = next(node for node in nodes if on(node))
    before = on(full)
    command = [*machine, str(programs["kubectl"]), "--kubeconfig", str(cluster.kubeconfig), "drain", full]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as drain:
        assert drain.stderr and any("violate the pod's disruption budget" in line for line in drain.stderr)
        drain.kill()
    assert on(full) == before
    kubectl(cluster, "patch", "pdb", "web", "--type=merge", "-p", json.dumps({"spec": {"minAvailable": 1}}))
    kubectl(cluster, "drain", full, "--timeout=240s")
    until(lambda: not on(full), "the drained node being empty", timeout=60, state=lambda: on(full))
    kubectl(cluster, "rollout", "status", "deployment/web", "--timeout=240s")
    assert "SchedulingDisabled" in kubectl(cluster, "get", "node", full)
    kubectl(cluster, "uncordon", full)
    assert "SchedulingDisabled" not in kubectl(cluster, "get", "node", full)
