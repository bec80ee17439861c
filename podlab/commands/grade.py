"""`podlab grade`: grade a folder of submissions, or what a term has collected; write gradebook, feedback, report."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from podlab.errors import UsageError

if TYPE_CHECKING:
    from podlab.grading.classes import Graded, Settings


app = typer.Typer(help="Grade a folder of submissions, or what a term has collected.")


@app.command()
def grade(
    folder: Annotated[
        Path | None,
        typer.Argument(help="LEARNER/ASSIGNMENT/ASSIGNMENT.ipynb or LEARNER.ipynb; in a term: what was collected."),
    ] = None,
    assignment: Annotated[str | None, typer.Option(help="Name or number, if it is not clear.")] = None,
    out: Annotated[Path | None, typer.Option(help="Course folder for the results; default: FOLDER-graded.")] = None,
    jobs: Annotated[int | None, typer.Option(min=1, help="Submissions at a time; default: from cores, memory.")] = None,
    only: Annotated[list[str] | None, typer.Option(help="Only this learner (may be given several times).")] = None,
    resume: Annotated[bool, typer.Option(help="Go on where a run was cut off; --no-resume grades all anew.")] = True,
    regrade: Annotated[bool, typer.Option(help="Grade again what has a record already.")] = False,
    renew: Annotated[bool, typer.Option(help="Take a changed assignment in place of the one graded so far.")] = False,
    clusters: Annotated[
        str, typer.Option(help="fresh for each submission, or pooled: proven clean, quicker.")
    ] = "fresh",
    unsafe: Annotated[
        bool, typer.Option("--unsafe", help="Without boxes: learners' code in containers, or as you if you trust it.")
    ] = False,
    cell_limit: Annotated[float, typer.Option(min=1, help="Seconds that one cell may take.")] = 60.0,
    lessons: Annotated[str, typer.Option(help="Where learners read the course, for links; a term says its own.")] = "",
    course: Annotated[Path | None, typer.Option(help="Folder of the course; found from here upwards.")] = None,
    term: Annotated[Path | None, typer.Option(help="The term's folder; found from here upwards.")] = None,
) -> None:
    """Grade submissions, each in a box of its own; a run that was cut off goes on where it was."""
    from podlab.commands.grade_progress import shown
    from podlab.grading import classes
    from podlab.grading import term as terms

    try:
        terms.address(lessons)
    except ValueError as error:
        raise UsageError(f"{error}.", hint="Begin it with https://") from error
    if clusters not in ("fresh", "pooled"):
        raise UsageError(f"There are no {clusters} clusters.", hint="--clusters fresh or --clusters pooled")
    settings = _of_term(term, assignment) if folder is None else _of_folder(folder, assignment, out, course)
    settings = replace(
        settings,
        workers=jobs,
        only=only or (),
        regrade=regrade or not resume,
        resume=resume,
        renew=renew,
        unsafe=unsafe,
        pooled=clusters == "pooled",
        cell_limit=cell_limit,
        lessons=lessons,
    )
    with shown() as display:
        graded = classes.grade_class(settings, display, display.say)
    show_result(graded)
    show_places(graded)


def _of_folder(folder: Path, assignment: str | None, out: Path | None, course: Path | None) -> Settings:
    from podlab.grading import classes

    root = classes.course_root(course)
    beside = folder.resolve().with_name(f"{folder.resolve().name}-graded")
    return classes.Settings(folder, classes.which_assignment(root, folder, assignment), out or beside, root)


def _of_term(start: Path | None, assignment: str | None) -> Settings:
    from podlab.commands import term as commands
    from podlab.grading import term as terms

    if terms.find(start) is None:
        raise UsageError(
            "Say which folder is graded: this is no term's folder.",
            hint="podlab grade FOLDER, or `podlab course init` and `podlab collect` first (docs/instructors.md).",
        )
    found = terms.load(start)
    return commands.settings(found, commands.chosen(found, assignment))


def show_result(graded: Graded) -> None:
    """Print the table of a graded class."""
    from rich.console import Console
    from rich.table import Table

    exercises = sorted({name for record in graded.records for name in record.scores})
    table = Table(title="Grades")
    table.add_column("learner")
    for name in exercises:
        table.add_column(name, justify="right")
    for title in ("score", "of"):
        table.add_column(title, justify="right")
    table.add_column("outcome")
    for record in graded.records:
        cells = [_number(record.scores.get(name)) for name in exercises]
        table.add_row(record.learner, *cells, _number(record.score), str(record.maximum), record.outcome.value)
    Console().print(table)


def show_places(graded: Graded) -> None:
    """Print where the results are."""
    from rich.console import Console

    console = Console()
    places = {
        "Report": graded.report, "Grades": graded.grades, "Feedback": graded.words, "Feedback as HTML": graded.html
    }  # fmt: skip
    for title, path in places.items():
        console.print(f"{title}: {path}", soft_wrap=True, highlight=False)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:g}"
