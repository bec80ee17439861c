"""From a container of a pod to what the runtime is to start. Pure, apart from the files that it names."""

from __future__ import annotations

import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from podlab.errors import ImagePullError
from podlab.images.pull import RunnableImage
from podlab.images.users import Identity
from podlab.node import pod_files
from podlab.node.environment import ConfigError
from podlab.node.expansion import command_line
from podlab.node.quantity import milli, requests, whole
from podlab.node.records import Container, Pod
from podlab.node.runtime.capabilities import changed
from podlab.node.runtime.contract import ContainerSpec, Mount
from podlab.node.runtime.sandbox.beneath import make_below

TERMINATION_PATH = "/dev/termination-log"


@dataclass(frozen=True, slots=True)
class Paths:
    """Where one attempt of a container keeps its things."""

    folder: Path
    log: Path
    termination: Path
    environment: Path
    #: The folder above the log that pods may write to.
    top: Path

    @classmethod
    def of(cls, pod_folder: Path, log_folder: Path, top: Path, name: str, attempt: int) -> Paths:
        """The paths of attempt `attempt` of container `name`; below `top` pods may write."""
        base = pod_folder / "containers" / name
        return cls(
            base / str(attempt),
            log_folder / name / f"{attempt}.log",
            base / f"{attempt}.termination",
            base / f"{attempt}.environment",
            top,
        )

    def make(self) -> None:
        """Make the folders and an empty termination file that the container's user may write to."""
        self.folder.parent.mkdir(parents=True, exist_ok=True)
        self.top.mkdir(parents=True, exist_ok=True)
        make_below(self.top.resolve(), self.log.parent.relative_to(self.top).parts, 0o755)
        self.termination.touch()
        self.termination.chmod(0o666)


def security(pod: Pod, container: Mapping[str, Any]) -> dict[str, Any]:
    """The security context that holds for a container: its own values before the pod's."""
    of_pod = {k: v for k, v in (pod.spec.get("securityContext") or {}).items() if v is not None}
    own = {k: v for k, v in (container.get("securityContext") or {}).items() if v is not None}
    return of_pod | own


def identity(
    pod: Pod,
    container: Mapping[str, Any],
    image: RunnableImage,
    look_up: Callable[[RunnableImage, int | None], Identity] = RunnableImage.identity,
) -> Identity:
    """Who the container runs as; ConfigError if runAsNonRoot forbids it or the image does not know the user."""
    context = security(pod, container)
    user = context.get("runAsUser")
    where = f'(pod: "{pod.full_name}", container: {container["name"]})'
    try:
        found = look_up(image, user)
    except ImagePullError as error:
        raise ConfigError(error.message) from error
    if context.get("runAsNonRoot"):
        if user == 0:
            raise ConfigError(f"container's runAsUser breaks non-root policy {where}")
        name = image.config.user.partition(":")[0]
        if user is None and name and not name.isdecimal():
            raise ConfigError(
                f"container has runAsNonRoot and image has non-numeric user ({name}), "
                f"cannot verify user is non-root {where}"
            )
        if found.uid == 0:
            raise ConfigError(f"container has runAsNonRoot and image will run as root {where}")
    if context.get("runAsGroup") is not None:
        found = replace(found, gid=context["runAsGroup"])
    return found


def capabilities(context: Mapping[str, Any]) -> list[str] | None:
    """What the container's root may do, None for the usual; ConfigError names an unknown capability."""
    wanted = context.get("capabilities") or {}
    try:
        return changed(wanted.get("add") or (), wanted.get("drop") or ()) if wanted else None
    except ValueError as error:
        raise ConfigError(str(error)) from error


def seccomp(context: Mapping[str, Any], default: bool = False) -> bool:
    """Whether the container gets the filter of the profile RuntimeDefault; with `default` also if it names none."""
    profile = context.get("seccompProfile") or {"type": "RuntimeDefault" if default else "Unconfined"}
    if profile.get("type") == "Localhost":
        name = profile.get("localhostProfile")
        raise ConfigError(f"cannot load seccomp profile {name!r}: this node has RuntimeDefault and Unconfined only")
    return profile.get("type") == "RuntimeDefault"


