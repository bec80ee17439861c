"""A cluster that somebody else runs, here the shared one: taken up by name, used, and given back as it was."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubernetes import client

from podlab import cluster as clusters
from podlab.checks import owners, registry, runner
from podlab.checks.api import Api, ApiError
from podlab.checks.world import World
from podlab.cluster import Cluster
from podlab.cluster.folder import HOME_LABEL
from podlab.cluster.readiness import client as api_of
from podlab.course import manuscript, workload
from podlab.errors import ClusterError
from podlab.waiting import until

COURSE = Path(__file__).parents[2]


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


def test_down_deletes_our_labs_namespaces_and_nobody_elses(taken: Cluster, shared: Cluster) -> None:
    ours = owners.labels()
    with api_of(taken.kubeconfig) as api:
        core = client.CoreV1Api(api)
        for name, labels in (
            ("lab-of-ours", ours),
            ("lab-of-somebody", ours | {HOME_LABEL: "somebody"}),
            ("not-a-lab", {}),
        ):
            metadata = client.V1ObjectMeta(name=name, labels=labels)
            core.create_namespace(client.V1Namespace(metadata=metadata))
    before = names(shared)
    clusters.down("borrowed")
    assert names(shared) == before - {"lab-of-ours"}
    assert "borrowed" not in clusters.list_clusters()
    with api_of(shared.kubeconfig) as api:
        for name in ("lab-of-somebody", "not-a-lab"):
            client.CoreV1Api(api).delete_namespace(name)


def test_who_may_only_edit_given_namespaces_is_served_in_them(
    shared: Cluster, kubectl: Any, namespace: str, tmp_path: Path
) -> None:
    """An account with the role edit in two namespaces, and no right beside them: a lab and a check find their rooms."""
    both = [namespace, f"{namespace}-too"]
    kubectl(shared, "create", "namespace", both[1])
    kubectl(shared, "-n", namespace, "create", "serviceaccount", "learner")
    for name in both:
        bound = ("--clusterrole=edit", f"--serviceaccount={namespace}:learner")
        kubectl(shared, "-n", name, "create", "rolebinding", "learner", *bound)
    config = yaml.safe_load(shared.kubeconfig.read_text())
    config["users"][0]["user"] = {"token": kubectl(shared, "-n", namespace, "create", "token", "learner").strip()}
    (tmp_path / "config").write_text(yaml.safe_dump(config))
    api = Api.connect(tmp_path / "config")
    with pytest.raises(ApiError, match="forbidden"):
        World(api, seed=1).room("work")
    lab = World(api, seed=1, namespaces=both)
    manifest = manuscript_of("15.1")
    assert lab.room("work", workload.objects()).namespace == namespace
    report = runner.run(
        registry.exercise("15.1"), {"manifest_15_1": manifest}, lambda: World(api, seed=1, namespaces=both)
    )
    assert report.passed, report
    lab.close()
    for name in both:
        until(lambda name=name: not api.list("Pod", name), f"{name} being empty", timeout=60, interval=0.2)
    kubectl(shared, "delete", "namespace", both[1], "--wait=false")


def manuscript_of(exercise: str) -> str:
    """The reference solution, as text."""
    cases = manuscript.cases(manuscript.read(COURSE / "manuscript" / "15-self-healing" / "assignment.py"))
    (case,) = (one for one in cases if (one.exercise, one.kind) == (exercise, "reference"))
    return str(case.names["manifest_15_1"])


def test_the_cluster_in_use_is_the_one_that_is_meant(taken: Cluster) -> None:
    assert clusters.current() == "default"
    clusters.use("borrowed")
    assert clusters.current() == "borrowed"
    clusters.down("borrowed")
    assert clusters.current() == "default", "a cluster that is gone is meant no more"
