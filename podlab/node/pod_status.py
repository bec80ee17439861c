"""The PodStatus that belongs to a pod's records, and the smallest patch that brings it to the API server. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from podlab.node import clock
from podlab.node.backoff import BackoffPolicy
from podlab.node.pod_state import TERMINAL, phase, shown_state
from podlab.node.records import Container, Pod, Running, Terminated, Waiting, declared

#: The conditions that a node owns; all others are copied as they are.
OWN_CONDITIONS = ("PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled")
#: There only while other resources are asked for than the containers have, which this node refuses.
_RESIZE = "PodResizePending"
NO_RESIZE = "in-place resize is not supported by this node: containers keep what they were admitted with"
#: The status fields that a node owns, beside the conditions.
_ADDRESSES = ("hostIP", "hostIPs", "podIP", "podIPs")
OWN_FIELDS = (
    "observedGeneration",
    "phase",
    "reason",
    "message",
    *_ADDRESSES,
    "startTime",
    "initContainerStatuses",
    "containerStatuses",
    "ephemeralContainerStatuses",
    "conditions",
)
#: Bytes that the termination messages of a pod's containers have together, in equal parts (the kubelet's).
MESSAGES_MAX = 12 * 1024
_STATUS_FIELDS = {
    "initContainerStatuses": ("init", "sidecar"),
    "containerStatuses": ("main",),
    "ephemeralContainerStatuses": ("ephemeral",),
}


def build(pod: Pod, now: float, policy: BackoffPolicy) -> dict[str, Any]:
    """The status as it should be at the API server, with all own fields; None stands for an absent one."""
    generation = pod.object["metadata"].get("generation") or 1
    containers = {c.name: container_status(pod, c, now, policy) for c in pod.containers.values()}
    current = pod_phase(pod)
    before = pod.object.get("status") or {}
    status: dict[str, Any] = {
        "observedGeneration": generation,
        "phase": current,
        "reason": pod.failure[0] if pod.failure and current == "Failed" else None,
        "message": pod.failure[1] if pod.failure and current == "Failed" else None,
        "hostIP": pod.host_address,
        "hostIPs": [{"ip": pod.host_address}],
        "podIP": pod.address,
        "podIPs": [{"ip": pod.address}] if pod.address else None,
        "startTime": clock.timestamp(pod.started_at) if pod.started_at else None,
    }
    for name, kinds in _STATUS_FIELDS.items():
        status[name] = [containers[c.name] for c in pod.of(*kinds)] or None  # type: ignore[arg-type]
    own = _conditions(pod, containers, current, before.get("conditions") or ())
    status["conditions"] = _merged(own, before.get("conditions") or (), generation, now)
    return status


def pod_phase(pod: Pod) -> str:
    """The phase to show: a final one only when no container can be running any more."""
    current = phase(pod, terminal=pod.stopped)
    if current in TERMINAL and not pod.stopped:
        shown = (pod.object.get("status") or {}).get("phase")
        if shown in TERMINAL:
            return shown
        return "Running" if any(container.ever_ran for container in pod.of("main")) else "Pending"
    return current


def container_status(pod: Pod, container: Container, now: float, policy: BackoffPolicy) -> dict[str, Any]:
    """One entry of containerStatuses."""
    state, last = shown_state(pod, container, now, policy)
    running = isinstance(state, Running)
    most = MESSAGES_MAX // len(pod.containers)
    status: dict[str, Any] = {
        "name": container.name,
        "image": container.spec.get("image", ""),
        "imageID": container.image_id,
        "restartCount": max(0, container.attempt),
        "ready": _ready(container, running),
        "started": running and container.started and container.kind != "init",
        "state": _state(state, most),
        "lastState": _state(last, most),
    }
    if container.container_id:
        status["containerID"] = container.container_id
    if resources := container.spec.get("resources"):
        status["resources"] = resources
        if resources.get("requests"):
            status["allocatedResources"] = resources["requests"]
    if mounts := container.spec.get("volumeMounts"):
        status["volumeMounts"] = [_mount(mount, pod.read_only_mounts) for mount in mounts]
    return status


def _ready(container: Container, running: bool) -> bool:
    if container.kind == "init":
        return bool(container.ended and container.ended.exit_code == 0)
    return running and container.started and container.ready and container.kind != "ephemeral"


def _mount(mount: Mapping[str, Any], kept: bool) -> dict[str, Any]:
    shown = {"name": mount["name"], "mountPath": mount["mountPath"]}
    if mount.get("readOnly"):
        # A runtime that keeps them so does it with what is mounted below; the status answers what was asked for.
        asked = kept and mount.get("recursiveReadOnly") in ("Enabled", "IfPossible")
        shown |= {"readOnly": True, "recursiveReadOnly": "Enabled" if asked else "Disabled"}
    return shown


def _state(state: Waiting | Running | Terminated | None, most: int) -> dict[str, Any]:
    """A state as the status shows it; the message of an end has at most `most` bytes."""
    match state:
        case Waiting():
            return {"waiting": _without_empty({"reason": state.reason, "message": state.message})}
        case Running():
            return {"running": {"startedAt": clock.timestamp(state.started_at)}}
        case Terminated():
            shown = {
                "reason": state.reason,
                "message": state.message.encode(errors="replace")[:most].decode(errors="ignore"),
                "startedAt": _time(state.started_at),
                "finishedAt": _time(state.finished_at),
                "containerID": state.container_id,
            }
            return {"terminated": {"exitCode": state.exit_code, **_without_empty(shown)}}
    return {}


def _time(seconds: float | None) -> str | None:
    return clock.timestamp(seconds) if seconds is not None else None


def _without_empty(values: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if value}


Verdict = tuple[bool, str, str]


def all_ready(pod: Pod) -> bool:
    """Whether every container that counts is ready."""
    return all(_ready(container, container.running) for container in pod.of("sidecar", "main"))


def _conditions(
    pod: Pod, statuses: Mapping[str, Mapping[str, Any]], current: str, before: Iterable[Mapping[str, Any]]
) -> dict[str, Verdict]:
    """Each own condition as (true?, reason, message)."""
    containers_ready = _containers_ready(pod, statuses, current)
    further: dict[str, Verdict] = {}
    if pod.failure and pod.evicted:
        further["DisruptionTarget"] = (True, "TerminationByKubelet", pod.failure[1])
    asked = {spec["name"]: spec.get("resources") or {} for _, spec in declared(pod.spec)}
    if any(asked.get(c.name, {}) != (c.spec.get("resources") or {}) for c in pod.containers.values()):
        further[_RESIZE] = (True, "Infeasible", NO_RESIZE)
    return {
        **further,
        "PodReadyToStartContainers": (pod.sandbox_ready and not pod.stopped, "", ""),
        "Initialized": _initialized(pod, statuses, current),
        "Ready": _gated(pod, before) if containers_ready[0] else containers_ready,
        "ContainersReady": containers_ready,
        "PodScheduled": (True, "", ""),  # by whomever: not every pod on a node has seen the scheduler
    }


def _containers_ready(pod: Pod, statuses: Mapping[str, Mapping[str, Any]], current: str) -> Verdict:
    if current in TERMINAL:
        return False, {"Succeeded": "PodCompleted", "Failed": "PodFailed"}[current], ""
    unready = [c.name for c in pod.of("sidecar", "main") if not statuses[c.name]["ready"]]
    if unready:
        return False, "ContainersNotReady", f"containers with unready status: [{' '.join(unready)}]"
    return True, "", ""


def _gated(pod: Pod, before: Iterable[Mapping[str, Any]]) -> Verdict:
    """The verdict of the pod's readiness gates: conditions that others must set to True."""
    known = {condition["type"]: condition["status"] for condition in before}
    messages = []
    for gate in pod.spec.get("readinessGates") or ():
        name = gate["conditionType"]
        if name not in known:
            messages.append(f'corresponding condition of pod readiness gate "{name}" does not exist.')
        elif known[name] != "True":
            messages.append(f'the status of pod readiness gate "{name}" is not "True", but {known[name]}')
    return (False, "ReadinessGatesNotReady", ", ".join(messages)) if messages else (True, "", "")


