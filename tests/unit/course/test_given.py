"""The program that an exercise gives: whatever could speak in its place is told, and all else is the learner's."""

from __future__ import annotations

import copy
import re
import types
from collections.abc import Callable
from importlib import resources
from typing import Any

import pytest

from podlab.checks.api import Object
from podlab.checks.contract import Refused, Verdict, failed
from podlab.checks.world import OFFICIAL_IMAGE, PYTHON_IMAGE
from podlab.course import workload
from podlab.course.networking import sites
from podlab.course.scenes import once

Change = Callable[[dict[str, Any], dict[str, Any]], Any]
ACCOUNT = {"name": "kube-api-access-x", "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount", "readOnly": True}


def pod(change: Change = lambda _spec, _container: None, image: str = PYTHON_IMAGE) -> Object:
    """A pod of the given manifest as the API returns it, with a change."""
    container: dict[str, Any] = {
        "name": "serving",
        "image": image,
        "command": ["python3", "-S", "/program/serving.py"],
        "envFrom": [{"configMapRef": {"name": "serving-settings"}}],
        "volumeMounts": [{"name": "program", "mountPath": "/program"}, ACCOUNT],
    }
    volumes = [
        {"name": "program", "configMap": {"name": "serving-program", "defaultMode": 420}},
        {"name": ACCOUNT["name"], "projected": {"sources": []}},
    ]
    spec = {"containers": [container], "volumes": volumes}
    change(spec, container)
    return {"metadata": {"name": "serving-1"}, "spec": copy.deepcopy(spec)}


def told(found: Object, given: workload.Given | None = None, image: str = PYTHON_IMAGE) -> str:
    """What is said of a pod; '' if it runs the given program."""
    result = (given or workload.Given()).stranger(found, types.SimpleNamespace(image=image))  # type: ignore[arg-type]
    if result is None:
        return ""
    assert result.verdict is Verdict.FAIL
    assert "no longer runs the given program" in result.cause
    assert result.next_step
    return result.observed


CHANGES: dict[str, tuple[Change, str]] = {
    "another program": (lambda _, c: c.update(command=["python3", "-c", "print()"]), "command and args are"),
    "arguments": (lambda _, c: c.update(args=["x"]), "command and args are"),
    "another image": (lambda _, c: c.update(image="docker.io/library/nginx"), "the image is docker.io/library/nginx"),
    "a module in its way": (lambda _, c: c.update(env=[{"name": "PYTHONPATH", "value": "/x"}]), "sets PYTHONPATH"),
    "a start without a model": (lambda _, c: c.update(env=[{"name": "START_SECONDS", "value": "0"}]), "START_SECONDS"),
    "a value from elsewhere": (lambda _, c: c.update(env=[{"name": "X", "valueFrom": {}}]), "sets X"),
    "no settings": (lambda _, c: c.pop("envFrom"), "envFrom"),
    "other settings": (lambda _, c: c.update(envFrom=[{"configMapRef": {"name": "mine"}}]), "envFrom"),
    "its own ConfigMap": (lambda s, _: s["volumes"][0]["configMap"].update(name="mine"), "not the ConfigMap"),
    "another volume": (lambda s, _: s["volumes"][0].pop("configMap"), "not the ConfigMap"),
    "a part of it": (lambda s, _: s["volumes"][0]["configMap"].update(items=[]), "not the ConfigMap"),
    "a path in it": (lambda _, c: c["volumeMounts"][0].update(subPath="a"), "not the ConfigMap"),
    "a mount elsewhere": (lambda _, c: c["volumeMounts"].append({"name": "m", "mountPath": "/usr"}), "/usr"),
    "no mount": (lambda _, c: c.update(volumeMounts=[ACCOUNT]), "what is mounted is nothing"),
    "a hook at the start": (lambda _, c: c.update(lifecycle={"postStart": {"exec": {}}}), "postStart"),
    "a container beside it": (lambda s, c: s["containers"].append(c), "2 containers in place of one"),
    "a container before it": (lambda s, c: s.update(initContainers=[c]), "there are initContainers"),
    "a container of a debugger": (lambda s, c: s.update(ephemeralContainers=[c]), "there are ephemeralContainers"),
}


@pytest.mark.parametrize(("change", "words"), CHANGES.values(), ids=CHANGES)
def test_what_could_speak_in_the_programs_place_is_told(change: Change, words: str) -> None:
    assert words in told(pod(change))


def test_all_the_rest_is_the_learners() -> None:
    assert told(pod()) == ""


