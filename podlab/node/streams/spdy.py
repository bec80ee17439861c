"""SPDY/3.1 frames, as far as Kubernetes' streaming uses them: pure encoding and decoding, no I/O.

Source: the SPDY draft 3.1 (https://www.chromium.org/spdy/spdy-protocol/spdy-protocol-draft3-1/). Kubernetes uses
it for exec, attach and port-forward of clients that do not speak WebSockets, and inside a WebSocket for
`kubectl port-forward` (subprotocol SPDY/3.1+portforward.k8s.io). Its peers ignore flow-control windows.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

VERSION = 3
SYN_STREAM, SYN_REPLY, RST_STREAM, SETTINGS, PING, GOAWAY, HEADERS, WINDOW_UPDATE = 1, 2, 3, 4, 6, 7, 8, 9
FIN = 0x01
#: Reasons of a RST_STREAM.
PROTOCOL_ERROR, INVALID_STREAM, REFUSED_STREAM, CANCEL = 1, 2, 3, 5

#: Longest header block (decompressed) and longest control frame that is accepted, in bytes.
MAX_HEADERS = 1 << 20
MAX_CONTROL = 1 << 16

_WORDS = """options head post put delete trace accept accept-charset accept-encoding accept-language accept-ranges
age allow authorization cache-control connection content-base content-encoding content-language content-length
content-location content-md5 content-range content-type date etag expect expires from host if-match
if-modified-since if-none-match if-range if-unmodified-since last-modified location max-forwards pragma
proxy-authenticate proxy-authorization range referer retry-after server te trailer transfer-encoding upgrade
user-agent vary via warning www-authenticate method get status 200_OK version HTTP/1.1 url public set-cookie
keep-alive origin"""
_TAIL = (
    "100101201202205206300302303304305306307402405406407408409410411412413414415416417502504505"
    "203 Non-Authoritative Information204 No Content301 Moved Permanently400 Bad Request401 Unauthorized"
    "403 Forbidden404 Not Found500 Internal Server Error501 Not Implemented503 Service Unavailable"
    "Jan Feb Mar Apr May Jun Jul Aug Sept Oct Nov Dec 00:00:00 Mon, Tue, Wed, Thu, Fri, Sat, Sun, GMT"
    "chunked,text/html,image/png,image/jpg,image/gif,application/xml,application/xhtml+xml,text/plain,"
    "text/javascript,publicprivatemax-age=gzip,deflate,sdchcharset=utf-8charset=iso-8859-1,utf-,*,enq=0."
)


def _dictionary() -> bytes:
    words = [word.replace("_", " ").encode() for word in _WORDS.split()]
    return b"".join(struct.pack(">I", len(word)) + word for word in words) + _TAIL.encode()


#: The zlib dictionary that both ends preset (section 2.6.10.1 of the draft).
DICTIONARY = _dictionary()
#: Its checksum, which zlib writes into the stream: a wrong dictionary would fail with the first header block.
DICTIONARY_ADLER32 = 0xE3C6A7C2


class SpdyError(Exception):
    """The peer broke the protocol; the connection cannot go on."""


@dataclass(frozen=True)
class Data:
    """A data frame; `last` closes the sender's side of the stream."""

    stream: int
    payload: bytes
    last: bool = False


@dataclass(frozen=True)
class SynStream:
    """The peer opens a stream. Header names are lower case."""

    stream: int
    headers: Mapping[str, str] = field(default_factory=dict)
    last: bool = False


@dataclass(frozen=True)
class SynReply:
    """The peer accepts a stream."""

    stream: int
    headers: Mapping[str, str] = field(default_factory=dict)
    last: bool = False


@dataclass(frozen=True)
class RstStream:
    """The peer ends a stream at once, in both directions."""

    stream: int
    status: int = CANCEL


@dataclass(frozen=True)
class Ping:
    """To be echoed if its number is odd (sent by a client)."""

    number: int


@dataclass(frozen=True)
class GoAway:
    """The peer opens and accepts no further streams."""

    last_stream: int
    status: int = 0


Frame = Data | SynStream | SynReply | RstStream | Ping | GoAway


