"""Whether a node takes a pod that was bound to it: the scheduler's checks once more, at the node. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction
from typing import Any

from podlab.network.host_ports import EVERYWHERE, declared
from podlab.node.eviction import CRITICAL
from podlab.node.quantity import parse, requests, total
from podlab.node.records import EVICTED

#: Reason in the pod's status for each resource that is short.
_REASONS = {
    "cpu": "OutOfcpu",
    "memory": "OutOfmemory",
    "ephemeral-storage": "OutOfephemeral-storage",
    "pods": "OutOfpods",
}


#: Settings of a pod's own namespaces that cannot harm its neighbours (k8s.io/kubernetes/pkg/kubelet/sysctls).
SAFE_SYSCTLS = {
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.ping_group_range",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_notsent_lowat",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_slow_start_after_idle",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.tcp_wmem",
}


def dotted(name: str) -> str:
    """The name of a setting with dots between its parts: where slashes stand between them, it says / for a dot."""
    first = next((letter for letter in name if letter in "./"), ".")
    return name if first == "." else name.translate(str.maketrans("./", "/."))


def forbidden(spec: Mapping[str, Any]) -> tuple[str, str] | None:
    """(reason, message) if a pod asks of its node what no pod gets here."""
    context = spec.get("securityContext") or {}
    for entry in context.get("sysctls") or ():
        name = dotted(entry["name"])
        if name not in SAFE_SYSCTLS:
            return "SysctlForbidden", f'forbidden sysctl: "{entry["name"]}" not allowlisted'
        for shared, prefix in (("hostNetwork", "net."), ("hostIPC", "kernel.")):
            if spec.get(shared) and name.startswith(prefix):
                where = "net" if shared == "hostNetwork" else "ipc"
                return "SysctlForbidden", f'forbidden sysctl: "{entry["name"]}" not allowed with host {where} enabled'
    containers = [*(spec.get("initContainers") or ()), *spec["containers"]]
    for own in (context, *(container.get("securityContext") or {} for container in containers)):
        if (own.get("appArmorProfile") or {}).get("type") in ("RuntimeDefault", "Localhost"):
            return "AppArmor", "Cannot enforce AppArmor: AppArmor is not enabled on this node"
    return None


#: The taint of a node whose memory is short.
_MEMORY_TAINT = "node.kubernetes.io/memory-pressure"


def pressed(pod: Mapping[str, Any], conditions: Sequence[str]) -> tuple[str, str] | None:
    """(reason, message) if a node under pressure refuses `pod`; `conditions` are those that are true of it.

    Without this a DaemonSet's pod, which tolerates the taints, would be evicted, made again and admitted in a circle.
    """
    if not conditions or (pod["spec"].get("priority") or 0) >= CRITICAL:
        return None
    if list(conditions) == ["MemoryPressure"]:
        # Where memory alone is short those who asked for some are welcome, and those who know what they do.
        best_effort = (pod.get("status") or {}).get("qosClass") == "BestEffort"
        if not best_effort or any(_tolerates(each) for each in pod["spec"].get("tolerations") or ()):
            return None
    return EVICTED, f"The node had condition: [{' '.join(conditions)}]. "


def _tolerates(toleration: Mapping[str, Any]) -> bool:
    """Whether a toleration covers the taint NoSchedule of a node whose memory is short."""
    if (toleration.get("effect") or "NoSchedule") != "NoSchedule":
        return False
    if (toleration.get("key") or _MEMORY_TAINT) != _MEMORY_TAINT:
        return False
    return toleration.get("operator") == "Exists" or not toleration.get("value")


def verdict(
    pod: Mapping[str, Any],
    others: Iterable[Mapping[str, Any]],
    allocatable: Mapping[str, str],
    labels: Mapping[str, str],
) -> tuple[str, str] | None:
    """(reason, message) of a refusal, None if the node takes `pod` beside the `others` that it already has."""
    others = list(others)
    spec = pod["spec"]
    if (spec.get("os") or {}).get("name", "linux") != "linux":
        return "PodOSNotSupported", "Failed to admit pod as the OS field doesn't match node OS"
    if refused := forbidden(spec):
        return refused
    if not affine(spec, labels):
        message = "Predicate NodeAffinity failed: node(s) didn't match Pod's node affinity/selector"
        return "NodeAffinity", message
    # What most pods do not ask for is not looked up: the others are a hundred, and each start of a pod asks.
    ports = list(declared(spec))
    if ports and any(_clash(port, taken) for other in others for taken in declared(other["spec"]) for port in ports):
        message = "Predicate NodePorts failed: node(s) didn't have free ports for the requested pod ports"
        return "NodePorts", message
    asked = {name: value for name, value in requests(spec).items() if value > 0}
    used = total(other["spec"] for other in others) if asked else {}
    room = parse(allocatable.get("pods", "110"))
    if len(others) + 1 > room:
        return _short("pods", Fraction(1), Fraction(len(others)), room)
    for name, value in asked.items():
        capacity = parse(allocatable.get(name, "0"))
        if name in allocatable and used.get(name, Fraction(0)) + value > capacity:
            return _short(name, value, used.get(name, Fraction(0)), capacity)
    return None


def _clash(one: Sequence[Any], other: Sequence[Any]) -> bool:
    """Whether two host ports exclude each other: the same port, and an address in common."""
    return one[1:3] == other[1:3] and (one[0] == other[0] or EVERYWHERE in (one[0], other[0]))


def _short(name: str, asked: Fraction, used: Fraction, capacity: Fraction) -> tuple[str, str]:
    scale = 1000 if name == "cpu" else 1
    numbers = [math.ceil(value * scale) for value in (asked, used, capacity)]
    message = "Node didn't have enough resource: {}, requested: {}, used: {}, capacity: {}"
    return _REASONS.get(name, f"OutOf{name}"), message.format(name, *numbers)


def affine(spec: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    """Whether nodeSelector and the required node affinity of a pod match `labels`."""
    for name, value in (spec.get("nodeSelector") or {}).items():
        if labels.get(name) != value:
            return False
    affinity = (spec.get("affinity") or {}).get("nodeAffinity") or {}
    required = affinity.get("requiredDuringSchedulingIgnoredDuringExecution")
    if not required:
        return True
    return any(_matches(term, labels) for term in required.get("nodeSelectorTerms") or ())


def _matches(term: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    expressions = term.get("matchExpressions") or ()
    named = term.get("matchFields") or ()
    if not expressions and not named:
        return False
    fields = {"metadata.name": labels.get("kubernetes.io/hostname", "")}
    return all(_holds(e, labels) for e in expressions) and all(_holds(e, fields) for e in named)


def _holds(expression: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    value = labels.get(expression["key"])
    values: Sequence[str] = expression.get("values") or ()
    match expression["operator"]:
        case "In":
            return value in values
        case "NotIn":
            return value not in values
        case "Exists":
            return value is not None
        case "DoesNotExist":
            return value is None
        case "Gt" | "Lt" as operator:
            return _compares(operator, value, values)
    return False


def _compares(operator: str, value: str | None, values: Sequence[str]) -> bool:
    """Whether a label's number is greater, or less, than the one given; what is no number never is."""
    try:
        number, limit = int(value or ""), int(values[0])
    except (ValueError, IndexError):
        return False
    return number > limit if operator == "Gt" else number < limit
