"""Folders for the learner's processes: each carries its maker, so that those of killed kernels can be removed."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from podlab.checks import owners

_NAME = re.compile(r"podlab-(call|talk)-(?P<owner>[0-9a-f]{10}-\d+-\d+)-\w+")


@contextlib.contextmanager
def place(kind: str) -> Iterator[str]:
    """A new folder for one `call` or `talk`, gone after the block. The first one removes what the dead have left."""
    _sweep_once()
    with tempfile.TemporaryDirectory(prefix=f"podlab-{kind}-{owners.own()}-", ignore_cleanup_errors=True) as folder:
        yield folder


@cache
def _sweep_once() -> None:
    sweep(Path(tempfile.gettempdir()))


def sweep(folder: Path) -> list[Path]:
    """Remove this user's places in `folder` whose makers are dead; returns them."""
    removed = []
    for left in folder.iterdir():
        found = _NAME.fullmatch(left.name)
        if not found or not owners.dead(found["owner"]):
            continue
        with contextlib.suppress(FileNotFoundError):  # somebody else sweeps too
            if left.lstat().st_uid == os.geteuid():
                shutil.rmtree(left, ignore_errors=True)
                removed.append(left)
    return removed
