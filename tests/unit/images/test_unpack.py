from __future__ import annotations

import gzip
import hashlib
import os
import stat
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from podlab.errors import BlobCorrupted, ImageError
from podlab.images.image import Image, architecture, chain_ids
from podlab.images.layout import CONFIG, LAYER, LAYER_GZIP, MANIFEST, ImageLayout
from podlab.images.rooted import resolve
from podlab.images.unpack import recorded, root_folder
from podlab.trees import remove_tree

ROOT = os.geteuid() == 0


def image_of(layout: ImageLayout, layers: Sequence[bytes], *, compress: bool = False) -> Image:
    """An image whose layers are these tars."""
    diff_ids = ["sha256:" + hashlib.sha256(layer).hexdigest() for layer in layers]
    stored = [
        layout.write_blob(gzip.compress(layer) if compress else layer, LAYER_GZIP if compress else LAYER)
        for layer in layers
    ]
    config = {
        "os": "linux",
        "architecture": architecture(),
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
    }
    blob = layout.write_document(config, CONFIG)
    return Image(layout.write_document({}, MANIFEST), blob, stored, config)


@pytest.fixture
def unpack(layout: ImageLayout) -> Callable[..., Path]:
    def call(*layers: bytes, compress: bool = False) -> Path:
        return root_folder(layout, image_of(layout, layers, compress=compress), shown="test")

    return call


def tree(root: Path) -> dict[str, str]:
    """path -> content of a file, "/" for a folder, "-> target" for a link."""
    found = {}
    for path in sorted(root.rglob("*")):
        name = str(path.relative_to(root))
        if path.is_symlink():
            found[name] = f"-> {path.readlink()}"
        else:
            found[name] = "/" if path.is_dir() else path.read_text()
    return found


@pytest.mark.parametrize("compress", [False, True])
def test_layers_are_applied_in_order(tar: Callable, unpack: Callable, compress: bool) -> None:
    root = unpack(
        tar(("etc", "dir", ""), ("etc/a", "reg", "1"), ("etc/b", "reg", "1"), ("l", "sym", "etc/a")),
        tar(("etc/a", "reg", "2"), ("new/deep/file", "reg", "x")),
        compress=compress,
    )
    assert tree(root) == {
        "etc": "/",
        "etc/a": "2",
        "etc/b": "1",
        "l": "-> etc/a",
        "new": "/",
        "new/deep": "/",
        "new/deep/file": "x",
    }


def test_a_whiteout_removes_what_is_below(tar: Callable, unpack: Callable) -> None:
    root = unpack(
        tar(("d/a", "reg", "1"), ("d/b/c", "reg", "1"), ("e", "reg", "1")),
        tar(("d/.wh.a", "reg", ""), ("d/.wh.b", "reg", ""), (".wh.not-there", "reg", "")),
    )
    assert tree(root) == {"d": "/", "e": "1"}


def test_an_opaque_folder_keeps_only_what_its_own_layer_has(tar: Callable, unpack: Callable) -> None:
    lower = tar(("d/a", "reg", "1"), ("d/s/b", "reg", "1"), ("d/s/k/x", "reg", "1"), ("e/f", "reg", "1"))
    for order in (0, 1):
        entries = [("d/.wh..wh..opq", "reg", ""), ("d/new", "reg", "2"), ("d/s/k/y", "reg", "2")]
        root = unpack(lower, tar(*(entries if order else entries[::-1])))
        assert tree(root) == {
            "d": "/", "d/new": "2", "d/s": "/", "d/s/k": "/", "d/s/k/y": "2", "e": "/", "e/f": "1",
        }  # fmt: skip


