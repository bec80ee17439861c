"""Rotation of container logs: one that was set aside and never begun anew is begun at the next look."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from podlab.errors import RuntimeRefused
from podlab.node import logs


class Runtime:
    """Begins logs anew, unless it is told to refuse."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.refuses = False
        self.kept: list[str] = []

    async def reopen_log(self, container: str) -> None:
        if self.refuses:
            raise RuntimeRefused("the runtime is away")
        self._path.touch()
        self.kept = sorted(file.name for file in self._path.parent.iterdir())


@pytest.mark.parametrize("linked", ["pods", "pods/shop_web", "pods/shop_web/0.log"])
async def test_rotation_follows_no_link_out_of_the_folder_that_pods_write_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, linked: str
) -> None:
    monkeypatch.setattr(logs, "LARGEST", 10)
    top, outside = tmp_path / "host", tmp_path / "outside" / linked
    path = top / "pods" / "shop_web" / "0.log"
    private = tmp_path / "outside" / "pods" / "shop_web"
    private.mkdir(parents=True)
    files = {f"0.log{ending}": "more than ten bytes" for ending in ("", ".1", ".2", ".3", ".4", ".5", ".6")}
    for name, text in files.items():
        (private / name).write_text(text)
    (top / linked).parent.mkdir(parents=True)
    (top / linked).symlink_to(outside)
    container = SimpleNamespace(running=True, container_id="u-1.main.0", log_path=str(path))
    await logs.keep_rotating(Runtime(path), [SimpleNamespace(containers={"main": container})], top)  # type: ignore
    assert {file.name: file.read_text() for file in private.iterdir()} == files


async def test_a_log_that_was_set_aside_and_not_begun_anew_is_begun_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logs, "LARGEST", 10)
    path = tmp_path / "0.log"
    path.write_text("a line that is long enough\n")
    container = SimpleNamespace(running=True, container_id="u-1.main.0", log_path=str(path))
    pods = [SimpleNamespace(containers={"main": container})]
    runtime = Runtime(path)
    runtime.refuses = True
    await logs.keep_rotating(runtime, pods)  # type: ignore[arg-type]
    assert not path.exists() and len(list(tmp_path.glob("0.log.*"))) == 1
    runtime.refuses = False
    await logs.keep_rotating(runtime, pods)  # type: ignore[arg-type]
    assert path.read_text() == ""
    assert len(list(tmp_path.glob("0.log.*"))) == 1


async def test_there_are_never_more_files_than_may_be_kept(tmp_path: Path) -> None:
    """Not even while the runtime begins the new one, for which a busy machine may take its time."""
    path = tmp_path / "0.log"
    for name in ("0.log", *(f"0.log.20200101-00000{number}" for number in range(logs.FILES - 1))):
        (tmp_path / name).write_text(name)
    runtime = Runtime(path)
    await logs.rotate(runtime, "u-1.main.0", path)  # type: ignore[arg-type]
    assert len(runtime.kept) == logs.FILES and runtime.kept[0] == "0.log"
    assert "0.log.20200101-000000" not in runtime.kept and "0.log.20200101-000001" in runtime.kept


async def test_a_log_of_usual_size_is_looked_at_and_nothing_more(tmp_path: Path) -> None:
    path = tmp_path / "pods" / "0.log"
    path.parent.mkdir()
    path.write_text("a line\n")
    container = SimpleNamespace(running=True, container_id="u-1.main.0", log_path=str(path))
    pods = [SimpleNamespace(containers={"main": container})]
    opened: list[Any] = []
    watching = True

    def seen(event: str, arguments: tuple[Any, ...]) -> None:
        if watching and event == "open":
            opened.append(arguments[0])

    sys.addaudithook(seen)
    try:
        await logs.keep_rotating(Runtime(path), pods, tmp_path)  # type: ignore[arg-type]
    finally:
        watching = False
    assert not opened, "a node does this each second for each of its containers"
