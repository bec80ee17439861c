"""Why lines are missing in the log store: which ones, what happened around them, and where they still are.

The nodes of an embedded cluster are folders of this machine, so that a line that the store has not can be looked for
in the files of its container and in the spools.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

from podlab.addons.programs.packing import unpacked

#: Seconds before a line was written and after, in which what happened may have to do with it: a shipper begins two
#: minutes back, and a spool keeps what it has for one.
BEFORE, AFTER = 60.0, 180.0


@dataclass(frozen=True)
class Event:
    """What happened from `began` to `ended`, in seconds since the epoch."""

    began: float
    ended: float
    what: str


@dataclass(frozen=True)
class Gap:
    """Lines [first, end) that are missing in a row; when the ones next to them were written, if there are such."""

    first: int
    end: int
    since: float | None = None
    until: float | None = None


def gaps(first: int, end: int, found: Mapping[int, float]) -> list[Gap]:
    """What is missing of the lines [first, end). `found`: line -> when it was written, in seconds since the epoch."""
    missing: list[Gap] = []
    edges = [first - 1, *sorted(number for number in found if first <= number < end), end]
    for before, behind in pairwise(edges):
        if behind - before > 1:
            missing.append(Gap(before + 1, behind, found.get(before), found.get(behind)))
    return missing


def around(gap: Gap, events: Iterable[Event], began: float, ended: float) -> list[Event]:
    """The events that may have to do with a gap in the lines of a pod that was there from `began` to `ended`."""
    since = (gap.since if gap.since is not None else began) - BEFORE
    until = (gap.until if gap.until is not None else ended) + AFTER
    return [event for event in events if event.ended >= since and event.began <= until]


def clock(moment: float | None) -> str:
    """A time as it is told."""
    return "?" if moment is None else datetime.fromtimestamp(moment, UTC).strftime("%H:%M:%S.%f")[:-4]


def _numbers(lines: Iterable[str]) -> Iterator[tuple[str, int]]:
    """(Pod, number) of each line that is one of this benchmark's."""
    for line in lines:
        try:
            row = json.loads(line)
            yield row["life"], int(row["n"])
        except (ValueError, KeyError, TypeError):
            continue


def in_files(nodes: Path, namespace: str, pod: str) -> set[int]:
    """The lines of a pod that are in its log files, those that were set aside too. `nodes`: the folder of all nodes."""
    found = set[int]()
    for file in nodes.glob(f"*/host/var/log/pods/{namespace}_{pod}_*/*/*.log*"):
        # TIME STREAM TAG LINE
        lines = (line.split(" ", 3)[-1] for line in file.read_text(errors="replace").splitlines())
        found.update(number for _, number in _numbers(lines))
    return found


def in_spools(nodes: Path) -> dict[str, set[int]]:
    """Pod -> its lines that are in blocks of a spool."""
    found: dict[str, set[int]] = {}
    for file in nodes.glob("*/pods/*/volumes/spool/blocks/*"):
        try:
            body = file.read_bytes().partition(b"\n")[2]
            lines = unpacked(body).decode(errors="replace").splitlines()
        except (OSError, ValueError):  # forgotten meanwhile, or half of one
            continue
        for pod, number in _numbers(lines):
            found.setdefault(pod, set()).add(number)
    return found


def told(gap: Gap, events: Collection[Event], files: Collection[int], spooled: Collection[int]) -> list[str]:
    """A gap in words: a line for it, and one for each event."""
    numbers = range(gap.first, gap.end)
    still = {"in the node's log files": files, "in a spool": spooled}
    where = ", ".join(f"{len(set(numbers) & set(there))} {place}" for place, there in still.items())
    head = f"{len(numbers)} lines missing, {gap.first} to {gap.end - 1}, of {clock(gap.since)} to {clock(gap.until)}"
    return [f"{head}; of these {where}", *(f"  {clock(one.began)} to {clock(one.ended)}: {one.what}" for one in events)]
