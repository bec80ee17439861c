"""Pods for tests of the pure parts: an API object and its records, in a few words."""

from __future__ import annotations

from typing import Any

from podlab.node.backoff import BackoffPolicy
from podlab.node.records import Container, Pod, Running, Terminated, Waiting, new_containers

NOW = 1_800_000_000.0
POLICY = BackoffPolicy()


def container(name: str = "main", **fields: Any) -> dict[str, Any]:
    """A container of a spec."""
    return {"name": name, "image": "podlab/toolbox", **fields}


def made(
    *containers: dict[str, Any], inits: tuple[dict[str, Any], ...] = (), status: Any = None, **spec: Any
) -> dict[str, Any]:
    """A pod as the API server gives it."""
    full = {"restartPolicy": "Always", **spec, "containers": list(containers) or [container()]}
    if inits:
        full["initContainers"] = list(inits)
    metadata = {"name": "web", "namespace": "shop", "uid": "u-1", "generation": 3, "resourceVersion": "7"}
    return {"metadata": metadata, "spec": full, "status": status or {}}


def records(object_: dict[str, Any], *, ready: bool = True, started_at: float | None = NOW) -> Pod:
    """The records of a pod whose sandbox and volumes are there."""
    pod = Pod(object_, new_containers(object_["spec"]), "172.18.0.11", "10.244.1.2")
    pod.sandbox_ready = pod.volumes_ready = ready
    pod.started_at = started_at
    return pod


def run(entry: Container, *, ready: bool = True, started: bool = True, attempt: int | None = None) -> None:
    """Let a container run."""
    entry.state = Running(NOW)
    entry.ready, entry.started = ready, started
    entry.attempt = attempt if attempt is not None else max(entry.attempt, 0)
    entry.container_id = f"podlab://u-1.{entry.name}.{entry.attempt}"


def end(entry: Container, exit_code: int, at: float = NOW) -> None:
    """Let a container end."""
    entry.attempt = max(entry.attempt, 0)
    entry.state = Terminated(exit_code, "Completed" if exit_code == 0 else "Error", "", at - 5, at)
    entry.ready = entry.started = False


def wait(entry: Container, reason: str, message: str = "") -> None:
    """Let a container wait for a reason."""
    entry.state = Waiting(reason, message)
