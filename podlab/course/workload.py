"""The movie site's serving part as the chapters run it: its program, its settings, its page."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from importlib import resources
from posixpath import normpath

from podlab.checks.api import Object
from podlab.checks.contract import Result, failed
from podlab.checks.world import OURS, World

#: The page that clients ask for.
PAGE = "/recommend/123"
SERVICE = "serving"


#: Where every pod finds its service account: Kubernetes mounts it, no manifest does.
_ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"
#: Variables that manifests often have, and that no given program reads.
_HARMLESS = re.compile(r"PYTHONUNBUFFERED|(POD|NODE)_[A-Z0-9_]+")
#: Folders that hold an image's programs, or all of it: what is mounted over them can run in their place.
_PROGRAMS = {"", "bin", "etc", "home", "lib", "lib64", "opt", "program", "root", "sbin", "usr"}


@dataclass(frozen=True)
class Given:
    """What each pod of an answer runs where its program is the checker's, and the exercise is what stands around it.

    Such a check believes what the program says of itself, so nothing else may say it. Whatever can put other code into
    the container or beside it is compared: containers, image, command, environment, mounts, a hook at the start.
    Probes, preStop, resources, labels, placing and all the rest are the learner's. `env` are the variables that may be
    set besides _HARMLESS, with their values ("": any); `settings`: whether the ConfigMap serving-settings is part of
    the environment. The program is /program/NAME.py of the ConfigMap NAME-program, run by Python with `flags`.

    `beside`: the learner may put containers beside the one of the program, share an emptyDir with it, and set its
    variables from ConfigMaps.
    """

    env: Mapping[str, str] = field(default_factory=dict)
    settings: bool = True
    program: str = "serving"
    flags: tuple[str, ...] = ("-S",)
    beside: bool = False

    def stranger(self, pod: Object, world: World) -> Result | None:
        """The failure of an answer to which this pod belongs; None if the pod runs what it should."""
        if not (found := next(self._differences(pod, world), "")):
            return None
        return failed(
            "every pod runs the given program, as the manifest that you were given has it",
            f"in pod {pod['metadata']['name']}, {found}",
            cause="The container no longer runs the given program as it was given. The checks ask that program.",
            next_step="Put back image, command, environment, and mounts as they were given"
            f"{'' if self.beside else ', and no container beside it'}; what the exercise asks for can be written "
            "around them.",
        )

    def _differences(self, pod: Object, world: World) -> Iterator[str]:
        spec = pod["spec"]
        if not self.beside:
            for kind in ("initContainers", "ephemeralContainers"):
                if spec.get(kind):
                    yield f"there are {kind}"
            if len(spec["containers"]) != 1:
                yield f"there are {len(spec['containers'])} containers in place of one"
        right = ["python3", *self.flags, f"/program/{self.program}.py"]
        container = next((each for each in spec["containers"] if _command(each) == right), spec["containers"][0])
        if container["image"].removeprefix("docker.io/") != world.image.removeprefix("docker.io/"):
            yield f"the image is {container['image']}"
        if (command := _command(container)) != right:
            yield f"command and args are {str(command)[:120]}"
        yield from self._variables(container, pod, world)
        yield from self._mounts(container, {each["name"]: each for each in spec.get("volumes") or []})
        if "postStart" in (container.get("lifecycle") or {}):
            yield "there is a postStart hook"

    def _variables(self, container: Object, pod: Object, world: World) -> Iterator[str]:
        for each in container.get("env") or []:
            if not self._may_be(each["name"], each.get("value", "-")):
                yield f"the environment (env) sets {each['name']}"
        sources = container.get("envFrom") or []
        if not self.beside:
            if sources != ([{"configMapRef": {"name": "serving-settings"}}] if self.settings else []):
                yield "envFrom takes the settings from elsewhere"
            return
        for source in sources:
            if (name := source.get("configMapRef", {}).get("name")) is None:
                yield "envFrom takes variables from something that is no ConfigMap"
                continue
            found = world.api.get("ConfigMap", name, pod["metadata"]["namespace"]) or {}
            for key, value in (found.get("data") or {}).items():
                if not self._may_be(variable := source.get("prefix", "") + key, value):
                    yield f"the environment (envFrom) sets {variable}"

    def _may_be(self, name: str, value: str) -> bool:
        return self.env.get(name) in ("", value) or _HARMLESS.fullmatch(name) is not None

    def _mounts(self, container: Object, volumes: Mapping[str, Object]) -> Iterator[str]:
        mounts = [
            (normpath("///" + each["mountPath"]), each)  # as nodes take it: also without a slash, or with two
            for each in container.get("volumeMounts") or []
            if each["mountPath"] != _ACCOUNT
        ]
        own = [each for path, each in mounts if path == "/program"]
        strange = [
            path for path, each in mounts if each not in own and not self._shared(path, volumes.get(each["name"], {}))
        ]
        if len(own) != 1 or strange:
            yield f"what is mounted is {', '.join(path for path, _ in mounts) or 'nothing'}"
            return
        source = volumes[own[0]["name"]].get("configMap") or {}
        whole = "items" not in source and not any(key.startswith("subPath") for key in own[0])
        if source.get("name") != f"{self.program}-program" or not whole:
            yield f"/program is not the ConfigMap {self.program}-program"

    def _shared(self, path: str, volume: Object) -> bool:
        """Whether a mount can only be a place for files of the program's and of containers beside it."""
        return self.beside and "emptyDir" in volume and path.split("/")[1] not in _PROGRAMS


def _command(container: Object) -> list[str]:
    """Everything that a container's program is called with."""
    return [*(container.get("command") or []), *(container.get("args") or [])]


def program() -> str:
    """The source of the serving program."""
    return resources.files("podlab.course").joinpath("programs/serving.py").read_text()


def objects(*, start_seconds: float = 0) -> list[Object]:
    """The ConfigMaps that every manifest of this chapter mounts: the program, and its settings."""
    labels = {OURS: "workload"}
    return [
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "serving-program", "labels": labels},
            "data": {"serving.py": program()},
        },
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "serving-settings", "labels": labels},
            "data": {"START_SECONDS": f"{start_seconds:g}"},
        },
    ]
