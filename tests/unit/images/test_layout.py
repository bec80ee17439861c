from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from podlab.errors import BlobCorrupted, ImageError
from podlab.images.layout import LAYER, MANIFEST, Descriptor, ImageLayout
from podlab.images.reference import Reference

A = Reference.parse("a:1")


def test_a_new_store_is_an_oci_layout_for_its_owner_only(layout: ImageLayout) -> None:
    assert json.loads((layout.folder / "oci-layout").read_text()) == {"imageLayoutVersion": "1.0.0"}
    index = json.loads((layout.folder / "index.json").read_text())
    assert (index["schemaVersion"], index["manifests"]) == (2, [])
    assert stat.S_IMODE(layout.folder.stat().st_mode) == 0o700


def test_a_blob_is_found_by_its_digest(layout: ImageLayout) -> None:
    blob = layout.write_blob([b"he", b"llo"], LAYER)
    assert blob.digest == "sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"
    assert blob.size == 5
    assert layout.read_blob(blob.digest) == b"hello"
    assert layout.has(blob.digest) and layout.has(blob.digest, 5) and not layout.has(blob.digest, 6)


def test_a_damaged_blob_is_refused_by_name_and_digests(layout: ImageLayout) -> None:
    blob = layout.write_blob(b"hello", LAYER)
    path = layout.blob_path(blob.digest)
    path.write_bytes(b"hallo")
    with pytest.raises(BlobCorrupted) as refused:
        layout.read_blob(blob.digest)
    found = "sha256:d3751d33f9cd5049c4af2b462735457e4d3baf130bcbb87f389e349fbaeb20b9"
    assert str(path) in refused.value.message
    assert blob.digest in refused.value.message
    assert found in refused.value.message


def test_a_blob_that_is_not_what_was_promised_is_not_stored(layout: ImageLayout) -> None:
    with pytest.raises(BlobCorrupted):
        layout.write_blob(b"x", LAYER, "sha256:" + "0" * 64)
    assert layout.blobs() == []
    assert list((layout.folder / "ingest").iterdir()) == []


@pytest.mark.parametrize("digest", ["sha256:../../x", "md5:" + "0" * 64, "sha256:" + "A" * 64, "", "x"])
def test_a_malformed_digest_never_becomes_a_path(layout: ImageLayout, digest: str) -> None:
    with pytest.raises(ImageError):
        layout.blob_path(digest)


def test_a_missing_blob_says_what_to_do(layout: ImageLayout) -> None:
    with pytest.raises(ImageError, match="build or load it again"):
        layout.read_blob("sha256:" + "0" * 64)


def test_names_move_and_go(layout: ImageLayout) -> None:
    first, second = (layout.write_blob(data, MANIFEST) for data in (b"1", b"2"))
    layout.tag({A: first})
    layout.tag({A: second})
    assert [d.digest for d in layout.images().values()] == [second.digest]
    assert list(layout.images()) == ["docker.io/library/a:1"]
    gone = layout.untag(A)
    assert gone is not None and gone.digest == second.digest
    assert layout.images() == {}
    assert layout.untag(A) is None


def test_an_unreadable_index_is_told_and_kept(layout: ImageLayout) -> None:
    (layout.folder / "index.json").write_text("{")
    with pytest.raises(ImageError, match="index"):
        ImageLayout(layout.folder).images()
    with pytest.raises(ImageError, match="index"):
        layout.tag({A: Descriptor(MANIFEST, "sha256:" + "0" * 64, 1)})
    assert (layout.folder / "index.json").read_text() == "{"


def test_writers_at_the_same_time_lose_no_name(layout: ImageLayout) -> None:
    blob = layout.write_blob(b"1", MANIFEST)

    def tag(worker: int) -> None:
        mine = ImageLayout(layout.folder)
        for number in range(10):
            mine.tag({Reference.parse(f"w{worker}:{number}"): blob})

    threads = [threading.Thread(target=tag, args=(worker,)) for worker in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(layout.images()) == 40


_LIMITED = """
import resource, sys
from pathlib import Path
from podlab.errors import ImageError
from podlab.images.layout import LAYER, ImageLayout
layout = ImageLayout(Path(sys.argv[1]))
kept = layout.write_blob(b"small", LAYER)
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, resource.RLIM_INFINITY))
try:
    layout.write_blob(iter([bytes(3000)] * 3), LAYER)
except ImageError as error:
    print(error)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
assert layout.read_blob(kept.digest) == b"small"
assert len(layout.blobs()) == 1, layout.blobs()
assert not list((layout.folder / "ingest").iterdir())
"""


def test_no_space_left_is_told_and_nothing_is_left(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _LIMITED, str(tmp_path / "store")], capture_output=True, text=True, check=True
    )
    assert "No space is left for the image store" in done.stdout
    assert "Nothing was changed" in done.stdout


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_place_is_told(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(ImageError, match="PODLAB_HOME"):
            ImageLayout(tmp_path / "store")
    finally:
        tmp_path.chmod(0o700)


def test_a_place_that_cannot_hold_a_folder_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ImageError, match="PODLAB_HOME"):
        ImageLayout(tmp_path / "file" / "store")
