"""`podlab binaries`: find, fetch or build the Kubernetes binaries."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars
from rich.text import Text

from podlab.cluster.embedded import binaries
from podlab.cluster.embedded.binaries.progress import counted
from podlab.errors import BinaryError

app = typer.Typer(help="Find, fetch or build the Kubernetes binaries.", no_args_is_help=True)

#: Seconds between two plain lines about one step, where there is no terminal.
PLAIN_PERIOD = 10.0

_Names = Annotated[list[str] | None, typer.Argument(metavar="[NAME]...", help="All of them if none is named.")]


@app.command()
def ensure(
    names: _Names = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="Say nothing if they are there already.")] = False,
) -> None:
    """Make sure that the binaries are there: found, downloaded and verified, or built from source."""
    if quiet and all(binaries.locate(tuple(names or binaries.ALL)).values()):
        return
    console = Console(stderr=True, soft_wrap=True, highlight=False)
    with shown(console) as progress:
        found = binaries.ensure(tuple(names or binaries.ALL), progress)
    for path in found.values():
        typer.echo(str(path))


@app.command("list")
def list_() -> None:
    """Show each binary: its version, where it came from and its path. Uses no network."""
    with shown(Console(stderr=True, soft_wrap=True, highlight=False)) as progress:
        located = binaries.locate(progress=progress)
    for name, one in located.items():
        said = f"{one.version:8}  {one.path}  ({one.source})" if one else "missing"
        typer.echo(f"{name:{max(map(len, located))}}  {said}")


@app.command()
def where(name: str) -> None:
    """Print the path of one binary, or fail if it is missing. Uses no network."""
    binaries.locate([name])
    path = binaries.find(name)
    if path is None:
        raise BinaryError(f"{name} is not on this machine.", hint="Get it with: podlab binaries ensure")
    typer.echo(str(path))


@contextmanager
def shown(console: Console) -> Iterator[binaries.Progress]:
    """Give a callback that draws bars on a terminal, and plain lines elsewhere."""
    if not console.is_terminal:
        yield PlainLines(console)
        return
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[count]}"))
    with Bars(*columns, TimeElapsedColumn(), console=console, transient=True) as bars:
        yield _BarLines(bars)


class PlainLines:
    """One line per note, per end of a step, and every `PLAIN_PERIOD` seconds in between."""

    def __init__(self, console: Console, clock=time.monotonic) -> None:
        self._console = console
        self._clock = clock
        self._last: dict[str, float] = {}

    def __call__(self, report: binaries.Report) -> None:
        now = self._clock()
        if report.kind == "progress" and now - self._last.get(report.step, float("-inf")) < PLAIN_PERIOD:
            return
        self._last[report.step] = now
        self._console.print(Text(binaries.words(report)))


class _BarLines:
    """A bar per step, replaced by a plain line when the step is done."""

    def __init__(self, bars: Bars) -> None:
        self._bars = bars
        self._tasks: dict[str, TaskID] = {}

    def __call__(self, report: binaries.Report) -> None:
        if report.kind == "progress":
            task = self._tasks.get(report.step)
            if task is None:
                task = self._tasks[report.step] = self._bars.add_task(report.step, count="", total=None)
            count = counted(report) or report.detail
            self._bars.update(task, completed=report.done, total=report.total or None, count=count)
            return
        if (task := self._tasks.pop(report.step, None)) is not None:
            self._bars.remove_task(task)
        self._bars.console.print(Text(f"{report.step}: {report.detail}"))
