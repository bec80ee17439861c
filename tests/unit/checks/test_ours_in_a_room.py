"""What is the checker's in a room: a manifest that reaches for it is refused in words, before anything is applied."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from little_api import LittleApi

from podlab.checks import lent
from podlab.checks.api import Api, Object
from podlab.checks.contract import Refused, failed
from podlab.checks.world import MADE_BY, OURS, Room, World

PROGRAM: Object = {
    "apiVersion": "v1",
    "kind": "ConfigMap",
    "metadata": {"name": "serving-program", "labels": {OURS: "workload"}},
    "data": {"serving.py": "print('ours')"},
}
SERVICE = "apiVersion: v1\nkind: Service\nmetadata: {name: web}\nspec: {selector: {app: web}}\n"
POD = "apiVersion: v1\nkind: Pod\nmetadata: {name: NAME}\nspec: {containers: [{name: c, image: 'podlab/python:3'}]}\n"


@pytest.fixture
def little() -> Iterator[LittleApi]:
    with LittleApi() as api:
        yield api


@pytest.fixture
def room(little: LittleApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Room]:
    monkeypatch.setenv("PODLAB_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(lent, "_held", set())
    api = Api.connect(little.kubeconfig(tmp_path / "config"))
    world = World(api, seed=1, namespaces=("a",))
    yield world.room("work", [PROGRAM])
    world.close()


def test_a_manifest_that_replaces_the_program_is_refused_whole(little: LittleApi, room: Room) -> None:
    mine = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: serving-program}\ndata: {serving.py: print('mine')}\n"
    with pytest.raises(Refused) as caught:
        room.submit(f"{SERVICE}---\n{mine}")
    assert "ConfigMap 'serving-program' is the checker's own" in caught.value.result.observed
    assert "a name of its own" in caught.value.result.next_step
    held = little.objects["/api/v1/namespaces/a/configmaps/serving-program"]
    assert held["data"] == PROGRAM["data"]
    assert little.names("/api/v1/namespaces/a/services") == set(), "nothing of it is applied"


@pytest.mark.parametrize(
    "text",
    [
        POD.replace("NAME", f"web, labels: {{{OURS}: x}}"),
        SERVICE.replace("app: web", f"{OURS}: prober"),
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web}\n"
        f"spec: {{template: {{metadata: {{labels: {{app: web, {OURS}: x}}}}}}}}\n",
        "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: web}\n"
        f"spec: {{podSelector: {{matchExpressions: [{{key: {MADE_BY}, operator: Exists}}]}}}}\n",
    ],
    ids=["metadata", "selector", "template", "expression"],
)
def test_the_checkers_labels_are_refused_wherever_they_stand(room: Room, text: str) -> None:
    with pytest.raises(Refused) as caught:
        room.submit(text)
    assert "by which the checker knows its own objects" in caught.value.result.observed


def test_other_labels_of_podlab_are_the_learners(room: Room) -> None:
    (made,) = room.submit(POD.replace("NAME", "web, labels: {podlab.dev/multiline: python}"))
    assert [pod["metadata"]["name"] for pod in room.pods()] == [made["metadata"]["name"]]


@pytest.mark.parametrize("start", [lambda room: room.prober("http://web"), lambda room: room.client("prober")])
def test_a_name_that_the_checker_needs_later_is_the_answers_fault(room: Room, start) -> None:
    room.submit(POD.replace("NAME", "prober"))
    with pytest.raises(Refused) as caught:
        start(room)
    assert "Pod 'prober' has a name that the checker needs" in caught.value.result.observed


def test_the_checker_may_put_its_own_objects_again(little: LittleApi, room: Room) -> None:
    room.put(PROGRAM | {"data": {"serving.py": "print('anew')"}})
    assert little.objects["/api/v1/namespaces/a/configmaps/serving-program"]["data"] == {"serving.py": "print('anew')"}


def test_a_stranger_is_refused_at_whatever_look_it_appears(room: Room) -> None:
    def stranger(pod: Object) -> object:
        named = pod["metadata"]["name"]
        return failed("given pods", f"{named} is a stranger", cause="c", next_step="n") if named == "late" else None

    room.stranger = stranger  # type: ignore[assignment]
    room.submit(POD.replace("NAME", "web"))
    assert len(room.live()) == 1
    room.submit(POD.replace("NAME", "late"))
    for look in (room.pods, room.live, room.ready, room.states):
        with pytest.raises(Refused, match="late is a stranger"):
            look()
