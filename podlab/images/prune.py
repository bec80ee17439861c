"""Removing what no image needs: blobs, unpacked roots, unfinished files."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from podlab.errors import ImageError
from podlab.images.image import chain_ids, is_index
from podlab.images.layout import Descriptor, ImageLayout
from podlab.trees import remove_tree

_ROOT = re.compile(r"/roots/([0-9a-f]{64})")


@dataclass(frozen=True)
class Pruned:
    """What was removed: `freed` in bytes of blobs. `kept` are roots that running containers still use."""

    blobs: int
    roots: int
    freed: int
    kept: int


def prune(layout: ImageLayout) -> Pruned:
    """Remove what no name leads to. Waits for builds, loads and pulls that are under way, and they for it.

    Roots that a running container stands on are kept. An image that cannot be read keeps nothing alive but
    itself, and raises ImageError before anything is removed, so that no layer is lost by a damaged manifest.
    """
    with layout.in_use(shared=False), layout.lock("unpack.lock"):
        digests, chains = _needed(layout)
        mounted = mounted_roots()
        freed = blobs = 0
        for path in layout.blobs():
            if path.name not in digests:
                freed += path.stat().st_size
                blobs += 1
                path.unlink()
        roots = {path.name.removesuffix(".json") for path in layout.roots.iterdir()}
        unused = roots - chains
        for name in sorted(unused - mounted):
            (layout.roots / f"{name}.json").unlink(missing_ok=True)
            remove_tree(layout.roots / name)
        layout.clear_unfinished()
    return Pruned(blobs, len(unused - mounted), freed, len(unused & mounted))


def mounted_roots(processes: Iterable[Path] | None = None) -> set[str]:
    """Names of roots that any process's mounts mention (of processes that may be looked at)."""
    found: set[str] = set()
    for process in processes if processes is not None else Path("/proc").glob("[0-9]*"):
        try:
            found.update(_ROOT.findall((process / "mountinfo").read_text(errors="replace")))
        except OSError:
            continue
    return found


def _needed(layout: ImageLayout) -> tuple[set[str], set[str]]:
    """(hexadecimal digests of blobs, names of roots) that the named images need."""
    digests: set[str] = set()
    chains: set[str] = set()
    for name, descriptor in layout.images().items():
        try:
            _collect(layout, descriptor, digests, chains)
        except ImageError as error:
            raise ImageError(
                f"Nothing was removed, since the image {name} cannot be read: {error.message}",
                hint=f"Remove it first: `podlab image rm {name}`.",
            ) from error
    return digests, chains


def _collect(layout: ImageLayout, descriptor: Descriptor, digests: set[str], chains: set[str]) -> None:
    digests.add(descriptor.digest.removeprefix("sha256:"))
    document = layout.read_document(descriptor.digest)
    if is_index(document, descriptor.media_type):
        for entry in map(Descriptor.read, document.get("manifests") or []):
            if layout.has(entry.digest):
                _collect(layout, entry, digests, chains)
        return
    config = Descriptor.read(document["config"])
    layers = map(Descriptor.read, document["layers"])
    digests.update(blob.digest.removeprefix("sha256:") for blob in (config, *layers))
    diff_ids = (layout.read_document(config.digest).get("rootfs") or {}).get("diff_ids") or []
    chains.update(chain_ids(diff_ids))
