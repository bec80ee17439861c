"""Pods for tests of their life: made from a few words, watched through kubectl."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

from podlab.cluster import Cluster
from podlab.node.clock import parse
from podlab.waiting import until

#: Seconds for anything to happen: no verdict on the machine's speed.
PATIENCE = 240

TOOLBOX, PYTHON = "podlab/toolbox:1", "podlab/python:3"
#: A shell that ends at once when it is told to.
POLITE = 'trap "exit 0" TERM; while :; do sleep 0.1; done'


def container(name: str = "main", script: str = POLITE, **fields: Any) -> dict[str, Any]:
    """A container that runs a shell script."""
    return {"name": name, "image": TOOLBOX, "command": ["sh", "-c", script], **fields}


def pod(name: str, *containers: dict[str, Any], **spec: Any) -> dict[str, Any]:
    """A pod; `spec` overrides a grace of five seconds."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": name}},
        "spec": {"terminationGracePeriodSeconds": 5, **spec, "containers": list(containers) or [container()]},
    }


class Pods:
    """One namespace of a cluster."""

    def __init__(self, kubectl: Callable[..., str], cluster: Cluster, namespace: str) -> None:
        self._kubectl, self._cluster, self.namespace = kubectl, cluster, namespace

    def run(self, *arguments: str, **options: Any) -> str:
        return self._kubectl(self._cluster, "-n", self.namespace, *arguments, **options)

    def apply(self, *objects: dict[str, Any]) -> None:
        body = {"apiVersion": "v1", "kind": "List", "items": list(objects)}
        self.run("apply", "-f", "-", stdin=json.dumps(body))

    def get(self, *what: str) -> Any:
        return json.loads(self.run("get", *what, "-o", "json"))

    def status(self, name: str) -> dict[str, Any]:
        return self.get("pod", name)["status"]

    def container(self, name: str, index: int = 0, field: str = "containerStatuses") -> dict[str, Any]:
        return self.status(name).get(field, [{}] * (index + 1))[index]

    def wait(
        self, name: str, test: Callable[[dict[str, Any]], Any], what: str, timeout: float = PATIENCE
    ) -> dict[str, Any]:
        """The pod's status once `test` holds for it."""
        last: dict[str, Any] = {}

        def look() -> bool:
            last.clear()
            last.update(self.status(name))
            return bool(test(last))

        # What kubectl could not tell is not yet so.
        until(look, f"pod {name} {what}", timeout=timeout, interval=0.2, state=lambda: last, ignore=(AssertionError,))
        return last

    def phase(self, name: str, phase: str, timeout: float = PATIENCE) -> dict[str, Any]:
        return self.wait(name, lambda status: status.get("phase") == phase, f"becoming {phase}", timeout)

    def ready(self, name: str, timeout: float = PATIENCE) -> dict[str, Any]:
        return self.wait(name, is_ready, "becoming Ready", timeout)

    def waiting(self, name: str, reason: str, timeout: float = PATIENCE) -> dict[str, Any]:
        """The pod's status once its first container waits for `reason`."""

        def test(status: dict[str, Any]) -> bool:
            entries = status.get("containerStatuses") or [{}]
            return entries[0].get("state", {}).get("waiting", {}).get("reason") == reason

        return self.wait(name, test, f"waiting with {reason}", timeout)

    def logs(self, name: str, *options: str) -> str:
        return self.run("logs", name, *options)

    def events(self, name: str) -> list[dict[str, Any]]:
        return self.get("events", "--field-selector", f"involvedObject.name={name}")["items"]

    def event(self, name: str, reason: str, text: str = "", timeout: float = PATIENCE) -> dict[str, Any]:
        """The first event of `reason` whose message contains `text`."""

        def look() -> dict[str, Any] | None:
            found = [e for e in self.events(name) if e["reason"] == reason and text in e["message"]]
            return found[0] if found else None

        return until(
            look,
            f"event {reason} {text!r} of {name}",
            timeout=timeout,
            interval=0.3,
            state=lambda: [(e["reason"], e["message"]) for e in self.events(name)],
        )

    def delete(self, name: str, *options: str) -> float:
        """Delete a pod and return the seconds until it is gone; fails if that takes longer than all patience."""
        begun = time.monotonic()
        self.run("delete", "pod", name, *options)
        return time.monotonic() - begun


def is_ready(status: dict[str, Any]) -> bool:
    return any(c["type"] == "Ready" and c["status"] == "True" for c in status.get("conditions", ()))


def condition(status: dict[str, Any], kind: str) -> dict[str, Any]:
    return next(c for c in status["conditions"] if c["type"] == kind)


def seconds(text: str) -> float:
    """A time of the API as seconds since the epoch."""
    found = parse(text)
    assert found is not None, text
    return found
