"""A cluster on disk: private, atomic, one winner per name, and deletable whatever pods left in it."""

from __future__ import annotations

import dataclasses
import json
import stat
import threading
from pathlib import Path

import pytest

from podlab import paths
from podlab.cluster.embedded.folder import ClusterFolder, Record, environment, write_private
from podlab.cluster.provider import ClusterSpec
from podlab.errors import ClusterError, ClusterExists, ClusterNotFound

RECORD = Record.of(ClusterSpec(name="one", nodes=2), "embedded")


@pytest.fixture
def folder(tmp_path: Path) -> ClusterFolder:
    return ClusterFolder(tmp_path / "one")


def test_a_record_is_read_as_it_was_written(folder: ClusterFolder) -> None:
    folder.create(RECORD)
    record = folder.read()
    assert record == RECORD
    assert record.nodes == [1, 2]
    assert stat.S_IMODE(folder.path.stat().st_mode) == 0o700
    assert stat.S_IMODE(folder.record_file.stat().st_mode) == 0o600


def test_one_of_many_rivals_gets_the_name(folder: ClusterFolder) -> None:
    outcomes: list[str] = []
    start = threading.Barrier(8)

    def create() -> None:
        start.wait()
        try:
            folder.create(RECORD)
            outcomes.append("made")
        except ClusterExists:
            outcomes.append("refused")

    threads = [threading.Thread(target=create) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["made"] + ["refused"] * 7


def test_a_name_is_free_again_if_its_record_cannot_be_written(folder: ClusterFolder) -> None:
    with pytest.raises(TypeError):
        folder.create(dataclasses.replace(RECORD, details={"no text": object()}))  # type: ignore[dict-item]
    folder.create(RECORD)
    assert folder.read() == RECORD


def test_what_is_no_cluster(folder: ClusterFolder) -> None:
    with pytest.raises(ClusterNotFound, match="no cluster named one"):
        folder.read()
    folder.create(RECORD)
    for text in ("", "[]", '{"name": 1, "strange": 2}'):
        folder.record_file.write_text(text)
        with pytest.raises(ClusterError, match="damaged"):
            folder.read()


def test_the_lock_has_one_holder(folder: ClusterFolder) -> None:
    folder.create(RECORD)
    with folder.locked() as first:
        assert first
        with folder.locked() as second:
            assert not second
    with folder.locked() as again:
        assert again


def test_folders_that_forbid_writing_are_deleted_too(folder: ClusterFolder) -> None:
    folder.create(RECORD)
    inner = folder.path / "nodes" / "work" / "inner"
    inner.mkdir(parents=True)
    (inner / "file").write_text("x")
    (inner / "link").symlink_to(folder.record_file)
    for one in (inner, inner.parent):
        one.chmod(0)
    folder.remove()
    assert not folder.path.exists()


def test_links_out_of_the_folder_are_not_followed(folder: ClusterFolder, tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "file").write_text("x")
    folder.create(RECORD)
    (folder.path / "link").symlink_to(precious)
    folder.remove()
    assert (precious / "file").read_text() == "x"


def test_sockets_in_a_deep_folder_get_a_short_path_that_goes_with_it(tmp_path: Path) -> None:
    deep = ClusterFolder(tmp_path / ("d" * 90) / "one")
    deep.path.parent.mkdir()
    deep.create(RECORD)
    control = deep.control
    assert len(str(control)) < paths.UNIX_PATH_MAX
    assert deep.control == control, "the same folder each time"
    deep.remove()
    assert not control.parent.exists()


def test_writing_is_atomic_and_leaves_no_half_file(tmp_path: Path) -> None:
    target = tmp_path / "record.json"
    write_private(target, json.dumps({"a": 1}))
    with pytest.raises(TypeError):
        write_private(target, None)  # type: ignore[arg-type]
    assert json.loads(target.read_text()) == {"a": 1}
    assert [file.name for file in tmp_path.iterdir()] == ["record.json"]


def test_the_clusters_processes_get_no_proxies_and_nothing_private(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy:3128")
    monkeypatch.setenv("MY_TOKEN", "secret")
    monkeypatch.setenv("PATH", "/usr/bin")
    given = environment({"EXTRA": "1"})
    assert given["PATH"] == "/usr/bin"
    assert given["EXTRA"] == "1"
    assert not {"HTTPS_PROXY", "MY_TOKEN"} & set(given)