def groups(context: Mapping[str, Any], who: Identity) -> list[int]:
    """The further groups of a container's processes."""
    found = set(context.get("supplementalGroups") or ())
    if context.get("supplementalGroupsPolicy") != "Strict":
        found.update(who.groups)
    if context.get("fsGroup") is not None:
        found.add(context["fsGroup"])
    return sorted(found)


def build(
    pod: Pod,
    container: Container,
    image: RunnableImage,
    who: Identity,
    environment: Mapping[str, str],
    mounts: Sequence[Mount],
    files: Mapping[str, str],
    paths: Paths,
    *,
    name: str,
    attempt: int,
    labels: Mapping[str, str],
    processes_of: str | None = None,
    seccomp_default: bool = False,
) -> ContainerSpec:
    """The runtime's specification of one attempt of a container."""
    spec, context = container.spec, security(pod, container.spec)
    argv = command_line(spec, environment, image.config.entrypoint, image.config.command)
    if not argv:
        raise ConfigError("no command specified")
    termination = spec.get("terminationMessagePath") or TERMINATION_PATH
    targets = {mount.target for mount in mounts}
    return ContainerSpec(
        id=name,
        sandbox=pod.sandbox or "",
        argv=argv,
        environment=environment,
        root=replace(image.root, read_only=bool(context.get("readOnlyRootFilesystem"))),
        log_path=str(paths.log),
        log_within=str(paths.top),
        folder=str(paths.folder),
        working_directory=spec.get("workingDir") or image.config.working_directory or "/",
        mounts=[*mounts, Mount(str(paths.termination), termination)],
        files={path: text for path, text in files.items() if path not in targets},
        tty=bool(spec.get("tty")),
        stdin=bool(spec.get("stdin")),
        stdin_once=bool(spec.get("stdinOnce")),
        user=who.uid or None,
        group=who.gid or None,
        supplemental_groups=groups(context, who),
        no_new_privileges=context.get("allowPrivilegeEscalation") is False,
        capabilities=capabilities(context),
        privileged=bool(context.get("privileged")),
        seccomp=seccomp(context, seccomp_default),
        unmasked_proc=context.get("procMount") == "Unmasked",
        share_processes=bool(pod.spec.get("shareProcessNamespace")),
        host_processes=bool(pod.spec.get("hostPID")),
        processes_of=processes_of,
        memory_limit=_limit(spec, "memory", whole),
        pod_memory_limit=_limit(pod.spec, "memory", whole),
        cpu_request=_limit(spec, "cpu", milli, "requests") or 0,
        cpu_limit=_limit(spec, "cpu", milli),
        pod_cpu_request=int(requests(pod.spec).get("cpu", 0) * 1000),
        pod_cpu_limit=_limit(pod.spec, "cpu", milli),
        labels={**labels, "attempt": str(attempt)},
    )


def _limit(spec: Mapping[str, Any], resource: str, unit: Callable[[str], int], kind: str = "limits") -> int | None:
    """What a container, or the containers of a pod together, may use of a resource, or asks for; None: not said."""
    said = ((spec.get("resources") or {}).get(kind) or {}).get(resource)
    return None if said is None else unit(said)


def etc_files(
    pod: Pod, hostname: str, domain: str, *, server: str, cluster_domain: str, node_hosts: str
) -> dict[str, str]:
    """The files under /etc that the node writes for every container of a pod."""
    addresses = [pod.address] if pod.address else []
    return {
        "/etc/hostname": hostname + "\n",
        "/etc/hosts": pod_files.hosts(pod.object, hostname, domain, addresses, node_hosts),
        "/etc/resolv.conf": pod_files.resolv_conf(pod.object, server=server, cluster_domain=cluster_domain),
    }


def stop_signal(container: Mapping[str, Any], image: RunnableImage | None) -> int:
    """The signal that asks a container to end: of its lifecycle, of its image, or SIGTERM."""
    name = (container.get("lifecycle") or {}).get("stopSignal")
    if name:
        return int(getattr(signal, name, signal.SIGTERM))
    return int(image.config.stop_signal) if image else signal.SIGTERM
