"""Where volumes are: sizes of memory, paths inside the node's folder, subPaths that lead out, groups."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from pods import container, made

from podlab.node import atomic, volume_places
from podlab.node.credentials import anchors, clean_chain, matches
from podlab.node.environment import ConfigError
from podlab.node.runtime.sandbox.beneath import make_below
from podlab.node.volume_files import Bundle, VolumeError
from podlab.node.volume_places import Placed, give_to_group, host_path, memory_size
from podlab.node.volumes import PodVolumes, remove_tree
from podlab.trees import walk

NODE = {"memory": "4Gi"}


def test_a_folder_that_is_not_there_is_removed_without_a_change_around_it(tmp_path: Path) -> None:
    """A pod that never had logs and ends must leave the node's /var/log/pods as it is: others look into it, too."""
    top = tmp_path / "pods"
    top.mkdir(mode=0o755)
    (top / "closed" / "inside").mkdir(parents=True)
    (top / "link").symlink_to("closed")
    for name in ("missing", "link"):
        remove_tree(top / name)
    assert stat.S_IMODE(top.stat().st_mode) == 0o755
    for folder in (top / "closed" / "inside", top / "closed"):
        folder.chmod(0)
    remove_tree(top / "closed")
    assert [entry.name for entry in top.iterdir()] == ["link"]


def test_folders_in_folders_without_end_are_removed(deep: Path) -> None:
    """A node must neither keep what such a pod had, nor fail at it whenever it begins."""
    remove_tree(deep)
    assert not deep.exists()


def test_a_link_in_the_place_of_a_folder_that_was_just_made_changes_nothing_where_it_leads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    top, outside, real = tmp_path / "top", tmp_path / "outside", os.mkdir
    top.mkdir()
    outside.mkdir(mode=0o700)

    def raced(name: str, *, dir_fd: int) -> None:
        real(name, dir_fd=dir_fd)
        os.rmdir(name, dir_fd=dir_fd)
        os.symlink(outside, name, dir_fd=dir_fd)

    monkeypatch.setattr(os, "mkdir", raced)
    with pytest.raises(NotADirectoryError):
        make_below(top, ["folder"], 0o755)
    assert stat.S_IMODE(outside.stat().st_mode) == 0o700
    monkeypatch.undo()
    make_below(top, ["sub", "folder"], 0o751)
    assert stat.S_IMODE((top / "sub" / "folder").stat().st_mode) == 0o751


@pytest.mark.parametrize(
    ("source", "limit", "size"),
    [
        ({}, None, 4 << 30),
        ({"sizeLimit": "8Mi"}, None, 8 << 20),
        ({"sizeLimit": "1Gi"}, "64Mi", 64 << 20),
        ({"sizeLimit": "0"}, "64Mi", 64 << 20),
        ({"sizeLimit": "9Gi"}, None, 4 << 30),
    ],
)
def test_memory_is_limited_by_the_volume_the_pod_and_the_node(source: Any, limit: str | None, size: int) -> None:
    resources = {"limits": {"memory": limit}} if limit else {}
    assert memory_size(made(container(resources=resources)), source, NODE) == size
    assert memory_size(made(resources=resources), source, NODE) == size


def test_host_paths_stay_in_the_nodes_folder(tmp_path: Path) -> None:
    top = tmp_path / "host"
    assert host_path(top, {"path": "/srv/data"}) == Placed(top / "srv/data", within=top)
    assert (top / "srv/data").is_dir()
    (top / "out").symlink_to(tmp_path)
    (top / "dangling").symlink_to(tmp_path / "made")
    for path in ("/out", "/out/other", "/dangling", "/srv/../../x"):
        for kind in ("", "DirectoryOrCreate", "FileOrCreate"):
            with pytest.raises(VolumeError, match="refused"):
                host_path(top, {"path": path, "type": kind})
    assert list(tmp_path.iterdir()) == [top]
    (top / "inside").symlink_to("srv")
    assert host_path(top, {"path": "/inside/file", "type": "FileOrCreate"}).path == top / "srv/file"
    assert (top / "srv/file").is_file()
    with pytest.raises(VolumeError, match="is not a directory"):
        host_path(top, {"path": "/srv/file", "type": "DirectoryOrCreate"})
    with pytest.raises(VolumeError, match="is not a file"):
        host_path(top, {"path": "/srv", "type": "File"})
    with pytest.raises(VolumeError, match="is no device"):
        host_path(top, {"path": "/srv", "type": "BlockDevice"})


