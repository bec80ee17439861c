"""Every lesson and instructor's notebook many times by papermill, with the machine at full load: all must pass."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from clusters import NAME, taken_down
from common import Figure, announce, finish, machine, median, options, say, table

from podlab import cluster
from podlab.course import build, manuscript, needs
from podlab.lab.chapters import find, needs_cluster

COURSE = Path(__file__).parents[1]
#: Chapters that take nodes away have a cluster of their own, one notebook at a time.
FAULTS = f"{NAME}-faults"


@dataclass(frozen=True)
class Run:
    """How one run of a notebook ended: seconds, and what it complained of ('' for a pass)."""

    notebook: Path
    seconds: float
    trouble: str


def main() -> None:
    """Measure and tell."""
    given = options(
        __doc__,
        repeats=(20, 1, "runs of each notebook"),
        at_once=(2 * (os.cpu_count() or 1), 2, "notebooks side by side, which is the load"),
        first=(0, 5, "the first chapter"),
        last=(99, 5, "the last chapter"),
    )
    here = machine()
    announce("notebooks-20", here)
    notebooks = wanted(given.first, given.last)
    # One notebook after the other in turn, so that each meets all the others.
    turns = [path for _ in range(given.repeats) for path in notebooks]
    began = time.monotonic()
    scratch = tempfile.TemporaryDirectory(prefix="podlab-bench-")
    calm, faults = ThreadPoolExecutor(given.at_once), ThreadPoolExecutor(1)
    with clustered(notebooks), scratch as folder, calm, faults:
        pools = {NAME: calm, FAULTS: faults}
        begun = [
            pools[cluster_of(path)].submit(execute, path, Path(folder) / f"{turn}") for turn, path in enumerate(turns)
        ]
        runs = [one.result() for one in begun]
    rows = []
    for path in notebooks:
        mine = [run for run in runs if run.notebook == path]
        good = sum(not run.trouble for run in mine)
        rows.append((str(path), f"{good} of {len(mine)}", median([run.seconds for run in mine])))
    table("notebooks at full load", ("notebook", "passed", "s (median)"), rows)
    failed = [run for run in runs if run.trouble]
    for run in failed:
        say(f"{run.notebook}: {run.trouble}")
    more = {"runs": len(runs), "at_once": given.at_once, "minutes": round((time.monotonic() - began) / 60, 1)}
    finish(Figure("notebooks-20", len(runs) - len(failed), "passes", len(runs), "all", not failed, more), here)


def wanted(first: int, last: int) -> list[Path]:
    """The notebooks of these chapters that can run here, relative to the course; says which are passed over."""
    found = []
    for document in manuscript.documents(COURSE / "manuscript"):
        path = build.target(document)
        if not first <= int(document.about["chapter"]) <= last:
            continue
        if lacks := needs.missing(document.about):
            say(f"  passed over: {path}: {needs.told(lacks)}")
        else:
            found.append(path)
    if not found:
        sys.exit("There is no notebook to run.")
    return found


@contextmanager
def clustered(notebooks: Sequence[Path]) -> Iterator[None]:
    """The clusters while they are needed by any of them, taken down whatever happens."""
    with ExitStack() as stack:
        for name in sorted({cluster_of(path) for path in notebooks if needs_cluster(path.name[:2])}):
            stack.enter_context(taken_down(name))
            cluster.up(name, nodes=3)
        yield


def cluster_of(path: Path) -> str:
    """The name of the cluster for a notebook."""
    return FAULTS if find(path.name[:2]).disruptive else NAME


def execute(path: Path, output: Path) -> Run:
    """Run one notebook as a user does."""
    began = time.monotonic()
    command = [
        sys.executable,
        "-m",
        "podlab",
        "execute",
        str(path),
        "--cluster",
        cluster_of(path),
        "--output",
        str(output),
    ]
    done = subprocess.run(command, cwd=COURSE, capture_output=True, text=True, check=False)
    run = Run(path, round(time.monotonic() - began, 1), (done.stdout + done.stderr)[-1500:] if done.returncode else "")
    say(f"  {path}: {'failed' if run.trouble else 'passed'} in {run.seconds:.0f} s")
    return run


if __name__ == "__main__":
    main()
