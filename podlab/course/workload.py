"""The movie site's serving part as the chapters run it: its program, its settings, its page."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from importlib import resources

from podlab.checks.api import Object
from podlab.checks.contract import Result, failed
from podlab.checks.world import OURS, World

#: The page that clients ask for.
PAGE = "/recommend/123"
SERVICE = "serving"


#: Where every pod finds its service account: Kubernetes mounts it, no manifest does.
_ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"


@dataclass(frozen=True)
class Given:
    """What each pod of an answer runs where its program is the checker's, and the exercise is what stands around it.

    Such a check believes what the program says of itself, so nothing else may say it. Whatever can put other code into
    the container or beside it is compared: containers, image, command, environment, mounts, a hook at the start.
    Probes, preStop, resources, labels, placing and all the rest are the learner's. `env` are the variables that may be
    set, with their values ("": any); `settings`: whether the ConfigMap serving-settings is part of the environment.
    """

    env: Mapping[str, str] = field(default_factory=dict)
    settings: bool = True

    def stranger(self, pod: Object, world: World) -> Result | None:
        """The failure of an answer to which this pod belongs; None if the pod runs what it should."""
        if not (found := next(self._differences(pod["spec"], world.image), "")):
            return None
        return failed(
            "every pod runs the given program, as the manifest that you were given has it",
            f"in pod {pod['metadata']['name']}, {found}",
            cause="The container no longer runs the given program as it was given. The checks ask that program.",
            next_step="Put back image, command, environment, and mounts as they were given, and no container beside "
            "it; what the exercise asks for can be written around them.",
        )

    def _differences(self, spec: Object, image: str) -> Iterator[str]:
        for kind in ("initContainers", "ephemeralContainers"):
            if spec.get(kind):
                yield f"there are {kind}"
        if len(spec["containers"]) != 1:
            yield f"there are {len(spec['containers'])} containers in place of one"
        container, volumes = spec["containers"][0], {each["name"]: each for each in spec.get("volumes") or []}
        if container["image"].removeprefix("docker.io/") != image.removeprefix("docker.io/"):
            yield f"the image is {container['image']}"
        command = [*(container.get("command") or []), *(container.get("args") or [])]
        if command != ["python3", "-S", "/program/serving.py"]:
            yield f"command and args are {str(command)[:120]}"
        for each in container.get("env") or []:
            if self.env.get(each["name"]) not in ("", each.get("value", "-")):
                yield f"the environment (env) sets {each['name']}"
        sources = [{"configMapRef": {"name": "serving-settings"}}] if self.settings else []
        if (container.get("envFrom") or []) != sources:
            yield "envFrom takes the settings from elsewhere"
        mounts = [each for each in container.get("volumeMounts") or [] if each["mountPath"] != _ACCOUNT]
        if [each["mountPath"].rstrip("/") for each in mounts] != ["/program"]:
            yield f"what is mounted is {', '.join(each['mountPath'] for each in mounts) or 'nothing'}"
        else:
            source = volumes[mounts[0]["name"]].get("configMap") or {}
            whole = "items" not in source and not any(key.startswith("subPath") for key in mounts[0])
            if source.get("name") != "serving-program" or not whole:
                yield "/program is not the ConfigMap serving-program"
        if "postStart" in (container.get("lifecycle") or {}):
            yield "there is a postStart hook"


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
