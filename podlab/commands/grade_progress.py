"""How `podlab grade` shows what is going on: a live board in a terminal, plain lines where nobody looks."""

from __future__ import annotations

import sys
import time
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from podlab.grading.queue import Progress


def shown() -> Lines | Board:
    """The display that suits standard output."""
    return Board() if sys.stdout.isatty() else Lines()


def outcome(step: Progress) -> str:
    """What became of a submission, in one line."""
    record = step.record
    assert record is not None
    score = "not judged" if record.score is None else f"{record.score:g} of {record.maximum}"
    return f"{record.learner:<20} {record.outcome.value}: {score}"


def left(step: Progress, elapsed: float) -> str:
    """How long the rest may take, from what is done; empty while nothing is."""
    if not step.done or step.done == step.total:
        return ""
    seconds = elapsed / step.done * (step.total - step.done)
    return f"about {seconds:.0f} s left" if seconds < 120 else f"about {seconds / 60:.0f} min left"


class Lines(AbstractContextManager["Lines"]):
    """Progress as plain lines: what each submission is at, and its score when it has one."""

    def __init__(self) -> None:
        self.began = time.monotonic()

    def __exit__(self, *_error: object) -> None:
        """Nothing is to be cleared."""

    def say(self, text: str) -> None:
        """One line about the whole."""
        typer.echo(text)

    def __call__(self, step: Progress) -> None:
        """Print one step; checks one by one would be noise here."""
        clock = time.monotonic() - self.began
        if step.record is not None:
            rest = left(step, clock)
            typer.echo(f"{clock:6.0f} s  {outcome(step)} ({step.done} of {step.total}{rest and ', '}{rest})")
        elif not step.text.startswith("Check "):
            typer.echo(f"{clock:6.0f} s  {step.learner:<20} {step.text}")


class Board(AbstractContextManager["Board"]):
    """A live board: a bar with the time that is left, and a line for each submission that is being graded."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

        self.began = time.monotonic()
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        self._shown: Any = Progress(*columns, console=Console(highlight=False, soft_wrap=True), transient=True)
        self._whole = self._shown.add_task("Grading", total=None)
        self._busy: dict[str, Any] = {}

    def __enter__(self) -> Board:
        self._shown.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._shown.stop()

    def say(self, text: str) -> None:
        """One line about the whole: it replaces the one before."""
        self._shown.update(self._whole, description=_escaped(text))

    def __call__(self, step: Progress) -> None:
        """Show one step."""
        rest = left(step, time.monotonic() - self.began)
        self._shown.update(self._whole, description=f"Grading, {rest}" if rest else "Grading")
        self._shown.update(self._whole, completed=step.done, total=step.total)
        if step.record is not None:
            if (task := self._busy.pop(step.learner, None)) is not None:
                self._shown.remove_task(task)
            self._shown.console.print(outcome(step), markup=False)
            return
        if step.learner not in self._busy:
            self._busy[step.learner] = self._shown.add_task("", total=None)
        self._shown.update(self._busy[step.learner], description=_escaped(f"  {step.learner}: {step.text}"[:100]))


def _escaped(text: str) -> str:
    from rich.markup import escape

    return escape(text)
