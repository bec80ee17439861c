"""Namespaces that were given: one room each at a time, emptied after it, and nobody else's things are touched."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from little_api import LittleApi

from podlab import paths
from podlab.checks import lent, owners
from podlab.checks.api import Api, ApiAway, ApiError
from podlab.checks.world import OFFICIAL_IMAGE, World
from podlab.errors import PodlabError

POD = "apiVersion: v1\nkind: Pod\nmetadata: {name: web}\nspec: {containers: [{name: c, image: 'podlab/python:3'}]}\n"


@pytest.fixture(autouse=True)
def home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PODLAB_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(lent, "_held", set())  # a server of an earlier test may have had the same port


@pytest.fixture
def little() -> Iterator[LittleApi]:
    """A cluster in which one may edit, and nothing else."""
    with LittleApi(forbidden={"roles", "rolebindings", "clusterroles", "users", "nodes"}) as api:
        yield api


@pytest.fixture
def api(little: LittleApi, tmp_path: Path) -> Api:
    return Api.connect(little.kubeconfig(tmp_path / "config"))


def world(api: Api, *names: str) -> World:
    return World(api, seed=1, image=OFFICIAL_IMAGE, namespaces=names)


def all_in(little: LittleApi, name: str) -> set[str]:
    return {path.rpartition("/")[2] for path in little.objects if f"/namespaces/{name}/" in path}


def test_a_room_is_a_given_namespace_used_as_oneself_and_given_back_as_it_was(little: LittleApi, api: Api) -> None:
    little.add("/api/v1/namespaces/a/configmaps/kube-root-ca.crt", "ConfigMap")
    before = set(little.objects)
    with_rooms = world(api, "a", "b")
    room = with_rooms.room("work")
    assert room.namespace == "a"
    (made,) = room.submit(POD)
    assert made["spec"]["containers"][0]["image"] == OFFICIAL_IMAGE, "never what stands under our name at Docker Hub"
    assert little.users == {""}, "nobody is impersonated"
    with_rooms.close()
    assert set(little.objects) == before


def test_two_rooms_have_two_namespaces_but_the_first_shares_the_baselines(little: LittleApi, api: Api) -> None:
    lab, check = world(api, "a", "b"), world(api, "a", "b")
    assert lab.room("work").namespace == "a"
    assert [check.room(name).namespace for name in ("baseline", "first")] == ["b", "b"]
    with pytest.raises(PodlabError, match=r"a is in use by .*; b is in use by") as caught:
        check.room("second")
    assert lent.VARIABLE in (caught.value.hint or "")
    check.close()
    assert all_in(little, "b") == set()


def test_a_namespace_with_somebody_elses_work_is_not_touched(little: LittleApi, api: Api) -> None:
    little.add("/apis/apps/v1/namespaces/team/deployments/shop", "Deployment")
    before = dict(little.objects)
    with pytest.raises(PodlabError, match="team holds Deployment/shop, which no lab has made"):
        world(api, "team").room("work")
    assert little.objects == before


def test_what_does_not_go_by_itself_is_left_to_its_owner(
    little: LittleApi, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lent, "_PATIENCE", 0.2)
    little.add("/api/v1/namespaces/team/pods/x", "Pod", ownerReferences=[{"kind": "Rollout", "name": "x"}])
    before = dict(little.objects)
    with pytest.raises(PodlabError, match="team still holds Pod/x"):
        world(api, "team").room("work")
    assert little.objects == before


@pytest.mark.parametrize("how", ["killed", "restarted"])
def test_what_a_dead_notebook_has_left_is_deleted(little: LittleApi, api: Api, how: str) -> None:
    little.add("/api/v1/namespaces/a/secrets/theirs", "Secret")
    world(api, "a").room("work").submit(POD)
    mark = little.objects[f"/api/v1/namespaces/a/configmaps/{lent.MARK}"]
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        gone = owners.own(child.pid)
        child.communicate(b"\n")
    mark["data"]["owner"] = gone if how == "killed" else "0123456789-1-1"
    room = world(api, "a").room("work")
    assert room.namespace == "a" and room.pods() == []
    assert all_in(little, "a") == {"theirs", lent.MARK}


def test_all_of_ones_own_rooms_are_given_back_and_nobody_elses(
    little: LittleApi, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("mine", "theirs"):
        world(api, name).room("work").submit(POD)
        little.add(f"/api/v1/namespaces/{name}/secrets/before", "Secret")
    little.add("/api/v1/namespaces/empty/secrets/before", "Secret")
    little.objects[f"/api/v1/namespaces/mine/configmaps/{lent.MARK}"]["data"] |= {"owner": "0123456789-1-1"}
    little.objects[f"/api/v1/namespaces/theirs/configmaps/{lent.MARK}"]["data"] |= {"home": "another"}
    monkeypatch.setenv(lent.VARIABLE, "mine, theirs,empty")
    assert lent.give_all_back(api) == ["mine"]
    assert all_in(little, "mine") == set() and all_in(little, "theirs") == {"web", "before", lent.MARK}
    assert all_in(little, "empty") == {"before"}


@pytest.mark.parametrize("what", [{"home": "another"}, {"host": "elsewhere"}])
def test_a_notebook_of_another_machine_is_never_called_dead(little: LittleApi, api: Api, what: dict[str, str]) -> None:
    world(api, "a").room("work")
    little.objects[f"/api/v1/namespaces/a/configmaps/{lent.MARK}"]["data"] |= {"owner": "0123456789-1-1"} | what
    with pytest.raises(PodlabError, match="in use by 0123456789-1-1 on"):
        world(api, "a").room("work")


def left_by_the_dead(little: LittleApi, api: Api) -> str:
    """The path of the mark of a notebook that is gone, on namespace a with a pod that does not go by itself."""
    world(api, "a").room("work")
    path = f"/api/v1/namespaces/a/configmaps/{lent.MARK}"
    little.objects[path]["data"]["owner"] = "0123456789-1-1"
    little.add("/api/v1/namespaces/a/pods/x", "Pod", deletionTimestamp="2026-01-01T00:00:00Z")
    return path


@pytest.mark.parametrize("broken_off", [KeyboardInterrupt, ApiAway("silent"), ApiError(429, "TooManyRequests", "busy")])
@pytest.mark.parametrize("dead", [True, False])
def test_a_taking_that_is_broken_off_leaves_the_mark_that_was_there(
    little: LittleApi, api: Api, monkeypatch: pytest.MonkeyPatch, broken_off: BaseException, dead: bool
) -> None:
    mark = left_by_the_dead(little, api) if dead else ""
    before = {path: thing.get("data") for path, thing in little.objects.items()}
    seen = []

    def breaks(*_: object, **__: object) -> None:
        seen.append(all_in(little, "a"))
        raise broken_off

    with monkeypatch.context() as patch:
        patch.setattr(lent, "until", breaks)
        with pytest.raises(broken_off if isinstance(broken_off, type) else type(broken_off)):
            world(api, "a").room("work")
    assert lent.MARK in seen[0], "it had been marked"
    assert {path: thing.get("data") for path, thing in little.objects.items()} == before
    assert not mark or before[mark]["owner"] == "0123456789-1-1"


def test_what_the_dead_have_left_and_does_not_go_in_time_can_be_taken_by_another(
    little: LittleApi, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    mark = left_by_the_dead(little, api)
    monkeypatch.setattr(lent, "_PATIENCE", 0.2)
    with pytest.raises(PodlabError, match="a still holds Pod/x"):
        world(api, "a").room("work")
    assert little.objects[mark]["data"]["owner"] == "0123456789-1-1"


def test_a_taking_that_could_not_be_undone_is_done_again(
    little: LittleApi, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    def breaks(*_: object, **__: object) -> None:
        little.refuse = 503
        raise ApiAway("silent")

    with monkeypatch.context() as patch:
        patch.setattr(lent, "until", breaks)
        with pytest.raises(ApiAway):
            world(api, "a").room("work")
    little.refuse = 0
    assert lent.MARK in all_in(little, "a")
    assert world(api, "a").room("work").namespace == "a"


@pytest.mark.parametrize("status", [429, 503])
def test_a_giving_back_that_failed_is_made_up_for_by_the_next_taking(little: LittleApi, api: Api, status: int) -> None:
    first = world(api, "a")
    first.room("work").submit(POD)
    little.refuse = status
    first.close()
    little.refuse = 0
    assert all_in(little, "a") == {"web", lent.MARK}
    second = world(api, "a")
    assert second.room("work").pods() == []
    with pytest.raises(PodlabError, match="a is in use by"):
        world(api, "a").room("work")
    second.close()
    assert all_in(little, "a") == set()


def test_these_folders_have_one_word_that_stays() -> None:
    program = "from podlab import paths; print(paths.identity())"
    run = [sys.executable, "-c", program]
    others = [subprocess.Popen(run, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    said = {other.communicate()[0].strip() for other in others}
    assert said == {paths.identity()} and len(json.dumps(paths.identity())) == 18
