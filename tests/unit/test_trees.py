"""Folders of any depth, closed ones, links, and what changes while somebody looks."""

from __future__ import annotations

import itertools
import os
from pathlib import Path
from typing import Any

import pytest

from podlab.trees import remove_tree, walk


def test_a_walk_sees_what_is_there_at_any_depth_and_nothing_that_links_lead_to(deep: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "file").touch()
    (deep / "link").symlink_to(outside)
    seen = [(entry.name, entry.stat(follow_symlinks=False).st_mode & 0o777) for _, entry in walk(deep)]
    assert [name for name, _ in seen].count("folder") == 1500
    assert [one for one in seen if one[0] != "folder"] == [("link", 0o777), ("leaf", 0o600)]
    with pytest.raises(OSError, match="Not a directory"):
        next(walk(deep / "link"))
    with pytest.raises(FileNotFoundError):
        next(walk(tmp_path / "missing"))


@pytest.mark.parametrize("moved", [True, False], ids=["moved", "deleted"])
def test_a_walk_goes_on_with_the_rest_when_it_is_in_a_folder_that_goes(tmp_path: Path, moved: bool) -> None:
    top, all_, gone = tmp_path / "top", set(), set[str]()
    for first, second, third in itertools.product("abc", repeat=3):
        (top / first / second / f"{first}{second}{third}").mkdir(parents=True)
        all_.add(f"{first}{second}{third}")
    seen = set()
    for _, entry in walk(top):
        seen.add(entry.name)
        if not gone and entry.name in all_:
            first, second = entry.name[0], entry.name[1]
            gone = {f"{first}{second}{third}" for third in "abc"}
            if moved:
                (top / first / second).rename(tmp_path / "elsewhere")
            else:
                remove_tree(top / first / second)
    assert seen - {*"abc"} >= all_ - gone


def test_sweeping_deletes_depth_links_and_closed_folders_and_nothing_outside(tmp_path: Path, deep: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").touch()
    top = deep
    (top / "link").symlink_to(outside)
    (top / ".swept-1").mkdir()
    (top / ".swept-1" / "file").touch()
    (top / "closed").mkdir()
    (top / "closed" / "file").touch()
    (top / "closed").chmod(0)
    os.mkfifo(top / "pipe")
    remove_tree(str(top))
    assert not top.exists()
    assert (outside / "kept").exists()
    remove_tree(str(top))


def test_a_link_that_takes_a_folders_place_while_it_is_swept_changes_nothing_where_it_leads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    top, outside, real = tmp_path / "top", tmp_path / "outside", os.stat
    (top / "folder" / "victim").mkdir(parents=True)
    outside.mkdir(mode=0o755)

    def raced(name: str, **options: Any) -> os.stat_result:
        found = real(name, **options)
        if name == "victim":
            (top / "folder" / "victim").rmdir()
            (top / "folder" / "victim").symlink_to(outside)
        return found

    with monkeypatch.context() as patch:
        patch.setattr(os, "stat", raced)
        with pytest.raises(NotADirectoryError):
            remove_tree(str(top))
    assert outside.stat().st_mode & 0o777 == 0o755
    remove_tree(str(top))
    assert [path.name for path in tmp_path.iterdir()] == ["outside"]
