"""Where each volume of a pod is on this node: made if it is missing. One function per type of volume."""

from __future__ import annotations

import asyncio
import contextlib
import os
import stat
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

from podlab.errors import ImagePullError
from podlab.node import atomic
from podlab.node.api import NotFound
from podlab.node.context import NodeContext
from podlab.node.objects import authorized
from podlab.node.quantity import whole
from podlab.node.runtime.sandbox.beneath import entered, make_below
from podlab.node.volume_files import VolumeError, fs_group, is_file_volume
from podlab.trees import walk

#: What a pod's fsGroup may do with the files of a volume that the pod can write, and with its folders.
_GROUP_WRITES = stat.S_IRUSR | stat.S_IWUSR | stat.S_IRGRP | stat.S_IWGRP
_GROUP_ENTERS = _GROUP_WRITES | stat.S_IXUSR | stat.S_IXGRP | stat.S_ISGID

Object = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Placed:
    """A volume's folder (or file) on this node, and whether containers may only read it.

    With `within`, a folder that pods may write to, `path` is below it: by the time of a mount a pod may have put a
    link in its place, so each mount has to look for it from `within` on, following none.
    """

    path: Path
    read_only: bool = False
    within: Path | None = None


async def place(pod: Object, volume: Object, folder: Path, context: NodeContext) -> Placed:
    """Make the volume, under `folder` if it is the pod's own; VolumeError says why it cannot be had."""
    if is_file_volume(volume):
        path = folder / volume["name"]
        path.mkdir(mode=0o755, exist_ok=True)
        return Placed(path, read_only=True)
    kinds = [kind for kind in volume if kind != "name" and volume[kind] is not None]
    maker = _MAKERS.get(kinds[0]) if kinds else None
    if maker is None:
        raise VolumeError(f"volume type {', '.join(kinds) or 'unknown'} is not supported by this node")
    return await maker(pod, volume, folder, context)


# emptyDir


async def _empty_dir(pod: Object, volume: Object, folder: Path, context: NodeContext) -> Placed:
    path, source = folder / volume["name"], volume["emptyDir"] or {}
    medium = source.get("medium") or ""
    if medium not in ("", "Memory"):
        raise VolumeError(f"emptyDir medium {medium} is not supported by this node: it has no huge pages")
    if not path.exists():
        path.mkdir()
        path.chmod(0o777)
    if medium == "Memory":
        await context.runtime.mount_memory(str(path), memory_size(pod, source, context.allocatable))
    if (group := fs_group(pod)) is not None:
        atomic.own(path, None, group)
        path.chmod(stat.S_IMODE(path.stat().st_mode) | _GROUP_ENTERS)
    return Placed(path)


def memory_size(pod: Object, source: Object, allocatable: Mapping[str, str]) -> int:
    """Bytes that an emptyDir in memory may take: its sizeLimit, but no more than the pod or the node may use."""
    sizes = [whole(allocatable["memory"])]
    limits = [((c.get("resources") or {}).get("limits") or {}).get("memory") for c in pod["spec"]["containers"]]
    if all(limits):
        sizes.append(sum(whole(limit) for limit in limits if limit))
    if of_pod := ((pod["spec"].get("resources") or {}).get("limits") or {}).get("memory"):
        sizes.append(whole(of_pod))
    if source.get("sizeLimit") and whole(source["sizeLimit"]) > 0:
        sizes.append(whole(source["sizeLimit"]))
    return min(sizes)


# The node's own files


async def _host_path(_pod: Object, volume: Object, _folder: Path, context: NodeContext) -> Placed:
    return host_path(context.host_paths, volume["hostPath"])


def host_path(top: Path, source: Object) -> Placed:
    """A hostPath inside of the node's own folder `top`: a pod never reaches the files of the machine."""
    relative = PurePosixPath(source["path"]).relative_to("/")
    if ".." in relative.parts:
        raise VolumeError(f"hostPath {source['path']} is refused: it must not contain '..'")
    top.mkdir(parents=True, exist_ok=True)
    top = top.resolve()
    path = (top / relative).resolve()
    if not path.is_relative_to(top):
        raise VolumeError(f"hostPath {source['path']} is refused: it leads out of the node's folder")
    kind = source.get("type") or ""
    if not path.exists():
        parts = path.relative_to(top).parts
        if kind in ("", "DirectoryOrCreate"):
            make_below(top, parts, 0o755)
        elif kind == "FileOrCreate":
            make_below(top, parts, 0o755, file=True)
    wanted = kind.removesuffix("OrCreate")
    expected = {"Directory": path.is_dir, "File": path.is_file, "Socket": path.is_socket}
    if wanted in expected and not expected[wanted]():
        raise VolumeError(f"hostPath type check failed: {source['path']} is not a {wanted.lower()}")
    if kind in ("BlockDevice", "CharDevice"):
        raise VolumeError(f"hostPath type check failed: {source['path']} is no device: this node has none")
    return Placed(path, within=top)


# Images


