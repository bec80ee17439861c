"""The cluster's DNS on one node: UDP and TCP on port 53 of its Service address, answered from memory."""

from __future__ import annotations

import asyncio
import errno
import logging
import secrets
import socket
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from podlab.network import addresses, dns_message
from podlab.network.dns_message import Code, Malformed, Query
from podlab.network.dns_zone import Answer, Zone
from podlab.network.egress import DialTo, through
from podlab.network.relay import Listener, MakeSocket, local_socket
from podlab.network.watching import Key, ServiceTable

log = logging.getLogger(__name__)

#: Seconds of silence after which a TCP connection is closed.
_IDLE = 10.0
_CONNECTIONS_MAX = 256
_RECEIVE_BUFFER = 1 << 20
#: How often a port is picked that must be free for UDP and TCP alike.
_PICKS = 20
#: Seconds that a resolver has for an answer (the client asks again after five), and questions that wait for one.
_PATIENCE = 4.0
_FORWARDED_MAX = 256

#: Asks a resolver: a query in wire format for its answer; OSError, TimeoutError or EOFError.
Ask = Callable[[bytes], Awaitable[bytes]]


def asking(outside: str, place: Sequence[Any]) -> Ask | None:
    """How a node asks the resolver at `place` (address, port) by the proxy at the path `outside`; None without one."""
    return resolver(through(Path(outside)), *place) if outside and place else None


def resolver(dial: DialTo, address: str, port: int) -> Ask:
    """Questions to a resolver, each on a TCP connection of its own: every resolver must take them (RFC 7766)."""

    async def ask(query: bytes) -> bytes:
        async with asyncio.timeout(_PATIENCE):
            with await dial(address, port) as connection:
                await _send(connection, query)
                answer = await _receive(connection)
        if not dns_message.is_response(answer, query):
            raise OSError(f"the resolver {address}:{port} answered with something else")
        return answer

    return ask


@dataclass(frozen=True)
class _Open:
    """A question that the resolver has to answer, and what the cluster knows of it."""

    query: Query
    data: bytes
    found: Answer
    size: int


