"""Deterministic layers: the same content gives the same bytes, on every machine and at every time.

A layer is an uncompressed tar archive (PAX format): entries sorted by path, owner as asked (0:0 by default),
one fixed time for all, no names of users. Uncompressed, because the bytes that gzip makes differ between
versions of zlib; then the layer's digest is its diff ID.
"""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from podlab.errors import ImageError
from podlab.images.layout import CHUNK

#: Modification time of every entry: 1980-01-01, the earliest that zip files can hold (seconds since the epoch).
FIXED_TIME = 315_532_800
#: The same as RFC 3339 text, for image configurations.
FIXED_DATE = "1980-01-01T00:00:00Z"


@dataclass(frozen=True)
class Entry:
    """One entry of a layer. `path` is relative to the root. A file's content is `data` or the file `source`."""

    path: str
    kind: Literal["file", "folder", "link"]
    mode: int = 0o644
    data: bytes = b""
    source: Path | None = None
    target: str = ""
    uid: int = 0
    gid: int = 0


def folder(path: str, mode: int = 0o755) -> Entry:
    """A folder of an image's own."""
    return Entry(path, "folder", mode)


def link(path: str, target: str) -> Entry:
    """A symbolic link."""
    return Entry(path, "link", 0o777, target=target)


def text(path: str, content: str, mode: int = 0o644) -> Entry:
    """A small file."""
    return Entry(path, "file", mode, data=content.encode())


def tar_stream(entries: Iterable[Entry]) -> Iterator[bytes]:
    """The bytes of the layer that holds `entries`; ImageError if a source file changes while it is read."""
    written = 0
    for entry in sorted(entries, key=lambda entry: entry.path.split("/")):
        header, size = _header(entry)
        yield header
        written += len(header)
        if size:
            yield from _content(entry, size)
            padding = -size % tarfile.BLOCKSIZE
            yield bytes(padding)
            written += size + padding
    end = 2 * tarfile.BLOCKSIZE
    yield bytes(end + -(written + end) % tarfile.RECORDSIZE)


def tar_bytes(entries: Iterable[Entry]) -> bytes:
    """A small layer at once."""
    return b"".join(tar_stream(entries))


def _header(entry: Entry) -> tuple[bytes, int]:
    info = tarfile.TarInfo(entry.path)
    info.mtime, info.mode, info.uid, info.gid = FIXED_TIME, entry.mode, entry.uid, entry.gid
    if entry.kind == "folder":
        info.type = tarfile.DIRTYPE
    elif entry.kind == "link":
        info.type, info.linkname = tarfile.SYMTYPE, entry.target
    else:
        info.size = entry.source.stat().st_size if entry.source else len(entry.data)
    header = info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")
    return header, info.size


def _content(entry: Entry, size: int) -> Iterator[bytes]:
    left = size
    with entry.source.open("rb") if entry.source else io.BytesIO(entry.data) as file:
        while left and (chunk := file.read(min(CHUNK, left))):
            left -= len(chunk)
            yield chunk
        if left or file.read(1):
            raise ImageError(
                f"The file {entry.source} changed while it was read.",
                hint="Build again when nothing writes to it.",
            )
