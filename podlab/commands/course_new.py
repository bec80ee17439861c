"""`podlab course init` and `new-chapter`: the beginnings of a term, and of a chapter."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from podlab.course import build as builder
from podlab.course.scaffold import new_chapter as scaffold

app = typer.Typer(help="Begin a term's folder, or a new chapter of the course.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Begin a term's folder, or a new chapter of the course."""


@app.command()
def init(
    folder: Annotated[Path, typer.Argument(help="The term's folder; made if it is not there.")],
    course: Annotated[Path | None, typer.Option("--course", help="Folder of the course; found from here up.")] = None,
) -> None:
    """Make a term's folder: term.toml, roster.csv, a folder for submissions, nbgrader's settings and gradebook."""
    from podlab.grading import bookkeeping, term
    from podlab.grading.room import room_in

    with room_in(folder), bookkeeping.quiet():
        written = term.make(folder, builder.root(course))
        if bookkeeping.configure(folder):
            written.append(folder / "nbgrader_config.py")
        if bookkeeping.new_gradebook(folder):
            written.append(folder / "gradebook.db")
    for path in written:
        typer.echo(f"wrote {path}")
    if not written:
        typer.echo(f"{folder} is a term's folder already; nothing was changed.")
        return
    typer.echo(
        f"Now fill in {folder / term.FILE} and {folder / term.ROSTER}; then, in that folder: podlab release NAME"
    )


@app.command()
def new_chapter(
    number: Annotated[str, typer.Argument(help="The chapter's two digits in the plan, such as 17.")],
    name: Annotated[str, typer.Argument(help="Its name in files, such as rolling-out.")],
    course: Annotated[Path | None, typer.Option("--course", help="Folder of the course; found from here up.")] = None,
) -> None:
    """Write the files of a new chapter: lesson, assignment, one exercise with checks, hidden checks."""
    folder = builder.root(course)
    for path in scaffold(folder, number, name):
        typer.echo(f"wrote {path}")
    typer.echo("Now read docs/authoring.md, write, and run `make build` and `make check`.")
