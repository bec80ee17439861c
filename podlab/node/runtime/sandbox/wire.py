"""Messages between the zygote and its clients: JSON objects with file descriptors, over a Unix stream socket.

One frame: `>IB` (length of the JSON text, number of descriptors) + the text; the descriptors travel with the
first byte of their frame (SCM_RIGHTS). Sockets are non-blocking; what cannot be sent at once is kept.
Standard library only, no asyncio: both ends of the protocol use this module.
"""

from __future__ import annotations

import array
import json
import os
import socket
import struct
from collections import deque

_HEADER = struct.Struct(">IB")

#: Version of what is said by this protocol. A zygote outlives the agents and podlab's upgrades: raise it when something
#: is added, and OLDEST, the oldest zygote that an agent of today can work with, when it cannot do without.
PROTOCOL, OLDEST = 2, 1

#: Longest text of one message, in bytes (environments of 1 MiB are usual limits of the kernel).
LONGEST = 16 << 20
#: Bytes that a peer may leave unread before it is dropped.
BACKLOG = 64 << 20
_READ = 1 << 18
#: Most descriptors that the kernel passes in one message (SCM_MAX_FD).
_MOST_DESCRIPTORS = 253


class Disconnected(Exception):
    """The peer is gone, or sent something that is not of this protocol (the text says which)."""


class Connection:
    """One end of a conversation. The caller waits for readiness; `wants_write` says what to wait for."""

    def __init__(self, peer: socket.socket) -> None:
        peer.setblocking(False)
        self.socket = peer
        self._input = bytearray()
        self._descriptors: deque[int] = deque()
        self._output: deque[tuple[memoryview, list[int]]] = deque()
        self._waiting = 0

    def fileno(self) -> int:
        """The socket's descriptor."""
        return self.socket.fileno()

    @property
    def wants_write(self) -> bool:
        """Whether something is left to send."""
        return bool(self._output)

    def close(self) -> None:
        """Close the socket and every descriptor that was not handed on."""
        self.socket.close()
        for descriptor in self._descriptors:
            os.close(descriptor)
        self._descriptors.clear()
        for _, descriptors in self._output:
            for descriptor in descriptors:
                os.close(descriptor)
        self._output.clear()

    def send(self, message: dict, descriptors: tuple[int, ...] | list[int] = ()) -> None:
        """Send a message, now or as soon as the peer reads; raises Disconnected when it never will.

        The descriptors are duplicated where they must wait: the caller keeps its own.
        """
        text = json.dumps(message, separators=(",", ":")).encode()
        if len(text) > LONGEST:
            raise ValueError(f"a message of {len(text)} bytes is longer than {LONGEST}")
        frame = memoryview(_HEADER.pack(len(text), len(descriptors)) + text)
        if not self._output:
            sent = self._transmit(frame, descriptors)
            frame = frame[sent:]
            if sent:
                descriptors = ()
        if frame:
            self._output.append((frame, [os.dup(descriptor) for descriptor in descriptors]))
            self._waiting += len(frame)
            if self._waiting > BACKLOG:
                raise Disconnected("it does not read its messages")

    def flush(self) -> None:
        """Send what waits, as far as the peer takes it."""
        while self._output:
            frame, descriptors = self._output[0]
            sent = self._transmit(frame, descriptors)
            if not sent:
                return
            self._waiting -= sent
            for descriptor in descriptors:
                os.close(descriptor)
            if sent == len(frame):
                self._output.popleft()
            else:
                self._output[0] = (frame[sent:], [])

    def receive(self) -> list[tuple[dict, list[int]]]:
        """The messages that have arrived, each with its descriptors (now the caller's to close)."""
        try:
            data, descriptors = _receive(self.socket)
        except (BlockingIOError, InterruptedError):
            return []
        except OSError as error:
            raise Disconnected(os.strerror(error.errno or 0)) from error
        self._descriptors.extend(descriptors)
        if not data:
            raise Disconnected("end of stream")
        self._input += data
        return list(self._take())

    def _take(self):
        while len(self._input) >= _HEADER.size:
            length, count = _HEADER.unpack_from(self._input)
            if length > LONGEST:
                raise Disconnected(f"a message of {length} bytes was announced")
            end = _HEADER.size + length
            if len(self._input) < end:
                return
            text = bytes(self._input[_HEADER.size : end])
            del self._input[:end]
            if count > len(self._descriptors):
                raise Disconnected("descriptors are missing")
            try:
                message = json.loads(text)
            except ValueError as error:
                raise Disconnected(f"not JSON: {error}") from error
            if not isinstance(message, dict):
                raise Disconnected("not a JSON object")
            yield message, [self._descriptors.popleft() for _ in range(count)]

    def _transmit(self, frame: memoryview, descriptors) -> int:
        ancillary = []
        if descriptors:
            ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))]
        try:
            return self.socket.sendmsg([frame], ancillary, socket.MSG_NOSIGNAL)
        except (BlockingIOError, InterruptedError):
            return 0
        except OSError as error:
            raise Disconnected(os.strerror(error.errno or 0)) from error


def _receive(peer: socket.socket) -> tuple[bytes, list[int]]:
    width = array.array("i").itemsize
    data, ancillary, _, _ = peer.recvmsg(_READ, socket.CMSG_SPACE(_MOST_DESCRIPTORS * width), socket.MSG_CMSG_CLOEXEC)
    found = array.array("i")
    for level, kind, content in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            found.frombytes(content[: len(content) - len(content) % width])
    return data, list(found)
