"""The CRI log format: `2026-01-02T03:04:05.000000000Z stdout F line`. Pure functions, standard library only.

A line longer than PIECE bytes is written in pieces, each but the last marked P (partial) instead of F (full),
as container runtimes do (github.com/kubernetes/cri-api, kubelet log design). A carriage return before a line's end
belongs to the end, as containerd has it: each line of a terminal has one.
"""

from __future__ import annotations

import time

#: Longest piece of a line, in bytes.
PIECE = 16384

_STREAMS = {1: b"stdout", 2: b"stderr"}


def stamp(nanoseconds: int) -> bytes:
    """RFC 3339 text with nanoseconds, in UTC, of a time in nanoseconds since the epoch."""
    seconds, rest = divmod(nanoseconds, 1_000_000_000)
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)).encode() + b".%09dZ" % rest


def lines(pending: bytes, data: bytes, when: bytes, stream: int) -> tuple[bytes, bytes]:
    """Return (text for the log file, rest that waits for its line's end) for output that follows `pending`.

    `when` is a stamp, `stream` 1 or 2. The rest is always shorter than PIECE.
    """
    head = when + b" " + _STREAMS[stream]
    full, partial = head + b" F ", head + b" P "
    complete, newline, rest = (pending + data).rpartition(b"\n")
    out = []
    if newline:
        if b"\r" in complete:
            complete = (complete + newline).replace(b"\r\n", b"\n")[:-1]
        if _longest(complete) <= PIECE:
            # The usual case, one pass in C: a container may write 100 MB/s.
            out.append(full + complete.replace(b"\n", b"\n" + full) + b"\n")
        else:
            out.extend(piece for line in complete.split(b"\n") for piece in _pieces(line, full, partial))
    while len(rest) >= PIECE:
        # What comes next may make it the end of the line.
        size = PIECE - (rest[PIECE - 1 : PIECE] == b"\r")
        out.append(partial + rest[:size] + b"\n")
        rest = rest[size:]
    return b"".join(out), rest


def last(pending: bytes, when: bytes, stream: int) -> bytes:
    """The text for a line that has no newline because the stream ended (nothing for no bytes).

    It is partial, as containerd has it, so that readers of the log add no newline that the container did not write.
    """
    return when + b" " + _STREAMS[stream] + b" P " + pending + b"\n" if pending else b""


def _longest(text: bytes) -> int:
    return len(text) if len(text) <= PIECE else max(map(len, text.split(b"\n")))


def _pieces(line: bytes, full: bytes, partial: bytes):
    while len(line) > PIECE:
        yield partial + line[:PIECE] + b"\n"
        line = line[PIECE:]
    yield full + line + b"\n"
