"""Samples in the form in which Prometheus takes them from others: protobuf in a Snappy block (remote write 1.0).

Nothing is compressed: a block of literals is Snappy too. Pure.
Source: https://prometheus.io/docs/specs/prw/remote_write_spec/.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping, Sequence

#: Labels (with __name__), and (seconds since the epoch, value) in the order of time.
TimeSeries = tuple[Mapping[str, str], Sequence[tuple[float, float]]]

HEADERS = {
    "Content-Encoding": "snappy",
    "Content-Type": "application/x-protobuf",
    "X-Prometheus-Remote-Write-Version": "0.1.0",
}
#: The value that says: this series has ended (Prometheus' own NaN).
STALE: float = struct.unpack("<d", struct.pack("<Q", 0x7FF0000000000002))[0]
_STALE_BYTES = struct.pack("<Q", 0x7FF0000000000002)
_LITERAL = 1 << 16


def request(series: Iterable[TimeSeries]) -> bytes:
    """The body of one request."""
    return snappy(b"".join(_field(1, _series(labels, points)) for labels, points in series))


def snappy(data: bytes) -> bytes:
    """`data` as a Snappy block of literals."""
    parts = [varint(len(data))]
    for start in range(0, len(data), _LITERAL):
        piece = data[start : start + _LITERAL]
        parts += [b"\xf4", struct.pack("<H", len(piece) - 1), piece]
    return b"".join(parts)


def varint(number: int) -> bytes:
    """A whole number in groups of seven bits, the lowest first."""
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def _field(number: int, data: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(data)) + data


def _series(labels: Mapping[str, str], points: Sequence[tuple[float, float]]) -> bytes:
    named = b"".join(
        _field(1, _field(1, key.encode()) + _field(2, value.encode())) for key, value in sorted(labels.items())
    )
    return named + b"".join(_field(2, _sample(at, value)) for at, value in points)


def _sample(at: float, value: float) -> bytes:
    # A NaN that goes through a float of Python may lose the bits that tell staleness.
    shown = _STALE_BYTES if value != value else struct.pack("<d", value)
    return b"\x09" + shown + b"\x10" + varint(round(at * 1000))
