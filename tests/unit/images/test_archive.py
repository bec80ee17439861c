from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from podlab.errors import BlobCorrupted, ImageError
from podlab.images.archive import load, save
from podlab.images.image import architecture, read_image
from podlab.images.layout import ImageLayout
from podlab.images.pull import Images
from podlab.images.reference import Reference
from podlab.images.unpack import root_folder

NAME = Reference.parse("test/image:1")


def _quiet(_: str, __: int) -> None:
    pass


@pytest.fixture
def other(tmp_path: Path) -> ImageLayout:
    return ImageLayout(tmp_path / "other")


@pytest.fixture
def saved(layout: ImageLayout, make: Callable, context: Path, tmp_path: Path) -> Path:
    (context / "a").write_text("content")
    make('FROM scratch\nCOPY a /a\nCMD ["/a"]\n')
    layout.tag({Reference.parse("also:2"): layout.images()[str(NAME)]})
    save(layout, [NAME, Reference.parse("also:2")], tmp_path / "saved.tar", _quiet)
    return tmp_path / "saved.tar"


def _rewrite(source: Path, change: Callable[[dict[str, bytes]], None]) -> Path:
    """The archive again with its files changed."""
    with tarfile.open(source) as tar:
        files = {member.name: tar.extractfile(member).read() for member in tar}  # type: ignore[union-attr]
    change(files)
    target = source.with_name("rewritten.tar")
    with tarfile.open(target, "w") as tar:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return target


def test_an_image_comes_back_as_it_was(layout: ImageLayout, other: ImageLayout, saved: Path) -> None:
    (loaded,) = load(other, saved, _quiet)
    assert loaded.digest == layout.images()[str(NAME)].digest
    assert {name.familiar for name in loaded.references} == {"test/image:1", "also:2"}
    image = Images(other.folder).resolve("also:2")
    assert (image.folder / "a").read_text() == "content"
    assert image.config.command == ("/a",)


def test_the_same_images_give_the_same_file(layout: ImageLayout, saved: Path, tmp_path: Path) -> None:
    save(layout, [NAME, Reference.parse("also:2")], tmp_path / "second.tar", _quiet)
    assert saved.read_bytes() == (tmp_path / "second.tar").read_bytes()


def test_docker_finds_its_manifest_in_what_save_writes(layout: ImageLayout, saved: Path) -> None:
    with tarfile.open(saved) as tar:
        names = tar.getnames()
        (entry,) = json.load(tar.extractfile("manifest.json"))  # type: ignore[arg-type]
    assert entry["RepoTags"] == ["test/image:1", "also:2"]
    assert entry["Config"] in names
    assert set(entry["Layers"]) <= set(names)


def test_without_the_layout_the_docker_manifest_is_enough(other: ImageLayout, saved: Path) -> None:
    def strip(files: dict[str, bytes]) -> None:
        del files["index.json"], files["oci-layout"]

    (loaded,) = load(other, _rewrite(saved, strip), _quiet)
    image = read_image(other, other.images()[str(NAME)], shown="x")
    assert loaded.digest == image.digest
    assert (root_folder(other, image, shown="x") / "a").read_text() == "content"