def test_lower_layers_are_shared_and_never_changed(layout: ImageLayout, tar: Callable, unpack: Callable) -> None:
    base = tar(("a", "reg", "1"), ("b", "reg", "1"), ("d", "dir", "", {"mode": 0o700}))
    first = unpack(base)
    second = unpack(base, tar(("a", "reg", "2"), ("d", "dir", "", {"mode": 0o755}), (".wh.b", "reg", "")))
    assert tree(first) == {"a": "1", "b": "1", "d": "/"}
    assert stat.S_IMODE((first / "d").stat().st_mode) == 0o700
    assert tree(second) == {"a": "2", "d": "/"}
    third = unpack(base, tar(("c", "reg", "3")))
    assert (third / "a").stat().st_ino == (first / "a").stat().st_ino
    assert (third / "a").stat().st_nlink == 2


def test_hard_links_stay_one_file(tar: Callable, unpack: Callable) -> None:
    root = unpack(tar(("d/a", "reg", "1"), ("b", "lnk", "d/a"), ("c", "lnk", "./b")))
    assert len({(root / name).stat().st_ino for name in ("d/a", "b", "c")}) == 1


def test_modes_and_times_are_kept(tar: Callable, unpack: Callable) -> None:
    root = unpack(
        tar(
            ("s", "reg", "x", {"mode": 0o4755, "mtime": 1_000_000_000}),
            ("none", "reg", "x", {"mode": 0}),
            ("closed", "dir", "", {"mode": 0o555, "mtime": 5}),
            ("closed/in", "reg", "x"),
            ("t", "dir", "", {"mode": 0o1777}),
        ),
        tar(("closed/more", "reg", "y")),
    )
    modes = {name: stat.S_IMODE((root / name).lstat().st_mode) for name in ("s", "none", "closed", "t")}
    assert modes == {"s": 0o4755, "none": 0, "closed": 0o555, "t": 0o1777}
    assert (root / "s").stat().st_mtime == 1_000_000_000
    assert (root / "closed" / "more").read_text() == "y"
    assert stat.S_IMODE(root.stat().st_mode) == 0o755


def test_owners_are_set_or_recorded(tar: Callable, unpack: Callable) -> None:
    mine = {"uid": 1234, "gid": 5678}
    root = unpack(
        tar(("a", "reg", "1", mine), ("b", "reg", "1", mine), ("d/x", "reg", "", mine), ("e", "lnk", "a")),
        tar(("b", "reg", "2"), (".wh.d", "reg", "")),
    )
    status = (root / "a").stat()
    if (status.st_uid, status.st_gid) == (1234, 5678):
        assert recorded(root).owners == {}
    else:
        assert recorded(root).owners == {"a": (1234, 5678), "e": (1234, 5678)}


def test_devices_are_skipped_and_recorded(tar: Callable, unpack: Callable) -> None:
    root = unpack(tar(("dev/null", "chr", "", {"devmajor": 1, "devminor": 3}), ("p", "fifo", "")))
    assert not (root / "dev/null").exists()
    assert stat.S_ISFIFO((root / "p").lstat().st_mode)
    assert recorded(root).skipped == {"dev/null": "device"}


@pytest.mark.parametrize(
    "entry",
    [
        ("../out", "reg", "x"),
        ("a/../../out", "reg", "x"),
        ("a", "lnk", "../out"),
        ("a", "lnk", "/etc/passwd"),
        ("a", "lnk", "nowhere"),
        ("..", "dir", ""),
        (".wh...", "reg", ""),
        ("d/.wh..", "reg", ""),
    ],
)
def test_an_entry_that_leads_out_is_refused(layout: ImageLayout, tar: Callable, unpack: Callable, entry: tuple) -> None:
    with pytest.raises(ImageError):
        unpack(tar(entry))
    assert list(layout.roots.iterdir()) == []
    assert list((layout.folder / "ingest").iterdir()) == []