def volumes(tmp_path: Path, placed: Placed) -> PodVolumes:
    context: Any = SimpleNamespace(api=None, configuration=SimpleNamespace(name="node-1"))
    found = PodVolumes(tmp_path, context)
    found._placed["v"] = placed
    return found


def mount(found: PodVolumes, sub_path: str = "", path: str = "/m") -> Any:
    spec = {"name": "c", "volumeMounts": [{"name": "v", "mountPath": path, "subPath": sub_path}]}
    return found.mounts(spec, {})[0]


@pytest.mark.parametrize(("path", "target"), [("m", "/m"), ("//m/", "/m"), ("/m/../n", "/n"), ("/process", "/process")])
def test_a_volume_is_where_it_is_asked_for(tmp_path: Path, path: str, target: str) -> None:
    assert mount(volumes(tmp_path, Placed(tmp_path)), path=path).target == target


@pytest.mark.parametrize("path", ["/", ".", "//", "/m/..", "/proc", "/proc/", "/m/../proc/sys", "//proc"])
def test_no_volume_hides_the_whole_tree_or_the_kernels_own_files(tmp_path: Path, path: str) -> None:
    with pytest.raises(ConfigError, match='of container "c" is refused: no volume can be at / or in /proc'):
        mount(volumes(tmp_path, Placed(tmp_path)), path=path)


@pytest.mark.parametrize("spec", [{"hostPath": {"path": "/a/b"}}, {"local": {"path": "/a/b"}}])
def test_a_host_path_is_mounted_from_the_nodes_folder_on(tmp_path: Path, spec: Any) -> None:
    """A pod with the folder above may have put a link in its place since: the runtime looks for it anew."""
    top, outside = tmp_path / "host", tmp_path / "outside"
    (top / "a/b").mkdir(parents=True)
    outside.mkdir()
    found = volumes(tmp_path, volume_places._persistent(spec, top))
    for sub_path in ("", "sub"):
        made_mount = mount(found, sub_path)
        assert (made_mount.source, made_mount.within) == (str(top / "a/b" / sub_path), str(top))
    (top / "a").rename(top / "away")
    (top / "a").symlink_to(outside)
    (outside / "b").mkdir()
    assert mount(found).within == str(top)
    with pytest.raises(ConfigError, match="leads out of the volume"):
        mount(found, "sub")
    assert list((outside / "b").iterdir()) == []


def test_a_missing_sub_path_is_made_as_open_as_its_volume(tmp_path: Path) -> None:
    top = tmp_path / "volume"
    top.mkdir()
    top.chmod(0o777)
    made_mount = mount(volumes(tmp_path, Placed(top)), "a/b")
    assert (made_mount.source, made_mount.within) == (str(top / "a/b"), str(top))
    assert stat.S_IMODE((top / "a").stat().st_mode) == stat.S_IMODE((top / "a/b").stat().st_mode) == 0o777


def test_a_sub_path_never_leads_out_of_its_volume(tmp_path: Path) -> None:
    top, outside = tmp_path / "volume", tmp_path / "outside"
    top.mkdir()
    outside.mkdir()
    (top / "link").symlink_to(outside)
    found = volumes(tmp_path, Placed(top))
    for path in ("link", "link/new", "link/../outside/new"):
        with pytest.raises(ConfigError, match=r"failed to prepare subPath|must not contain"):
            mount(found, path)
    assert list(outside.iterdir()) == []


def test_a_file_of_variables_is_read_from_its_volume_alone(tmp_path: Path) -> None:
    """A pod may have put anything in its place; nothing stays open, however often its container begins."""
    top, outside = tmp_path / "volume", tmp_path / "outside"
    (top / "folder").mkdir(parents=True)
    outside.mkdir()
    for folder in (top, outside):
        (folder / "file").write_text("A='1'")
    (top / "link").symlink_to(outside / "file")
    (top / "away").symlink_to(outside)
    os.mkfifo(top / "pipe")
    found, opened = volumes(tmp_path, Placed(top)), len(list(Path("/proc/self/fd").iterdir()))
    texts = {path: found.text("v", path) for path in ("file", "link", "away/file", "folder", "pipe", "missing")}
    assert texts == {"file": "A='1'", "pipe": "", **dict.fromkeys(("link", "away/file", "folder", "missing"))}
    assert len(list(Path("/proc/self/fd").iterdir())) == opened
    with pytest.raises(ConfigError, match='cannot find the volume "w"'):
        found.text("w", "file")


def test_a_sub_path_of_a_read_only_volume_is_not_made(tmp_path: Path) -> None:
    top = tmp_path / "volume"
    top.mkdir()
    with pytest.raises(ConfigError, match="failed to prepare subPath"):
        mount(volumes(tmp_path, Placed(top, read_only=True)), "missing")


