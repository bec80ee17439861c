"""What every provider promises, on the provider under test: its verbs, its faults of nodes, images of the store."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from conftest import PROVIDER, Make
from lifecycle import Pods, container, is_ready, pod

from podlab import cluster as clusters
from podlab import paths
from podlab.cluster import Cluster
from podlab.cluster.folder import context_name
from podlab.errors import ClusterExists, ClusterNotFound, UsageError
from podlab.images.build import build
from podlab.images.layout import ImageLayout
from podlab.images.reference import Reference
from podlab.waiting import until


@pytest.fixture
def pods(shared: Cluster, kubectl: Any, namespace: str) -> Pods:
    return Pods(kubectl, shared, namespace)


def becomes(kubectl: Any, cluster: Cluster, node: str, ready: bool) -> None:
    """Return when the control plane believes that the node is well, or no longer does."""

    def seen() -> dict[str, Any]:
        return json.loads(kubectl(cluster, "get", "node", node, "-o", "json"))["status"]

    until(lambda: is_ready(seen()) == ready, f"{node} being Ready: {ready}", timeout=90, interval=0.3, state=seen)


def mend(cluster: Cluster, node: str) -> None:
    """Undo whatever was done to a node; an embedded one is shown as its machine."""
    states = {one.name.removesuffix("-machine"): one.state for one in cluster.status.components}
    if states[node] == "paused":
        cluster.nodes.resume(node)
    cluster.nodes.rejoin(node)


@pytest.fixture
def harmed(shared: Cluster, kubectl: Any, worker: str) -> Iterator[str]:
    """A node that a test may harm; afterwards it is put right."""
    yield worker
    mend(shared, worker)
    becomes(kubectl, shared, worker, True)


def test_it_says_what_it_is(shared: Cluster, kubectl: Any) -> None:
    found = shared.status
    assert (found.name, found.provider, found.state) == ("shared", PROVIDER, "running")
    assert found.version.startswith("v1.37.")
    assert urlsplit(found.server).hostname == "127.0.0.1"
    named = kubectl(shared, "get", "nodes", "-o", "jsonpath={.items[*].metadata.name}").split()
    assert len(named) == 3 and set(named) == set(shared.nodes.names())


def test_its_kubeconfig_is_private_and_has_our_names(shared: Cluster, kubectl: Any) -> None:
    assert shared.kubeconfig.stat().st_mode & 0o077 == 0
    assert shared.kubeconfig.parent.stat().st_mode & 0o077 == 0
    assert kubectl(shared, "config", "current-context").strip() == context_name("shared")
    assert kubectl(shared, "auth", "can-i", "*", "*").strip() == "yes"


def test_a_second_of_that_name_is_refused_and_the_first_unharmed(shared: Cluster, kubectl: Any) -> None:
    with pytest.raises(ClusterExists, match="shared exists already"):
        clusters.up("shared", provider_name=PROVIDER)
    assert kubectl(shared, "get", "--raw", "/readyz") == "ok"


def test_every_component_has_a_log(shared: Cluster) -> None:
    for component in (one.name for one in shared.status.components):
        log = shared.logs(component)
        assert log.exists() and log.stat().st_mode & 0o077 == 0, component
    with pytest.raises(UsageError, match="nonsense"):
        shared.logs("nonsense")


def test_images_of_the_store_run_when_they_were_loaded(
    shared: Cluster, pods: Pods, programs: dict[str, Path], tmp_path: Path
) -> None:
    """One stands on a bundled image, the other is complete."""
    store = ImageLayout(paths.cache() / "images")
    (tmp_path / "app.py").write_text("import os\nprint('carried', os.getcwd(), os.environ['MODE'])\n")
    (tmp_path / "Dockerfile").write_text(
        'FROM podlab/python:3\nENV MODE=lab\nWORKDIR /srv\nCOPY app.py .\nCMD ["python", "app.py"]\n'
    )
    build(store, tmp_path, [Reference.parse("shop/carried:1")])
    shutil.copy(programs["etcd"], tmp_path / "etcd")
    (tmp_path / "Dockerfile").write_text('FROM scratch\nCOPY --chmod=755 etcd /etcd\nENTRYPOINT ["/etcd"]\n')
    build(store, tmp_path, [Reference.parse("shop/whole:1")])
    shared.load_image("shop/carried:1", "shop/whole:1")
    whole = {"name": "main", "image": "shop/whole:1", "args": ["--version"]}
    pods.apply(
        pod("carried", {"name": "main", "image": "shop/carried:1"}, restartPolicy="Never"),
        pod("whole", whole, restartPolicy="Never"),
    )
    pods.phase("carried", "Succeeded")
    assert pods.logs("carried") == "carried /srv lab\n"
    pods.phase("whole", "Succeeded")
    assert pods.logs("whole").startswith("etcd Version:")


def test_an_image_that_is_there_serves_others_while_pods_ask_a_registry_for_it_in_vain(pods: Pods, worker: str) -> None:
    always = [pod(f"asks-{n}", container(imagePullPolicy="Always"), nodeName=worker) for n in range(3)]
    pods.apply(*always)

    def asks(status: dict[str, Any]) -> bool:
        """Or runs: an embedded node knows that its own images have no registry."""
        waiting = status.get("containerStatuses", [{}])[0].get("state", {}).get("waiting", {})
        return is_ready(status) or "Pull" in waiting.get("reason", "")

    for one in always:
        pods.wait(one["metadata"]["name"], asks, "asking for its image")
    pods.apply(pod("serves", container(imagePullPolicy="IfNotPresent"), nodeName=worker))
    pods.ready("serves")


@pytest.mark.parametrize("harm", ["kill", "isolate", "pause"])
def test_a_harmed_node_is_missed_and_comes_back_with_its_pods(
    shared: Cluster, kubectl: Any, pods: Pods, harmed: str, harm: str
) -> None:
    forever = [
        {"key": key, "operator": "Exists", "effect": "NoExecute"}
        for key in ("node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable")
    ]
    pods.apply(pod("there", container(), nodeName=harmed, tolerations=forever))
    pods.ready("there")
    getattr(shared.nodes, harm)(harmed)
    becomes(kubectl, shared, harmed, False)
    pods.wait("there", lambda status: not is_ready(status), "being no longer Ready")
    mend(shared, harmed)
    becomes(kubectl, shared, harmed, True)
    pods.ready("there", timeout=120)
    assert pods.run("exec", "there", "--", "echo", "again") == "again\n"


def test_pods_of_a_lost_node_are_replaced_elsewhere(shared: Cluster, kubectl: Any, pods: Pods, harmed: str) -> None:
    labels = {"app": "many"}
    anywhere = pod("x", container(), tolerations=[])
    template = {"metadata": {"labels": labels}, "spec": {**anywhere["spec"], "terminationGracePeriodSeconds": 1}}
    spread = {"maxSkew": 1, "topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": "ScheduleAnyway"}
    template["spec"]["topologySpreadConstraints"] = [{**spread, "labelSelector": {"matchLabels": labels}}]
    spec = {"replicas": 4, "selector": {"matchLabels": labels}, "template": template}
    pods.apply({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "many"}, "spec": spec})
    pods.run("rollout", "status", "deployment/many", "--timeout=240s")

    def nodes() -> list[str]:
        return [
            one["spec"]["nodeName"] for one in pods.get("pods", "-l", "app=many")["items"] if is_ready(one["status"])
        ]

    assert harmed in nodes()
    shared.nodes.kill(harmed)
    until(lambda: len(found := nodes()) >= 4 and harmed not in found, "four elsewhere", timeout=180, state=nodes)


def test_a_stopped_cluster_starts_with_its_objects_and_pods(make: Make, kubectl: Any) -> None:
    cluster = make(nodes=1)
    pods = Pods(kubectl, cluster, "default")
    until(lambda: kubectl(cluster, "get", "serviceaccounts") and True, "the service account", timeout=60)
    pods.apply(pod("kept"))
    pods.ready("kept")
    server = cluster.status.server
    cluster.stop()
    assert cluster.status.state == "stopped"
    cluster.stop()  # a stopped one is left as it is
    cluster.start()
    assert cluster.status.state == "running"
    assert cluster.status.server == server, "kubeconfigs that were copied must go on working"
    status = pods.wait("kept", lambda s: s["containerStatuses"][0]["restartCount"] >= 1, "being restarted", timeout=120)
    assert status["phase"] == "Running"
    pods.ready("kept")
    cluster.down()
    with pytest.raises(ClusterNotFound):
        clusters.status(cluster.name)
