"""The CRI log format as a pure function."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from podlab.node.runtime.sandbox import log_format

WHEN = b"2026-01-02T03:04:05.000000006Z"


def parse(text: bytes) -> list[tuple[bytes, bytes]]:
    """(flag, content) of each line."""
    assert text == b"" or text.endswith(b"\n")
    found = []
    for line in text.split(b"\n")[:-1]:
        when, stream, flag, content = line.split(b" ", 3)
        assert (when, stream) == (WHEN, b"stdout")
        found.append((flag, content))
    return found


def joined(parts: list[tuple[bytes, bytes]]) -> list[bytes]:
    """What a shipper makes of them: it waits for an F, and here for nothing in vain."""
    assert parts == [] or parts[-1][0] == b"F"
    shipped = [b""]
    for flag, content in parts:
        shipped[-1] += content
        if flag == b"F":
            shipped.append(b"")
    return shipped[:-1]


def test_a_stamp_is_rfc_3339_with_nanoseconds() -> None:
    when = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    assert log_format.stamp(int(when.timestamp()) * 1_000_000_000 + 6) == WHEN


def entries(line: bytes, longest: int) -> Iterator[bytes]:
    """What is shipped of a line: no character of a text is cut apart."""
    while len(line) > longest:
        begun = [back for back in range(4) if not 0x80 <= line[longest - back] < 0xC0]
        end = longest - (begun[0] if begun else 0)
        yield line[:end]
        line = line[end:]
    yield line


_pieces = st.lists(
    st.one_of(
        st.binary(max_size=200),
        st.sampled_from([b"\r", b"\n", b"\r\n", b"x" * 16383 + b"\r", b"a\rb\r\r\n"]),
        st.builds(
            lambda letter, count, end: letter * count + end,
            st.sampled_from([b"x", "é".encode(), "日".encode(), "😀".encode(), b"\x80"]),
            st.integers(16380, 50_000),
            st.sampled_from([b"", b"\n"]),
        ),
    ),
    max_size=12,
)


@given(_pieces, st.integers(2, 5))
def test_what_is_written_comes_back_whatever_the_reads_were(pieces: list[bytes], most: int) -> None:
    """`kubectl logs` has the very bytes; who ships the log, and waits for each F, has no line longer than it takes."""
    before, log_format.LONGEST = log_format.LONGEST, most * log_format.PIECE
    try:
        lines = log_format.Lines(1)
        parts = parse(b"".join([*(lines.take(piece, WHEN) for piece in pieces), lines.end(WHEN), lines.end(WHEN)]))
        longest = log_format.LONGEST
    finally:
        log_format.LONGEST = before
    assert all(len(content) <= log_format.PIECE for _, content in parts)
    shown = b"".join(
        content + (b"\n" if flag == b"F" and (last, content) != (b"P", b"") else b"")
        for (last, _), (flag, content) in pairwise([(b"", b""), *parts])
    )
    written = b"".join(pieces).replace(b"\r\n", b"\n")
    assert shown == written
    whole = written.removesuffix(b"\n").split(b"\n") if written else []
    assert joined(parts) == [entry for line in whole for entry in entries(line, longest)]


def test_a_text_of_which_pieces_are_shipped_is_a_text_in_each() -> None:
    lines = log_format.Lines(1)
    text = ("é" * log_format.LONGEST + "!\n").encode()
    shipped = joined(parse(lines.take(text, WHEN)))
    assert len(shipped) == 3 and "".join(one.decode() for one in shipped) == text.decode().strip()


def test_a_partial_line_waits_for_its_end() -> None:
    lines = log_format.Lines(1)
    assert lines.take(b"Pass", WHEN) == b""
    assert parse(lines.take(b"word\nnext", WHEN)) == [(b"F", b"Password")]
    assert parse(lines.end(WHEN)) == [(b"P", b"next"), (b"F", b"")]


def test_a_line_of_exactly_one_piece_is_one_full_line() -> None:
    lines = log_format.Lines(1)
    text = lines.take(b"x" * log_format.PIECE + b"\n", WHEN)
    assert [(flag, len(content)) for flag, content in parse(text)] == [(b"F", log_format.PIECE)]
    assert lines.end(WHEN) == b""
