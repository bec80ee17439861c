"""DNS messages: the small part of RFC 1035, 2782 and 6891 that a cluster's DNS needs. Pure.

A library would cost each node 6 MiB; this costs nothing. Names are lower-case text without the final dot.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum


class Type(IntEnum):
    """Types of records."""

    A = 1
    NS = 2
    CNAME = 5
    SOA = 6
    PTR = 12
    TXT = 16
    AAAA = 28
    SRV = 33
    OPT = 41
    ANY = 255


class Code(IntEnum):
    """Response codes."""

    NOERROR = 0
    FORMERR = 1
    SERVFAIL = 2
    NXDOMAIN = 3
    NOTIMP = 4
    REFUSED = 5


_IN = 1
_RESPONSE, _AUTHORITATIVE, _TRUNCATED, _RECURSION_DESIRED, _RECURSION_AVAILABLE = (
    0x8000,
    0x0400,
    0x0200,
    0x0100,
    0x0080,
)
_OPCODE, _CODE = 0x7800, 0x000F
#: Bytes of a UDP answer for a client that says nothing, and the most that is sent without fragments.
PLAIN_SIZE, SAFE_SIZE = 512, 1232
_NAME_MAX = 255


class Malformed(ValueError):
    """The bytes are no query that can be answered. `answer` is what to send back, None for silence."""

    def __init__(self, reason: str, answer: bytes | None = None) -> None:
        super().__init__(reason)
        self.answer = answer


@dataclass(frozen=True)
class Query:
    """One question. `asked` is its name as it came (for the answer), `size` the longest UDP answer."""

    id: int
    flags: int
    name: str
    asked: bytes
    type: int
    extended: bool
    size: int


@dataclass(frozen=True)
class Record:
    """One resource record; `data` as `encode_*` below make it."""

    name: str
    type: Type
    data: bytes
    ttl: int


def encode_name(name: str) -> bytes:
    """A name in wire format, without compression; ValueError if it cannot be one."""
    if not name:
        return b"\0"
    parts = []
    for label in name.split("."):
        raw = label.encode("utf-8", "surrogateescape")
        if not 1 <= len(raw) <= 63:
            raise ValueError(f"{name!r} is no domain name")
        parts.append(bytes([len(raw)]) + raw)
    encoded = b"".join(parts) + b"\0"
    if len(encoded) > _NAME_MAX:
        raise ValueError(f"{name!r} is longer than {_NAME_MAX} bytes")
    return encoded


def encode_a(address: str) -> bytes:
    """The data of an A record."""
    return socket.inet_aton(address)


def encode_srv(priority: int, weight: int, port: int, target: str) -> bytes:
    """The data of an SRV record."""
    return struct.pack(">HHH", priority, weight, port) + encode_name(target)


def encode_txt(text: str) -> bytes:
    """The data of a TXT record."""
    raw = text.encode()[:255]
    return bytes([len(raw)]) + raw


def encode_soa(server: str, mailbox: str, serial: int, refresh: int, retry: int, expire: int, minimum: int) -> bytes:
    """The data of an SOA record; the times are in seconds."""
    numbers = struct.pack(">IIIII", serial & 0xFFFF_FFFF, refresh, retry, expire, minimum)
    return encode_name(server) + encode_name(mailbox) + numbers


def parse_query(data: bytes) -> Query:
    """The question in a message; Malformed, with the answer to give, for anything else."""
    if len(data) < 12:
        raise Malformed("shorter than a header")
    number, flags, questions, answers, authorities, additional = struct.unpack_from(">6H", data)
    if flags & _RESPONSE:
        raise Malformed("a response, not a query")
    if flags & _OPCODE:
        raise Malformed("not a standard query", _bare(number, flags, Code.NOTIMP))
    refusal = _bare(number, flags, Code.FORMERR)
    if questions != 1:
        raise Malformed(f"{questions} questions", refusal)
    try:
        labels, offset = _read_name(data, 12)
        kind, klass = struct.unpack_from(">HH", data, offset)
        asked = data[12 : offset + 4]
        extended, size, version = _read_extension(data, offset + 4, answers + authorities + additional)
    except (struct.error, IndexError, ValueError) as error:
        raise Malformed(str(error), refusal) from None
    query = Query(
        id=number,
        flags=flags,
        name=_text(labels),
        asked=asked,
        type=kind,
        extended=extended,
        size=max(PLAIN_SIZE, min(size, SAFE_SIZE)),
    )
    if version:
        raise Malformed("an unknown version of EDNS", respond(query, Code.NOERROR, extended_code=1))
    if klass not in (_IN, Type.ANY):
        raise Malformed("a class other than IN", respond(query, Code.REFUSED))
    return query


def parse_addresses(data: bytes) -> tuple[int, list[Record]]:
    """The code of a response, and its addresses with the aliases that lead to them; ValueError for anything else."""
    try:
        _, flags, questions, answers, _, _ = struct.unpack_from(">6H", data)
        if not flags & _RESPONSE:
            raise ValueError("a query, not a response")
        offset = 12
        for _ in range(questions):
            offset = _read_name(data, offset)[1] + 4
        records = []
        for _ in range(answers):
            labels, offset = _read_name(data, offset)
            kind, _, ttl, length = struct.unpack_from(">HHIH", data, offset)
            offset += 10
            content = data[offset : offset + length]
            if kind == Type.CNAME:  # its name may point to elsewhere in this message
                content = encode_name(_text(_read_name(data, offset)[0]))
            if kind in (Type.A, Type.AAAA, Type.CNAME):
                records.append(Record(_text(labels), Type(kind), content, ttl))
            offset += length
        if offset > len(data):
            raise ValueError("a record that ends too late")
    except (struct.error, IndexError) as error:
        raise ValueError(f"a response that ends early: {error}") from None
    return flags & _CODE, records


def question(name: str, kind: int, number: int) -> bytes:
    """A query for one name, for a resolver; ValueError if it cannot be a name."""
    return (
        struct.pack(">6H", number, _RECURSION_DESIRED, 1, 0, 0, 0) + encode_name(name) + struct.pack(">HH", kind, _IN)
    )


def is_response(message: bytes, query: bytes) -> bool:
    """Whether a message has a whole header, which says that it is the response to that query."""
    return len(message) >= 12 and message[:2] == query[:2] and bool(message[2] & _RESPONSE >> 8)


def code_of(response: bytes) -> int:
    """The code of a response, which has a whole header."""
    return response[3] & _CODE


def _text(labels: Sequence[bytes]) -> str:
    return b".".join(labels).decode("utf-8", "surrogateescape").lower()


def _bare(number: int, flags: int, code: Code) -> bytes:
    kept = flags & (_OPCODE | _RECURSION_DESIRED)
    return struct.pack(">6H", number, _RESPONSE | kept | code, 0, 0, 0, 0)


def _read_name(data: bytes, offset: int) -> tuple[list[bytes], int]:
    """The labels of a name and the offset behind it. Pointers may only lead backwards."""
    labels: list[bytes] = []
    behind = -1
    limit = offset
    total = 1
    while True:
        length = data[offset]
        if length >= 0xC0:
            target = (length & 0x3F) << 8 | data[offset + 1]
            if behind < 0:
                behind = offset + 2
            if target >= limit:
                raise ValueError("a compression pointer does not lead backwards")
            offset = limit = target
            continue
        if length > 63:
            raise ValueError("an unknown kind of label")
        offset += 1
        if not length:
            return labels, behind if behind >= 0 else offset
        label = data[offset : offset + length]
        total += length + 1
        if len(label) < length or total > _NAME_MAX:
            raise ValueError("a name that ends too late")
        if b"." in label:
            raise ValueError("a dot within a label")
        labels.append(label)
        offset += length


def _read_extension(data: bytes, offset: int, records: int) -> tuple[bool, int, int]:
    """(whether the query has EDNS, its size for UDP answers, its version)."""
    for _ in range(records):
        labels, offset = _read_name(data, offset)
        kind, size, ttl, length = struct.unpack_from(">HHIH", data, offset)
        offset += 10 + length
        if offset > len(data):
            raise ValueError("a record that ends too late")
        if kind == Type.OPT and not labels:
            return True, size, ttl >> 16 & 0xFF
    return False, PLAIN_SIZE, 0


def respond(
    query: Query,
    code: int,
    answers: Sequence[Record] = (),
    authorities: Sequence[Record] = (),
    additional: Sequence[Record] = (),
    *,
    authoritative: bool = True,
    extended_code: int = 0,
    truncated: bool = False,
    size: int = 65535,
) -> bytes:
    """The answer in wire format. What does not fit into `size` is left out and the answer marked truncated.

    Additional records are left out without a mark: a client can ask for them.
    """
    flags = _RESPONSE | _RECURSION_AVAILABLE | query.flags & _RECURSION_DESIRED | code
    if authoritative:
        flags |= _AUTHORITATIVE
    if truncated:
        flags |= _TRUNCATED
    body = bytearray(query.asked)
    option = b""
    if query.extended:
        option = struct.pack(">BHHIH", 0, Type.OPT, SAFE_SIZE, extended_code << 24, 0)
    limit = size - 12 - len(option)
    counts = [0, 0, 0]
    for section, records in enumerate((answers, authorities, additional)):
        for record in records:
            encoded = _encode_record(record, query)
            if len(body) + len(encoded) > limit:
                if section < 2:
                    flags |= _TRUNCATED
                break
            body += encoded
            counts[section] += 1
        if flags & _TRUNCATED:
            break
    counts[2] += bool(option)
    return struct.pack(">6H", query.id, flags, 1, *counts) + bytes(body) + option


def _encode_record(record: Record, query: Query) -> bytes:
    # 0xC00C points to offset 12, where the question begins.
    owner = b"\xc0\x0c" if record.name == query.name else encode_name(record.name)
    return owner + struct.pack(">HHIH", record.type, _IN, record.ttl, len(record.data)) + record.data
