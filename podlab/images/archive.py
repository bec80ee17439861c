"""Images as one tar file: written by `save`, read by `load`.

`save` writes an OCI image layout with a `manifest.json` beside it, which Docker, Podman and containerd load.
`load` reads such a file, any OCI layout in a tar, and what `docker save` wrote before it knew OCI (a
`manifest.json` that names a configuration and `LAYER/layer.tar` files). Compressed tars are fine.
"""

from __future__ import annotations

import json
import posixpath
import tarfile
import tempfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from podlab import paths
from podlab.errors import ImageError
from podlab.images import layout as oci
from podlab.images.image import Image, for_this_machine, is_index, read_image
from podlab.images.layers import FIXED_TIME
from podlab.images.layout import CHUNK, LARGEST_DOCUMENT, Descriptor, ImageLayout, canonical_json
from podlab.images.reference import Reference
from podlab.images.unpack import root_folder

try:
    from lzma import LZMAError
except ImportError:  # a Python without it reads no .xz either
    LZMAError = EOFError  # type: ignore[assignment,misc]

CONTAINERD_NAME = "io.containerd.image.name"

#: Called with (what is being moved, bytes of it) after each blob.
Progress = Callable[[str, int], None]


@dataclass(frozen=True)
class Loaded:
    """An image that `load` put into the store."""

    references: tuple[Reference, ...]
    digest: str
    size: int


def save(layout: ImageLayout, references: Sequence[Reference], file: Path, progress: Progress) -> int:
    """Write images to a tar file, whole or not at all; returns its size in bytes. Every blob is verified."""
    with layout.in_use():
        images = {reference: _stored(layout, reference) for reference in references}
        with new(file) as archive:
            _write(layout, images, archive, progress)
    return file.stat().st_size


@contextmanager
def new(file: Path) -> Iterator[tarfile.TarFile]:
    """A tar file to fill, which is there whole or not at all; ImageError if it cannot be written."""
    try:
        with paths.whole_file(file, "wb") as out, tarfile.open(fileobj=out, mode="w") as archive:
            yield archive
    except OSError as error:
        raise ImageError(
            f"{file} cannot be written: {error.strerror or error}.",
            hint="If its disk is full, make room, or take another: by -o, and for podlab's folders by PODLAB_HOME.",
        ) from error


def _stored(layout: ImageLayout, reference: Reference) -> Image:
    there = layout.images()
    if str(reference) not in there:
        raise ImageError(
            f"The image {reference.familiar} is not in the image store.",
            hint="`podlab image list` shows what is there.",
        )
    return read_image(layout, there[str(reference)], shown=reference.familiar)


def _write(
    layout: ImageLayout, images: Mapping[Reference, Image], archive: tarfile.TarFile, progress: Progress
) -> None:
    by_image: dict[str, tuple[Image, list[str]]] = {}
    for reference, image in images.items():
        by_image.setdefault(image.digest, (image, []))[1].append(reference.familiar)
    docker = [
        {
            "Config": _blob_name(image.id),
            "RepoTags": names,
            "Layers": [_blob_name(layer.digest) for layer in image.layers],
        }
        for image, names in by_image.values()
    ]
    add_index(archive, {reference: image.descriptor for reference, image in images.items()})
    _add(archive, "manifest.json", canonical_json(docker))
    blobs = {
        blob.digest: blob
        for image, _ in by_image.values()
        for blob in (image.descriptor, image.config_descriptor, *image.layers)
    }
    for digest in sorted(blobs):
        add_blob(archive, layout, blobs[digest])
        progress(digest, blobs[digest].size)


def add_index(archive: tarfile.TarFile, images: Mapping[Reference, Descriptor]) -> None:
    """Add what makes an archive an OCI layout of these manifests."""
    entries = [
        replace(manifest, annotations={oci.REFERENCE_NAME: reference.tag or "", CONTAINERD_NAME: str(reference)})
        for reference, manifest in images.items()
    ]
    index = {"schemaVersion": 2, "mediaType": oci.INDEX, "manifests": [entry.write() for entry in entries]}
    _add(archive, "oci-layout", canonical_json({"imageLayoutVersion": "1.0.0"}))
    _add(archive, "index.json", canonical_json(index))


