"""Lessons and instructors' notebooks of the model chapters many times by papermill, at full load: all must pass.

With `--chapters all` those of the whole course. It takes hours. Every run that ends is kept in build/, with a digest of
the notebook and of all code that it runs: started again, the benchmark goes on where it was, and runs again whatever
has changed since. A run that failed is kept like any other. Without that file it begins anew.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

from clusters import NAME, taken_down
from common import Figure, announce, finish, machine, median, options, say, table
from processes import burning

from podlab import cluster
from podlab.course import build, manuscript, measured, needs
from podlab.grading.basis import sources
from podlab.lab.chapters import find, needs_cluster, written

COURSE = Path(__file__).parents[1]
#: The runs that have ended, a line of JSON each.
KEPT = COURSE / "build" / "notebooks-20.jsonl"
#: The chapters whose pattern all others follow.
MODELS = "00,01,03,05,14,15,16"
#: Where the code is that notebooks run; and what of it they never do: the times are for the start page to show.
CODE = ("podlab", "movies", "cluster")
NEVER_RUN = (measured.FOLDER, *map(Path, ("podlab/grading", "cluster/conformance", "cluster/kind-lab")))


@dataclass(frozen=True)
class Run:
    """How one run of a notebook ended: seconds, and what it complained of ('' for a pass)."""

    notebook: str
    #: What was tested, see `digest`; the commit is only told.
    digest: str
    commit: str
    #: How many ran side by side.
    at_once: int
    seconds: float
    trouble: str


def main() -> None:
    """Measure and tell."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--only", metavar="NAME", default="", help="now run only notebooks with this in their paths")
    parser.add_argument("--minutes", type=float, default=math.inf, help="begin no run after so many minutes")
    parser.add_argument("--chapters", default=MODELS, help=f"their numbers, or `all` (default: {MODELS})")
    given = options(
        __doc__,
        parser,
        repeats=(20, 1, "runs of each notebook"),
        at_once=(2 * (os.cpu_count() or 1), 2, "notebooks side by side, which is the load"),
    )
    here = machine()
    announce("notebooks-20", here)
    every = wanted("05" if given.small else given.chapters)
    with tempfile.TemporaryDirectory(prefix="podlab-bench-") as scratch:
        # A short run shows that it works each time.
        kept = Path(scratch, KEPT.name) if given.small else KEPT
        sitting = Sitting(every, kept, given.at_once, time.monotonic() + 60 * given.minutes)
        able = [path for path in every if given.only in str(path) and not lacks(path)]
        sitting.execute(turns(able, sitting.runs(), given.repeats))
        runs = {path: found[: given.repeats] for path, found in sitting.runs().items()}
    rows = []
    for path, found in runs.items():
        passed = sum(not run.trouble for run in found)
        seconds = median([run.seconds for run in found]) if found else ""
        rows.append((path.stem, path.parts[0], f"{len(found)} of {given.repeats}", passed, seconds))
    table("notebooks at full load", ("notebook", "in", "runs", "passed", "s (median)"), rows)
    done = [run for found in runs.values() for run in found]
    failed = [run for run in done if run.trouble]
    for run in failed:
        say(f"{run.notebook}: {run.trouble}")
    whole = given.repeats * len(every)
    if missing := whole - len(done):
        say(f"{missing} of {whole} runs are still to be made: start it again, it goes on here.")
    if given.record and (missing or given.chapters != MODELS):
        sys.exit("Nothing was recorded: only the whole of the model chapters is.")
    more = {"runs": len(done), "at_once": given.at_once, "commits": sorted({run.commit for run in done})}
    more["minutes"] = round(sum(run.seconds for run in done) / 60, 1)
    met = False if failed else None if missing else True
    finish(Figure("notebooks-20", len(done) - len(failed), "passes", whole, "all", met, more), here)


def wanted(chapters: str) -> list[Path]:
    """The notebooks of these chapters (`01,15` or `all`), relative to the course."""
    paths = [build.target(document) for document in manuscript.documents(COURSE / "manuscript")]
    written = {path.name[:2] for path in paths}
    asked = written if chapters == "all" else set(chapters.split(","))
    if unknown := asked - written:
        sys.exit(f"There is no chapter {min(unknown)}.")
    return [path for path in paths if path.name[:2] in asked]


def lacks(path: Path) -> bool:
    """Whether a notebook needs what is not on this machine; says what."""
    if missing := needs.missing(find(path.name[:2]).card):
        say(f"  cannot run here: {path}: {needs.told(missing)}")
    return bool(missing)


def turns(paths: Sequence[Path], runs: Mapping[Path, Sequence[Run]], repeats: int) -> list[Path]:
    """What is still to be run: one notebook after the other in turn, so that each meets all the others."""
    return [path for number in range(repeats) for path in paths if len(runs[path]) <= number]


def digest(path: Path) -> str:
    """SHA-256 of what a run of a notebook tests."""
    whole = hashlib.sha256()
    for file in code(path):
        whole.update(f"{file.relative_to(COURSE)} {hashlib.sha256(file.read_bytes()).hexdigest()}\n".encode())
    return whole.hexdigest()


