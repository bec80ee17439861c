"""One image as its manifest and configuration describe it, checked when it is read."""

from __future__ import annotations

import hashlib
import platform
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from podlab.errors import ImageError
from podlab.images import layout as oci
from podlab.images.layout import Descriptor, ImageLayout

#: Go's names of machines, which OCI uses, by the names that Linux uses (`uname -m`).
ARCHITECTURES = {
    "x86_64": "amd64",
    "aarch64": "arm64",
    "armv7l": "arm",
    "i686": "386",
    "ppc64le": "ppc64le",
    "riscv64": "riscv64",
    "s390x": "s390x",
}


def architecture() -> str:
    """This machine's architecture in Go's spelling."""
    machine = platform.machine()
    return ARCHITECTURES.get(machine, machine)


#: Names the root of an image without layers.
EMPTY_CHAIN = hashlib.sha256(b"").hexdigest()

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


@dataclass(frozen=True)
class Image:
    """A readable image. `digest` is its manifest's, `id` its configuration's (what Docker calls image ID)."""

    descriptor: Descriptor
    config_descriptor: Descriptor
    layers: Sequence[Descriptor]
    config: Mapping[str, Any]

    @property
    def digest(self) -> str:
        return self.descriptor.digest

    @property
    def id(self) -> str:
        return self.config_descriptor.digest

    @property
    def settings(self) -> Mapping[str, Any]:
        """The execution parameters (`config` in the configuration): Env, Cmd, Entrypoint, User, ..."""
        return self.config.get("config") or {}

    @property
    def labels(self) -> Mapping[str, str]:
        return self.settings.get("Labels") or {}

    @property
    def diff_ids(self) -> list[str]:
        """Digests of the uncompressed layers, lowest first."""
        return list((self.config.get("rootfs") or {}).get("diff_ids") or [])

    @property
    def chain(self) -> str:
        """The chain ID of the topmost layer: names the unpacked root (hexadecimal, no prefix)."""
        return chain_ids(self.diff_ids)[-1] if self.diff_ids else EMPTY_CHAIN

    @property
    def size(self) -> int:
        """Bytes of all blobs, as stored."""
        return self.descriptor.size + self.config_descriptor.size + sum(layer.size for layer in self.layers)


def variables(settings: Mapping[str, Any]) -> dict[str, str]:
    """The environment in an image's execution parameters, by name; the last of a name counts."""
    return dict(entry.partition("=")[::2] for entry in settings.get("Env") or ())


def chain_ids(diff_ids: Sequence[str]) -> list[str]:
    """The chain ID of each layer with all below it, lowest first (hexadecimal; OCI image specification)."""
    chains: list[str] = []
    for diff_id in diff_ids:
        upper = diff_id.removeprefix("sha256:")
        both = f"sha256:{chains[-1]} {diff_id}".encode() if chains else b""
        chains.append(hashlib.sha256(both).hexdigest() if chains else upper)
    return chains


def read_image(layout: ImageLayout, descriptor: Descriptor, *, shown: str) -> Image:
    """Return the image behind a manifest or an index, for this machine; ImageError names it as `shown`."""
    document = layout.read_document(descriptor.digest)
    if is_index(document, descriptor.media_type):
        descriptor = for_this_machine(document, shown)
        document = layout.read_document(descriptor.digest)
    if not isinstance(document.get("config"), dict) or not isinstance(document.get("layers"), list):
        raise ImageError(f"The manifest of {shown} ({descriptor.digest}) has no config and layers.")
    config_descriptor = Descriptor.read(document["config"])
    config = layout.read_document(config_descriptor.digest)
    image = Image(descriptor, config_descriptor, [Descriptor.read(layer) for layer in document["layers"]], config)
    _check(image, shown)
    return image


def is_index(document: Mapping[str, Any], media_type: str) -> bool:
    """Whether a document lists manifests (an image for several machines) rather than being one."""
    kind = document.get("mediaType", media_type)
    return kind in (oci.INDEX, oci.DOCKER_INDEX) or "manifests" in document


def for_this_machine(index: Mapping[str, Any], shown: str) -> Descriptor:
    """The entry of an index that is for this machine; ImageError lists what there is."""
    entries = [Descriptor.read(entry) for entry in index.get("manifests") or []]
    wanted = architecture()
    for entry in entries:
        if (entry.platform.get("os"), entry.platform.get("architecture")) == ("linux", wanted):
            return entry
    if len(entries) == 1 and not entries[0].platform:
        return entries[0]
    there = ", ".join(f"{e.platform.get('os', '?')}/{e.platform.get('architecture', '?')}" for e in entries)
    raise ImageError(
        f"The image {shown} has nothing for this machine (linux/{wanted}); it has: {there or 'nothing'}.",
        hint="Build or save it for this architecture.",
    )


def _check(image: Image, shown: str) -> None:
    if len(image.diff_ids) != len(image.layers):
        raise ImageError(
            f"The image {shown} is malformed: {len(image.layers)} layers, but {len(image.diff_ids)} diff_ids."
        )
    for diff_id in image.diff_ids:
        if not _DIGEST.fullmatch(diff_id):
            raise ImageError(f"The image {shown} has a malformed diff_id: {diff_id!r:.100}.")
    system, machine = image.config.get("os", "linux"), image.config.get("architecture", architecture())
    if (system, machine) != ("linux", architecture()):
        raise ImageError(
            f"The image {shown} is for {system}/{machine}; this machine is linux/{architecture()}.",
            hint="Build or save it for this architecture.",
        )