@pytest.mark.parametrize("compress", [False, True])
def test_what_docker_save_wrote_before_oci(other: ImageLayout, tar: Callable, tmp_path: Path, compress: bool) -> None:
    lower, upper = tar(("a", "reg", "1")), tar((".wh.a", "reg", ""), ("b", "reg", "2"))
    config = {
        "architecture": architecture(),
        "os": "linux",
        "config": {"Env": ["A=b"], "Cmd": ["sh"], "Entrypoint": None, "StopSignal": "SIGINT"},
        "rootfs": {
            "type": "layers",
            "diff_ids": ["sha256:" + hashlib.sha256(layer).hexdigest() for layer in (lower, upper, lower)],
        },
    }
    text = json.dumps(config)
    name = hashlib.sha256(text.encode()).hexdigest() + ".json"
    manifest = [
        {
            "Config": name,
            "RepoTags": ["old/image:1"],
            "Layers": ["one/layer.tar", "two/layer.tar", "three/layer.tar"],
        }
    ]
    data = tar(
        (name, "reg", text),
        ("manifest.json", "reg", json.dumps(manifest)),
        ("three/layer.tar", "sym", "../one/layer.tar"),
    )
    file = tmp_path / "old.tar"
    with tarfile.open(fileobj=io.BytesIO(data)) as small, tarfile.open(file, "w") as whole:
        for member in small:
            whole.addfile(member, small.extractfile(member) if member.isreg() else None)
        for path, layer in (("one/layer.tar", lower), ("two/layer.tar", upper)):
            info = tarfile.TarInfo(path)
            info.size = len(layer)
            whole.addfile(info, io.BytesIO(layer))
    if compress:
        file.write_bytes(gzip.compress(file.read_bytes()))
    (loaded,) = load(other, file, _quiet)
    image = Images(other.folder).resolve("old/image:1")
    assert image.id == "sha256:" + name.removesuffix(".json")
    assert loaded.references == (Reference.parse("old/image:1"),)
    assert sorted(path.name for path in image.folder.iterdir()) == ["a", "b"]
    assert (image.config.stop_signal, image.config.command) == (2, ("sh",))


def test_a_nested_index_gives_the_image_for_this_machine(other: ImageLayout, saved: Path) -> None:
    def nest(files: dict[str, bytes]) -> None:
        index = json.loads(files["index.json"])
        entry = index["manifests"][0]
        mine = {**entry, "platform": {"os": "linux", "architecture": architecture()}}
        foreign = {**entry, "digest": "sha256:" + "0" * 64, "platform": {"os": "linux", "architecture": "vax"}}
        inner = json.dumps({"schemaVersion": 2, "manifests": [foreign, mine]}).encode()
        digest = hashlib.sha256(inner).hexdigest()
        files[f"blobs/sha256/{digest}"] = inner
        outer = {**entry, "mediaType": "application/vnd.oci.image.index.v1+json", "digest": f"sha256:{digest}"}
        files["index.json"] = json.dumps({"schemaVersion": 2, "manifests": [outer]}).encode()

    (loaded,) = load(other, _rewrite(saved, nest), _quiet)
    assert loaded.references == (NAME,)
    assert Images(other.folder).resolve("test/image:1").config.command == ("/a",)


def test_an_image_without_a_name_needs_one(other: ImageLayout, saved: Path) -> None:
    def forget(files: dict[str, bytes]) -> None:
        index = json.loads(files["index.json"])
        del index["manifests"][1:], index["manifests"][0]["annotations"]
        files["index.json"] = json.dumps(index).encode()

    file = _rewrite(saved, forget)
    with pytest.raises(ImageError, match="-t NAME:TAG"):
        load(other, file, _quiet)
    (loaded,) = load(other, file, _quiet, name=Reference.parse("mine:1"))
    assert [name.familiar for name in loaded.references] == ["mine:1"]


def test_a_damaged_blob_is_refused_and_nothing_is_named(other: ImageLayout, saved: Path) -> None:
    def damage(files: dict[str, bytes]) -> None:
        for name, data in files.items():
            files[name] = data.replace(b"content", b"CONTENT")

    with pytest.raises(BlobCorrupted):
        load(other, _rewrite(saved, damage), _quiet)
    assert other.images() == {}


@pytest.mark.parametrize(
    ("change", "part"),
    [
        (lambda files: files.clear(), "neither index.json nor manifest.json"),
        (lambda files: [files.pop(n) for n in list(files) if n.startswith("blobs")], "is incomplete"),
        (lambda files: files.update({"index.json": b"{"}), "is not JSON"),
        (lambda files: files.update({"index.json": b"[]"}), "is malformed"),
        (lambda files: files.update({"index.json": b'{"manifests": [{"digest": 1}]}'}), "malformed"),
        (
            lambda files: files.update(
                {"index.json": b'{"manifests": [{"digest": "sha256:../../../etc/passwd", "size": 1}]}'}
            ),
            "not a sha256 digest",
        ),
        (lambda files: files.update({"index.json": b'{"manifests": []}', "manifest.json": b"[]"}), "holds no image"),
    ],
)
def test_a_broken_archive_is_told(other: ImageLayout, saved: Path, change: Callable, part: str) -> None:
    with pytest.raises(ImageError) as refused:
        load(other, _rewrite(saved, change), _quiet)
    assert part in str(refused.value)
    assert other.images() == {}


