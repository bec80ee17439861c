"""What a runtime needs to know of an image to give a container its file tree."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class RootFileSystem:
    """Where a container's root comes from.

    `layers`: unpacked, read-only folders, lowest first, joined by overlayfs under a writable layer of the
    container's own (an empty list: only `host_paths`). `host_paths`: absolute paths of the host bound
    read-only at the same place (for the bundled bases, which borrow /usr and the Python installation).
    `links`: symbolic links to make, path -> target. `files`: small files to write, path -> text.
    """

    layers: Sequence[str] = ()
    host_paths: Sequence[str] = ()
    links: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    read_only: bool = False
