"""Rotation of container logs: one that was set aside and never begun anew is begun at the next look."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from podlab.errors import RuntimeRefused
from podlab.node import logs


class Runtime:
    """Begins logs anew, unless it is told to refuse."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.refuses = False

    async def reopen_log(self, container: str) -> None:
        if self.refuses:
            raise RuntimeRefused("the runtime is away")
        self._path.touch()


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
