"""Fixtures of the tests of the binaries: a machine that has nothing, and a release server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from release_server import ReleaseServer

from podlab.cluster.embedded.binaries import ALL, variable


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[ReleaseServer]:
    server = ReleaseServer()
    monkeypatch.setenv("PODLAB_MIRROR", server.url)
    yield server
    server.close()


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A machine that has nothing: an own home, an empty PATH, no explicit path, no proxy, no mirror."""
    for key in ("PODLAB_BINARIES", "PODLAB_MIRROR", *map(variable, ALL)):
        monkeypatch.delenv(key, raising=False)
    for key in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(key, raising=False)
        monkeypatch.delenv(key.upper(), raising=False)
    monkeypatch.setenv("PODLAB_HOME", str(tmp_path / "home"))
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    return tmp_path