def add_blob(archive: tarfile.TarFile, layout: ImageLayout, blob: Descriptor) -> None:
    """Add a blob of the store, which is verified on the way."""
    info = tarfile.TarInfo(_blob_name(blob.digest))
    info.size, info.mode, info.mtime = blob.size, 0o644, FIXED_TIME
    with layout.open_blob(blob.digest) as content:
        try:
            archive.addfile(info, content)
        finally:  # a blob that is cut off ends too early for the archive, too
            content.verify()


def add_document(archive: tarfile.TarFile, document: object, media_type: str) -> Descriptor:
    """Add a manifest or a configuration that is in no store."""
    data = canonical_json(document)
    descriptor = Descriptor(media_type, oci.digest_of(data), len(data))
    _add(archive, _blob_name(descriptor.digest), data)
    return descriptor


def _blob_name(digest: str) -> str:
    return "blobs/" + digest.replace(":", "/")


def _add(archive: tarfile.TarFile, name: str, data: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size, info.mode, info.mtime = len(data), 0o644, FIXED_TIME
    with tempfile.SpooledTemporaryFile() as content:
        content.write(data)
        content.seek(0)
        archive.addfile(info, content)


def load(layout: ImageLayout, file: Path, progress: Progress, *, name: Reference | None = None) -> list[Loaded]:
    """Put the images of a tar file into the store, verified and unpacked, and name them.

    `name` names an image that the file leaves unnamed. Raises ImageError; then no name was changed.
    """
    try:
        with tarfile.open(file, "r:*") as tar, layout.in_use():
            archive = _Archive(tar, file)
            found = list(_from_layout(layout, archive, progress) or _from_docker(layout, archive, progress))
            return _name(layout, found, name, file)
    except (tarfile.TarError, EOFError, zlib.error, LZMAError) as error:
        raise ImageError(
            f"{file} is no readable tar archive: {str(error).splitlines()[0].rstrip(':')}.",
            hint="Write one with `docker save IMAGE -o FILE` or `podlab image save IMAGE -o FILE`.",
        ) from error
    except OSError as error:
        raise ImageError(f"{file} cannot be read: {error.strerror or error}.") from error


def _name(
    layout: ImageLayout, found: list[tuple[Descriptor, list[Reference]]], name: Reference | None, file: Path
) -> list[Loaded]:
    if not found:
        raise ImageError(f"{file} holds no image.")
    unnamed = [descriptor for descriptor, references in found if not references]
    if unnamed and (name is None or len(unnamed) > 1):
        raise ImageError(
            f"{file} has an image without a name ({unnamed[0].digest}).",
            hint="Name it with -t NAME:TAG." if len(unnamed) == 1 else "Save it again with a name.",
        )
    tags: dict[Reference, Descriptor] = {}
    loaded = []
    for descriptor, references in found:
        names = references or ([name] if name else [])
        image = read_image(layout, descriptor, shown=names[0].familiar)
        root_folder(layout, image, shown=names[0].familiar)
        tags.update(dict.fromkeys(names, descriptor))
        loaded.append(Loaded(tuple(names), image.digest, image.size))
    layout.tag(tags)
    return loaded


class _Archive:
    """A tar file as a table of names."""

    def __init__(self, tar: tarfile.TarFile, file: Path) -> None:
        self._tar, self.file = tar, file
        self._members = {posixpath.normpath(member.name): member for member in tar}

    def has(self, name: str) -> bool:
        return posixpath.normpath(name) in self._members

    def chunks(self, name: str) -> Iterator[bytes]:
        """The bytes of a file in it (links within the archive followed)."""
        member = self._members.get(posixpath.normpath(name))
        try:
            source = self._tar.extractfile(member) if member else None
        except KeyError:
            source = None
        if source is None:
            raise ImageError(f"{self.file} is incomplete: it has no {name}.", hint="Save the image again.")
        while chunk := source.read(CHUNK):
            yield chunk

    def document(self, name: str) -> Any:
        """A JSON file in it."""
        data = b""
        for chunk in self.chunks(name):
            data += chunk
            if len(data) > LARGEST_DOCUMENT:
                raise ImageError(f"{name} in {self.file} is larger than {LARGEST_DOCUMENT} bytes.")
        try:
            return json.loads(data)
        except ValueError as error:
            raise ImageError(f"{name} in {self.file} is not JSON: {error}.") from error


def _from_layout(
    layout: ImageLayout, archive: _Archive, progress: Progress
) -> list[tuple[Descriptor, list[Reference]]]:
    """The images of an OCI layout; nothing if it is none."""
    if not (archive.has("oci-layout") and archive.has("index.json")):
        return []
    found: dict[str, tuple[Descriptor, list[Reference]]] = {}
    for document in _list(archive, archive.document("index.json"), "manifests", "index.json"):
        entry = Descriptor.read(document)
        reference = _reference(entry.annotations)
        descriptor = _store_manifest(layout, archive, entry, progress)
        names = found.setdefault(descriptor.digest, (descriptor, []))[1]
        if reference and reference not in names:
            names.append(reference)
    return list(found.values())


def _reference(annotations: Mapping[str, str]) -> Reference | None:
    """The name that an index entry carries; a bare tag (`latest`) is none."""
    for key in (CONTAINERD_NAME, oci.REFERENCE_NAME):
        text = annotations.get(key, "")
        if ":" in text or "/" in text:
            return Reference.parse(text)
    return None


def _store_manifest(layout: ImageLayout, archive: _Archive, entry: Descriptor, progress: Progress) -> Descriptor:
    """Store the manifest for this machine with all its blobs, each checked against its digest."""
    layout.blob_path(entry.digest)
    document = archive.document(_blob_name(entry.digest))
    if is_index(document, entry.media_type):
        chosen = for_this_machine(document, str(archive.file))
        return _store_manifest(layout, archive, chosen, progress)
    blobs = [document.get("config") or {}, *_list(archive, document, "layers", entry.digest)]
    for blob in map(Descriptor.read, blobs):
        _store_blob(layout, archive, blob, progress)
    return replace(_store_blob(layout, archive, entry, progress), annotations={}, platform={})


def _store_blob(layout: ImageLayout, archive: _Archive, blob: Descriptor, progress: Progress) -> Descriptor:
    if not layout.has(blob.digest, blob.size):
        layout.write_blob(archive.chunks(_blob_name(blob.digest)), blob.media_type, blob.digest)
    progress(blob.digest, blob.size)
    return blob


def _from_docker(
    layout: ImageLayout, archive: _Archive, progress: Progress
) -> Iterator[tuple[Descriptor, list[Reference]]]:
    """The images of an archive with a `manifest.json`."""
    if not archive.has("manifest.json"):
        raise ImageError(
            f"{archive.file} is no image archive: it has neither index.json nor manifest.json.",
            hint="Write one with `docker save IMAGE -o FILE` or `podlab image save IMAGE -o FILE`. "
            "(`docker export` writes a container's files, not an image.)",
        )
    images = archive.document("manifest.json")
    for entry in images if isinstance(images, list) else [images]:
        if not isinstance(entry, dict) or not isinstance(entry.get("Config"), str):
            raise ImageError(f"manifest.json in {archive.file} is malformed.")
        config = layout.write_blob(archive.chunks(entry["Config"]), oci.CONFIG)
        layers = []
        for name in _list(archive, entry, "Layers", "manifest.json"):
            stored = layout.write_blob(archive.chunks(str(name)), oci.LAYER)
            compressed = _starts_with_gzip(layout, stored)
            layers.append(replace(stored, media_type=oci.LAYER_GZIP) if compressed else stored)
            progress(stored.digest, stored.size)
        manifest = {
            "schemaVersion": 2,
            "mediaType": oci.MANIFEST,
            "config": config.write(),
            "layers": [layer.write() for layer in layers],
        }
        names = [Reference.parse(name) for name in entry.get("RepoTags") or []]
        yield layout.write_document(manifest, oci.MANIFEST), names


def _starts_with_gzip(layout: ImageLayout, blob: Descriptor) -> bool:
    with layout.open_blob(blob.digest) as file:
        return file.read(2) == b"\x1f\x8b"


def _list(archive: _Archive, document: Any, key: str, where: str) -> list[Any]:
    found = document.get(key) if isinstance(document, dict) else None
    if not isinstance(found, list):
        raise ImageError(f"{where} in {archive.file} is malformed: it has no list {key!r}.")
    return found
