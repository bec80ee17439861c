"""A machine of files for tests of kind clusters."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from fake_containers import NODES, Machine

from podlab.cluster.kind import provider


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Machine]:
    """It has no container runtime yet, a kind that is well, and a home of podlab's own."""
    monkeypatch.setenv("PODLAB_HOME", str(tmp_path / "home"))
    monkeypatch.delenv(provider.IMAGE_VARIABLE, raising=False)
    machine = Machine(tmp_path / "machine", monkeypatch)
    server = machine.serve(NODES)
    yield machine
    server.shutdown()
    server.server_close()
