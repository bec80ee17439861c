"""Everything that an add-on consists of in a cluster, as objects; and the memory that they ask for."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Any

from podlab.addons import images
from podlab.addons.catalogue import LABEL, Addon
from podlab.addons.programs.object_metrics import quantity
from podlab.checks.api import documents
from podlab.errors import AddonError

Object = dict[str, Any]

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
    return versioned(found)


def versioned(things: list[Object]) -> list[Object]:
    """The objects, their pods marked with a digest of the configuration beside them: a change of it starts new ones."""
    data = [thing for thing in things if thing["kind"] == "ConfigMap"]
    digest = hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()[:16]
    for thing in things:
        if thing["kind"] in WORKLOADS:
            template = thing["spec"]["template"]["metadata"]
            template["annotations"] = {**template.get("annotations", {}), CONFIGURATION: digest}
    return things


def memory(things: Sequence[Object], nodes: int) -> float:
    """The bytes of memory that the pods of objects ask for on so many nodes."""
    asked = 0.0
    for thing in things:
        if thing["kind"] in WORKLOADS:
            pods = nodes if thing["kind"] == "DaemonSet" else thing["spec"].get("replicas", 1)
            asked += pods * requested(thing["spec"]["template"]["spec"])
    return asked


def requested(spec: Object) -> float:
    """The bytes of memory that the containers of a pod ask for."""
    containers = spec.get("containers") or ()
    return sum(quantity(((c.get("resources") or {}).get("requests") or {}).get("memory", 0)) for c in containers)