class Decoder:
    """Turns a byte stream into frames. One per direction of a connection, since header compression has state."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._inflate = zlib.decompressobj(zdict=DICTIONARY)

    def feed(self, data: bytes) -> Iterator[Frame]:
        """Yield the frames that are complete with `data`. Raises SpdyError on a violation of the protocol.

        Frames that Kubernetes does not use (SETTINGS, HEADERS, WINDOW_UPDATE) are read and left out.
        """
        self._buffer += data
        position = 0
        try:
            while len(self._buffer) - position >= 8:
                head, rest = struct.unpack_from(">II", self._buffer, position)
                flags, length = rest >> 24, rest & 0xFFFFFF
                if head >> 31 and length > MAX_CONTROL:
                    raise SpdyError(f"a control frame of {length} bytes is too long")
                end = position + 8 + length
                if len(self._buffer) < end:
                    break
                body = bytes(self._buffer[position + 8 : end])
                position = end
                frame = self._control(head, flags, body) if head >> 31 else Data(head, body, bool(flags & FIN))
                if frame is not None:
                    yield frame
        finally:
            del self._buffer[:position]

    def _control(self, head: int, flags: int, body: bytes) -> Frame | None:
        version, kind = head >> 16 & 0x7FFF, head & 0xFFFF
        if version != VERSION:
            raise SpdyError(f"SPDY version {version} is not spoken here, only {VERSION}")
        try:
            if kind == SYN_STREAM:
                return SynStream(_stream(body), self._headers(body[10:]), bool(flags & FIN))
            if kind == SYN_REPLY:
                return SynReply(_stream(body), self._headers(body[4:]), bool(flags & FIN))
            if kind == HEADERS:
                self._headers(body[4:])  # must be read: later blocks are compressed against it
                return None
            if kind == RST_STREAM:
                return RstStream(_stream(body), struct.unpack_from(">I", body, 4)[0])
            if kind == PING:
                return Ping(struct.unpack(">I", body)[0])
            if kind == GOAWAY:
                return GoAway(_stream(body), struct.unpack_from(">I", body, 4)[0])
        except struct.error as error:
            raise SpdyError(f"a control frame of type {kind} is malformed: {error}") from error
        return None

    def _headers(self, block: bytes) -> dict[str, str]:
        try:
            raw = self._inflate.decompress(block, MAX_HEADERS)
        except zlib.error as error:
            raise SpdyError(f"a header block cannot be decompressed: {error}") from error
        if self._inflate.unconsumed_tail:
            raise SpdyError(f"a header block is longer than {MAX_HEADERS} bytes")
        return _parse_headers(raw)


def _stream(body: bytes) -> int:
    number = struct.unpack_from(">I", body)[0] & 0x7FFFFFFF
    return int(number)


def _parse_headers(raw: bytes) -> dict[str, str]:
    def text(offset: int) -> tuple[str, int]:
        (length,) = struct.unpack_from(">I", raw, offset)
        end = offset + 4 + length
        if end > len(raw):
            raise SpdyError("a header block is shorter than it says")
        return raw[offset + 4 : end].decode("utf-8", "replace"), end

    (count,) = struct.unpack_from(">I", raw)
    headers, offset = {}, 4
    for _ in range(count):
        name, offset = text(offset)
        headers[name.lower()], offset = text(offset)
    return headers


class Encoder:
    """Turns frames into bytes. Frames must be sent in the order of encoding: header compression has state."""

    def __init__(self) -> None:
        self._deflate = zlib.compressobj(9, zlib.DEFLATED, zlib.MAX_WBITS, 8, zlib.Z_DEFAULT_STRATEGY, DICTIONARY)

    def encode(self, frame: Frame) -> bytes:
        """Return the bytes of `frame`."""
        if isinstance(frame, Data):
            return struct.pack(">II", frame.stream, FIN * frame.last << 24 | len(frame.payload)) + frame.payload
        if isinstance(frame, SynStream):
            body = struct.pack(">IIH", frame.stream, 0, 0) + self._headers(frame.headers)
            return _control(SYN_STREAM, FIN * frame.last, body)
        if isinstance(frame, SynReply):
            body = struct.pack(">I", frame.stream) + self._headers(frame.headers)
            return _control(SYN_REPLY, FIN * frame.last, body)
        if isinstance(frame, RstStream):
            return _control(RST_STREAM, 0, struct.pack(">II", frame.stream, frame.status))
        if isinstance(frame, Ping):
            return _control(PING, 0, struct.pack(">I", frame.number))
        return _control(GOAWAY, 0, struct.pack(">II", frame.last_stream, frame.status))

    def _headers(self, headers: Mapping[str, str]) -> bytes:
        raw = struct.pack(">I", len(headers))
        for name, value in headers.items():
            for part in (name.lower().encode(), value.encode()):
                raw += struct.pack(">I", len(part)) + part
        return self._deflate.compress(raw) + self._deflate.flush(zlib.Z_SYNC_FLUSH)


def _control(kind: int, flags: int, body: bytes) -> bytes:
    return struct.pack(">HHI", 0x8000 | VERSION, kind, flags << 24 | len(body)) + body
