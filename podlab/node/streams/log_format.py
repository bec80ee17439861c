"""The CRI log format: `2026-01-02T03:04:05.000000000Z stdout F text`. Pure parsing and formatting.

A line of a container longer than its writer's buffer is cut into entries marked P (partial), the last one F. An empty F
behind a P is for those who ship the log: no newline is there (podlab.node.runtime.sandbox.log_format).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import takewhile

STREAMS = (b"stdout", b"stderr")
#: Length of a time in the fixed form, which sorts as text.
FIXED = len("2026-01-02T03:04:05.000000000Z")


@dataclass(frozen=True)
class Entry:
    """One entry of a log. `time` is in the fixed form; `text` has its newline if the line is complete."""

    time: bytes
    stream: bytes
    text: bytes

    @property
    def complete(self) -> bool:
        """Whether a line ends with this entry."""
        return self.text.endswith(b"\n")


def only_for_shippers(entry: Entry, before: Entry | None) -> bool:
    """Whether an entry says nothing of the container's output, given the one before it."""
    return entry.text == b"\n" and before is not None and not before.complete and before.stream == entry.stream


def parse(line: bytes) -> Entry | None:
    """Return the entry in `line` (with its newline, if it has one), or None if it is none."""
    parts = line.split(b" ", 3)
    if len(parts) != 4 or parts[1] not in STREAMS:
        return None
    time = fixed_time(parts[0])
    if time is None:
        return None
    # The tag may have further parts, joined by colons, in later versions of the format.
    partial = parts[2].split(b":", 1)[0] == b"P"
    text = parts[3]
    if partial and text.endswith(b"\n"):
        text = text[:-1]
    return Entry(time, parts[1], text)


def fixed_time(text: bytes) -> bytes | None:
    """Return an RFC 3339 time with nine digits after the point and Z; None if `text` is not a time."""
    if len(text) == FIXED and text.endswith(b"Z") and text[10:11] == b"T" and text[19:20] == b".":
        return text
    try:
        plain = text.decode("ascii")
        moment = datetime.fromisoformat(plain)
    except ValueError:
        return None
    if moment.tzinfo is None:
        return None
    digits = "".join(takewhile(str.isdigit, plain.partition(".")[2]))
    seconds = moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S")
    return f"{seconds}.{digits[:9]:0<9}Z".encode()


def format_time(seconds: float) -> bytes:
    """Return a time in the fixed form, from seconds since the epoch."""
    whole = int(seconds)
    nanoseconds = min(round((seconds - whole) * 1_000_000_000), 999_999_999)
    moment = datetime.fromtimestamp(whole, UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{nanoseconds:09d}Z".encode()


@dataclass
class Selection:
    """Chooses and shows entries as a client asked. Has state: feed it the entries of one log in order."""

    timestamps: bool = False
    #: Only entries of this time or later, in the fixed form.
    since: bytes | None = None
    #: Only this stream; None for both.
    stream: bytes | None = None
    #: Bytes of output that may still be given.
    remaining: int | None = None
    _at_line_start: bool = True
    _last: Entry | None = None

    @property
    def exhausted(self) -> bool:
        """Whether nothing more will be given."""
        return self.remaining == 0

    def show(self, entries: Iterable[Entry]) -> Iterator[bytes]:
        """Yield the output for `entries`."""
        for entry in entries:
            if self.exhausted:
                return
            last, self._last = self._last, entry
            if only_for_shippers(entry, last):
                continue
            first, self._at_line_start = self._at_line_start, entry.complete
            if self.stream is not None and entry.stream != self.stream:
                continue
            if self.since is not None and entry.time < self.since:
                continue
            text = entry.time + b" " + entry.text if self.timestamps and first else entry.text
            if self.remaining is not None:
                text = text[: self.remaining]
                self.remaining -= len(text)
            yield text


class Lines:
    """Cuts a stream of bytes into lines."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[bytes]:
        """Return the lines that are complete with `data`, each with its newline."""
        *complete, self._rest = (self._rest + data).split(b"\n")
        return [line + b"\n" for line in complete]

    def rest(self) -> bytes:
        """Return, and forget, the last line if it has no newline."""
        rest, self._rest = self._rest, b""
        return rest
