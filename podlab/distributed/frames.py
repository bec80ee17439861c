"""Messages on a byte stream: four bytes of length, most significant first, then JSON. The same over TCP and Unix."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from typing import Any

from podlab.errors import LaboratoryError

#: Bytes of the longest message: a length beyond it means that the stream is not made of frames.
LONGEST = 64 * 2**20


def encode(message: Any) -> bytes:
    """The frame of a message."""
    try:
        body = json.dumps(message, separators=(",", ":")).encode()
    except (TypeError, ValueError) as error:
        raise LaboratoryError(f"A message cannot be written as JSON: {error}. It was {message!r:.200}.") from error
    return len(body).to_bytes(4, "big") + body


class Frames:
    """Cuts a stream into frames, whatever the pieces in which it arrives."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[Any]:
        """Take more bytes and yield every message that is complete now."""
        for body in self.bodies(data):
            yield decode(body)

    def bodies(self, data: bytes) -> Iterator[bytes]:
        """Like `feed`, without reading the JSON."""
        self._buffer += data
        while len(self._buffer) >= 4:
            length = int.from_bytes(self._buffer[:4], "big")
            if length > LONGEST:
                raise LaboratoryError(f"A frame claims {length} bytes: this is no stream of framed messages.")
            if len(self._buffer) < 4 + length:
                return
            body = bytes(self._buffer[4 : 4 + length])
            del self._buffer[: 4 + length]
            yield body


def decode(body: bytes) -> Any:
    """The message in a frame's body."""
    try:
        return json.loads(body)
    except ValueError as error:
        raise LaboratoryError(f"A frame holds no JSON: {body[:100]!r}.") from error


def send(connection: socket.socket, message: Any) -> None:
    """Send one message on a blocking socket."""
    connection.sendall(encode(message))


def receive(connection: socket.socket) -> Any:
    """The next message of a blocking socket; None at its end. A socket's timeout applies (TimeoutError)."""
    head = _exactly(connection, 4)
    if head is None:
        return None
    length = int.from_bytes(head, "big")
    if length > LONGEST:
        raise LaboratoryError(f"A frame claims {length} bytes: this is no stream of framed messages.")
    body = _exactly(connection, length)
    return None if body is None else decode(body)


def _exactly(connection: socket.socket, count: int) -> bytes | None:
    data = bytearray()
    while len(data) < count:
        piece = connection.recv(count - len(data))
        if not piece:
            return None
        data += piece
    return bytes(data)