def test_nothing_is_written_through_links_that_lead_out(tmp_path: Path, tar: Callable, unpack: Callable) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").write_text("keep")
    root = unpack(
        tar(
            ("abs", "sym", str(outside)),
            ("up", "sym", "../../../../../../../../../../.." + str(outside)),
            ("abs/new", "reg", "x"),
            ("up/other", "reg", "y"),
            ("up/.wh.precious", "reg", ""),
            ("up/.wh..wh..opq", "reg", ""),
            ("file", "sym", str(outside / "precious")),
            ("file", "reg", "replaced"),
        )
    )
    assert tree(outside) == {"precious": "keep"}
    inside = root / str(outside).lstrip("/")
    assert (inside / "new").read_text() == "x"
    assert (inside / "other").read_text() == "y"
    assert (root / "file").read_text() == "replaced"


def test_a_folder_entry_replaces_a_link_and_a_file(tar: Callable, unpack: Callable) -> None:
    root = unpack(
        tar(("a", "reg", "1"), ("l", "sym", "a")), tar(("a", "dir", ""), ("l", "dir", ""), ("l/x", "reg", ""))
    )
    assert tree(root) == {"a": "/", "l": "/", "l/x": ""}


def test_links_in_a_circle_are_refused(tar: Callable, unpack: Callable) -> None:
    with pytest.raises(ImageError, match="circle"):
        unpack(tar(("a", "sym", "b"), ("b", "sym", "a"), ("a/x", "reg", "")))


def test_a_damaged_layer_is_refused_and_can_be_repaired(layout: ImageLayout, tar: Callable) -> None:
    data = tar(("a", "reg", "1"))
    image = image_of(layout, [data])
    blob = layout.blob_path(image.layers[0].digest)
    blob.write_bytes(data.replace(b"1", b"2"))
    with pytest.raises(BlobCorrupted, match="damaged"):
        root_folder(layout, image, shown="test")
    blob.write_bytes(data[:700])
    with pytest.raises(BlobCorrupted, match="damaged"):
        root_folder(layout, image, shown="test")
    blob.write_bytes(data)
    assert tree(root_folder(layout, image, shown="test")) == {"a": "1"}


def test_a_layer_that_is_not_its_diff_id_is_refused(layout: ImageLayout, tar: Callable) -> None:
    image = image_of(layout, [tar(("a", "reg", "1"))])
    image.config["rootfs"]["diff_ids"][0] = "sha256:" + "0" * 64
    with pytest.raises(ImageError, match="its configuration says"):
        root_folder(layout, image, shown="test")


def test_a_gzip_that_does_not_end_as_it_says_is_told(layout: ImageLayout, tar: Callable) -> None:
    plain = tar(("a", "reg", "content"))
    packed = bytearray(gzip.compress(plain))
    packed[-8:-4] = b"\0\0\0\0"  # its checksum
    image = image_of(layout, [plain])
    image.layers[0] = layout.write_blob(bytes(packed), LAYER_GZIP)  # type: ignore[index]
    with pytest.raises(ImageError, match="no readable tar archive: CRC check failed"):
        root_folder(layout, image, shown="test")


@pytest.mark.parametrize("data", [b"no tar at all" * 100, b"\x1f\x8bno gzip", b"\x28\xb5\x2f\xfdzstd"])
def test_a_layer_that_is_no_tar_is_refused(layout: ImageLayout, data: bytes) -> None:
    with pytest.raises(ImageError, match="layer of test"):
        root_folder(layout, image_of(layout, [data]), shown="test")


def test_an_unfinished_root_is_made_again(layout: ImageLayout, tar: Callable) -> None:
    image = image_of(layout, [tar(("a", "reg", "1"))])
    root = root_folder(layout, image, shown="test")
    (root / "a").unlink()
    root.with_name(root.name + ".json").unlink()
    assert tree(root_folder(layout, image, shown="test")) == {"a": "1"}


_LIMITED = """
import resource, sys
from pathlib import Path
from podlab.errors import ImagePullError
from podlab.images.pull import Images
images = Images(Path(sys.argv[1]))
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, resource.RLIM_INFINITY))
try:
    images.resolve("test/image:1")
except ImagePullError as error:
    print(error)
assert not any(path.is_dir() for path in images.layout.roots.iterdir())
assert not list((images.layout.folder / "ingest").iterdir())
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
print((images.resolve("test/image:1").folder / "big").stat().st_size)
"""