async def _image(pod: Object, volume: Object, _folder: Path, context: NodeContext) -> Placed:
    """The files of an image, read-only. What a bundled base borrows of the machine is not among them."""
    source = volume["image"] or {}
    if not source.get("reference"):
        raise VolumeError("the image volume names no image yet")
    policy = source.get("pullPolicy") or "IfNotPresent"
    try:
        image, _ = await context.image(
            source["reference"],
            policy,
            lambda: context.recorder.pod(pod, "Normal", "Pulling", f'Pulling image "{source["reference"]}"'),
        )
    except ImagePullError as error:
        raise VolumeError(f"{error.reason}: {error}") from error
    return Placed(image.folder, read_only=True)


# Persistent volumes


async def _claim(pod: Object, volume: Object, _folder: Path, context: NodeContext) -> Placed:
    source = volume["persistentVolumeClaim"]
    placed = await _claimed(pod, source["claimName"], context)
    return replace(placed, read_only=bool(source.get("readOnly")))


async def _ephemeral(pod: Object, volume: Object, _folder: Path, context: NodeContext) -> Placed:
    """A claim that Kubernetes made for this pod, and that goes with it."""
    name = f"{pod['metadata']['name']}-{volume['name']}"
    return await _claimed(pod, name, context, owned=True)


async def _claimed(pod: Object, name: str, context: NodeContext, *, owned: bool = False) -> Placed:
    api, namespace = context.api, pod["metadata"]["namespace"]
    try:
        claim = await authorized(lambda: api.get(f"/api/v1/namespaces/{namespace}/persistentvolumeclaims/{name}"))
    except NotFound as error:
        raise VolumeError(f'persistentvolumeclaim "{name}" not found') from error
    owners = [owner["uid"] for owner in claim["metadata"].get("ownerReferences") or ()]
    if owned and pod["metadata"]["uid"] not in owners:
        raise VolumeError(f'PVC "{name}" was not created for this pod: it has no such owner')
    bound = claim["spec"].get("volumeName")
    if not bound or (claim.get("status") or {}).get("phase") != "Bound":
        raise VolumeError(f'persistentvolumeclaim "{name}" is not bound')
    try:
        volume = await authorized(lambda: api.get(f"/api/v1/persistentvolumes/{bound}"))
    except NotFound as error:
        raise VolumeError(f'persistentvolume "{bound}" not found') from error
    reference = volume["spec"].get("claimRef") or {}
    if reference.get("uid") != claim["metadata"]["uid"]:
        raise VolumeError(f'persistentvolume "{bound}" belongs to another claim')
    placed = _persistent(volume["spec"], context.host_paths)
    if (group := fs_group(pod)) is not None and placed.path.is_dir():
        policy = (pod["spec"].get("securityContext") or {}).get("fsGroupChangePolicy") or "Always"
        await asyncio.to_thread(give_to_group, placed.path, group, policy, within=placed.within)
    return placed


def _persistent(spec: Object, top: Path) -> Placed:
    if spec.get("volumeMode") == "Block":
        raise VolumeError("volumeMode Block is not supported by this node: it has no devices")
    if "hostPath" in spec:
        return host_path(top, spec["hostPath"])
    if "local" in spec:
        return host_path(top, {"path": spec["local"]["path"], "type": "Directory"})
    known = {"capacity", "accessModes", "claimRef", "storageClassName", "volumeMode", "nodeAffinity", "mountOptions"}
    kinds = sorted(set(spec) - known - {"persistentVolumeReclaimPolicy", "volumeAttributesClassName"})
    raise VolumeError(f"persistent volume type {', '.join(kinds) or 'unknown'} is not supported by this node")


def give_to_group(top: Path, group: int, policy: str = "Always", within: Path | None = None) -> None:
    """Let `group` read and write everything below a folder; with OnRootMismatch only if it cannot yet.

    Pods may change what is there meanwhile: no link is followed, from the folder `within` on.
    """
    with entered(top, within) as folder:
        now = Path(folder).stat()
        right = now.st_mode & _GROUP_ENTERS == _GROUP_ENTERS
        if policy == "OnRootMismatch" and right and (now.st_gid == group or not atomic.can_own(Path(folder), group)):
            return
        here = f"{folder}/."
        for inside, entry in walk(here):
            _give(entry.name, inside, group)
        _give(here, None, group)  # last: what was cut short is done again


def _give(name: str, folder: int | None, group: int) -> None:
    try:
        found = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
    except FileNotFoundError:
        return  # deleted meanwhile
    try:
        path = Path(f"/proc/self/fd/{found}")
        with contextlib.suppress(OSError):  # no such id here: the one that there is owns it anyway
            os.chown(path, -1, group)
        kind = os.fstat(found)
        if not stat.S_ISLNK(kind.st_mode):
            more = _GROUP_ENTERS if stat.S_ISDIR(kind.st_mode) else _GROUP_WRITES
            path.chmod(stat.S_IMODE(kind.st_mode) | more)
    finally:
        os.close(found)


_MAKERS: dict[str, Callable[[Object, Object, Path, NodeContext], Awaitable[Placed]]] = {
    "emptyDir": _empty_dir,
    "hostPath": _host_path,
    "image": _image,
    "persistentVolumeClaim": _claim,
    "ephemeral": _ephemeral,
}
