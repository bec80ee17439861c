"""The volumes of one pod on disk: made, filled, kept up to date, and turned into mounts of its containers."""

from __future__ import annotations

import asyncio
import logging
import os
import stat
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path, PurePosixPath
from posixpath import normpath
from typing import Any

from podlab import trees
from podlab.errors import RuntimeRefused
from podlab.node import atomic, volume_places
from podlab.node.api import ApiError
from podlab.node.context import NodeContext
from podlab.node.credentials import PodCredentials
from podlab.node.environment import ConfigError
from podlab.node.expansion import expand, missing
from podlab.node.fields import Place
from podlab.node.runtime.contract import Mount
from podlab.node.runtime.sandbox.beneath import make_below, open_file
from podlab.node.volume_files import Fetched, VolumeError, files, fs_group, is_file_volume, needs
from podlab.node.volume_places import Placed

log = logging.getLogger(__name__)

#: Seconds between two looks at whether the sources of a volume have changed.
REFRESH = 20.0
#: Characters that are read of a file of variables.
VARIABLES_MAX = 1 << 20


class PodVolumes:
    """The volumes of one pod; its own ones are under `folder`/volumes/NAME."""

    def __init__(self, folder: Path, context: NodeContext) -> None:
        self._folder = folder / "volumes"
        self._context = context
        self._credentials = PodCredentials(context.api, context.configuration.name)
        self._placed: dict[str, Placed] = {}

    @staticmethod
    def refreshing(pod: Mapping[str, Any]) -> bool:
        """Whether any volume of a pod has files that may change."""
        return any(is_file_volume(volume) for volume in pod["spec"].get("volumes") or ())

    async def prepare(self, pod: Mapping[str, Any], place: Place) -> None:
        """Make and fill every volume; VolumeError names the volume and why not. May be called again."""
        self._folder.mkdir(parents=True, exist_ok=True)
        for volume in pod["spec"].get("volumes") or ():
            try:
                placed = await volume_places.place(pod, volume, self._folder, self._context)
            except (VolumeError, ApiError, RuntimeRefused, OSError) as error:
                raise _failed(volume, error) from error
            self._placed[volume["name"]] = placed
        await self.refresh(pod, place)

    async def refresh(self, pod: Mapping[str, Any], place: Place) -> None:
        """Bring the files up to date with their sources, each volume at once."""
        own = [volume for volume in pod["spec"].get("volumes") or () if is_file_volume(volume)]
        if not own:
            return
        wanted = needs(own)
        try:
            objects, tokens, bundles, certificates = await asyncio.gather(
                self._context.objects.read_all(pod["metadata"]["namespace"], wanted.objects),
                self._credentials.tokens(pod, wanted.tokens),
                self._credentials.bundles(wanted),
                self._credentials.certificates(pod, wanted.certificates),
            )
        except (ApiError, VolumeError) as error:
            raise _failed(own[0], error) from error
        fetched = Fetched(objects, tokens, bundles, certificates)
        for volume in own:
            try:
                content = files(pod, volume, place, fetched)
                path = self._placed[volume["name"]].path
                await asyncio.to_thread(atomic.write, path, content, fs_group(pod))
            except (VolumeError, ValueError, OSError) as error:
                raise _failed(volume, error) from error

    async def release(self, pod: Mapping[str, Any]) -> None:
        """Give back what no folder's deletion would: memory."""
        volumes = pod["spec"].get("volumes") or ()
        if any((volume.get("emptyDir") or {}).get("medium") for volume in volumes):
            await self._context.runtime.unmount(str(self._folder))

    def mounts(self, container: Mapping[str, Any], variables: Mapping[str, str]) -> list[Mount]:
        """The mounts of a container, parents before children; ConfigError if one cannot be had."""
        chosen = []
        for mount in container.get("volumeMounts") or ():
            placed = self._placed.get(mount["name"])
            if placed is None:
                raise ConfigError(f'cannot find volume "{mount["name"]}" to mount into container "{container["name"]}"')
            placed = self._sub_path(placed, mount, variables, container)
            read_only = bool(mount.get("readOnly")) or placed.read_only
            target = _target(mount["mountPath"], container["name"])
            within = str(placed.within) if placed.within else None
            chosen.append(Mount(str(placed.path), target, read_only, within))
        return sorted(chosen, key=lambda mount: PurePosixPath(mount.target).parts)

    def text(self, name: str, path: str) -> str | None:
        """A file of variables in a volume; None if it is not there, or is none. No link is followed."""
        placed = self._placed.get(name)
        if placed is None:
            raise ConfigError(f'cannot find the volume "{name}" referenced by FileKeyRef')
        try:
            descriptor = open_file(placed.path / path, os.O_RDONLY, top=placed.path)
            with os.fdopen(descriptor, encoding="utf-8", errors="surrogateescape", newline="\n") as file:
                return file.read(VARIABLES_MAX)
        except OSError:
            return None

    @staticmethod
    def _sub_path(
        placed: Placed, mount: Mapping[str, Any], variables: Mapping[str, str], container: Mapping[str, Any]
    ) -> Placed:
        sub_path = mount.get("subPath") or ""
        if mount.get("subPathExpr"):
            unknown = missing(mount["subPathExpr"], variables)
            if unknown:
                raise ConfigError(f"missing value for {unknown[0]!r} in subPathExpr")
            sub_path = expand(mount["subPathExpr"], variables)
        if not sub_path:
            return placed
        if sub_path.startswith("/"):
            raise ConfigError(f"error SubPath `{sub_path}` must not be an absolute path")
        if ".." in PurePosixPath(sub_path).parts:
            raise ConfigError(f"unable to provision SubPath `{sub_path}`: must not contain '..'")
        # What is within another folder has been resolved; if it is a link by now, `real` is not below it.
        top = placed.path if placed.within else placed.path.resolve()
        within = placed.within or top
        real = (top / sub_path).resolve()
        try:
            if not real.is_relative_to(top):
                raise OSError("it leads out of the volume")
            if not placed.read_only:
                make_below(within, real.relative_to(within).parts, stat.S_IMODE(top.stat().st_mode))
            real.lstat()
        except OSError as error:
            raise ConfigError(
                f'failed to prepare subPath for volumeMount "{mount["name"]}" of container "{container["name"]}": '
                f"{error.strerror or error}"
            ) from error
        return replace(placed, path=real, within=within)


def remove_tree(folder: Path) -> None:
    """Delete `folder`, if it is there, with all below it, whatever a pod has put there; what cannot go is left."""
    try:
        trees.remove_tree(folder)
    except OSError as error:
        log.warning("%s cannot be removed: %s", folder, error)


def _target(path: str, container: str) -> str:
    """Where a container has a volume; ConfigError for the places that are not to be had."""
    target = normpath("///" + path)  # more than two slashes are one
    if target == "/" or PurePosixPath(target).is_relative_to("/proc"):
        raise ConfigError(f'mountPath {path} of container "{container}" is refused: no volume can be at / or in /proc')
    return target


def _failed(volume: Mapping[str, Any], error: Exception) -> VolumeError:
    return VolumeError(f'MountVolume.SetUp failed for volume "{volume["name"]}" : {error}')
