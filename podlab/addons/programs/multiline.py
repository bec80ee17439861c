"""What programs print in several lines, put together: a stack trace is one event, not ten lines.

The label LABEL of a pod asks for it, and its value is the style, which says how a line that goes on is told from one
that begins. That is a guess, so lines of other pods are left as they are; so are lines of JSON that have fields.

An event stays open for WAIT seconds after its last line, since more of it may be in the next block, and never longer
than AGE. Until it has gone on, the blocks that its lines came with must be kept: what is open is only in memory.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

LABEL = "kubernetes.pod_labels.podlab.dev/multiline"
#: Seconds.
WAIT, AGE = 3.0, 15.0
#: The most lines and characters of an event, after which what follows is another; and the most characters of all.
LINES, CHARACTERS, ALL_CHARACTERS = 1000, 200_000, 2_000_000

_MARK = json.dumps(LABEL).encode()
_FILE = tuple(f"kubernetes.{name}" for name in ("pod_namespace", "pod_name", "container_name", "container_id"))
_TRACEBACK = re.compile(r" *(\+ Exception Group )?Traceback \(most recent call last\):")
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
    if indented(lines, line):
        return True
    number, head = next(
        ((number, found) for number in reversed(range(len(lines))) if (found := _TRACEBACK.match(lines[number]))),
        (0, None),
    )
    if head is None:
        return False
    frames = lines[number + 1 :]
    # The exception comes once. That of a group is indented as its frames are.
    is_exception = not head[1] and bool(frames) and all(indented((), frame) for frame in frames)
    return is_exception or line in _CHAINED


#: Whether a line goes on with an event that has these lines.
STYLES: Mapping[str, Callable[[Sequence[str], str], bool]] = {"indented": indented, "java": java, "python": python}


@dataclass(frozen=True)
class Event:
    """An event that may go on: its first row, its lines, the blocks that they came with.

    `path` is that of its first block, `began` and `since` are when its first and its last line came, `last` is the last
    one's own time.
    """

    row: Row
    lines: tuple[str, ...]
    size: int
    blocks: frozenset[str]
    path: str
    began: float
    since: float
    last: str

    def goes_on(self, line: str, at: str, now: float) -> bool:
        """Whether a line of the time `at` belongs to it."""
        if len(self.lines) >= LINES or self.size + len(line) > CHARACTERS or now - self.began >= AGE:
            return False
        if at < self.last:
            return False  # a shipper has begun again at an earlier place
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
            # Bytes that are no text become U+FFFD, as they do in the store.
            row = json.loads(text.decode(errors="replace")) if _MARK in text else {}
            if not _asked(row):
                gone.append(text)
                continue
            file, line = tuple(row.get(field, "") for field in _FILE), row.get("_msg", "")
            before = events.get(file)
            is_text = isinstance(line, str) and _is_text(row)
            # Without the Z the texts are in the order of the times: 05 comes before 05.1.
            at = row.get("_time", "").rstrip("Z") if is_text else ""
            if before and is_text and before.goes_on(line, at, now):
                events[file] = replace(
                    before,
                    lines=(*before.lines, line),
                    size=before.size + len(line),
                    blocks=before.blocks | {name},
                    since=now,
                    last=at,
                )
                continue
            if before:
                gone.append(before.text())
                earlier |= before.blocks
                del events[file]
            if is_text and len(line) <= CHARACTERS:
                events[file] = Event(row, (line,), len(line), frozenset({name}), path, now, now, at)
            else:
                gone.append(text)
        return b"\n".join(gone), earlier - {name}, Open(events)

    def due(self, now: float, wait: float = WAIT) -> list[Event]:
        """The events that go on as they are: after `wait` or AGE, and the oldest ones if there are too many."""
        oldest = sorted(self.events.values(), key=lambda event: event.began)
        over = sum(event.size for event in oldest) - ALL_CHARACTERS
        found = []
        for event in oldest:
            if over > 0 or now - event.since >= wait or now - event.began >= AGE:
                found.append(event)
                over -= event.size
        return found

    def without(self, gone: Iterable[Event]) -> Open:
        """What is open when these have gone on."""
        left = set(map(id, gone))
        return Open({file: event for file, event in self.events.items() if id(event) not in left})


NOTHING = Open({})
#: Styles that there are not, and that were said; not all that a program may think of.
_told: set[str] = set()
_MOST_TOLD = 100


def _asked(row: Row) -> bool:
    """Whether a row's pod asks for a style that there is; another one is said once."""
    style = row.get(LABEL)
    if not isinstance(style, str) or style in STYLES:
        return isinstance(style, str)
    if style not in _told and len(_told) < _MOST_TOLD:
        _told.add(style)
        pod, known = f"{row.get('kubernetes.pod_namespace')}/{row.get('kubernetes.pod_name')}", ", ".join(STYLES)
        print(f"{pod} asks for lines to be put together by {style}; known are {known}", file=sys.stderr, flush=True)
    return False


def _is_text(row: Row) -> bool:
    """Whether a program printed text, as far as can be seen: what it printed as JSON has fields of its own."""
    return all(name in ("_time", "_msg") or name.startswith("kubernetes.") for name in row)
