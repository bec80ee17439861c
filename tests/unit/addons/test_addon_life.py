"""How an add-on is, and its end, on an API server that is a table."""

from __future__ import annotations

import fcntl
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from little_api import LittleApi

from podlab import paths
from podlab.addons import life
from podlab.addons.catalogue import LABEL, find
from podlab.checks.api import Api
from podlab.checks.contract import NotGradable
from podlab.checks.world import World
from podlab.cluster.folder import ClusterFolder, Record
from podlab.course.add_on import bring_in
from podlab.errors import AddonError

Object = dict[str, Any]


class Table:
    """Objects by (kind, namespace, name). Who deletes a pod's owner deletes the pod; an owner makes its pods anew."""

    def __init__(self, *things: Object) -> None:
        self.things = {(one["kind"], one["metadata"]["namespace"], one["metadata"]["name"]): one for one in things}

    def get(self, kind: str, name: str, namespace: str | None = None) -> Object | None:
        return self.things.get((kind, namespace or "", name))

    def list(self, kind: str, namespace: str | None = None) -> list[Object]:
        return [one for key, one in self.things.items() if key[:2] == (kind, namespace)]

    def delete(self, kind: str, name: str, namespace: str | None = None) -> bool:
        owner = self.things.pop((kind, namespace or "", name)).get("owner")
        if owner in {(one["kind"], one["metadata"]["name"]) for one in self.things.values()}:
            self.things |= {(kind, namespace or "", name): thing("Pod", name, owner=owner)}
        return True

    def apply(self, thing: Object, namespace: str | None = None, *, manager: str) -> Object:
        self.things[thing["kind"], thing["metadata"].get("namespace", ""), thing["metadata"]["name"]] = thing
        return thing

    def resource(self, kind: str, version: str) -> Any:
        return SimpleNamespace(path=lambda namespace, name: (kind, namespace or "", name))

    def request(self, method: str, path: tuple[str, str, str], body: Any = None) -> None:
        self.things.pop(path, None)
        if path[0] == "Namespace":
            self.things = {key: one for key, one in self.things.items() if key[1] != path[2]}


def thing(kind: str, name: str, status: Object | None = None, **more: Any) -> Object:
    metadata: Object = {"name": name, "namespace": "" if kind == "Namespace" else "spark", "generation": 2}
    metadata |= {"labels": {LABEL: name}} if kind == "Namespace" else {}
    return {"kind": kind, "metadata": metadata, "status": status or {"phase": "Running"}, "spec": {}, **more}


def test_an_add_ons_end_is_that_of_all_pods_there_whoever_made_them(monkeypatch: pytest.MonkeyPatch) -> None:
    others = thing("Deployment", "dashboards")
    table = Table(
        thing("Namespace", "spark"),
        thing("Pod", "driver"),
        others,
        thing("Pod", "dashboards-1", owner=("Deployment", "dashboards")),
        thing("Pod", "old", {"phase": "Succeeded"}),
    )
    monkeypatch.setattr(life.clusters, "get", lambda name: SimpleNamespace(kubeconfig=None))
    monkeypatch.setattr(life.Api, "connect", lambda kubeconfig: table)
    life.disable("spark", "any")
    assert table.things == {}


