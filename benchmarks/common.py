"""What every benchmark shares: options, the machine's name, repeated and interleaved runs, the table, the last line.

A benchmark measures ours and its floor in the same run, one after the other in turn, so that both meet the same
machine. Its last line is JSON: {"name", "value", "unit", "floor", "ratio"} and what else belongs to the figure. With
`--record` it is kept in benchmarks/results/, from which kept.py makes docs/benchmarks.md.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import signal
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import kept
from rich.console import Console
from rich.table import Table

_told = Console(stderr=True, highlight=False, soft_wrap=True)


#: Whether the result is kept; set by `options`.
_record = False


@dataclass
class Figure:
    """One result: `value` in `unit`, `floor` in the same unit or None, `limit` of the ratio or of the value."""

    name: str
    value: float
    unit: str
    floor: float | None = None
    limit: str = ""
    met: bool | None = None
    more: dict[str, Any] | None = None

    @property
    def ratio(self) -> float | None:
        """Value divided by floor."""
        return self.value / self.floor if self.floor else None


def options(
    description: str | None, parser: argparse.ArgumentParser | None = None, **defaults: tuple[int, int, str]
) -> argparse.Namespace:
    """Command-line options: `--small`, and NAME=(default, default with --small, help) as whole numbers.

    `parser` may have more, that do not change what is measured.
    """
    parser = parser or argparse.ArgumentParser()
    parser.description = (description or "").strip().splitlines()[0]
    parser.add_argument("--small", action="store_true", help="a short run that only shows that it works")
    parser.add_argument("--record", action="store_true", help="keep the result, for docs/benchmarks.md")
    for name, (full, small, help_) in defaults.items():
        text = f"{help_} (default {full}, small {small})"
        parser.add_argument(f"--{name.replace('_', '-')}", type=int, default=None, help=text)
    given = parser.parse_args()
    usual = all(getattr(given, name) in (None, full) for name, (full, _, _) in defaults.items())
    if given.record and (given.small or not usual):
        parser.error("only a run with the default numbers is kept: leave --record out, or the other options")
    global _record
    _record = given.record
    # Ended from outside, a benchmark takes its cluster down as after any other error.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    for name, (full, small, _) in defaults.items():
        if getattr(given, name) is None:
            setattr(given, name, small if given.small else full)
    return given


def machine() -> dict[str, Any]:
    """The machine in a few words and numbers; memory in MiB, `load` the average of the last minute."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**20
    model = next((line.partition(":")[2].strip() for line in _lines("/proc/cpuinfo") if "model name" in line), "")
    return {
        "cores": len(os.sched_getaffinity(0)),
        "memory": memory,
        "processor": model or platform.machine(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "user": "root" if os.geteuid() == 0 else "ordinary",
        "load": round(os.getloadavg()[0], 2),
    }


def announce(name: str, here: dict[str, Any]) -> None:
    """Say on standard error what runs where."""
    _told.print(f"[bold]{name}[/bold] on {describe(here)}")
    if here["load"] > here["cores"] / 2:
        _told.print(f"The machine is busy (load {here['load']}): trust ratios and CPU seconds, not wall time.")


def describe(here: dict[str, Any]) -> str:
    """One line about the machine."""
    return (
        f"{here['cores']} cores ({here['processor']}), {here['memory']} MiB, Linux {here['kernel']}, "
        f"Python {here['python']}, {here['user']} user, load {here['load']}"
    )


def say(text: str) -> None:
    """A line of progress on standard error."""
    _told.print(text, markup=False)


def interleave(repeats: int, **runs: Callable[[], Any]) -> dict[str, list[Any]]:
    """Call every function `repeats` times in turn (a b a b ...); results by name, in order."""
    results: dict[str, list[Any]] = {name: [] for name in runs}
    for number in range(1, repeats + 1):
        for name, run in runs.items():
            began = time.monotonic()
            results[name].append(run())
            say(f"  {name} {number}/{repeats}: {time.monotonic() - began:.1f} s")
    return results


def spent() -> float:
    """CPU seconds spent so far in this process's control group; by the whole machine where it is in none of its own.

    Boxes and clusters end with all that is in them, which no parent's account shows: a group's account does.
    """
    for line in _lines("/proc/self/cgroup"):
        _, kinds, group = line.split(":", 2)
        if group == "/":
            continue
        if "cpuacct" in kinds.split(",") and (used := _lines(f"/sys/fs/cgroup/cpuacct{group}/cpuacct.usage")):
            return int(used[0]) / 1e9
        if not kinds and (used := _lines(f"/sys/fs/cgroup{group}/cpu.stat")):
            return int(used[0].split()[1]) / 1e6
    fields = _lines("/proc/stat")[0].split()[1:]
    return sum(int(fields[index]) for index in (0, 1, 2)) / os.sysconf("SC_CLK_TCK")


def median(values: Sequence[float]) -> float:
    """The middle of some numbers."""
    return statistics.median(values)


def percentile(values: Sequence[float], percent: float) -> float:
    """The smallest value that at least `percent` of all do not exceed (nearest rank)."""
    ordered = sorted(values)
    rank = max(1, -(-len(ordered) * percent // 100))
    return ordered[int(rank) - 1]


def table(title: str, headings: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print a table on standard output; numbers to the right."""
    shown = Table(title=title, title_justify="left", box=None, pad_edge=False)
    for number, heading in enumerate(headings):
        shown.add_column(heading, justify="left" if number == 0 else "right", no_wrap=True)
    for row in rows:
        shown.add_row(*(_text(cell) for cell in row))
    Console(highlight=False, soft_wrap=True).print(shown)


def finish(figure: Figure, here: dict[str, Any]) -> None:
    """Print the last line and exit: 1 if a limit was not met, else 0."""
    line = {
        "name": figure.name,
        "value": _round(figure.value),
        "unit": figure.unit,
        "floor": _round(figure.floor),
        "ratio": _round(figure.ratio),
        "limit": figure.limit,
        "met": figure.met,
        **(figure.more or {}),
        "machine": here,
    }
    if _record:
        kept.record(line | {"measured": datetime.datetime.now(datetime.UTC).date().isoformat()})
    print(json.dumps(line))
    sys.exit(1 if figure.met is False else 0)


def _round(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.4g}")


def _text(cell: object) -> str:
    if isinstance(cell, float):
        return f"{cell:.2f}" if abs(cell) < 100 else f"{cell:.0f}"
    return str(cell)


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text().splitlines()
    except OSError:
        return []
