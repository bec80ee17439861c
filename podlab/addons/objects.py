"""Everything that an add-on consists of in a cluster, as objects; and whether its nodes have room for them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Any

from podlab.addons import images
from podlab.addons.catalogue import LABEL, Addon
from podlab.addons.programs.object_metrics import quantity
from podlab.addons.spark import IMAGE
from podlab.checks.api import documents
from podlab.errors import AddonError

Object = dict[str, Any]
#: Resource -> how much of it.
Amounts = dict[str, float]

RESOURCES = ("memory", "cpu")
WORKLOADS = ("Deployment", "StatefulSet", "DaemonSet")
#: Annotation of pods: a digest of the configuration with which they started.
CONFIGURATION = "podlab.dev/configuration"


def objects(addon: Addon, *, own: bool) -> list[Object]:
    """What is in the manifests and the programs, in the order of creation. `own`: with the images made here."""
    found: list[Object] = []
    for number, (file, text) in enumerate(addon.texts().items()):
        try:
            found += documents(text if own else images.official(text, addon.images, addon.own_official))
        except ValueError as error:
            raise AddonError(f"The manifest {file} of {addon.name} cannot be read: {error}.") from error
        if number == 0 and (programs := addon.program_files()):
            found.append(programs)
    for thing in found:
        thing["metadata"].setdefault("labels", {})[LABEL] = addon.name
    return found


def give(things: Sequence[Object], image: str, other: str) -> None:
    """Have what runs one image run another."""
    for thing in things:
        if thing["kind"] in WORKLOADS:
            for container in thing["spec"]["template"]["spec"]["containers"]:
                if container["image"] == image:
                    container["image"] = other


def note(things: Sequence[Object], image: str) -> None:
    """Have the namespace say which image was made for it: who makes pods of it later asks there."""
    for thing in things:
        if thing["kind"] == "Namespace":
            thing["metadata"]["annotations"] = {IMAGE: image}


def versioned(things: Sequence[Object]) -> list[Object]:
    """The objects, their pods marked with a digest of the configuration beside them: a change of it starts new ones."""
    data = [thing for thing in things if thing["kind"] in ("ConfigMap", "Secret")]
    digest = hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()[:16]
    for thing in things:
        if thing["kind"] in WORKLOADS:
            template = thing["spec"]["template"]["metadata"]
            template["annotations"] = {**template.get("annotations", {}), CONFIGURATION: digest}
    return list(things)


def left(nodes: Sequence[Object], pods: Sequence[Object]) -> dict[str, Amounts]:
    """What the running pods leave of each node where pods may go (name -> resource -> bytes, cores)."""
    found = {
        node["metadata"]["name"]: {name: quantity(node["status"]["allocatable"].get(name, 0)) for name in RESOURCES}
        for node in nodes
        if not (node.get("spec") or {}).get("unschedulable")
    }
    for pod in pods:
        if (amounts := found.get(pod["spec"].get("nodeName", ""))) is not None:
            for name, asked in requested(pod["spec"]).items():
                amounts[name] -= asked
    return found


def homeless(things: Sequence[Object], free: dict[str, Amounts]) -> tuple[Object, Amounts] | None:
    """The first workload one of whose pods no node has room for, and what the pod asks for; None if all find room.

    Each pod takes its room from `free`. The largest are placed first, where most memory is left.
    """
    work = [(thing, requested(thing["spec"]["template"]["spec"])) for thing in things if thing["kind"] in WORKLOADS]
    for thing, asked in sorted(work, key=lambda one: (one[0]["kind"] == "DaemonSet", one[1]["memory"]), reverse=True):
        one_each = thing["kind"] == "DaemonSet"
        for places in [[name] for name in free] if one_each else [list(free)] * thing["spec"].get("replicas", 1):
            fit = [name for name in places if all(free[name][key] >= asked[key] for key in asked)]
            if not fit:
                return thing, asked
            taken = free[max(fit, key=lambda name: free[name]["memory"])]
            for key in asked:
                taken[key] -= asked[key]
    return None


def requested(spec: Object) -> Amounts:
    """What the containers of a pod ask for: bytes of memory, cores of CPU."""
    asked = [(one.get("resources") or {}).get("requests") or {} for one in spec.get("containers") or ()]
    return {name: sum(quantity(amounts.get(name, 0)) for amounts in asked) for name in RESOURCES}
