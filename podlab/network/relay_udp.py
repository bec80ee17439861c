"""Carrying datagrams between the clients of one port and a target, with a socket of its own for each client."""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from collections.abc import Callable

from podlab.network.relay import Admits

log = logging.getLogger(__name__)

#: Seconds of silence after which a client is forgotten, and how many may be known at once.
_IDLE = 60.0
_CLIENTS_MAX = 1024

#: Makes a socket that is connected to the target for one more client; OSError if that cannot be.
Connect = Callable[[], socket.socket]


class DatagramDoor:
    """Passes the datagrams of each client that `admits` lets in to a target, and the target's answers back to it."""

    def __init__(
        self, bound: socket.socket, connect: Connect, name: str = "datagram door", admits: Admits = lambda _: True
    ) -> None:
        self.name = name
        self._bound = bound
        self._connect = connect
        self._admits = admits
        self._clients: dict[tuple[str, int], _Answers] = {}
        self._transport: asyncio.DatagramTransport | None = None

    async def start(self) -> None:
        """Serve from now on."""
        loop = asyncio.get_running_loop()
        self._transport, _ = await loop.create_datagram_endpoint(lambda: _Questions(self), sock=self._bound)

    async def close(self) -> None:
        """Stop serving and forget all clients."""
        for client in list(self._clients.values()):
            client.close()
        if self._transport:
            self._transport.close()
        else:
            self._bound.close()

    @property
    def clients(self) -> int:
        """The number of clients known now."""
        return len(self._clients)

    def receive(self, data: bytes, sender: tuple[str, int]) -> None:
        """Pass one datagram of a client on."""
        client = self._clients.get(sender)
        if client is None:
            if not self._admits(sender[0]):
                return
            self._make_room()
            try:
                client = _Answers(self, sender, self._connect())
            except OSError as error:
                log.debug("%s cannot reach its target: %s", self.name, error)
                return
            self._clients[sender] = client
        client.send(data)

    def answer(self, data: bytes, client: tuple[str, int]) -> None:
        """Pass one datagram of the target back."""
        if self._transport:
            self._transport.sendto(data, client)

    def forget(self, client: tuple[str, int]) -> None:
        """The client's socket has been closed."""
        self._clients.pop(client, None)

    def _make_room(self) -> None:
        if len(self._clients) >= _CLIENTS_MAX:
            min(self._clients.values(), key=lambda client: client.used).close()


class _Answers:
    """The socket towards the target that belongs to one client."""

    def __init__(self, door: DatagramDoor, client: tuple[str, int], made: socket.socket) -> None:
        self._door = door
        self._client = client
        self._socket = made
        self._loop = asyncio.get_running_loop()
        self.used = time.monotonic()
        self._loop.add_reader(made, self._readable)
        self._timer = self._loop.call_later(_IDLE, self._expire)

    def send(self, data: bytes) -> None:
        self.used = time.monotonic()
        try:
            self._socket.send(data)
        except BlockingIOError:
            pass  # a full buffer loses datagrams, as anywhere on the way
        except OSError:
            self.close()

    def close(self) -> None:
        self._timer.cancel()
        self._loop.remove_reader(self._socket)
        self._socket.close()
        self._door.forget(self._client)

    def _readable(self) -> None:
        try:
            data = self._socket.recv(65536)
        except BlockingIOError:
            return
        except OSError:
            # Refused. The next datagram of the client gets a new socket, perhaps to another node.
            self.close()
            return
        self.used = time.monotonic()
        self._door.answer(data, self._client)

    def _expire(self) -> None:
        left = self.used + _IDLE - time.monotonic()
        if left <= 0:
            self.close()
        else:
            self._timer = self._loop.call_later(left, self._expire)


class _Questions(asyncio.DatagramProtocol):
    def __init__(self, door: DatagramDoor) -> None:
        self._door = door

    def datagram_received(self, data: bytes, sender: tuple[str, int]) -> None:
        self._door.receive(data, sender[:2])
