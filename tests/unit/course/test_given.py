"""The program that an exercise gives: whatever could speak in its place is told, and all else is the learner's."""

from __future__ import annotations

import copy
import types
from collections.abc import Callable
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
