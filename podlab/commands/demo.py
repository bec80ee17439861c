"""`podlab demo`: the main job without a browser. A cluster, a lesson, a graded class; nothing stays behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.text import Text

from podlab import paths
from podlab.course.build import root
from podlab.course.execute import ExecutionFailed
from podlab.errors import GradingError, UsageError

if TYPE_CHECKING:
    from podlab.grading.classes import Graded

app = typer.Typer()

LESSON = Path("notebooks", "15-self-healing.ipynb")
CLUSTER = "demo"

_out = Console(highlight=False, soft_wrap=True)


@app.command()
def demo(
    course: Annotated[Path | None, typer.Option(help="Folder of the course; found from here upwards.")] = None,
    nodes: Annotated[int, typer.Option(min=1, help="Nodes of the cluster.")] = 3,
) -> None:
    """Bring a cluster up, run the lesson with papermill, grade the sample class meanwhile, print a table, clean up."""
    folder = root(course)
    if not (folder / LESSON).exists():
        raise UsageError(f"{folder} has no {LESSON}.", hint="Run this in a clone of the course.")
    # Ended by a signal, we still clean up.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    times: list[tuple[str, float]] = []
    with throw_away_home() as home:
        with _timed("cluster up", times):
            _cluster(nodes)
        with _timed("lesson, and the class meanwhile", times), _lesson(folder, home), _timed("class graded", times):
            graded = _grade(folder, home)
        _show(graded)
    for what, seconds in times:
        _out.print(f"{what}: {seconds:.0f} s")
    _out.print("Nothing stays behind but the cache.")


@contextmanager
def throw_away_home() -> Iterator[Path]:
    """A PODLAB_HOME for this process and its children that is removed in the end; the cache is the usual one.

    Clusters, the gradebook and the learner's progress of the demo are so kept apart from the user's own.
    """
    cache = paths.cache()
    before = os.environ.get("PODLAB_HOME")
    with tempfile.TemporaryDirectory(prefix="podlab-demo-") as name:
        home = Path(name)
        (home / "cache").symlink_to(cache.resolve())
        os.environ["PODLAB_HOME"] = name
        try:
            yield home
        finally:
            _end_clusters()
            if before is None:
                del os.environ["PODLAB_HOME"]
            else:
                os.environ["PODLAB_HOME"] = before


def _end_clusters() -> None:
    from podlab import cluster

    for name in cluster.list_clusters():
        cluster.down(name)


def _cluster(nodes: int) -> None:
    from podlab import cluster
    from podlab.commands.cluster import drawn

    _head("A cluster")
    with drawn(_out) as progress:
        cluster.up(CLUSTER, nodes=nodes, progress=progress)


@contextmanager
def _lesson(folder: Path, home: Path) -> Iterator[None]:
    """Run the lesson in the cluster while the block runs. Both mostly wait, so together they take little longer."""
    _head(f"The lesson {LESSON}, by papermill")
    where = ("--course", str(folder), "--output", str(home / "executed"), "--cluster", CLUSTER)
    with subprocess.Popen([sys.executable, "-m", "podlab", "execute", str(LESSON), *where]) as lesson:
        try:
            yield
        except BaseException:
            lesson.terminate()
            raise
    if lesson.returncode:
        raise ExecutionFailed(f"The lesson {LESSON} did not run to its end.", hint="What it said is above.")


def _grade(folder: Path, home: Path) -> Graded:
    from podlab.commands.grade_progress import Lines
    from podlab.grading import classes, samples

    _head("A class of submissions, each graded in a cluster of its own")
    samples.write(folder, home / "class")
    settings = classes.Settings(
        folder=home / "class", assignment=samples.ASSIGNMENT, out=home / "graded", course=folder, cell_limit=20
    )
    return classes.grade_class(settings, Lines(), lambda text: _out.print(Text(text)))


def _show(graded: Graded) -> None:
    """Print the table, and fail if a mark differs from what it is known to be."""
    from podlab.commands.grade import show_result
    from podlab.grading import samples

    show_result(graded)
    if wrong := samples.differences({record.learner: record for record in graded.records}):
        raise GradingError("The class did not come out as it should: " + "; ".join(wrong) + ".")
    _out.print(f"All {len(graded.records)} submissions have the marks that they should have.")


def _head(text: str) -> None:
    _out.print(Text(f"\n{text}", "bold"))


@contextmanager
def _timed(what: str, times: list[tuple[str, float]], clock: Callable[[], float] = time.monotonic) -> Iterator[None]:
    began = clock()
    yield
    times.append((what, clock() - began))
