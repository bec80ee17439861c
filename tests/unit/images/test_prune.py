from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from podlab.errors import ImageError
from podlab.images import prune as pruning
from podlab.images.layout import LAYER, ImageLayout
from podlab.images.prune import mounted_roots, prune
from podlab.images.pull import Images
from podlab.images.reference import Reference


@pytest.fixture
def two(layout: ImageLayout, make: Callable, context: Path) -> ImageLayout:
    (context / "a").write_text("x")
    make("FROM podlab/toolbox\nCOPY a /a\n", "one:1")
    make("FROM podlab/toolbox\nCOPY a /b\n", "two:1")
    for name in ("one:1", "two:1"):
        Images(layout.folder).resolve(name)
    return layout


def test_what_is_named_stays(two: ImageLayout) -> None:
    before = two.blobs(), sorted(two.roots.iterdir())
    done = prune(two)
    assert (done.blobs, done.roots, done.freed, done.kept) == (0, 0, 0, 0)
    assert (two.blobs(), sorted(two.roots.iterdir())) == before


def test_what_no_name_leads_to_goes(two: ImageLayout) -> None:
    two.write_blob(b"left over", LAYER)
    (two.folder / "ingest" / "unfinished").write_text("x")
    two.temporary_folder()
    two.untag(Reference.parse("two:1"))
    done = prune(two)
    assert (done.blobs, done.roots) == (4, 1)
    assert done.freed > 9
    assert list((two.folder / "ingest").iterdir()) == []
    assert (Images(two.folder).resolve("one:1").folder / "a").exists()
    assert prune(two).blobs == 0


def test_a_root_in_use_stays(two: ImageLayout, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = Images(two.folder).resolve("two:1").folder
    two.untag(Reference.parse("two:1"))
    monkeypatch.setattr(pruning, "mounted_roots", lambda: {folder.name})
    assert prune(two).kept == 1
    assert (folder / "b").exists()


def test_mounts_are_read_from_every_process(tmp_path: Path) -> None:
    (tmp_path / "1").mkdir()
    (tmp_path / "2").mkdir()
    line = f"36 35 98:0 / / rw - overlay /s/roots/{'a' * 64} rw,lowerdir=/proc/self/fd/5\n"
    (tmp_path / "1" / "mountinfo").write_text(line)
    assert mounted_roots([tmp_path / "1", tmp_path / "2"]) == {"a" * 64}


def test_with_a_damaged_image_nothing_is_removed(two: ImageLayout) -> None:
    two.write_blob(b"left over", LAYER)
    digest = two.images()["docker.io/library/one:1"].digest
    two.blob_path(digest).write_text("damaged")
    count = len(two.blobs())
    with pytest.raises(ImageError, match="podlab image rm"):
        prune(two)
    assert len(two.blobs()) == count
