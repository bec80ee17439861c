"""Images that podlab itself makes of parts of this machine: a folder to put one together in, and the local store."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from podlab import paths
from podlab.images.build import build
from podlab.images.layout import ImageLayout
from podlab.images.reference import Reference


def folder() -> Path:
    """Where they are put together: on the disk of the store, so that files can be linked."""
    return paths.private(paths.cache() / "images-made")


@contextmanager
def scratch(prefix: str) -> Iterator[Path]:
    """An empty folder there, for the block."""
    with tempfile.TemporaryDirectory(prefix=f"{prefix}-", dir=folder()) as name:
        yield Path(name)


def put(context: Path, name: str, *, file: Path | None = None) -> None:
    """Build an image into the local store, of `file` (default: the folder's Dockerfile); raises as `build` does."""
    build(ImageLayout(paths.cache() / "images"), context, [Reference.parse(name)], file=file)
