"""Sites that the exercises of chapter 16 put in front of an answer, and what a Service says of itself."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from functools import partial

from podlab.checks.api import Object
from podlab.checks.traffic import Window, url
from podlab.checks.world import PYTHON_IMAGE, Room, is_ready
from podlab.course import workload
from podlab.widgets import live

LESSON = "notebooks/16-networking.ipynb"


def deployment(
    name: str, labels: Mapping[str, str], replicas: int, *, ready_page: str = "/readyz", port_name: str = "web"
) -> Object:
    """A Deployment of the serving program with these labels; it keeps connections open for clients that do."""
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "labels": {"podlab.dev/ours": "site"}},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": dict(labels)},
            "template": {
                "metadata": {"labels": dict(labels)},
                "spec": {
                    "terminationGracePeriodSeconds": 3,
                    "automountServiceAccountToken": False,
                    "containers": [
                        {
                            "name": "serving",
                            "image": PYTHON_IMAGE,
                            "imagePullPolicy": "IfNotPresent",
                            "command": ["python3", "-S", "/program/serving.py"],
                            "env": [{"name": "KEEP_ALIVE", "value": "yes"}],
                            "ports": [{"name": port_name, "containerPort": 8080}],
                            "readinessProbe": {
                                "httpGet": {"path": ready_page, "port": 8080},
                                "periodSeconds": 1,
                                "timeoutSeconds": 10,
                                "failureThreshold": 2,
                            },
                            "volumeMounts": [{"name": "program", "mountPath": "/program"}],
                        }
                    ],
                    "volumes": [{"name": "program", "configMap": {"name": "serving-program"}}],
                },
            },
        },
    }


def only_sites(room: Room) -> None:
    """From now on an answer is Refused if a pod in the room does not run the program of these sites."""
    if not room.world.namespaces:  # others may put more into pods there, and nobody is graded
        room.stranger = partial(workload.Given({"KEEP_ALIVE": "yes"}, settings=False).stranger, world=room.world)


def page(room: Room, service: str) -> str:
    """The address of a Service's page for clients anywhere in the cluster."""
    return url(service, room.namespace, workload.PAGE)


def endpoints(room: Room, service: str) -> tuple[list[str], list[str]]:
    """Names of the pods that are ready endpoints of a Service, and of those that are endpoints and not ready."""
    return live.endpoints(room.slices(service))


def why_no_answer(room: Room, service: str) -> tuple[str, str]:
    """What the Service says of itself when nobody answers, and the likely cause."""
    found = room.api.get("Service", service, room.namespace)
    if found is None:
        return f"there is no Service {service}", "The Service has another name, or none was applied."
    ready, others = endpoints(room, service)
    told = f"the Service has {len(ready)} ready endpoints and {len(others)} that are not ready"
    if ready:
        return told, "The Service finds its pods, and asks them at a port on which nobody listens (targetPort)."
    if others:
        return told, "The Service finds its pods, and none of them is ready."
    return told, "The Service's selector fits no pod: compare it with the labels of the pods."


def readiness(room: Room) -> dict[str, tuple[str, str]]:
    """Whether each pod is called ready, and since when."""
    return {
        pod["metadata"]["name"]: (entry["status"], entry.get("lastTransitionTime", ""))
        for pod in room.live()
        for entry in pod.get("status", {}).get("conditions") or []
        if entry["type"] == "Ready"
    }


def names(pods: list[Object]) -> set[str]:
    """The names of pods."""
    return {pod["metadata"]["name"] for pod in pods}


def of(room: Room, **labels: str) -> list[Object]:
    """The ready pods with these labels, by name."""
    return [pod for pod in room.ready() if labels.items() <= (pod["metadata"].get("labels") or {}).items()]


def all_ready(room: Room, count: int) -> bool:
    """Whether `count` pods are there, and all of them Ready."""
    pods = room.live()
    return len(pods) == count and all(is_ready(pod) for pod in pods)


def share(window: Window, pod: str) -> float:
    """The share of the requests that one pod answered, in percent."""
    answered = Counter(record.pod for record in window.records if record.ok)
    return 100 * answered[pod] / len(window) if len(window) else 0.0
