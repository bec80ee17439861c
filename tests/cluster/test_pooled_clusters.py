"""A pooled cluster is lent again only when it is proven to be as it was; anything else costs it its life."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from podlab import cluster
from podlab.checks.api import AGAIN
from podlab.checks.world import make_namespace
from podlab.grading.own_cluster import OwnCluster, Pool

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.embedded("graders lend embedded clusters")]

NAME = "pooled-test"


@pytest.fixture(scope="module")
def said() -> list[str]:
    return []


@pytest.fixture(scope="module")
def pool(said: list[str]) -> Iterator[Pool]:
    pool = Pool(said.append)
    yield pool
    pool.close()
    assert NAME not in cluster.list_clusters()


def identity(lent: OwnCluster) -> str:
    """Which cluster it is: the uid of a namespace that only dies with it."""
    found = lent.api.get("Namespace", "kube-system")
    assert found is not None
    return found["metadata"]["uid"]


def test_work_in_its_own_namespaces_is_tidied_up_and_the_cluster_lent_again(pool: Pool, said: list[str]) -> None:
    with pool.lent(NAME, 1) as lent:
        first, before = identity(lent), pool.reused
        with lent.world(1) as world:
            world.room("work")
        make_namespace(lent.api, "submission", "submission")
        secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "stringData": {"answer": "42"}}
        lent.api.apply(secret, "submission")
    with pool.lent(NAME, 1) as lent:
        assert identity(lent) == first, said
        assert lent.api.get("Namespace", "submission") is None
    assert pool.reused >= before + 1


def test_to_measure_the_machine_needs_no_namespace(pool: Pool) -> None:
    """Each took requests by the hundred to be made and taken down, two for an exercise."""

    def all_there() -> list[str]:
        found = [*lent.api.list("Namespace"), *lent.api.list("Pod")]
        return [f"{item['metadata'].get('namespace')}/{item['metadata']['name']}" for item in found]

    with pool.lent(NAME, 1) as lent:
        before = all_there()
        assert lent.stretch() >= 1
        with lent.world(1) as world:
            assert world.baseline > 0
            assert all_there() == before


def test_a_graded_pod_is_under_the_filter_and_its_service_opens_nothing_on_this_machine(pool: Pool) -> None:
    program = "import signal; print(open('/proc/self/status').read(), flush=True); signal.pause()"
    main = {"name": "main", "image": "podlab/python:3", "command": ["python3", "-S", "-c", program]}
    pod = {"spec": {"containers": [main], "terminationGracePeriodSeconds": 1}}
    service = {"spec": {"type": "NodePort", "selector": {"app": "web"}, "ports": [{"port": 80, "nodePort": 30_789}]}}
    with pool.lent(NAME, 1) as lent, lent.world(1) as world:
        room = world.room("work")
        for kind, item in (("Service", service), ("Pod", pod)):
            room.learner.apply({"apiVersion": "v1", "kind": kind, "metadata": {"name": "web"}, **item}, room.namespace)
        log = f"/api/v1/namespaces/{room.namespace}/pods/web/log"
        assert room.eventually(
            lambda: b"Seccomp:\t2" in lent.api.raw("GET", log, again=AGAIN).data, "the pod's words", 30
        )
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", 30_789), timeout=5)


@pytest.mark.parametrize(
    ("document", "words"),
    [
        (
            {
                "apiVersion": "rbac.authorization.k8s.io/v1",
                "kind": "ClusterRole",
                "metadata": {"name": "left-behind"},
                "rules": [],
            },
            "ClusterRole/left-behind is new",
        ),
        (
            {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "left"}, "data": {"answer": "42"}},
            "ConfigMap/default/left is new",
        ),
    ],
)
def test_whatever_is_left_behind_costs_the_cluster_its_life(
    pool: Pool, said: list[str], document: dict[str, object], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from podlab.grading import own_cluster

    proof = own_cluster.proven_clean
    monkeypatch.setattr(own_cluster, "proven_clean", lambda api, before: proof(api, before, timeout=3))
    with pool.lent(NAME, 1) as lent:
        first, destroyed = identity(lent), pool.destroyed
        lent.api.apply(document, "default")
    assert pool.destroyed == destroyed + 1
    assert any(words in line for line in said)
    with pool.lent(NAME, 1) as lent:
        assert identity(lent) != first


def test_a_label_on_a_node_is_seen_too(pool: Pool, said: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    from podlab.grading import own_cluster

    proof = own_cluster.proven_clean
    monkeypatch.setattr(own_cluster, "proven_clean", lambda api, before: proof(api, before, timeout=3))
    with pool.lent(NAME, 1) as lent:
        (node,) = lent.api.list("Node")
        path = f"/api/v1/nodes/{node['metadata']['name']}"
        body = {"metadata": {"labels": {"left": "behind"}}}
        lent.api.request("PATCH", path, body=body, content_type="application/merge-patch+json")
    assert any("Node/" in line and "has changed" in line for line in said)


def test_an_error_in_between_costs_the_cluster_its_life(pool: Pool) -> None:
    with pytest.raises(RuntimeError), pool.lent(NAME, 1):
        raise RuntimeError("trouble")
    assert NAME not in cluster.list_clusters()
