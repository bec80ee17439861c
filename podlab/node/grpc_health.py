"""The gRPC health check, in the few HTTP/2 frames that it needs (RFC 9113, grpc.health.v1)."""

from __future__ import annotations

import asyncio
import struct

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY = 0x0, 0x1, 0x3, 0x4, 0x6, 0x7
END_STREAM, ACK, END_HEADERS, PADDED = 0x1, 0x1, 0x4, 0x8
FRAME_MAX = 1 << 20
STATES = ("UNKNOWN", "SERVING", "NOT_SERVING", "SERVICE_UNKNOWN")


class ProtocolError(Exception):
    """The other side does not speak gRPC health, or refused."""


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    """One HTTP/2 frame."""
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def _header(name: str, value: str) -> bytes:
    """A header as an HPACK literal without indexing and without Huffman coding (RFC 7541, 6.2.2)."""
    return b"\0" + b"".join(_length(len(part)) + part.encode() for part in (name, value))


def _length(number: int) -> bytes:
    if number < 127:
        return bytes([number])
    rest = number - 127
    encoded = bytearray([127])
    while rest >= 128:
        encoded.append(rest % 128 + 128)
        rest //= 128
    return bytes([*encoded, rest])


def request(host: str, port: int, service: str) -> bytes:
    """All bytes that a client sends for one check."""
    fields = {
        ":method": "POST",
        ":scheme": "http",
        ":path": "/grpc.health.v1.Health/Check",
        ":authority": f"{host}:{port}",
        "content-type": "application/grpc",
        "user-agent": "kube-probe/1.37",
        "te": "trailers",
    }
    block = b"".join(_header(name, value) for name, value in fields.items())
    name = service.encode()
    body = (b"\x0a" + _length_varint(len(name)) + name) if name else b""
    message = b"\0" + struct.pack(">I", len(body)) + body
    return (
        PREFACE
        + frame(SETTINGS, 0, 0, b"")
        + frame(HEADERS, END_HEADERS, 1, block)
        + frame(DATA, END_STREAM, 1, message)
    )


def _length_varint(number: int) -> bytes:
    encoded = bytearray()
    while number >= 128:
        encoded.append(number % 128 + 128)
        number //= 128
    return bytes([*encoded, number])


def state(body: bytes) -> str:
    """The serving state in a gRPC message HealthCheckResponse; ProtocolError if it is none."""
    if len(body) < 5 or body[0] != 0:
        raise ProtocolError("the answer is no plain gRPC message")
    (length,) = struct.unpack(">I", body[1:5])
    message = body[5 : 5 + length]
    if not message:
        return STATES[0]
    if message[0] != 0x08 or len(message) < 2 or message[1] >= len(STATES):
        raise ProtocolError("the answer is no HealthCheckResponse")
    return STATES[message[1]]


def _unpadded(payload: bytes) -> bytes:
    """A frame's payload without its padding (RFC 9113, 6.1); ProtocolError if there cannot be that much."""
    if not payload or payload[0] >= len(payload):
        raise ProtocolError("the answer is no HTTP/2")
    return payload[1 : len(payload) - payload[0]]


async def check(host: str, port: int, service: str) -> str:
    """The serving state that a server gives for `service` ("": the server as a whole)."""
    reader, writer = await asyncio.open_connection(host, port)
    try:
        writer.write(request(host, port, service))
        body = b""
        while True:
            head = await reader.readexactly(9)
            length = int.from_bytes(head[:3], "big")
            if length > FRAME_MAX:
                raise ProtocolError("the answer is no HTTP/2")
            kind, flags = head[3], head[4]
            payload = await reader.readexactly(length)
            if kind == SETTINGS and not flags & ACK:
                writer.write(frame(SETTINGS, ACK, 0, b""))
            elif kind == PING and not flags & ACK:
                writer.write(frame(PING, ACK, 0, payload))
            elif kind == DATA:
                body += _unpadded(payload) if flags & PADDED else payload
            elif kind in (RST_STREAM, GOAWAY):
                raise ProtocolError("the server ended the stream")
            if kind in (DATA, HEADERS) and flags & END_STREAM:
                break
        if not body:
            raise ProtocolError("the server gave an error instead of a state")
        return state(body)
    except asyncio.IncompleteReadError as error:
        raise ProtocolError("the connection ended early") from error
    finally:
        writer.transport.abort()