def code(path: Path) -> list[Path]:
    """The notebook, the versions of packages, and our code but for what this notebook never runs, sorted.

    That is more than it runs, never less: all but NEVER_RUN and what only other chapters' checks are made of.
    """
    named = set(re.findall(r"podlab\.course\.(\w+)", (COURSE / path).read_text()))
    mine = checks(path.name[:2]) | named
    others = set().union(*map(checks, written())) - mine
    course = Path("podlab", "course")
    never = {*NEVER_RUN, *(course / name for name in others), *(course / f"{name}.py" for name in others)}
    files = [COURSE / path, COURSE / "constraints.txt"]
    for file in (each for top in CODE for each in (COURSE / top).rglob("*") if each.is_file()):
        inside = file.relative_to(COURSE)
        if "__pycache__" not in inside.parts and not never & {inside, *inside.parents}:
            files.append(file)
    return sorted(files)


@cache
def checks(chapter: str) -> set[str]:
    """The modules and packages of podlab.course of which a chapter's checks are made, by their names there."""
    names = (name.removeprefix("podlab.course.").partition(".") for name in sources(chapter, None))
    return {f"chapter{chapter}", *(name for name, _, _ in names if name != "podlab")}


class Sitting:
    """One start of the benchmark: runs notebooks, and keeps each run that ended by itself, until there is no time."""

    def __init__(self, every: Iterable[Path], kept: Path, at_once: int, until: float) -> None:
        #: What is tested now. A cluster goes on with the code that it was started with: what changes meanwhile is not
        #: run any more, and what was under way does not count.
        self.digests = {path: digest(path) for path in every}
        self.kept, self.at_once, self.until = kept, at_once, until
        self.commit = _commit()
        self._lock = threading.Lock()
        self._running: set[subprocess.Popen[str]] = set()
        self._ended = False

    def runs(self) -> dict[Path, list[Run]]:
        """The kept runs of what is tested now, under this load, by notebook."""
        found: dict[Path, list[Run]] = {path: [] for path in self.digests}
        for line in self.kept.read_text().splitlines() if self.kept.exists() else []:
            try:
                run = Run(**json.loads(line))
            except (ValueError, TypeError):
                continue  # cut off, or of an older form
            path = Path(run.notebook)
            if (run.digest, run.at_once) == (self.digests.get(path), self.at_once):
                found[path].append(run)
        return found

    def execute(self, paths: Sequence[Path]) -> None:
        """Run these notebooks, so many at once; ended from outside, it ends those that are under way."""
        if time.monotonic() >= self.until:
            return  # no turn would begin: no cluster is brought up for that
        over = threading.Event()
        with ExitStack() as stack:
            names = {NAME, *map(cluster_of, paths)}
            stack.enter_context(clustered(paths))
            # One notebook at a time where nodes are taken away.
            sizes = {name: self.at_once if name == NAME else 1 for name in names}
            pools = {name: stack.enter_context(ThreadPoolExecutor(size)) for name, size in sizes.items()}
            begun = [pools[cluster_of(path)].submit(self._turn, path) for path in paths]
            # Whoever has no notebook any more burns a core, so that the last ones have the same load.
            for _ in range(os.cpu_count() or 1):
                pools[NAME].submit(_burn, over)
            try:
                for one in begun:
                    one.result()
            finally:
                over.set()
                self._end()

    def _turn(self, path: Path) -> None:
        """Run one notebook as a user does, and keep how it ended."""
        command = [sys.executable, "-m", "podlab", "execute", str(path), "--cluster", cluster_of(path), "--output"]
        with tempfile.TemporaryDirectory(prefix="podlab-bench-") as output:
            with self._lock:
                began = time.monotonic()
                if self._ended or began >= self.until or self._changed(path):
                    return
                # A group of its own: Ctrl-C comes to us, and is no failure of the notebook.
                process = subprocess.Popen(
                    [*command, output],
                    cwd=COURSE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    text=True,
                    process_group=0,
                )
                self._running.add(process)
            said, _ = process.communicate()
        seconds = round(time.monotonic() - began, 1)
        with self._lock:
            self._running.discard(process)
            if self._ended or self._changed(path):
                return
            trouble = (said[-1500:] or f"exit status {process.returncode}") if process.returncode else ""
            run = Run(str(path), self.digests[path], self.commit, self.at_once, seconds, trouble)
            self.kept.parent.mkdir(parents=True, exist_ok=True)
            with self.kept.open("a") as file:
                file.write(json.dumps(asdict(run)) + "\n")
        say(f"  {path}: {'failed' if trouble else 'passed'} in {seconds:.0f} s")

    def _changed(self, path: Path) -> bool:
        try:
            changed = digest(path) != self.digests[path]
        except FileNotFoundError:  # gone while it was read
            changed = True
        if changed:
            say(f"  {path}: it or its code has changed since the start; start again to go on")
        return changed

    def _end(self) -> None:
        with self._lock:
            self._ended = True
            for process in self._running:
                process.terminate()


def _burn(over: threading.Event) -> None:
    with burning(1):
        over.wait()


def _commit() -> str:
    """The commit of the course, as git tells it; '' where it is none."""
    command = ["git", "describe", "--always", "--dirty"]
    return subprocess.run(command, cwd=COURSE, capture_output=True, text=True, check=False).stdout.strip()


@contextmanager
def clustered(notebooks: Sequence[Path]) -> Iterator[None]:
    """The clusters while they are needed by any of them, taken down whatever happens."""
    with ExitStack() as stack:
        for name in sorted({cluster_of(path) for path in notebooks if needs_cluster(path.name[:2])}):
            stack.enter_context(taken_down(name))
            cluster.up(name, nodes=3)
        yield


def cluster_of(path: Path) -> str:
    """The name of the cluster for a notebook: one that takes nodes away has its own."""
    return f"{NAME}-{path.parts[0]}" if find(path.name[:2]).disruptive else NAME


if __name__ == "__main__":
    main()
