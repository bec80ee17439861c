"""What killed graders left on disk is removed; what is in use, new, or not ours to judge, stays."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from podlab.grading import house


def made(tmp_path: Path, name: str, old: bool = True, alive: bool = True) -> Path:
    folder = tmp_path / f"{house.PREFIX}{name}"
    (folder / "box1").mkdir(parents=True)
    if alive:
        (folder / "alive").touch()
    if old:
        os.utime(folder, (0, 0))
    return folder


def test_only_old_houses_without_a_grader_are_removed(tmp_path: Path) -> None:
    left, new, bare = made(tmp_path, "left"), made(tmp_path, "new", old=False), made(tmp_path, "bare", alive=False)
    used = made(tmp_path, "used")
    with (used / "alive").open("r+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert house.bury(tmp_path) == [left]
    assert not left.exists()
    assert all(folder.is_dir() for folder in (new, bare, used))