def test_no_space_left_is_told_and_nothing_is_left(layout: ImageLayout, make: Callable, context: Path) -> None:
    (context / "big").write_bytes(bytes(10_000))
    make("FROM scratch\nCOPY big /big\n")
    done = subprocess.run(
        [sys.executable, "-c", _LIMITED, str(layout.folder)], capture_output=True, text=True, check=True
    )
    assert "cannot be unpacked: File too large" in done.stdout
    assert "podlab image prune" in done.stdout
    assert done.stdout.splitlines()[-1] == "10000"


def test_a_whiteout_spares_what_its_own_layer_has_at_any_depth(tar: Callable, unpack: Callable) -> None:
    deep = "d/" * 1200 + "file"
    root = unpack(tar(("d/old", "reg", "")), tar((deep, "reg", "1"), (".wh.d", "reg", "")))
    found = (root / deep).read_text(), (root / "d/old").exists()
    remove_tree(root)  # pytest could not
    assert found == ("1", False)


def test_an_image_that_is_too_deep_is_refused_in_words_and_nothing_is_left(layout: ImageLayout, tar: Callable) -> None:
    image = image_of(layout, [tar(("d/" * 3000 + "file", "reg", ""))])
    with pytest.raises(ImageError, match="cannot be unpacked: File name too long"):
        root_folder(layout, image, shown="test")
    assert not list((layout.folder / "ingest").iterdir()) and not list(layout.roots.iterdir())


def test_chain_ids_are_those_of_the_specification() -> None:
    first, second = "sha256:" + "1" * 64, "sha256:" + "2" * 64
    expected = hashlib.sha256(f"{first} {second}".encode()).hexdigest()
    assert chain_ids([first, second]) == ["1" * 64, expected]


_names = st.sampled_from(["a", "b", "..", ".", "", ".wh.a", ".wh.b", ".wh..wh..opq", "l", "m"])
_paths = st.lists(_names, min_size=1, max_size=4).map("/".join)
_entries = st.tuples(
    _paths, st.sampled_from(["reg", "dir", "sym", "lnk", "fifo"]), _paths | _paths.map(lambda p: "/" + p)
)


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(layers=st.lists(st.lists(_entries, max_size=8), min_size=1, max_size=3))
@example(layers=[[("a", "sym", ".wh.a"), ("a/a", "reg", "a")]])
def test_whatever_a_tar_says_nothing_outside_changes(
    tmp_path_factory: pytest.TempPathFactory, tar: Callable, layers: list[list[tuple]]
) -> None:
    base = tmp_path_factory.mktemp("any")
    for name in ("a", "b", "l"):
        (base / name).write_text("outside")
    layout = ImageLayout(base / "store")
    try:
        root = root_folder(layout, image_of(layout, [tar(*layer) for layer in layers]), shown="any")
    except ImageError:
        assert [path for path in layout.roots.iterdir() if not _good(path)] == []
    else:
        for folder, folders, files in os.walk(root):
            for name in (*folders, *files):
                assert not name.startswith(".wh.")
                assert Path(folder).resolve().is_relative_to(root.resolve())
    assert {path.name for path in base.iterdir()} == {"a", "b", "l", "store"}
    assert all((base / name).read_text() == "outside" for name in ("a", "b", "l"))
    assert list((layout.folder / "ingest").iterdir()) == []


def _good(path: Path) -> bool:
    """Whether a root has its record, or a record its root."""
    return (path.with_suffix("") if path.suffix else path.with_name(path.name + ".json")).exists()


@given(st.lists(_names, max_size=6).map("/".join))
def test_a_path_is_resolved_within_the_root(path: str) -> None:
    assert ".." not in resolve(Path("/nonexistent"), path).split("/")
