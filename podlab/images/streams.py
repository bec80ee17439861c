"""Reading layers as streams: compression told by the first bytes, content hashed on its way."""

from __future__ import annotations

import gzip
import hashlib
from typing import IO, Protocol, cast

from podlab.errors import ImageError
from podlab.images.layout import CHUNK


class Readable(Protocol):
    """What a layer is read from."""

    def read(self, size: int = -1, /) -> bytes: ...


class HashedReader:
    """Reads a stream and hashes what it gives."""

    def __init__(self, source: Readable) -> None:
        self._source = source
        self._hash = hashlib.sha256()

    def read(self, size: int) -> bytes:
        data = self._source.read(size)
        self._hash.update(data)
        return data

    def drain(self) -> None:
        while self.read(CHUNK):
            pass

    def digest(self) -> str:
        return "sha256:" + self._hash.hexdigest()


class _Peeked:
    """A stream whose first bytes were looked at and are given again."""

    def __init__(self, source: Readable, size: int) -> None:
        self.start = self._first = source.read(size)
        self._source = source

    def read(self, size: int = -1) -> bytes:
        if not self._first:
            return self._source.read(size)
        if size < 0:
            data, self._first = self._first, b""
            return data + self._source.read(-1)
        data, self._first = self._first[:size], self._first[size:]
        return data


def decompressed(blob: Readable, shown: str) -> Readable:
    """The plain tar stream of a layer: compression is told by its first bytes, since media types often lie."""
    peeked = _Peeked(blob, 6)
    if peeked.start.startswith(b"\x1f\x8b"):
        return gzip.GzipFile(fileobj=cast(IO[bytes], peeked), mode="rb")
    if peeked.start.startswith(b"\x28\xb5\x2f\xfd"):
        raise ImageError(
            f"A layer of {shown} is compressed with zstd, which is not supported.",
            hint="Save the image with gzip or without compression.",
        )
    return peeked
