"""The CRI log format as a pure function."""

from __future__ import annotations

from datetime import UTC, datetime

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


def joined(parts: list[tuple[bytes, bytes]]) -> bytes:
    return b"".join(content + (b"\n" if flag == b"F" else b"") for flag, content in parts)


def test_a_stamp_is_rfc_3339_with_nanoseconds() -> None:
    when = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    assert log_format.stamp(int(when.timestamp()) * 1_000_000_000 + 6) == WHEN


_pieces = st.lists(
    st.one_of(
        st.binary(max_size=200),
        st.sampled_from([b"\r", b"\n", b"\r\n", b"x" * 16383 + b"\r", b"a\rb\r\r\n"]),
        st.builds(lambda count, end: b"x" * count + end, st.integers(16380, 50_000), st.sampled_from([b"", b"\n"])),
    ),
    max_size=12,
)


@given(_pieces)
def test_what_is_written_comes_back_whatever_the_reads_were(pieces: list[bytes]) -> None:
    out, pending = [], b""
    for piece in pieces:
        text, pending = log_format.lines(pending, piece, WHEN, 1)
        assert len(pending) < log_format.PIECE
        assert b"\n" not in pending
        out.append(text)
    out.append(log_format.last(pending, WHEN, 1))
    parts = parse(b"".join(out))
    written = b"".join(pieces)
    assert joined(parts) == written.replace(b"\r\n", b"\n")
    assert all(len(content) <= log_format.PIECE for _, content in parts)


def test_a_partial_line_waits_for_its_end() -> None:
    text, pending = log_format.lines(b"", b"Pass", WHEN, 1)
    assert (text, pending) == (b"", b"Pass")
    text, pending = log_format.lines(pending, b"word\nnext", WHEN, 1)
    assert parse(text) == [(b"F", b"Password")]
    assert pending == b"next"


def test_a_line_of_exactly_one_piece_is_one_full_line() -> None:
    text, pending = log_format.lines(b"", b"x" * log_format.PIECE + b"\n", WHEN, 1)
    assert [(flag, len(content)) for flag, content in parse(text)] == [(b"F", log_format.PIECE)]
    assert pending == b""
