"""A store and a build context of one's own, and tar archives with any content."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from podlab.images.build import Built, build
from podlab.images.layout import ImageLayout
from podlab.images.reference import Reference


@pytest.fixture
def layout(tmp_path: Path) -> ImageLayout:
    return ImageLayout(tmp_path / "store")


@pytest.fixture
def context(tmp_path: Path) -> Path:
    folder = tmp_path / "context"
    folder.mkdir()
    return folder


@pytest.fixture
def make(layout: ImageLayout, context: Path) -> Callable[..., Built]:
    """Build from a Dockerfile's text under a name."""

    def call(text: str, name: str = "test/image:1") -> Built:
        (context / "Dockerfile").write_text(text)
        return build(layout, context, [Reference.parse(name)])

    return call


@pytest.fixture
def tar() -> Callable[..., bytes]:
    """The bytes of a tar archive: (name, kind, content or target, further attributes) for each entry."""

    def call(*entries: tuple, compression: str = "") -> bytes:
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode=f"w:{compression}") as archive:
            for name, kind, content, *more in entries:
                info = tarfile.TarInfo(name)
                info.type = getattr(tarfile, f"{kind.upper()}TYPE")
                info.mode = 0o755 if kind == "dir" else 0o644
                if kind in ("sym", "lnk"):
                    info.linkname = content
                for name_, value in (more[0] if more else {}).items():
                    setattr(info, name_, value)
                data = content.encode() if kind == "reg" else b""
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))
        return out.getvalue()

    return call