def test_what_is_no_archive_is_told(other: ImageLayout, tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"no tar" * 1000)
    with pytest.raises(ImageError, match="no readable tar archive"):
        load(other, tmp_path / "x", _quiet)
    with pytest.raises(ImageError, match="No such file"):
        load(other, tmp_path / "nothing", _quiet)


def test_a_truncated_archive_is_told(other: ImageLayout, saved: Path) -> None:
    saved.write_bytes(saved.read_bytes()[:-12000])
    with pytest.raises(ImageError):
        load(other, saved, _quiet)
    assert other.images() == {}


def test_another_machines_image_is_refused(other: ImageLayout, tar: Callable, tmp_path: Path) -> None:
    config = json.dumps({"architecture": "vax", "os": "linux", "rootfs": {"type": "layers", "diff_ids": []}})
    manifest = json.dumps([{"Config": "c.json", "RepoTags": ["x:1"], "Layers": []}])
    (tmp_path / "x.tar").write_bytes(tar(("c.json", "reg", config), ("manifest.json", "reg", manifest)))
    with pytest.raises(ImageError, match="linux/vax"):
        load(other, tmp_path / "x.tar", _quiet)


def test_saving_what_is_damaged_leaves_no_file(layout: ImageLayout, saved: Path, tmp_path: Path) -> None:
    manifest = layout.read_document(layout.images()[str(NAME)].digest)
    blob = layout.blob_path(manifest["layers"][0]["digest"])
    blob.write_bytes(blob.read_bytes().replace(b"content", b"CONTENT"))
    with pytest.raises(BlobCorrupted):
        save(layout, [NAME], tmp_path / "new.tar", _quiet)
    assert not (tmp_path / "new.tar").exists()
    assert [path for path in tmp_path.iterdir() if path.name.startswith(".new")] == []


def test_saving_an_unknown_image_is_refused(layout: ImageLayout, tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="not in the image store"):
        save(layout, [Reference.parse("nothing")], tmp_path / "x.tar", _quiet)


def test_saving_a_blob_that_is_cut_off_is_told_as_such(layout: ImageLayout, saved: Path, tmp_path: Path) -> None:
    manifest = layout.read_document(layout.images()[str(NAME)].digest)
    blob = layout.blob_path(manifest["layers"][0]["digest"])
    blob.write_bytes(blob.read_bytes()[:-100])
    with pytest.raises(BlobCorrupted, match="is damaged"):
        save(layout, [NAME], tmp_path / "new.tar", _quiet)


def test_a_folder_that_is_not_there_is_told(layout: ImageLayout, saved: Path, tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"missing/x\.tar cannot be written: No such file or directory\."):
        save(layout, [NAME], tmp_path / "missing" / "x.tar", _quiet)


@pytest.mark.parametrize("kind", ["xz", "gz", "bz2"])
def test_a_compressed_archive_that_is_damaged_is_told(other: ImageLayout, saved: Path, kind: str) -> None:
    module = pytest.importorskip({"xz": "lzma", "gz": "gzip", "bz2": "bz2"}[kind])
    larger = _rewrite(saved, lambda files: files.update(junk=os.urandom(1 << 18)))
    packed = bytearray(module.compress(larger.read_bytes()))
    packed[len(packed) // 2 :] = bytes(len(packed) - len(packed) // 2)
    saved.write_bytes(packed)
    with pytest.raises(ImageError, match=r"no readable tar archive|cannot be read|is incomplete"):
        load(other, saved, _quiet)