def test_where_a_pod_is_may_stand_in_its_environment_and_no_given_program_reads_it() -> None:
    names = ["POD_NAME", "POD_IP", "NODE_NAME", "PYTHONUNBUFFERED"]
    source = {"valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}
    assert told(pod(lambda _, c: c.update(env=[{"name": name, **source} for name in names]))) == ""
    programs = resources.files("podlab.course").joinpath("programs").iterdir()
    assert not re.findall(
        r"environ\W+(?:get\W+)?(?:POD|NODE)_", "".join(each.read_text() for each in programs if each.is_file())
    )

    def change(spec: dict[str, Any], container: dict[str, Any]) -> None:
        spec.update(hostname="x", subdomain="y", nodeSelector={"a": "b"}, terminationGracePeriodSeconds=15)
        container.update(
            name="web",
            image=f"docker.io/{PYTHON_IMAGE}",
            command=["python3", "-S"],
            args=["/program/serving.py"],
            livenessProbe={"exec": {"command": ["true"]}},
            lifecycle={"preStop": {"sleep": {"seconds": 7}}},
            resources={"limits": {"memory": "64Mi"}},
            ports=[{"name": "web", "containerPort": 8080}],
        )

    assert told(pod(change)) == ""


def test_a_cluster_without_our_image_runs_the_one_in_its_place() -> None:
    assert told(pod(image=OFFICIAL_IMAGE), image=OFFICIAL_IMAGE) == ""
    assert "the image is" in told(pod(image=OFFICIAL_IMAGE))


def test_an_exercise_may_leave_a_variable_to_the_learner_and_have_no_settings() -> None:
    def port(_: dict[str, Any], container: dict[str, Any]) -> None:
        container.update(env=[{"name": "PORT", "value": "9090"}])

    given = workload.Given({"PORT": ""})
    assert told(pod(port), given) == "" == told(pod(), given)
    assert "envFrom" in told(pod(), workload.Given(settings=False))


STALL = workload.Given({"NAME": "", "LOG_FILE": ""}, program="stall", flags=("-S", "-u"), beside=True)
BESIDE: dict[str, tuple[Change, str]] = {
    "a container that prints": (lambda s, _: s["containers"].insert(0, {"name": "printer", "image": "x"}), ""),
    "a place for files": (lambda s, c: mounted(s, c, "/logs"), ""),
    "settings": (lambda _, c: c.update(envFrom=[{"configMapRef": {"name": "right"}}]), ""),
    "another program": (lambda _, c: c.update(command=["python3", "-c", "print()"]), "command and args are"),
    "a program beside it": (
        lambda s, c: s["containers"].append({**c, "command": ["x"]}) or c.update(command=["y"]),
        "command and args are ['y']",
    ),
    "a module in its way": (
        lambda _, c: c.update(envFrom=[{"configMapRef": {"name": "right"}, "prefix": "MY_"}]),
        "(envFrom) sets MY_NAME",
    ),
    "settings from a Secret": (lambda _, c: c.update(envFrom=[{"secretRef": {"name": "right"}}]), "no ConfigMap"),
    "another port": (lambda _, c: c.update(env=[{"name": "PORT", "value": "1"}]), "(env) sets PORT"),
    "another Python": (lambda s, c: mounted(s, c, "/logs/../usr/local"), "what is mounted is /program, /usr/local"),
    "another Python, with a slash more": (lambda s, c: mounted(s, c, "//usr/local"), "mounted is /program, /usr/local"),
    "another Python, with a slash less": (lambda s, c: mounted(s, c, "usr/local"), "mounted is /program, /usr/local"),
    "another everything": (lambda s, c: mounted(s, c, "/"), "what is mounted is /program, /"),
    "twice": (lambda s, c: mounted(s, c, "/program/"), "what is mounted is /program, /program"),
    "its own ConfigMap": (
        lambda s, _: s["volumes"][0]["configMap"].update(name="serving-program"),
        "not the ConfigMap",
    ),
}


def mounted(spec: dict[str, Any], container: dict[str, Any], path: str) -> None:
    spec["volumes"].append({"name": "mine", "emptyDir": {}})
    container["volumeMounts"].append({"name": "mine", "mountPath": path})


@pytest.mark.parametrize(("change", "words"), BESIDE.values(), ids=BESIDE)
def test_beside_a_given_program_there_may_be_others_that_cannot_change_it(change: Change, words: str) -> None:
    def stall(spec: dict[str, Any], container: dict[str, Any]) -> None:
        container.pop("envFrom")
        container.update(command=["python3", "-S", "-u", "/program/stall.py"])
        spec["volumes"][0]["configMap"].update(name="stall-program")
        change(spec, container)

    def get(_kind: str, name: str, namespace: str) -> Object:
        return {("right", "room"): {"data": {"NAME": "shop", "LOG_FILE": "-"}}}[name, namespace]

    found = pod(stall)
    found["metadata"]["namespace"] = "room"
    world = types.SimpleNamespace(image=PYTHON_IMAGE, api=types.SimpleNamespace(get=get))
    result = STALL.stranger(found, world)  # type: ignore[arg-type]
    assert words in result.observed if result else words == ""


def test_the_sites_of_chapter_16_run_what_is_asked_of_their_rooms() -> None:
    room = types.SimpleNamespace(world=types.SimpleNamespace(image=PYTHON_IMAGE, namespaces=()))
    sites.only_sites(room)  # type: ignore[arg-type]
    spec = sites.deployment("serving", {"app": "serving"}, 3)["spec"]["template"]["spec"]
    assert room.stranger({"metadata": {"name": "serving-1"}, "spec": spec}) is None
    assert room.stranger(pod()) is not None


def test_in_given_namespaces_others_may_put_more_into_pods() -> None:
    room = types.SimpleNamespace(world=types.SimpleNamespace(image=PYTHON_IMAGE, namespaces=("mine",)))
    sites.only_sites(room)  # type: ignore[arg-type]
    assert not hasattr(room, "stranger")


def test_an_episode_that_is_refused_is_so_for_every_check() -> None:
    plays = []

    @once
    def play(scene: object) -> None:
        plays.append(scene)
        raise Refused(failed("e", "o", cause="c", next_step="n"))

    scene = types.SimpleNamespace()
    for _ in range(2):
        with pytest.raises(Refused):
            play(scene)
    assert len(plays) == 1