def _initialized(pod: Pod, statuses: Mapping[str, Mapping[str, Any]], current: str) -> Verdict:
    if current == "Succeeded":
        return True, "PodCompleted", ""
    if any(container.ever_ran for container in pod.of("main")):
        return True, "", ""
    incomplete = [
        container.name
        for container in pod.of("init", "sidecar")
        if not statuses[container.name]["started" if container.kind == "sidecar" else "ready"]
    ]
    if incomplete:
        message = f"containers with incomplete status: [{' '.join(incomplete)}]"
        return False, "ContainersNotInitialized", message
    return True, "", ""


def _merged(
    own: Mapping[str, Verdict], before: Iterable[Mapping[str, Any]], generation: int, now: float
) -> list[dict[str, Any]]:
    """Foreign conditions as they are, then the own ones; a transition time changes only with its status."""
    known = {condition["type"]: condition for condition in before}
    merged = [dict(condition) for name, condition in known.items() if name not in {*OWN_CONDITIONS, _RESIZE, *own}]
    for name, (true, reason, message) in own.items():
        status = "True" if true else "False"
        old = known.get(name) or {}
        kept = old.get("lastTransitionTime") if old.get("status") == status else None
        condition = {
            "type": name,
            "status": status,
            "observedGeneration": generation,
            "lastProbeTime": None,
            "lastTransitionTime": kept or clock.timestamp(now),
        }
        merged.append(condition | _without_empty({"reason": reason, "message": message}))
    return merged


def difference(wanted: Mapping[str, Any], present: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of `wanted` that the API server's `present` status does not have, for a merge patch.

    What Kubernetes leaves out of its answers (null, "", empty lists and maps) counts as absent on both sides.
    """
    return {name: wanted.get(name) for name in OWN_FIELDS if _differ(wanted.get(name), present.get(name))}


def _differ(one: Any, other: Any) -> bool:
    # Most are equal as they are, which is seen sooner.
    return one != other and _normal(one) != _normal(other)


def _normal(value: Any) -> Any:
    if type(value) is dict:
        inner = {key: _normal(item) for key, item in value.items()}
        return {key: item for key, item in inner.items() if item not in (None, "", {}, [])} or None
    if type(value) is list:
        return [_normal(item) for item in value] or None
    return None if value == "" else value


def urgent(change: Mapping[str, Any], present: Mapping[str, Any]) -> bool:
    """Whether others wait for this change: readiness or the phase turns. Anything else may be gathered."""
    if "phase" in change and change["phase"] != "Pending":
        return True
    if "conditions" not in change:
        return False
    return _readiness(change["conditions"]) != _readiness(present.get("conditions") or ())


def _readiness(conditions: Iterable[Mapping[str, Any]]) -> bool:
    return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)
