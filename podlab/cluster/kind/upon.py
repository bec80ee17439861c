"""Images upon a bundled one, for nodes that have it: what is sent is their own layers, with a manifest of all.

An image of one's own is some KiB then. Whole, it would be 130 MB for each node.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from podlab.errors import ClusterError
from podlab.images import archive, catalogue
from podlab.images import layout as oci
from podlab.images.image import Image, for_this_machine, is_index, variables
from podlab.images.layout import Descriptor, ImageLayout
from podlab.images.reference import Reference

#: Runs containerd's `ctr` on a node, with these words, and returns what it prints.
Ctr = Callable[..., str]


@dataclass(frozen=True)
class Base:
    """A bundled image as a node has it: its layers and its configuration."""

    layers: Sequence[Descriptor]
    config: Mapping[str, Any]


def target(ctr: Ctr, name: str) -> str:
    """The digest of what a node knows by this name; "" if it knows none."""
    for line in ctr("images", "ls", f"name=={name}").splitlines():
        if line.split()[:1] == [name] and (found := re.search(r"sha256:[0-9a-f]{64}", line)):
            return found[0]
    return ""


def read_base(ctr: Ctr, name: str, digest: str) -> Base:
    """A bundled image of a node, whose `target` is `digest`; ClusterError if it has none."""

    def document(digest: str) -> Any:
        return json.loads(ctr("content", "get", digest))

    if not digest:
        raise ClusterError(
            f"A node has no image {name}.", hint="Make the cluster anew: `podlab cluster down` and `up`."
        )
    manifest = document(digest)
    if is_index(manifest, ""):
        manifest = document(for_this_machine(manifest, name).digest)
    return Base([Descriptor.read(layer) for layer in manifest["layers"]], document(manifest["config"]["digest"]))


def save(layout: ImageLayout, images: Mapping[Reference, Image], base: Base, file: Path) -> None:
    """Write images upon `base` to a tar file, an OCI layout without the layers of the base."""
    with layout.in_use(), archive.new(file) as tar:
        manifests, blobs = {}, {}
        for reference, image in images.items():
            own = image.layers[1:]  # the first one stands for the base
            config = archive.add_document(tar, configuration(image, base), oci.CONFIG)
            manifest = {
                "schemaVersion": 2,
                "mediaType": oci.MANIFEST,
                "config": config.write(),
                "layers": [layer.write() for layer in (*base.layers, *own)],
            }
            manifests[reference] = archive.add_document(tar, manifest, oci.MANIFEST)
            blobs.update({layer.digest: layer for layer in own})
        for blob in blobs.values():
            archive.add_blob(tar, layout, blob)
        archive.add_index(tar, manifests)


def configuration(image: Image, base: Base) -> dict[str, Any]:
    """The configuration of an image that stands on `base` instead of on the bundled image of the store."""
    diff_ids = [*base.config["rootfs"]["diff_ids"], *image.diff_ids[1:]]
    return {
        "architecture": base.config["architecture"],
        "os": base.config["os"],
        "config": settings(image.settings, base.config.get("config") or {}),
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
    }


def settings(own: Mapping[str, Any], base: Mapping[str, Any]) -> dict[str, Any]:
    """The execution parameters `own` upon those of the base, whose PATH leads to its Python."""
    merged = {**base, **{key: value for key, value in own.items() if value}}
    if own.get("Entrypoint") and not own.get("Cmd"):
        merged.pop("Cmd", None)
    env = variables(base) | {name: value for name, value in variables(own).items() if name != "PATH"}
    labels = {
        key: value for key, value in (own.get("Labels") or {}).items() if not key.startswith(catalogue.LABEL_PREFIX)
    }
    return {
        **merged,
        "Env": [f"{key}={value}" for key, value in env.items()],
        "Labels": {**(base.get("Labels") or {}), **labels},
    }
