"""The CRI log format: `2026-01-02T03:04:05.000000000Z stdout F line`. Pure functions, standard library only.

A line longer than PIECE bytes is written in pieces, each but the last marked P (partial) instead of F (full),
as container runtimes do (github.com/kubernetes/cri-api, kubelet log design). A carriage return before a line's end
belongs to the end, as containerd has it: each line of a terminal has one.

Who ships a log puts pieces together until an F comes. Where a stream ends within a line, containerd writes none: they
wait for ever. Of a line that is too long for them, they leave out the whole. So an empty F comes here behind the P with
which a stream ends, as CRI-O's conmon has it, and behind every LONGEST bytes of a line. No other F behind a P is empty:
`kubectl logs` (podlab.node.streams.log_format) shows no newline there that the container did not write.
"""

from __future__ import annotations

import time

#: Longest piece of a line, in bytes, and the most that a shipper is given as one: vlagent and VictoriaLogs take 2 MiB
#: when bytes that are no text are three each, and 3 MiB as JSON, in which a control character has six.
PIECE = 16384
LONGEST = 31 * PIECE

_STREAMS = {1: b"stdout", 2: b"stderr"}


def stamp(nanoseconds: int) -> bytes:
    """RFC 3339 text with nanoseconds, in UTC, of a time in nanoseconds since the epoch."""
    seconds, rest = divmod(nanoseconds, 1_000_000_000)
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)).encode() + b".%09dZ" % rest


class Lines:
    """The lines of a container's stream (1 or 2) as entries of its log, whatever the reads were."""

    def __init__(self, stream: int) -> None:
        self._stream = _STREAMS[stream]
        #: What waits for its line's end, at most PIECE bytes and a carriage return: never empty behind a piece.
        self._rest = b""
        #: Bytes of its line that are in pieces already, since the last empty F.
        self._length = 0

    def take(self, data: bytes, when: bytes) -> bytes:
        """The entries for output that follows the last; `when` is a stamp."""
        heads = full, _ = self._heads(when)
        complete, newline, rest = (self._rest + data).rpartition(b"\n")
        out: list[bytes] = []
        if newline:
            if b"\r" in complete:
                complete = (complete + newline).replace(b"\r\n", b"\n")[:-1]
            if _longest(complete) <= PIECE:
                # The usual case, one pass in C: a container may write 100 MB/s.
                out.append(full + complete.replace(b"\n", b"\n" + full) + b"\n")
                self._length = 0
            else:
                for line in complete.split(b"\n"):
                    out.append(full + self._cut(line, heads, out) + b"\n")
                    self._length = 0
        # What comes next may make a carriage return part of the line's end.
        self._rest = self._cut(rest, heads, out, spare=rest.endswith(b"\r"))
        return b"".join(out)

    def end(self, when: bytes) -> bytes:
        """The entries for what has no newline because the stream has ended."""
        heads = full, partial = self._heads(when)
        out: list[bytes] = []
        if self._rest:
            out += partial + self._cut(self._rest, heads, out) + b"\n", full + b"\n"
        self._rest = b""
        return b"".join(out)

    def _heads(self, when: bytes) -> tuple[bytes, bytes]:
        """What a full and what a partial entry begin with."""
        return when + b" " + self._stream + b" F ", when + b" " + self._stream + b" P "

    def _cut(self, line: bytes, heads: tuple[bytes, bytes], out: list[bytes], *, spare: bool = False) -> bytes:
        """Put all pieces of a line but the last into `out`, and return that: PIECE bytes, and one to `spare`."""
        full, partial = heads
        while len(line) - spare > PIECE:
            self._length += PIECE
            enough = self._length >= LONGEST
            size = _whole(line) if enough else PIECE
            out.append(partial + line[:size] + b"\n")
            line = line[size:]
            if enough:
                out.append(full + b"\n")
                self._length = 0
        return line


def _whole(line: bytes) -> int:
    """PIECE bytes of a longer line, or so many fewer that no character of UTF-8 is cut apart."""
    return next((PIECE - back for back in range(4) if line[PIECE - back] & 0xC0 != 0x80), PIECE)


def _longest(text: bytes) -> int:
    return len(text) if len(text) <= PIECE else max(map(len, text.split(b"\n")))
