"""The whole: a Deployment answers through its Service, and what happens to it when nodes and agents are harmed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from deployments import TROUBLE, answered, ask, web

from podlab.cluster import Cluster
from podlab.waiting import until


def get(kubectl: Any, cluster: Cluster, *what: str) -> Any:
    return json.loads(kubectl(cluster, "get", *what, "-o", "json"))


def ready(kubectl: Any, cluster: Cluster, node: str) -> str:
    conditions = get(kubectl, cluster, "node", node)["status"]["conditions"]
    return next(c["status"] for c in conditions if c["type"] == "Ready")


def becomes(kubectl: Any, cluster: Cluster, node: str, status: str) -> None:
    until(
        lambda: ready(kubectl, cluster, node) == status,
        f"{node} becoming Ready={status}",
        timeout=240,
        interval=0.3,
        state=lambda: get(kubectl, cluster, "node", node)["status"]["conditions"],
    )


@pytest.fixture
def service(shared: Cluster, kubectl: Any, namespace: str) -> Iterator[int]:
    """The node port of a Deployment of three that has rolled out."""
    kubectl(shared, "apply", "-f", "-", stdin=web(namespace))
    kubectl(shared, "-n", namespace, "rollout", "status", "deployment/web", "--timeout=240s")
    yield get(kubectl, shared, "-n", namespace, "service", "web")["spec"]["ports"][0]["nodePort"]


@pytest.fixture
def well(shared: Cluster, kubectl: Any) -> Iterator[None]:
    """Afterwards every node is put right again, whatever the test did to it."""
    yield
    for node in shared.nodes.names():
        shared.nodes.rejoin(node)
        if next(c.state for c in shared.status.components if c.name == f"{node}-machine") == "paused":
            shared.nodes.resume(node)
        shared.nodes.start_agent(node)
        becomes(kubectl, shared, node, "True")


def test_a_deployment_of_three_answers_through_its_service(shared, kubectl, service: int, node_address: str) -> None:  # type: ignore[no-untyped-def]
    answers: set[tuple[str, str]] = set()

    def all_three() -> bool:
        pod, node, _ = ask(service, node_address)
        answers.add((pod, node))
        return len(answers) == 3

    until(all_three, "three pods answering", timeout=240, ignore=TROUBLE, state=lambda: answers)
    # A control plane of kind takes no pods.
    taints = {one["metadata"]["name"]: one["spec"].get("taints") for one in get(kubectl, shared, "nodes")["items"]}
    assert {node for _, node in answers} == {name for name, tainted in taints.items() if not tainted}


def test_logs_and_exec_pass_through_the_api_server(  # type: ignore[no-untyped-def]
    shared, kubectl, namespace: str, service: int, node_address: str
) -> None:
    answered(service, node_address)
    pods = [pod["metadata"]["name"] for pod in get(kubectl, shared, "-n", namespace, "pods")["items"]]
    assert any("asked" in kubectl(shared, "-n", namespace, "logs", pod) for pod in pods)
    said = kubectl(shared, "-n", namespace, "exec", pods[0], "--", "python3", "-S", "-c", "print(6 * 7)")
    assert said == "42\n"


@pytest.mark.embedded("only embedded nodes have an agent that can be stopped")
def test_an_agent_that_dies_harms_no_pod(shared, kubectl, namespace: str, service: int, well: None) -> None:  # type: ignore[no-untyped-def]
    def containers() -> dict[str, tuple[str, int]]:
        items = get(kubectl, shared, "-n", namespace, "pods")["items"]
        states = {pod["metadata"]["name"]: pod["status"]["containerStatuses"][0] for pod in items}
        return {name: (state["containerID"], state["restartCount"]) for name, state in states.items()}

    before = containers()
    for node in shared.nodes.names():
        shared.nodes.kill_agent(node)
    for node in shared.nodes.names():
        until(
            lambda node=node: _restarts(shared, f"{node}-agent") >= 1 and _state(shared, f"{node}-agent") == "running",
            f"the agent of {node} running again",
            timeout=240,
        )
        becomes(kubectl, shared, node, "True")
    answered(service)
    assert containers() == before


def _restarts(cluster: Cluster, name: str) -> int:
    return next(one.restarts for one in cluster.status.components if one.name == name)


def _state(cluster: Cluster, name: str) -> str:
    return next(one.state for one in cluster.status.components if one.name == name)


@pytest.mark.embedded("test_any_provider has it for all")
def test_an_isolated_node_is_missed_and_returns(shared, kubectl, well: None) -> None:  # type: ignore[no-untyped-def]
    shared.nodes.isolate("node-2")
    assert "node-2 is isolated" in " ".join(shared.status.notes)
    becomes(kubectl, shared, "node-2", "Unknown")
    assert _state(shared, "node-2-agent") == "running", "its processes go on"
    shared.nodes.rejoin("node-2")
    becomes(kubectl, shared, "node-2", "True")
    assert shared.status.state == "running"


@pytest.mark.embedded("no other provider slows nodes")
def test_a_slowed_node_says_so_and_serves_on_until_it_is_fast(shared, kubectl, service: int, well: None) -> None:  # type: ignore[no-untyped-def]
    shared.nodes.slow("node-2")
    assert "node-2 is slowed" in " ".join(shared.status.notes)
    machine = next(one.pid for one in shared.status.components if one.name == "node-2-machine")

    def stands(still: bool = True) -> bool:
        return (Path(f"/proc/{machine}/stat").read_text().rpartition(")")[2].split()[0] == "T") is still

    for still in (True, False, True):
        until(partial(stands, still), f"a machine that stands still: {still}", timeout=60, interval=0.02)
    assert answered(service) and ready(kubectl, shared, "node-2") == "True"
    shared.nodes.fast("node-2")
    assert not stands() and "slowed" not in " ".join(shared.status.notes) and shared.status.state == "running"


@pytest.mark.embedded("test_any_provider has it for all")
def test_a_frozen_node_is_missed_and_returns(shared, kubectl, well: None) -> None:  # type: ignore[no-untyped-def]
    shared.nodes.pause("node-3")
    assert _state(shared, "node-3-machine") == "paused"
    becomes(kubectl, shared, "node-3", "Unknown")
    shared.nodes.resume("node-3")
    becomes(kubectl, shared, "node-3", "True")


@pytest.mark.embedded("test_any_provider has it for all")
def test_pods_of_a_node_without_power_are_replaced_elsewhere(shared, kubectl, namespace, service: int, well) -> None:  # type: ignore[no-untyped-def]
    lost = next(
        pod for pod in get(kubectl, shared, "-n", namespace, "pods")["items"] if pod["spec"]["nodeName"] == "node-1"
    )["metadata"]["name"]
    shared.nodes.kill("node-1")
    assert _state(shared, "node-1-machine") == "stopped"

    def replaced() -> bool:
        found = [
            pod
            for pod in get(kubectl, shared, "-n", namespace, "pods")["items"]
            if pod["spec"].get("nodeName") != "node-1"
            and any(c["type"] == "Ready" and c["status"] == "True" for c in pod["status"].get("conditions", []))
        ]
        return len(found) == 3

    until(replaced, "three Ready pods on two nodes", timeout=240, interval=0.5)
    pod, node, _ = answered(service)
    assert pod != lost
    assert node in ("node-2", "node-3")
    shared.nodes.rejoin("node-1")
    becomes(kubectl, shared, "node-1", "True")
    until(
        lambda: lost not in kubectl(shared, "-n", namespace, "get", "pods"),
        "the old pod being gone",
        timeout=240,
        interval=0.5,
    )


@pytest.mark.embedded("kind cannot add nodes")
def test_a_node_can_be_added_and_removed(shared, kubectl) -> None:  # type: ignore[no-untyped-def]
    name = shared.nodes.add()
    try:
        assert name == "node-4"
        assert ready(kubectl, shared, name) == "True"
    finally:
        shared.nodes.remove(name)
    assert name not in kubectl(shared, "get", "nodes")
    assert name not in shared.nodes.names()


@pytest.mark.usefixtures("metrics_server")
def test_what_nodes_use_is_measured(shared, kubectl) -> None:  # type: ignore[no-untyped-def]
    until(
        lambda: all(name in kubectl(shared, "top", "nodes") for name in shared.nodes.names()),
        "kubectl top showing every node",
        timeout=240,
        interval=0.5,
        ignore=(AssertionError,),
    )


@pytest.mark.embedded("it keeps a claimed volume; test_any_provider has the rest")
def test_a_cluster_with_pods_survives_stop_and_start(make, kubectl) -> None:  # type: ignore[no-untyped-def]
    cluster = make(nodes=1)
    kubectl(cluster, "apply", "-f", "-", stdin=web("default", replicas=1))
    kubectl(cluster, "rollout", "status", "deployment/web", "--timeout=240s")
    port = get(kubectl, cluster, "service", "web")["spec"]["ports"][0]["nodePort"]
    pod, _, _ = answered(port)
    keeper = {"name": "keeper", "image": "podlab/toolbox", "volumeMounts": [{"name": "data", "mountPath": "/data"}]}
    # The first life writes, the second finds what was written.
    keeper["command"] = ["sh", "-c", "[ -e /data/life ] && echo found; echo x > /data/life; exec sleep 1000"]
    volumes = [{"name": "data", "persistentVolumeClaim": {"claimName": "data"}}]
    spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Mi"}}}
    claim = {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "data"}, "spec": spec}
    kept = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "kept"}}
    kept["spec"] = {"containers": [keeper], "volumes": volumes, "terminationGracePeriodSeconds": 1}
    items = {"apiVersion": "v1", "kind": "List", "items": [claim, kept]}
    kubectl(cluster, "apply", "-f", "-", stdin=json.dumps(items))
    kubectl(cluster, "wait", "pod/kept", "--for=condition=Ready", "--timeout=240s")
    cluster.stop()
    cluster.start()
    until(
        lambda: kubectl(cluster, "logs", "kept") == "found\n",
        "the data of its first life",
        timeout=240,
        ignore=(AssertionError,),
    )
    answer = answered(port)
    assert answer[0] == pod, "the same pod, restarted"
    found = get(kubectl, cluster, "pod", pod)
    assert found["status"]["containerStatuses"][0]["restartCount"] >= 1
