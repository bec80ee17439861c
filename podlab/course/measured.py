"""The time that the machine takes for a notebook from first cell to last: measured, kept, shown on the start page."""

from __future__ import annotations

import fcntl
import json
import math
import os
import platform
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from podlab.course.execute import Execution

#: The times of the chapters, one file each. `podlab execute --record` writes them, the start page reads them.
FOLDER = Path("podlab", "course", "measured")


def place(notebook: Path) -> tuple[Path, str]:
    """Where the time of a notebook is: a file relative to the course, and the key in it."""
    return FOLDER / f"{notebook.name[:2]}.json", "lesson" if notebook.parent.name == "notebooks" else "exercises"


def read(course: Path, notebook: Path) -> Mapping[str, Any]:
    """Seconds, cells of code at that time, the machine and its load (of 15 minutes); empty if they are not known."""
    file, key = place(notebook)
    return _times(course / file).get(key, {})


def record(course: Path, executions: Iterable[Execution]) -> None:
    """Put new times in place of older ones, in whole seconds begun; others may do the same at the same time."""
    (course / FOLDER).mkdir(parents=True, exist_ok=True)
    for done in executions:
        file, key = place(done.notebook)
        entry = {"cells": done.cells, "load": round(os.getloadavg()[2], 1), "machine": machine()}
        with _alone(course / FOLDER):
            times = _times(course / file) | {key: {**entry, "seconds": math.ceil(done.seconds)}}
            (course / file).write_text(json.dumps(times, indent=1, sort_keys=True) + "\n")


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """One at a time: what another has added to a file is not lost. The lock is the folder's own, and leaves no file."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def machine() -> str:
    """This machine in a few words."""
    info = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.partition(":")[2].strip() for line in info if line.startswith("model name")), platform.machine())
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{len(os.sched_getaffinity(0))} cores ({model}), {memory:.0f} GiB"


def _times(file: Path) -> dict[str, Any]:
    return json.loads(file.read_text()) if file.is_file() else {}
