"""`podlab collect`, `feedback`, `export`: a term's folder between its learners, its gradebook and the LMS."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from podlab.errors import GradingError, UsageError
from podlab.grading import term as terms

if TYPE_CHECKING:
    from podlab.grading.bookkeeping import Books
    from podlab.grading.classes import Settings
    from podlab.grading.records import Record

app = typer.Typer(help="A term: collect, give feedback out, export grades.")

_Term = Annotated[Path | None, typer.Option("--term", help="The term's folder; found from here upwards.")]
_Assignment = Annotated[str | None, typer.Option("--assignment", help="Name or number, if it is not clear.")]


def release_in(term: terms.Term, names: Sequence[str]) -> None:
    """Put assignments into the term's folder and gradebook, and say where their releases are."""
    from podlab.grading import classes
    from podlab.grading.room import room_in

    if not names:
        known = ", ".join(classes.assignments(term.course))
        raise UsageError("Say which assignment is released.", hint=f"There are: {known}.")
    for name in names:
        assignment = classes.which_assignment(term.course, term.folder, name)
        books = classes.books_of(settings(term, assignment), term.folder)
        with room_in(term.folder):
            path = books.open()
            books.set_deadlines([])
        due = term.deadline(assignment)
        when = f"due {due.astimezone():%d %B %Y, %H:%M}" if due else "without a deadline"
        typer.echo(f"{path} ({when}): give this file to your learners.")


@app.command()
def collect(
    source: Annotated[
        Path | None, typer.Argument(help="A folder, a zip of an LMS, or an exchange's course; default: inbox/.")
    ] = None,
    assignment: _Assignment = None,
    received: Annotated[
        datetime | None, typer.Option(help="Receipt time of all of it, this machine's time; default: each file's.")
    ] = None,
    term: _Term = None,
) -> None:
    """Take submissions in, with receipts; nothing in SOURCE is changed, and collecting again does no harm."""
    from podlab.grading import collect as collector
    from podlab.grading.room import room_in

    found = terms.load(term)
    name = chosen(found, assignment)
    with room_in(found.folder):
        came = collector.collect(found, name, source or found.folder / terms.INBOX, received and received.astimezone())
    for line in came.said:
        typer.echo(line)
    words = [f"{len(came.new)} new", f"{len(came.known)} known already", f"{len(set(came.late))} late"]
    if came.unknown:
        words.append(f"{len(came.unknown)} of nobody in the roster")
    typer.echo(f"{name}: {', '.join(words)}.")


@app.command()
def feedback(
    assignment: _Assignment = None,
    to: Annotated[Path | None, typer.Option(help="Where to; default: handed-back/ in the term's folder.")] = None,
    term: _Term = None,
) -> None:
    """Copy each learner's feedback into a folder of his own, ready to be given out, and make the zip for Moodle."""
    from podlab.grading import handback
    from podlab.grading.room import room_in

    found = terms.load(term)
    books = _graded(found, chosen(found, assignment))
    to = to or found.folder / "handed-back"
    with room_in(to):
        waiting = [learner for learner, booked in books.booked().items() if booked.needs_person]
        given = handback.hand_back(books, to, waiting)
    typer.echo(f"{given.learners} pages in {given.folder}; all of them for an LMS in {given.archive}.")
    if given.held:
        typer.echo(f"Held back, since a person must look at them in formgrader: {', '.join(given.held)}.")


@app.command()
def export(
    form: Annotated[
        list[str] | None, typer.Option("--form", help="nbgrader, canvas, moodle, junit or json; default: all.")
    ] = None,
    assignment: _Assignment = None,
    to: Annotated[Path | None, typer.Option(help="Where to; default: exports/ in the term's folder.")] = None,
    term: _Term = None,
) -> None:
    """Write the grades in the forms that others read. What waits has no grade yet, and is said."""
    from podlab.grading import exports
    from podlab.grading.room import room_in

    found = terms.load(term)
    name = chosen(found, assignment)
    books = _graded(found, name)
    unknown = set(form or ()) - set(exports.FORMS)
    if unknown:
        forms = ", ".join(exports.FORMS)
        raise UsageError(f"There is no form {', '.join(sorted(unknown))}.", hint=f"There are: {forms}.")
    facts, to = exports.facts_of(books), (to or found.folder / "exports") / name
    with room_in(to):
        for path in exports.export(facts, to, form or list(exports.FORMS)):
            typer.echo(f"wrote {path}")
    if facts.ungraded:
        typer.echo(f"Without a grade, since `podlab grade` has not graded their work: {', '.join(facts.ungraded)}.")
    needing = {learner for learner, booked in facts.booked.items() if booked.needs_person}
    waiting = sorted(needing.difference(facts.ungraded))
    if waiting:
        typer.echo(f"Without a grade, since a person must look at them in formgrader: {', '.join(waiting)}.")


def chosen(term: terms.Term, asked: str | None) -> str:
    """The assignment that is meant: the one asked for, or the only one that the term has released."""
    from podlab.grading import classes

    if asked is not None:
        return classes.which_assignment(term.course, term.folder, asked)
    released = classes.assignments(term.folder)
    if len(released) == 1:
        return released[0]
    if not released:
        raise UsageError("This term has released nothing yet.", hint="Begin with `podlab release NAME`.")
    raise UsageError("It is not clear which assignment is meant.", hint=f"Say it: --assignment {released[0]}.")


def settings(term: terms.Term, assignment: str) -> Settings:
    """How an assignment of a term is graded."""
    from podlab.grading import classes

    return classes.Settings(term.folder, assignment, term.folder, term.course, term=term)


def _graded(term: terms.Term, assignment: str) -> Books:
    """The books, with what a person has given in formgrader since: in the pages, and in what being late costs."""
    from podlab.grading import classes, exports
    from podlab.grading.room import room_in

    books = classes.books_of(settings(term, assignment), term.folder)
    if not (term.folder / "records" / assignment).is_dir():
        raise GradingError(f"{assignment} has not been graded.", hint="Run `podlab grade` first.")
    with room_in(term.folder):
        books.check_gradebook()
    facts = exports.facts_of(books)
    graded = [who for who in facts.records if who in facts.booked and not facts.is_ungraded(who)]
    with room_in(term.folder):
        books.book(_as_they_are(books, graded))
    return books


def _as_they_are(books: Books, learners: Sequence[str]) -> Iterator[Record]:
    """Each learner's record as it is when it is booked, and again what `podlab grade` has made of it meanwhile.

    Otherwise a record that was read before would be booked over the newer one.
    """
    from podlab.grading import records

    for learner in learners:
        booked = None
        while (record := records.read(books.folder, books.assignment, learner)) not in (None, booked):
            yield record
            booked = record
