"""`podlab build`, `check`, `release`, `execute`: from the manuscript to notebooks that are known to run."""

from __future__ import annotations

import os
import signal
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated

import typer

from podlab.course import build as builder
from podlab.errors import PodlabError

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
) -> None:
    """Run every lesson and every instructor's notebook, and prove that each ran to its end with full points."""
    from podlab.course.execute import execute as run
    from podlab.lab.chapters import needs_cluster
    from podlab.lab.connection import chosen

    # Ended by a signal, it still ends its kernel and its cluster.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    folder = builder.root(course)
    found = sorted(folder.glob("notebooks/*.ipynb")) + sorted(folder.glob("source/*/*.ipynb"))
    wanted = [path for path in found if not names or any(name in str(path.relative_to(folder)) for name in names)]
    if not wanted:
        raise Unsound(f"No notebook matches {', '.join(names or [])}.")
    name = cluster or chosen()
    # The chapter is in front of the notebook's name.
    with _cluster(name) if any(needs_cluster(path.name[:2]) for path in wanted) else nullcontext():
        for path in wanted:
            place = path.relative_to(folder)
            typer.echo(f"running {place}")
            done = run(path, output / place, environment={"PODLAB_CLUSTER": name})
            typer.echo(f"  {done.cells} cells ran in {done.seconds:.0f} s")
    typer.echo(f"All {len(wanted)} notebooks ran to their ends; executed copies in {output}.")


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