class ClusterDns:
    """Follows a ServiceTable and answers questions.

    Names outside of the cluster are the resolver's that `ask` asks. Without one they do not exist, since no way leads
    out of the cluster. SERVFAIL would be no better: with `ndots:5` every misspelt Service is asked for as a foreign
    name, too, and "temporary failure" after retries tells a person less than "name not known" at once.
    """

    def __init__(
        self,
        table: ServiceTable,
        *,
        address: str = addresses.DNS_SERVICE,
        domain: str = addresses.CLUSTER_DOMAIN,
        port: int = 53,
        make: MakeSocket = local_socket,
        ask: Ask | None = None,
    ) -> None:
        self._table = table
        self._ask = ask
        self._said = "nothing yet"
        self.zone = Zone(domain, address)
        self._bind = (address, port)
        #: Address and port on which it listens, once started.
        self.address = (address, port)
        self._make = make
        self._tasks: set[asyncio.Task[None]] = set()
        self._datagrams: asyncio.DatagramTransport | None = None
        self._streams: Listener | None = None

    def _sockets(self) -> tuple[socket.socket, socket.socket]:
        """A UDP and a TCP socket bound to the same address and port."""
        made = (self._make(socket.AF_INET, socket.SOCK_DGRAM), self._make(socket.AF_INET, socket.SOCK_STREAM))
        try:
            for each in made:
                each.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            made[0].setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER)
            made[0].bind(self._bind)
            made[1].bind(made[0].getsockname())
        except OSError as error:
            for each in made:
                each.close()
            where = f"{self._bind[0]}:{self._bind[1]}"
            raise OSError(error.errno, f"the DNS cannot listen on {where}: {error.strerror}") from error
        return made

    async def start(self) -> None:
        """Listen from now on; OSError if the address or port cannot be had.

        Questions that come before the table is complete wait in the kernel's queue: no name is denied only
        because it has not been heard of yet.
        """
        # A free port that the kernel picks for UDP (port 0, in tests) may be taken for TCP: pick again.
        for _ in range(0 if self._bind[1] else _PICKS):
            try:
                made = self._sockets()
                break
            except OSError as error:
                if error.errno != errno.EADDRINUSE:
                    raise
        else:
            made = self._sockets()
        self._table.subscribe(self._changed)
        self.address = made[0].getsockname()
        self._streams = Listener(made[1], self._serve_stream, "dns")
        await self._streams.start()
        self._start(self._serve_datagrams(made[0]))

    async def _serve_datagrams(self, made: socket.socket) -> None:
        try:
            await self._table.synced.wait()
            loop = asyncio.get_running_loop()
            self._datagrams, _ = await loop.create_datagram_endpoint(lambda: _Datagrams(self), sock=made)
        except BaseException:
            made.close()
            raise

    async def close(self) -> None:
        """Stop serving."""
        if self._streams:
            await self._streams.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._datagrams:
            self._datagrams.close()

    def _changed(self, key: Key) -> None:
        self.zone.update(key, self._table.services.get(key), self._table.slices(key))

    def answer(self, data: bytes, size: int | None = None) -> bytes | _Open | None:
        """The answer to a message, cut to `size` (None: what the query says); None for silence."""
        try:
            query = dns_message.parse_query(data)
        except Malformed as error:
            return error.answer
        found = self.zone.answer(query.name, query.type)
        size = query.size if size is None else size
        if found.foreign is not None and self._ask:
            return _Open(query, data, found, size)
        if found.foreign == query.name:
            return dns_message.respond(query, Code.NXDOMAIN, authoritative=False)
        return dns_message.respond(query, found.code, found.records, found.authorities, found.additional, size=size)

    async def _forward(self, question: _Open) -> bytes:
        """The resolver's answer as it came; for an alias in the cluster, that of its target behind the alias."""
        query, found = question.query, question.found
        assert self._ask and found.foreign is not None
        try:
            if not found.records:
                answer = await self._ask(question.data)
                if len(answer) <= question.size:
                    return answer
                code = dns_message.code_of(answer)
                return dns_message.respond(query, code, authoritative=False, truncated=True)
            asked = dns_message.question(found.foreign, query.type, secrets.randbits(16))
            code, records = dns_message.parse_addresses(await self._ask(asked))
        except (OSError, TimeoutError, EOFError, ValueError) as error:
            # Once for each fault, not for each question; and a name is whatever a pod has sent.
            if str(error) != self._said:
                self._said = str(error)
                log.warning("names outside cannot be resolved, %r for one: %s", found.foreign, error or "no answer")
            return dns_message.respond(query, Code.SERVFAIL, found.records, authoritative=False)
        return dns_message.respond(query, code, (*found.records, *records), authoritative=False, size=question.size)

    def _serve_datagram(self, data: bytes, sender: tuple[str, int], transport: asyncio.DatagramTransport) -> None:
        answer = self.answer(data)
        if isinstance(answer, _Open):
            if len(self._tasks) < _FORWARDED_MAX:  # otherwise silence: the client asks again
                self._start(self._forward_datagram(answer, sender, transport))
        elif answer is not None:
            transport.sendto(answer, sender)

    async def _forward_datagram(
        self, question: _Open, sender: tuple[str, int], transport: asyncio.DatagramTransport
    ) -> None:
        answer = await self._forward(question)
        if not transport.is_closing():
            transport.sendto(answer, sender)

    def _start(self, coroutine: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(coroutine, name="dns")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve_stream(self, connection: socket.socket) -> None:
        """Questions on a TCP connection, one after another, each with its length in front."""
        with connection:
            if self._streams is None or self._streams.connections > _CONNECTIONS_MAX:
                return
            try:
                await self._table.synced.wait()
                while True:
                    async with asyncio.timeout(_IDLE):
                        answer = self.answer(await _receive(connection), 65535)
                        if isinstance(answer, _Open):
                            answer = await self._forward(answer)
                        if answer is None:
                            return
                        await _send(connection, answer)
            except (OSError, TimeoutError, EOFError):
                return


class _Datagrams(asyncio.DatagramProtocol):
    def __init__(self, dns: ClusterDns) -> None:
        self._dns = dns
        self._transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]

    def datagram_received(self, data: bytes, sender: tuple[str, int]) -> None:
        if self._transport:
            self._dns._serve_datagram(data, sender, self._transport)


async def _receive(connection: socket.socket) -> bytes:
    """A message of a TCP connection, which has its length in front."""
    return await _exactly(connection, int.from_bytes(await _exactly(connection, 2), "big"))


async def _send(connection: socket.socket, message: bytes) -> None:
    await asyncio.get_running_loop().sock_sendall(connection, len(message).to_bytes(2, "big") + message)


async def _exactly(connection: socket.socket, count: int) -> bytes:
    loop = asyncio.get_running_loop()
    data = bytearray()
    while len(data) < count:
        piece = await loop.sock_recv(connection, count - len(data))
        if not piece:
            raise EOFError
        data += piece
    return bytes(data)
