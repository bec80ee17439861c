"""For all unit tests."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from podlab.trees import remove_tree


@pytest.fixture
def deep(tmp_path: Path) -> Iterator[Path]:
    """A folder with 1500 in each other and a closed file in the last: deeper than recursion, longer than paths go."""
    top = tmp_path / "deep"
    top.mkdir()
    here = os.open(top, os.O_RDONLY | os.O_DIRECTORY)
    for _ in range(1500):
        os.mkdir("folder", dir_fd=here)
        inner = os.open("folder", os.O_RDONLY | os.O_DIRECTORY, dir_fd=here)
        os.close(here)
        here = inner
    os.close(os.open("leaf", os.O_WRONLY | os.O_CREAT, 0o600, dir_fd=here))
    os.close(here)
    yield top
    remove_tree(top)
