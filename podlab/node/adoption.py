"""The records of a pod that an earlier agent has worked on, from its status at the API server."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping
from typing import Any

from podlab.node import clock, pod_state
from podlab.node.records import Container, Pod, Terminated
from podlab.node.runtime.contract import ContainerState

STATUS_FIELDS = ("initContainerStatuses", "containerStatuses", "ephemeralContainerStatuses")


def attempt(state: ContainerState) -> int:
    """Which attempt of its container the runtime holds."""
    return int(state.labels.get("attempt", 0))


def restore(pod: Pod, held: Collection[str | None], *, final: bool) -> dict[str, Mapping[str, Any]]:
    """Fill the records of `pod` and return its container statuses by name.

    `held` are the names of containers that the runtime has. A container that ran and that it does not have was
    lost with the machine: it counts as ended with status 137. `final`: the status says that the pod is over.
    """
    status = pod.object.get("status") or {}
    entries = {entry["name"]: entry for field in STATUS_FIELDS for entry in status.get(field) or ()}
    if final:
        pod.stopped = pod.terminating = True
        pod.address = status.get("podIP")
        if status.get("phase") == "Failed" and status.get("reason"):
            pod.failure = (status["reason"], status.get("message") or "")
    for name, record in pod.containers.items():
        if name in entries:
            _restore(record, entries[name], lost=name not in held)
    return entries


def _restore(record: Container, entry: Mapping[str, Any], *, lost: bool) -> None:
    # As written by the earlier agent, which leaves empty ones out: the spec may have asked for others since.
    record.spec = {**record.spec, "resources": entry.get("resources") or {}}
    record.attempt = int(entry.get("restartCount") or 0) if entry.get("containerID") else -1
    record.image_id = entry.get("imageID") or ""
    record.container_id = entry.get("containerID")
    record.last = terminated(entry.get("lastState"))
    if not lost:
        return
    state = entry.get("state") or {}
    if ended := terminated(state):
        record.state = ended
    elif "running" in state:
        started = clock.parse(state["running"].get("startedAt"))
        record.state = Terminated(
            137, pod_state.UNKNOWN, pod_state.LOST, started, time.time(), entry.get("containerID")
        )
    elif record.last and record.attempt >= 0:
        record.state, record.last = record.last, None


def terminated(state: Mapping[str, Any] | None) -> Terminated | None:
    """A terminated state as it stands in a status, or None."""
    found = (state or {}).get("terminated")
    if not found:
        return None
    return Terminated(
        found.get("exitCode", 0),
        found.get("reason", ""),
        found.get("message", ""),
        clock.parse(found.get("startedAt")),
        clock.parse(found.get("finishedAt")),
        found.get("containerID"),
    )
