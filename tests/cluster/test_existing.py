"""A cluster that somebody else runs, here the shared one: taken up by name, used, and given back as it was."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubernetes import client

from podlab import cluster as clusters
from podlab.checks import answers, owners, registry, runner
from podlab.checks.api import Api, ApiError
from podlab.checks.contract import Json
from podlab.checks.world import PYTHON_IMAGE, World
from podlab.cluster import Cluster
from podlab.cluster.folder import HOME_LABEL
from podlab.cluster.readiness import client as api_of
from podlab.course import manuscript, workload
from podlab.errors import AddonError, ClusterError
from podlab.lab import Lab, LabError, start
from podlab.waiting import until

COURSE = Path(__file__).parents[2]
ASSIGNMENTS = [document for document in manuscript.documents(COURSE / "manuscript") if document.part == "assignment"]


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


@pytest.fixture
def account(shared: Cluster, kubectl: Any, namespace: str, tmp_path: Path) -> Path:
    """The kubeconfig of somebody without rights in the shared cluster: service account `learner` of `namespace`."""
    kubectl(shared, "-n", namespace, "create", "serviceaccount", "learner")
    config = yaml.safe_load(shared.kubeconfig.read_text())
    config["users"][0]["user"] = {"token": kubectl(shared, "-n", namespace, "create", "token", "learner").strip()}
    (tmp_path / "config").write_text(yaml.safe_dump(config))
    return tmp_path / "config"


@pytest.fixture
def given(shared: Cluster, kubectl: Any, namespace: str, account: Path) -> Iterator[list[str]]:
    """Two namespaces in which that account has the role edit."""
    both = [namespace, f"{namespace}-too"]
    kubectl(shared, "create", "namespace", both[1])
    for name in both:
        bound = ("--clusterrole=edit", f"--serviceaccount={namespace}:learner")
        kubectl(shared, "-n", name, "create", "rolebinding", "learner", *bound)
    yield both
    kubectl(shared, "delete", "namespace", both[1], "--wait=false")


def test_who_may_only_edit_given_namespaces_is_served_in_them(account: Path, given: list[str]) -> None:
    """An account with the role edit in two namespaces, and no right beside them: a lab and a check find their rooms."""
    api = Api.connect(account)
    with pytest.raises(ApiError, match="forbidden"):
        World(api, seed=1).room("work")
    lab = World(api, seed=1, namespaces=given)
    assert lab.room("work", workload.objects()).namespace == given[0]
    report = runner.run(
        registry.exercise("15.1"), reference("15.1"), lambda: World(api, seed=1, namespaces=given), hidden=True
    )
    assert report.passed, report
    lab.close()
    are_empty(api, given)


def are_empty(api: Api, names: list[str]) -> None:
    for name in names:
        until(lambda name=name: not api.list("Pod", name), f"{name} being empty", timeout=60, interval=0.2)


def reference(exercise: str) -> dict[str, Json]:
    """The reference solution of an exercise."""
    (document,) = (one for one in ASSIGNMENTS if one.about["chapter"] == exercise[:2])
    (case,) = (one for one in manuscript.cases(document) if (one.exercise, one.kind) == (exercise, "reference"))
    found = registry.exercise(exercise)
    return answers.collect([found], case.names)[exercise]


@pytest.fixture
def see_nodes(shared: Cluster, kubectl: Any, namespace: str) -> Iterator[Callable[[], None]]:
    """Gives the account the right to read nodes, as docs/clusters.md says."""
    role, subject = f"see-nodes-{namespace}", f"--serviceaccount={namespace}:learner"

    def give() -> None:
        kubectl(shared, "create", "clusterrole", role, "--verb=get,list,watch", "--resource=nodes")
        kubectl(shared, "create", "clusterrolebinding", role, f"--clusterrole={role}", subject)

    yield give
    kubectl(shared, "delete", "--ignore-not-found", "clusterrolebinding,clusterrole", role)


def test_a_chapter_in_given_namespaces_and_what_needs_more_names_the_right(
    shared: Cluster,
    account: Path,
    given: list[str],
    see_nodes: Callable[[], None],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("PODLAB_PROGRESS", str(tmp_path / "progress"))
    monkeypatch.setenv("PODLAB_LAB_IMAGE", PYTHON_IMAGE)  # no node of the tests reaches a registry
    lender = str(account)
    with clusters.up("class", provider_name="existing", kubeconfig=lender, confirmed="podlab-shared") as taken:
        (note,) = taken.status.notes
        assert "create namespaces" in note and "impersonate users" in note and "PODLAB_NAMESPACES" in note
        start("14", cluster="class")
        told = capsys.readouterr().out
        assert 'cannot list resource "namespaces"' in told and "docs/clusters.md" in told

        monkeypatch.setenv("PODLAB_NAMESPACES", ",".join(given))
        lab = start("14", cluster="class")
        assert f"namespace {given[0]}." in capsys.readouterr().out
        view = lab.check("14.1", reference("14.1"))
        assert view.report.passed, view.text
        with pytest.raises(AddonError, match=r'cannot get resource "namespaces".*cluster-admin'):
            lab.enable("monitoring")
        with pytest.raises(ApiError, match='cannot get resource "services/proxy"'):
            lab.prometheus.query("up")
        with pytest.raises(LabError, match=r'cannot list resource "nodes".*Ask those who run the cluster'):
            lab.map()
        see_nodes()
        until(lambda: sees(lab), "the right to read nodes", timeout=60, interval=0.2)
        assert set(shared.nodes.names()) <= {node["metadata"]["name"] for node in lab.nodes()}
        assert shared.nodes.names()[0] in lab.map().to_text()
        lab.close()
        are_empty(Api.connect(account), given)


def sees(lab: Lab) -> bool:
    try:
        return bool(lab.nodes())
    except LabError:
        return False


def test_the_rights_that_the_guide_names_are_all_that_labs_of_ones_own_need(
    shared: Cluster, kubectl: Any, namespace: str, account: Path
) -> None:
    """With the ClusterRole in docs/clusters.md and `edit`, and without cluster-admin, nothing is lacking."""
    guide = (COURSE / "docs" / "clusters.md").read_text()
    (role,) = (block for block in guide.split("```") if "kind: ClusterRole\n" in block)
    ours, subject = f"podlab-labs-{namespace}", f"--serviceaccount={namespace}:learner"
    kubectl(shared, "create", "-f", "-", stdin=role.replace("name: podlab-labs", f"name: {ours}"))
    try:
        for name in (ours, "edit"):
            bound = (f"{ours}-{name}", f"--clusterrole={name}", subject)
            kubectl(shared, "create", "clusterrolebinding", *bound)
        lender = str(account)
        with clusters.up("class", provider_name="existing", kubeconfig=lender, confirmed="podlab-shared") as taken:
            assert taken.status.notes == []
            api = Api.connect(taken.kubeconfig)
            report = runner.run(registry.exercise("14.1"), reference("14.1"), lambda: World(api, seed=1), hidden=True)
            assert report.passed, report
            room = World(api, seed=1).room("left")
        assert room.namespace not in names(shared), "who may delete namespaces gives back what was left"
    finally:
        kubectl(shared, "delete", "clusterrolebinding", f"{ours}-{ours}", f"{ours}-edit")
        kubectl(shared, "delete", "clusterrole", ours)


def test_the_cluster_in_use_is_the_one_that_is_meant(taken: Cluster) -> None:
    assert clusters.current() == "default"
    clusters.use("borrowed")
    assert clusters.current() == "borrowed"
    clusters.down("borrowed")
    assert clusters.current() == "default", "a cluster that is gone is meant no more"