def test_two_who_enable_monitoring_at_once_make_one_certificate(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    made: list[str] = []
    there = threading.Event()
    second = threading.Thread(target=lambda: life.enable("monitoring", "any"))

    class Slow(Table):
        """The first who looks for the certificate goes on when the second looks for it, or waits for its turn."""

        def get(self, kind: str, name: str, namespace: str | None = None) -> Object | None:
            found = super().get(kind, name, namespace)
            if kind == "Secret" and second.ident is None:
                second.start()
                assert there.wait(60)
            elif kind == "Secret":
                there.set()
            return found

        def apply(self, thing: Object, namespace: str | None = None, *, manager: str) -> Object:
            if thing["kind"] == "Secret":
                made.append(thing["data"]["tls.crt"])
            return super().apply(thing, namespace, manager=manager)

    def flock(file: Any, how: int, lock: Any = fcntl.flock) -> None:
        if second.ident is not None:
            there.set()
        lock(file, how)

    table = Slow()
    monkeypatch.setenv("PODLAB_HOME", str(tmp_path))
    monkeypatch.setattr("fcntl.flock", flock)
    monkeypatch.setattr(life.clusters, "get", lambda name: SimpleNamespace(kubeconfig=None))
    monkeypatch.setattr(life.clusters, "provider_of", lambda name: SimpleNamespace(name="existing"))
    monkeypatch.setattr(life.Api, "connect", lambda kubeconfig: table)
    for part in ("_room", "_unserved", "_wait"):
        monkeypatch.setattr(life, part, lambda *_: "")
    life.enable("monitoring", "any")
    second.join(60)
    assert len(made) == 2 and len(set(made)) == 1


def test_spark_is_refused_where_its_image_cannot_be_and_nobody_names_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PODLAB_SPARK_IMAGE", raising=False)
    monkeypatch.setattr(life.clusters, "get", lambda name: SimpleNamespace(kubeconfig=None))
    monkeypatch.setattr(life.clusters, "provider_of", lambda name: SimpleNamespace(name="existing"))
    monkeypatch.setattr(life.Api, "connect", lambda kubeconfig: Table())
    with pytest.raises(AddonError, match="image of spark is made on this machine") as caught:
        life.enable("spark", "any")
    assert "PODLAB_SPARK_IMAGE=IMAGE podlab addon enable spark" in (caught.value.hint or "")


def state(*things: Object, addon: str = "spark") -> life.Status:
    workloads = [one for one in things if one["kind"] in life.WORKLOADS]
    return life._state(Table(*things), find(addon), workloads)  # type: ignore[arg-type]


DONE = {"observedGeneration": 2, "replicas": 1, "readyReplicas": 1, "updatedReplicas": 1}


def test_ready_is_an_add_on_whose_every_workload_is() -> None:
    assert state(thing("Deployment", "a", DONE), thing("StatefulSet", "b", DONE)).state == "ready"
    two = thing("Deployment", "a", {**DONE, "readyReplicas": 2, "replicas": 1})
    lacking = state(two, thing("StatefulSet", "b", {**DONE, "readyReplicas": 0}))
    assert (lacking.state, lacking.ready, lacking.wanted) == ("starting", 1, 2)


@pytest.mark.parametrize(
    "change",
    [{"observedGeneration": 1}, {"updatedReplicas": 0}, {"replicas": 2}],
    ids=["not seen yet", "none of the new", "one of the old still there"],
)
def test_a_workload_that_is_being_changed_is_not_ready(change: Object) -> None:
    found = state(thing("Deployment", "a", {**DONE, **change}))
    assert found.state == "starting" and found.waiting == ["Deployment a is being changed"]


def test_a_pod_that_has_done_its_work_is_not_waited_for() -> None:
    done, failed = thing("Pod", "life-1", {"phase": "Succeeded"}), thing("Pod", "life-2", {"phase": "Failed"})
    assert state(thing("Deployment", "a", DONE), done, failed).waiting == ["pod life-2 is not ready yet"]


@pytest.fixture
def narrow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """A world on a cluster that somebody else runs, in which one may not even look at namespaces."""
    monkeypatch.setenv("PODLAB_HOME", str(tmp_path))
    with LittleApi(forbidden={"namespaces"}) as api:
        folder = ClusterFolder(paths.clusters() / "class")
        folder.create(Record("class", "existing", [], "lab"))
        yield World(Api.connect(api.kubeconfig(folder.kubeconfig)), seed=1, cluster="class")


def test_who_may_not_bring_in_an_add_on_is_told_which_right_is_missing_and_what_to_do(narrow: World) -> None:
    with pytest.raises(AddonError, match='cannot list resource "namespaces"') as caught:
        life.enable("monitoring", "class")
    assert "cluster-admin" in (caught.value.hint or "") and "podlab cluster use own" in (caught.value.hint or "")


@pytest.mark.parametrize("cluster", ["class", "default of /home/ada/class.yaml"])
def test_a_check_whose_add_on_may_not_be_brought_in_costs_nothing(narrow: World, cluster: str) -> None:
    narrow.cluster = cluster
    with pytest.raises(NotGradable, match="the add-on monitoring is needed"):
        bring_in(narrow, "monitoring", ())
