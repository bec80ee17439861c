"""The downward API: fields of a pod and resources of a container as text. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from podlab.node.quantity import in_units, parse

_ESCAPES = {
    "\a": "\\a",
    "\b": "\\b",
    "\f": "\\f",
    "\n": "\\n",
    "\r": "\\r",
    "\t": "\\t",
    "\v": "\\v",
    "\\": "\\\\",
    '"': '\\"',
}


@dataclass(frozen=True, slots=True)
class Place:
    """Where a pod is: what the API object may not say yet, but its containers may ask."""

    node_name: str
    host_address: str
    pod_address: str | None
    #: The node's allocatable resources: the limits of a container that declares none.
    allocatable: Mapping[str, str]


def quoted(text: str) -> str:
    """`text` between double quotes, escaped as in Go source, which is how labels are written to volumes."""
    characters = []
    for character in text:
        code = ord(character)
        if character in _ESCAPES:
            characters.append(_ESCAPES[character])
        elif character.isprintable():
            characters.append(character)
        elif code < 0x80:
            characters.append(f"\\x{code:02x}")
        else:
            characters.append(f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}")
    return '"' + "".join(characters) + '"'


def field(pod: Mapping[str, Any], path: str, place: Place) -> str:
    """The value of `fieldRef.fieldPath`; ValueError if Kubernetes knows no such field."""
    metadata = pod["metadata"]
    simple = {
        "metadata.name": lambda: metadata["name"],
        "metadata.namespace": lambda: metadata["namespace"],
        "metadata.uid": lambda: metadata["uid"],
        "metadata.labels": lambda: _mapping(metadata.get("labels")),
        "metadata.annotations": lambda: _mapping(metadata.get("annotations")),
        "spec.nodeName": lambda: place.node_name,
        "spec.serviceAccountName": lambda: pod["spec"].get("serviceAccountName", ""),
        "spec.host": lambda: place.node_name,
        "status.hostIP": lambda: place.host_address,
        "status.hostIPs": lambda: place.host_address,
        "status.podIP": lambda: place.pod_address or "",
        "status.podIPs": lambda: place.pod_address or "",
    }
    if path in simple:
        return simple[path]()
    for name in ("labels", "annotations"):
        prefix = f"metadata.{name}['"
        if path.startswith(prefix) and path.endswith("']"):
            return (metadata.get(name) or {}).get(path[len(prefix) : -2], "")
    raise ValueError(f"unsupported fieldPath: {path}")


def _mapping(values: Mapping[str, str] | None) -> str:
    return "\n".join(f"{key}={quoted(value)}" for key, value in sorted((values or {}).items()))


def resource(spec: Mapping[str, Any], container: Mapping[str, Any], reference: Mapping[str, Any], place: Place) -> str:
    """The value of `resourceFieldRef` for a container of the pod's `spec`, rounded up in units of its divisor.

    A limit of CPU, memory or storage that it does not declare is that of the pod, or else what the node can give.
    """
    kind, _, name = reference["resource"].partition(".")
    if kind not in ("limits", "requests") or not name:
        raise ValueError(f"unsupported container resource: {reference['resource']}")
    owners = [container, spec] if kind == "limits" else [container]
    said = [((owner.get("resources") or {}).get(kind) or {}).get(name) for owner in owners]
    said.append(place.allocatable.get(name) if kind == "limits" else None)
    value = next((one for one in said if one is not None and parse(one) != 0), "0")
    return in_units(value, reference.get("divisor"), name)


def resource_of(pod: Mapping[str, Any], reference: Mapping[str, Any], place: Place) -> str:
    """Like `resource`, for a volume, in which `containerName` says whose resource is meant."""
    spec = pod["spec"]
    for container in [*(spec.get("initContainers") or ()), *spec["containers"]]:
        if container["name"] == reference.get("containerName"):
            return resource(spec, container, reference, place)
    raise ValueError(f"container {reference.get('containerName')} not found")
