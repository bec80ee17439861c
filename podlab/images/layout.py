"""The image store: an OCI image layout on disk, content-addressed, safe for several processes.

    FOLDER/oci-layout, index.json, blobs/sha256/HEX      as the OCI image specification has it
    FOLDER/roots/HEX, roots/HEX.json                     unpacked chains of layers (podlab.images.unpack)
    FOLDER/ingest                                        unfinished files
    FOLDER/lock, unpack.lock, use.lock                   writers of the index; unpacking; users against prune

Every file arrives whole by rename, so a crash or a full disk leaves what was there before. Blobs are verified
when they are read. The index names images by `org.opencontainers.image.ref.name` (the complete reference).
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, Any

from podlab import paths
from podlab.errors import BlobCorrupted, ImageError
from podlab.images.reference import Reference
from podlab.trees import remove_tree

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar"
LAYER_GZIP = "application/vnd.oci.image.layer.v1.tar+gzip"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_INDEX = "application/vnd.docker.distribution.manifest.list.v2+json"
REFERENCE_NAME = "org.opencontainers.image.ref.name"
#: Annotation of images that came from their registry, which is asked again where a pod says Always.
FETCHED = "podlab.image.fetched"

#: Bytes read at a time, and the largest manifest, index or configuration that is read (bytes).
CHUNK = 1 << 20
LARGEST_DOCUMENT = 4 << 20

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


@dataclass(frozen=True)
class Descriptor:
    """Points at a blob: media type, digest (`sha256:...`) and size in bytes."""

    media_type: str
    digest: str
    size: int
    annotations: Mapping[str, str] = field(default_factory=dict)
    platform: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def read(cls, document: Mapping[str, Any]) -> Descriptor:
        """From its JSON form; ImageError if a field is missing."""
        try:
            return cls(
                str(document.get("mediaType", "")),
                str(document["digest"]),
                int(document["size"]),
                dict(document.get("annotations") or {}),
                dict(document.get("platform") or {}),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ImageError(f"A descriptor of an image is malformed: {document!r:.200}.") from error

    def write(self) -> dict[str, Any]:
        """Its JSON form."""
        document: dict[str, Any] = {
            "mediaType": self.media_type,
            "digest": self.digest,
            "size": self.size,
        }
        if self.annotations:
            document["annotations"] = dict(sorted(self.annotations.items()))
        if self.platform:
            document["platform"] = dict(self.platform)
        return document


def canonical_json(document: object) -> bytes:
    """The one byte form in which podlab writes JSON blobs: sorted keys, no spaces."""
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def digest_of(data: bytes) -> str:
    """`sha256:` and the hexadecimal digest of `data`."""
    return "sha256:" + hashlib.sha256(data).hexdigest()


class ImageLayout:
    """An image store in a folder; made when it is missing. Methods may be called from any thread."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.roots = folder / "roots"
        self._ingest = folder / "ingest"
        self._blobs = folder / "blobs" / "sha256"
        self._index = folder / "index.json"
        self._initialise()

    def _initialise(self) -> None:
        with _writing(self.folder):
            for part in (self.folder, self._blobs, self._ingest, self.roots):
                part.mkdir(mode=0o700, parents=True, exist_ok=True)
            if not self._index.exists() or not (self.folder / "oci-layout").exists():
                with self.lock():
                    self._replace(self.folder / "oci-layout", canonical_json({"imageLayoutVersion": "1.0.0"}))
                    if not self._index.exists():
                        self._write_index([])

    @contextlib.contextmanager
    def lock(self, name: str = "lock", *, shared: bool = False) -> Iterator[None]:
        """Hold the store's lock (or the lock file `name` in it) against other threads and processes."""
        descriptor = os.open(self.folder / name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH if shared else fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def in_use(self, *, shared: bool = True) -> contextlib.AbstractContextManager[None]:
        """Hold while blobs are written that nothing names yet; `prune` waits, since it takes this exclusively."""
        return self.lock("use.lock", shared=shared)

    def temporary_folder(self) -> Path:
        """A new private folder on the same file system, to be renamed or removed by the caller."""
        with _writing(self._ingest):
            return Path(tempfile.mkdtemp(dir=self._ingest))

    # Blobs

    def blob_path(self, digest: str) -> Path:
        """Where the blob of `digest` is or would be; ImageError unless it is a sha256 digest."""
        algorithm, _, value = digest.partition(":")
        if algorithm != "sha256" or len(value) != 64 or set(value) - set("0123456789abcdef"):
            raise ImageError(f"The digest {digest!r:.100} is not a sha256 digest, the only kind that is stored.")
        return self._blobs / value

    def has(self, digest: str, size: int | None = None) -> bool:
        """Whether the blob is here, with `size` bytes if that is given (its content is not looked at)."""
        try:
            return self.blob_path(digest).stat().st_size == size or size is None
        except FileNotFoundError:
            return False

    def write_blob(self, data: bytes | Iterable[bytes], media_type: str, expected: str = "") -> Descriptor:
        """Store a blob and return its descriptor; with `expected`, BlobCorrupted if the digest differs."""
        hashed, size = hashlib.sha256(), 0
        with _writing(self._blobs), self._new_file() as (file, keep):
            for chunk in (data,) if isinstance(data, bytes) else data:
                hashed.update(chunk)
                size += len(chunk)
                file.write(chunk)
            digest = "sha256:" + hashed.hexdigest()
            if expected and expected != digest:
                raise BlobCorrupted(
                    f"A blob of an image should have the digest {expected} but has {digest}; it was not stored.",
                    hint="Fetch or save the image again.",
                )
            keep(self.blob_path(digest))
        return Descriptor(media_type, digest, size)

    def write_document(self, document: object, media_type: str) -> Descriptor:
        """Store a JSON document in its canonical form."""
        return self.write_blob(canonical_json(document), media_type)

    def read_blob(self, digest: str, limit: int = LARGEST_DOCUMENT) -> bytes:
        """The blob's bytes, verified; ImageError if it is missing, damaged or larger than `limit` bytes."""
        with self.open_blob(digest) as file:
            data = file.read(limit + 1)
            if len(data) > limit:
                raise ImageError(f"The blob {digest} is larger than {limit} bytes and no image document.")
            file.verify()
        return data

    def open_blob(self, digest: str) -> VerifiedFile:
        """Open a blob for reading in a stream; the reader calls `verify()` after the last byte."""
        path = self.blob_path(digest)
        try:
            return VerifiedFile(path.open("rb", buffering=0), path, digest)
        except FileNotFoundError:
            raise ImageError(
                f"The blob {digest} is missing from the image store {self.folder}.",
                hint="Remove the image (`podlab image rm NAME`) and build or load it again.",
            ) from None

    def read_document(self, digest: str) -> dict[str, Any]:
        """A verified JSON document."""
        try:
            document = json.loads(self.read_blob(digest))
        except ValueError as error:
            raise ImageError(f"The blob {digest} is not JSON: {error}.") from error
        if not isinstance(document, dict):
            raise ImageError(f"The blob {digest} is JSON, but not an object.")
        return document

    def blobs(self) -> list[Path]:
        """The files of all blobs."""
        return sorted(self._blobs.iterdir())

    def clear_unfinished(self) -> None:
        """Remove what writers that were killed left behind; only while nobody else writes (`in_use`)."""
        for path in self._ingest.iterdir():
            if path.is_dir():
                remove_tree(path)
            else:
                path.unlink()

    # The index

    def index_stamp(self) -> tuple[int, int, int]:
        """Changes whenever the index does: for caches in memory."""
        status = self._index.stat()
        return status.st_ino, status.st_mtime_ns, status.st_size

    def images(self) -> dict[str, Descriptor]:
        """Every named image: complete reference -> descriptor of its manifest or index."""
        try:
            entries = json.loads(self._index.read_bytes())["manifests"]
            descriptors = [Descriptor.read(entry) for entry in entries]
        except (ValueError, KeyError, TypeError) as error:
            raise ImageError(
                f"The index of the image store, {self._index}, cannot be read: {error}.",
                hint="Move the folder away; podlab makes a new one, and images can be built again.",
            ) from error
        named = ((entry.annotations.get(REFERENCE_NAME), entry) for entry in descriptors)
        return {name: entry for name, entry in named if name}

    def tag(self, images: Mapping[Reference, Descriptor], *, fetched: bool = False) -> None:
        """Name images in one atomic step; a name that exists moves to its new image. `fetched`: from a registry."""
        marks = {FETCHED: "true"} if fetched else {}
        with _writing(self._index), self.lock():
            entries = self.images()
            for reference, descriptor in images.items():
                entries[str(reference)] = replace(descriptor, annotations={REFERENCE_NAME: str(reference), **marks})
            self._write_index(list(entries.values()))

    def untag(self, reference: Reference) -> Descriptor | None:
        """Remove a name and return what it pointed at; None if it was not there. Blobs stay until `prune`."""
        with _writing(self._index), self.lock():
            entries = self.images()
            gone = entries.pop(str(reference), None)
            if gone:
                self._write_index(list(entries.values()))
        return gone

    def _write_index(self, entries: list[Descriptor]) -> None:
        ordered = sorted(entries, key=lambda entry: entry.annotations.get(REFERENCE_NAME, ""))
        document = {"schemaVersion": 2, "mediaType": INDEX, "manifests": [entry.write() for entry in ordered]}
        self._replace(self._index, json.dumps(document, indent=1, sort_keys=True).encode() + b"\n")

    # Files

    def write_file(self, path: Path, data: bytes) -> None:
        """Write a file of the store whole or not at all."""
        with _writing(path):
            self._replace(path, data)

    def _replace(self, path: Path, data: bytes) -> None:
        with paths.whole_file(path, "wb", folder=self._ingest) as file:
            file.write(data)

    @contextlib.contextmanager
    def _new_file(self) -> Iterator[tuple[IO[bytes], Any]]:
        descriptor, name = tempfile.mkstemp(dir=self._ingest)
        try:
            with os.fdopen(descriptor, "wb") as file:

                def keep(path: Path) -> None:
                    file.flush()
                    os.fsync(file.fileno())
                    Path(name).replace(path)

                yield file, keep
        finally:
            Path(name).unlink(missing_ok=True)


class VerifiedFile:
    """A blob that is hashed while it is read; `verify` compares with the digest after the last byte."""

    def __init__(self, file: IO[bytes], path: Path, digest: str) -> None:
        self._file, self._path, self._digest = file, path, digest
        self._hash = hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        """Up to `size` bytes (all that is left if negative)."""
        if size < 0:
            data = self._file.read()
        else:
            parts = []
            while size > 0 and (part := self._file.read(size)):
                parts.append(part)
                size -= len(part)
            data = b"".join(parts)
        self._hash.update(data)
        return data

    def __iter__(self) -> Iterator[bytes]:
        while chunk := self.read(CHUNK):
            yield chunk

    def verify(self) -> None:
        """Read what is left; BlobCorrupted if the whole is not what the digest says."""
        for _ in self:
            pass
        found = "sha256:" + self._hash.hexdigest()
        if found != self._digest:
            raise BlobCorrupted(
                f"The blob {self._path} is damaged: it should have the digest {self._digest} but has {found}.",
                hint="Delete that file, then build or load the image again.",
            )

    def __enter__(self) -> VerifiedFile:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()


@contextlib.contextmanager
def _writing(where: Path) -> Iterator[None]:
    """Turn a refusal of the file system into an error that says what to do."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise ImageError(
                f"No space is left for the image store at {where}: {error.strerror}. Nothing was changed.",
                hint="Free some space (`podlab image prune` removes what no image needs), then try again.",
            ) from error
        raise ImageError(
            f"The image store cannot be written: {error.strerror}: {error.filename or where}.",
            hint="Set PODLAB_HOME to a folder that you can write to.",
        ) from error
