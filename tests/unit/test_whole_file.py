"""`paths.whole_file`: a file is there whole, or as it was."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from podlab import paths


def test_what_was_written_is_there_and_private(tmp_path: Path) -> None:
    target = tmp_path / "record.json"
    with paths.whole_file(target) as file:
        file.write("all of it")
        assert not target.exists()
    assert target.read_text() == "all of it"
    assert stat.S_IMODE(target.stat().st_mode) == 0o600


def test_a_failure_leaves_the_old_contents_and_no_draft(tmp_path: Path) -> None:
    target = tmp_path / "record.json"
    target.write_text("old")
    with pytest.raises(RuntimeError), paths.whole_file(target, "wb") as file:
        file.write(b"half of")
        raise RuntimeError
    assert [entry.name for entry in tmp_path.iterdir()] == ["record.json"]
    assert target.read_text() == "old"


def test_a_disk_that_is_full_is_told_with_the_files_name(tmp_path: Path) -> None:
    target = tmp_path / "record.json"
    with pytest.raises(OSError, match=r"No space left on device: .*record\.json'$"), paths.whole_file(target) as file:
        Path("/dev/full").write_text("x")
        file.write("never")
    assert not list(tmp_path.iterdir())


def test_a_place_where_nothing_can_be_written_is_told_by_the_files_name(tmp_path: Path) -> None:
    with (
        pytest.raises(FileNotFoundError, match=r"nowhere/record\.json'$"),
        paths.whole_file(tmp_path / "nowhere/record.json"),
    ):
        pass


def test_the_longest_name_that_a_file_may_have(tmp_path: Path) -> None:
    target = tmp_path / ("n" * 255)
    with paths.whole_file(target) as file:
        file.write("x")
    assert target.read_text() == "x"
