"""A cluster that somebody else runs, here the shared one: taken up by name, used, and given back as it was."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from kubernetes import client

from podlab import cluster as clusters
from podlab.cluster import Cluster
from podlab.cluster.existing import LABEL
from podlab.cluster.readiness import client as api_of
from podlab.errors import ClusterError


@pytest.fixture
def taken(shared: Cluster) -> Iterator[Cluster]:
    """The shared cluster, taken up under another name."""
    made = clusters.up(
        "borrowed",
        provider_name="existing",
        kubeconfig=str(shared.kubeconfig),
        confirmed="podlab-shared",
    )
    yield made
    if "borrowed" in clusters.list_clusters():
        clusters.down("borrowed")


def names(cluster: Cluster) -> set[str]:
    """The namespaces that are not on their way out."""
    with api_of(cluster.kubeconfig) as api:
        found = client.CoreV1Api(api).list_namespace().items
    return {one.metadata.name for one in found if one.metadata.deletion_timestamp is None}


def test_it_says_what_it_is_and_is_not_ours_to_end(taken: Cluster, shared: Cluster) -> None:
    seen = clusters.status("borrowed")
    assert seen.provider == "existing" and seen.state == "running"
    assert {one.name for one in seen.components} >= set(shared.nodes.names())
    with pytest.raises(ClusterError, match="not ours to stop"):
        clusters.stop("borrowed")
    assert clusters.status("shared").state == "running"


def test_down_deletes_the_labs_namespaces_and_nothing_else(taken: Cluster, shared: Cluster) -> None:
    with api_of(taken.kubeconfig) as api:
        core = client.CoreV1Api(api)
        for name, labels in (("lab-of-somebody", {LABEL: "somebody"}), ("not-a-lab", {})):
            metadata = client.V1ObjectMeta(name=name, labels=labels)
            core.create_namespace(client.V1Namespace(metadata=metadata))
    before = names(shared)
    clusters.down("borrowed")
    assert names(shared) == before - {"lab-of-somebody"}
    assert "borrowed" not in clusters.list_clusters()
    with api_of(shared.kubeconfig) as api:
        client.CoreV1Api(api).delete_namespace("not-a-lab")


def test_the_cluster_in_use_is_the_one_that_is_meant(taken: Cluster) -> None:
    assert clusters.current() == "default"
    clusters.use("borrowed")
    assert clusters.current() == "borrowed"
    clusters.down("borrowed")
    assert clusters.current() == "default", "a cluster that is gone is meant no more"
