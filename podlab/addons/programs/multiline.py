"""What programs print in several lines, put together: a stack trace is one event, not ten lines.

The label LABEL of a pod asks for it, and its value is the style, which says how a line that goes on is told from one
that begins. That is a guess, so lines of other pods are left as they are; so are lines of JSON, which are events.

An event stays open for WAIT seconds after its last line, since more of it may be in the next block. Until it is closed
and has gone on, the blocks that its lines came with must be kept: this is only in memory.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

LABEL = "kubernetes.pod_labels.podlab.dev/multiline"
#: Seconds; then most lines of an event, and most characters, after which what follows is another.
WAIT, LINES, CHARACTERS = 2.0, 1000, 200_000

_MARK = json.dumps(LABEL).encode()
_FILE = tuple(f"kubernetes.{name}" for name in ("pod_namespace", "pod_name", "container_name", "container_id"))
_TRACEBACK = re.compile(r"\s*(\+ Exception Group )?Traceback \(most recent call last\):")
_CHAINED = (
    "During handling of the above exception, another exception occurred:",
    "The above exception was the direct cause of the following exception:",
)
_JAVA = re.compile(r"(Caused by|Suppressed): |\.\.\. \d+ ")

Row = dict[str, Any]


def indented(_: Sequence[str], line: str) -> bool:
    """What begins with a space or a tab goes on."""
    return line[:1] in (" ", "\t")


def java(lines: Sequence[str], line: str) -> bool:
    """Java's stack traces: frames are indented, causes are not."""
    return indented(lines, line) or bool(_JAVA.match(line))


def python(lines: Sequence[str], line: str) -> bool:
    """Python's tracebacks: frames are indented, the exception itself is not; another one may follow that it led to."""
    if _TRACEBACK.match(line):
        return lines[-1] in _CHAINED
    heads = [(number, found) for number, found in enumerate(map(_TRACEBACK.match, lines)) if found]
    if indented(lines, line) or not heads:
        return indented(lines, line)
    number, head = heads[-1]
    frames = lines[number + 1 :]
    # The exception comes once. That of a group is indented as its frames are.
    is_exception = not head[1] and bool(frames) and all(indented((), frame) for frame in frames)
    return is_exception or line in _CHAINED


#: Whether a line goes on with an event that has these lines.
STYLES: Mapping[str, Callable[[Sequence[str], str], bool]] = {"indented": indented, "java": java, "python": python}


@dataclass(frozen=True)
class Event:
    """An event that may go on: its first row, its lines, the blocks that they came with, and when the last one did."""

    row: Row
    lines: tuple[str, ...]
    blocks: frozenset[str]
    path: str
    since: float

    def goes_on(self, line: str) -> bool:
        """Whether a line belongs to it."""
        if len(self.lines) >= LINES or sum(map(len, self.lines)) + len(line) > CHARACTERS:
            return False
        return STYLES[self.row[LABEL]](self.lines, line)

    def text(self) -> bytes:
        """It as a row."""
        return json.dumps({**self.row, "_msg": "\n".join(self.lines)}, ensure_ascii=False).encode(errors="replace")


@dataclass(frozen=True)
class Open:
    """The events that may go on, by the container that they are from. It is never changed, but replaced."""

    events: Mapping[tuple[str, ...], Event]

    @property
    def blocks(self) -> frozenset[str]:
        """The blocks of which lines are here only."""
        return frozenset().union(*(event.blocks for event in self.events.values()))

    def take(self, name: str, path: str, lines: bytes, now: float) -> tuple[bytes, frozenset[str], Open]:
        """A block's lines: what goes on now, the earlier blocks that it is from as well, and what is open then.

        ValueError if they are not lines of JSON. If no pod asks for anything, the lines are returned as they are.
        """
        if _MARK not in lines:
            return lines, frozenset(), self
        gone: list[bytes] = []
        earlier: frozenset[str] = frozenset()
        events = dict(self.events)
        for text in lines.splitlines():
            row = json.loads(text) if _MARK in text else {}
            if not _asked(row):
                gone.append(text)
                continue
            file, line = tuple(row.get(field, "") for field in _FILE), row.get("_msg", "")
            before = events.get(file)
            if before and _is_text(row) and before.goes_on(line):
                events[file] = replace(before, lines=(*before.lines, line), blocks=before.blocks | {name}, since=now)
                continue
            if before:
                gone.append(before.text())
                earlier |= before.blocks
                del events[file]
            if _is_text(row):
                events[file] = Event(row, (line,), frozenset({name}), path, now)
            else:
                gone.append(text)
        return b"\n".join(gone), earlier, Open(events)

    def late(self, now: float) -> Event | None:
        """An event that has waited long enough."""
        return next((event for event in self.events.values() if now - event.since >= WAIT), None)

    def without(self, event: Event) -> Open:
        """What is open when an event has gone on."""
        return Open({file: one for file, one in self.events.items() if one is not event})


NOTHING = Open({})
_told: set[str] = set()


def _asked(row: Row) -> bool:
    """Whether a row's pod asks for a style that there is; another one is said once."""
    style = row.get(LABEL)
    if style in STYLES or not style:
        return bool(style)
    if style not in _told:
        _told.add(style)
        known = ", ".join(STYLES)
        pod = f"{row.get('kubernetes.pod_namespace')}/{row.get('kubernetes.pod_name')}"
        print(f"{pod} asks for lines to be put together by {style}; known are {known}", file=sys.stderr, flush=True)
    return False


def _is_text(row: Row) -> bool:
    """Whether a program printed text: what it printed as JSON has fields of its own."""
    return all(name in ("_time", "_msg") or name.startswith("kubernetes.") for name in row)