def test_a_group_may_write_everything_and_is_given_it_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "folder").mkdir(mode=0o700)
    (tmp_path / "folder/file").touch(0o600)
    (tmp_path / "link").symlink_to("/nowhere")
    give_to_group(tmp_path, os.getgid())
    assert stat.S_IMODE((tmp_path / "folder").stat().st_mode) & 0o2770 == 0o2770
    assert stat.S_IMODE((tmp_path / "folder/file").stat().st_mode) == 0o660
    monkeypatch.setattr(volume_places, "_give", lambda *_: pytest.fail("done again"))
    give_to_group(tmp_path, os.getgid(), "OnRootMismatch")


def test_a_group_may_write_at_any_depth(deep: Path) -> None:
    """The next pod that claims the volume must be able to begin."""
    give_to_group(deep, os.getgid())
    modes = {entry.name: stat.S_IMODE(entry.stat().st_mode) & 0o2770 for _, entry in walk(deep)}
    assert modes == {"folder": 0o2770, "leaf": 0o660}


def test_nothing_is_given_to_a_group_through_a_link(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another pod that has the volume may put one anywhere at any moment; the node may be root's."""
    top, outside, real = tmp_path / "claim", tmp_path / "outside", walk
    (top / "folder").mkdir(parents=True)
    (top / "folder/file").touch(0o600)
    outside.mkdir(mode=0o700)
    (outside / "file").touch(0o600)

    def raced(path: str) -> Iterator[tuple[int, os.DirEntry[str]]]:
        for folder, entry in real(path):
            if entry.name == "file":
                (top / "folder").rename(top / "moved")
                (top / "folder").symlink_to(outside)
            yield folder, entry

    monkeypatch.setattr(volume_places, "walk", raced)
    give_to_group(top, os.getgid(), within=tmp_path)
    assert stat.S_IMODE((top / "moved/file").stat().st_mode) == 0o660
    with pytest.raises(NotADirectoryError):
        give_to_group(top / "folder", os.getgid(), within=tmp_path)
    assert [stat.S_IMODE(path.stat().st_mode) for path in (outside, outside / "file")] == [0o700, 0o600]


_ONE_ID = """
import sys
from pathlib import Path
from podlab.node.volume_places import give_to_group
top = Path(sys.argv[1])
give_to_group(top, 4321)
(top / "folder").chmod(0o700)
for policy in ("OnRootMismatch", "Always"):
    give_to_group(top, 4321, policy)
    print(oct((top / "folder").stat().st_mode & 0o7777))
"""


@pytest.mark.sandbox
def test_a_group_is_given_everything_once_where_one_id_owns_everything(tmp_path: Path) -> None:
    """No file can belong to the group there. PostgreSQL refuses a folder of data that its group may write."""
    (tmp_path / "folder").mkdir()
    command = ["unshare", "--user", "--map-root-user", sys.executable, "-c", _ONE_ID, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["0o700", "0o2770"], done.stderr


def test_whether_a_file_can_belong_to_a_group_is_asked_where_the_volume_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Temporary files may be on another file system, with other rules or full."""
    missing = tmp_path / "missing"
    monkeypatch.setattr(tempfile, "tempdir", str(missing))
    assert atomic.can_own(tmp_path, os.getgid())
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    assert not atomic.can_own(missing, os.getgid())


# Trust


def test_label_selectors() -> None:
    labels = {"a": "1", "b": "2"}
    holds = [{}, {"matchLabels": {"a": "1"}}, {"matchExpressions": [{"key": "b", "operator": "In", "values": ["2"]}]}]
    holds.append({"matchExpressions": [{"key": "c", "operator": "DoesNotExist"}]})
    fails = [{"matchLabels": {"a": "2"}}, {"matchExpressions": [{"key": "a", "operator": "NotIn", "values": ["1"]}]}]
    assert all(matches(selector, labels) for selector in holds)
    assert not any(matches(selector, labels) for selector in fails)


def test_trust_anchors_are_cleaned_and_each_is_there_once() -> None:
    block = "-----BEGIN CERTIFICATE-----\nQUJD\n-----END CERTIFICATE-----\n"
    bundle = Bundle("b", None, "null", optional=False)
    text = f"a comment\n{block}between\n{block}"
    assert anchors(bundle, [{"spec": {"trustBundle": text}}]) == block.encode()
    assert clean_chain(text) == (block * 2).encode()
    with pytest.raises(VolumeError, match='"b"'):
        anchors(bundle, [])
    assert anchors(Bundle("b", None, "null", optional=True), []) == b""
