"""`podlab build`, `check`, `release`, `execute`: from the manuscript to notebooks that are known to run."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from podlab.course import build as builder
from podlab.errors import PodlabError

if TYPE_CHECKING:
    from podlab.course.execute import Execution

app = typer.Typer(help="Make and prove the course's notebooks.", no_args_is_help=True)

_Course = Annotated[Path | None, typer.Option("--course", help="Folder of the course; found from here upwards.")]


class Unsound(PodlabError):
    """The course has problems; they have been listed."""


@app.command()
def build(course: _Course = None) -> None:
    """Generate notebooks/ and source/ from manuscript/, and release/ from source/."""
    folder = builder.root(course)
    _report(builder.write(folder, builder.build(folder)), "Notebooks")
    _release(folder)


@app.command()
def release(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME]...", help="In a term: assignments, by name or number.")
    ] = None,
    course: _Course = None,
    term: Annotated[Path | None, typer.Option("--term", help="The term's folder; found from here upwards.")] = None,
) -> None:
    """Generate release/ from source/ with nbgrader; in a term's folder, release assignments to its class."""
    from podlab.grading import term as terms

    if names or (course is None and terms.find(term)):
        from podlab.commands.term import release_in

        release_in(terms.load(term), names or [])
    else:
        _release(builder.root(course))


def _release(folder: Path) -> None:
    from podlab.course.release import releases

    _report(builder.write(folder, releases(folder)), "Releases")


def _report(changed: list[Path], what: str) -> None:
    for path in changed:
        typer.echo(f"wrote {path}")
    if not changed:
        typer.echo(f"{what}: all fresh.")


@app.command()
def check(course: _Course = None) -> None:
    """Say what is stale, out of style, broken or given away; exit status 1 if there is anything."""
    from podlab.course.inspection import facts, inspect

    folder = builder.root(course)
    problems = inspect(folder)
    for problem in problems:
        typer.echo(str(problem))
    if problems:
        raise Unsound(f"The course has {len(problems)} problem{'s' if len(problems) > 1 else ''}.")
    typer.echo("All is well: " + ", ".join(f"{number} {what}" for what, number in facts(folder).items()) + ".")


@app.command()
def execute(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME]...", help="Parts of notebooks' paths; all if none.")
    ] = None,
    course: _Course = None,
    output: Annotated[Path, typer.Option(help="Where the executed copies go.")] = Path("build/executed"),
    cluster: Annotated[str, typer.Option(help="Cluster to use; started, and ended again, if it is not there.")] = "",
    record: Annotated[bool, typer.Option("--record", help="Keep the times: the start page shows them.")] = False,
    times: Annotated[Path | None, typer.Option(help="Keep the times under this folder, not in the course.")] = None,
) -> None:
    """Run every lesson and every instructor's notebook, and prove that each ran to its end with full points.

    Chapters that take nodes away run beside the others, on a second cluster NAME-faults.
    """
    from podlab.course import measured
    from podlab.lab.connection import chosen

    # Ended by a signal, it still ends its kernel and its cluster.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    folder = builder.root(course)
    wanted = _executable(folder, names or [])
    name = cluster or chosen()
    lanes = [wanted]
    if "PODLAB_KUBECONFIG" not in os.environ:
        lanes = [part for part in _by_harm(wanted) if part]
    options = [*["--record"] * record, *(["--times", str(times)] if times else [])]
    with _beside(folder, lanes[1:], output, f"{name}-faults", options) as others:
        done = _run(folder, lanes[0], output, name)
    if record or times:
        measured.record(times or folder, done)
    if any(other.returncode for other in others):
        raise Unsound(f"Of the notebooks on {name}-faults not all ran to their ends; see above.")
    typer.echo(f"All {len(wanted)} notebooks ran to their ends; executed copies in {output}.")


def _executable(folder: Path, names: Sequence[str]) -> list[Path]:
    """The notebooks with one of the names in their paths, relative to the course; says which cannot run here."""
    from podlab.course import needs
    from podlab.lab.chapters import find

    paths = sorted(folder.glob("notebooks/*.ipynb")) + sorted(folder.glob("source/*/*.ipynb"))
    found = [path for each in paths if any(name in str(path := each.relative_to(folder)) for name in names or [""])]
    # The chapter is in front of the notebook's name.
    lacks = {path: needs.missing(find(path.name[:2]).card) for path in found}
    for path in found:
        if lacks[path]:
            typer.echo(f"passed over: {path}: {needs.told(lacks[path])}")
    if not found:
        raise Unsound(f"No notebook matches {', '.join(names)}.")
    if all(lacks.values()):
        raise Unsound("None of these notebooks can run here.")
    return [path for path in found if not lacks[path]]


def _by_harm(paths: Sequence[Path]) -> tuple[list[Path], list[Path]]:
    """The notebooks of chapters that leave nodes alone, and those of chapters that take them away."""
    from podlab.lab.chapters import find

    parts: tuple[list[Path], list[Path]] = ([], [])
    for path in paths:
        parts[find(path.name[:2]).disruptive].append(path)
    return parts


@contextmanager
def _beside(
    folder: Path, lanes: Sequence[Sequence[Path]], output: Path, cluster: str, more: Sequence[str]
) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Run notebooks on another cluster meanwhile, each lane in a process of its own, and wait for them."""
    options = ["--course", str(folder), "--output", str(output), "--cluster", cluster, *more]
    command = [sys.executable, "-m", "podlab", "execute", *options]
    processes = [subprocess.Popen([*command, *map(str, lane)]) for lane in lanes]
    try:
        yield processes
    except SystemExit:
        for process in processes:
            process.terminate()
        raise
    finally:
        for process in processes:
            process.wait()


def _run(folder: Path, paths: Sequence[Path], output: Path, cluster: str) -> list[Execution]:
    """Run notebooks one after the other."""
    from podlab.course.execute import execute as run
    from podlab.lab.chapters import needs_cluster

    found = []
    with _cluster(cluster) if any(needs_cluster(path.name[:2]) for path in paths) else nullcontext():
        for path in paths:
            typer.echo(f"running {path}")
            done = run(folder / path, output / path, environment={"PODLAB_CLUSTER": cluster})
            typer.echo(f"  {path}: {done.cells} cells ran in {done.seconds:.0f} s")
            found.append(done)
    return found


class _cluster:
    """The cluster for a run: the one that is there, or one that is started now and ended afterwards."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.ours = False

    def __enter__(self) -> None:
        if "PODLAB_KUBECONFIG" in os.environ:
            return
        from podlab import cluster

        self.ours = self.name not in cluster.list_clusters()
        cluster.ensure(self.name, progress=_step if self.ours else _silent)

    def __exit__(self, *_error: object) -> None:
        if self.ours:
            from podlab import cluster

            cluster.down(self.name)


def _silent(_step: object) -> None:
    """A cluster that runs already has nothing to tell."""


def _step(step: object) -> None:
    if getattr(step, "state", "") == "done":
        typer.echo(f"  cluster: {step.name} ({step.seconds:.1f} s)")  # type: ignore[attr-defined]
