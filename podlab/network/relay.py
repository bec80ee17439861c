"""Carrying bytes between two sockets, and doors: listeners that carry each connection to somewhere else."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import struct
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, cast

from podlab.waiting import pause_async

log = logging.getLogger(__name__)

#: Seconds that a connection attempt may take, unless told otherwise.
DIAL_TIMEOUT = 10.0
#: Accepted connections that may wait for us; the kernel cuts it to net.core.somaxconn.
BACKLOG = 1024
#: Dead peers (a machine without power says no goodbye) are noticed within half a minute.
_KEEPALIVE = ((socket.TCP_KEEPIDLE, 10), (socket.TCP_KEEPINTVL, 5), (socket.TCP_KEEPCNT, 4))
_UNACKNOWLEDGED_MS = 30_000
#: SO_LINGER on, 0 seconds: closing sends a reset.
_LINGER_RESET = struct.pack("ii", 1, 0)
_ACCEPT_PAUSE = 0.2

Dial = Callable[[], Awaitable[socket.socket]]
#: Whether a client with this address may come in.
Admits = Callable[[str], bool]
Serve = Callable[[socket.socket], Coroutine[Any, Any, None]]
MakeSocket = Callable[[int, int], socket.socket]


def local_socket(family: int, kind: int) -> socket.socket:
    """A new non-blocking socket in this process's own network; the counterpart of `Backbone.socket`."""
    made = socket.socket(family, kind)
    made.setblocking(False)
    return made


def notice_dead_peers(connection: socket.socket) -> None:
    """Let the kernel end a TCP connection whose other side has vanished, and send small messages at once."""
    if connection.family not in (socket.AF_INET, socket.AF_INET6):
        return
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in _KEEPALIVE:
        connection.setsockopt(socket.IPPROTO_TCP, option, value)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _UNACKNOWLEDGED_MS)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


async def dial_tcp(make: MakeSocket, address: str, port: int, timeout: float = DIAL_TIMEOUT) -> socket.socket:
    """A connected TCP socket made by `make`; OSError or TimeoutError, both with a readable text."""
    made = make(socket.AF_INET, socket.SOCK_STREAM)
    try:
        notice_dead_peers(made)
        async with asyncio.timeout(timeout):
            await asyncio.get_running_loop().sock_connect(made, (address, port))
    except TimeoutError:
        made.close()
        raise TimeoutError(f"{address}:{port} did not answer within {timeout:g} s") from None
    except OSError as error:
        made.close()
        # asyncio's own text ("Connect call failed") hides the kernel's.
        raise OSError(error.errno, os.strerror(error.errno or 0), f"{address}:{port}") from error
    except BaseException:
        made.close()
        raise
    return made


class _Side(asyncio.Protocol):
    """One of the two connections of a relay. What arrives here is written to `other`."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self.other: _Side | None = None
        self.ended = False  # the peer has said its last byte
        self.lost = asyncio.get_running_loop().create_future()
        self._failure: Exception | None = None
        self._early: list[bytes] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        # Until the other side is there. Python before 3.11.4 begins to read all the same, hence `_early`.
        self.transport.pause_reading()

    @staticmethod
    def join(first: _Side, second: _Side) -> None:
        """Let bytes flow in both directions from now on."""
        first.other, second.other = second, first
        for side in (first, second):
            early, side._early = side._early, []
            for data in early:
                side.data_received(data)
            if side.lost.done():
                side._pass_loss(side._failure)
            elif side.ended:
                side._pass_end()
            elif side.transport and not side.transport.is_closing():
                side.transport.resume_reading()

    def data_received(self, data: bytes) -> None:
        if self.other is None:
            self._early.append(data)
        elif self.other.transport:
            self.other.transport.write(data)

    def eof_received(self) -> bool:
        self.ended = True
        if self.other:
            self._pass_end()
        return True  # the other direction goes on

    def _pass_end(self) -> None:
        other = self.other
        assert other and other.transport and self.transport
        if other.ended:
            other.transport.close()
            self.transport.close()
        elif not other.transport.is_closing():
            other.transport.write_eof()

    def pause_writing(self) -> None:
        if self.other and self.other.transport:
            self.other.transport.pause_reading()

    def resume_writing(self) -> None:
        if self.other and self.other.transport and not self.other.transport.is_closing():
            self.other.transport.resume_reading()

    def connection_lost(self, error: Exception | None) -> None:
        self._failure = error
        if not self.lost.done():
            self.lost.set_result(None)
        self._pass_loss(error)

    def _pass_loss(self, error: Exception | None) -> None:
        if self.other and self.other.transport:
            if error:
                # A reset is passed on as a reset: the other client must not take it for a regular end.
                _reset_on_close(self.other.transport.get_extra_info("socket"))
                self.other.transport.abort()
            else:
                self.other.transport.close()


async def relay(first: socket.socket, second: socket.socket) -> None:
    """Carry bytes both ways until both directions have ended; owns and closes both sockets.

    An end of stream in one direction is passed on and the other direction goes on (half-close). An error on
    one side ends the other. A slow receiver slows its sender: at most some 64 KiB wait in between.
    """
    loop = asyncio.get_running_loop()
    sides: list[_Side] = []
    try:
        for end in (first, second):
            _, side = await loop.connect_accepted_socket(_Side, end)
            sides.append(side)
        _Side.join(*sides)
        await asyncio.wait([side.lost for side in sides])
    finally:
        for side in sides:
            if side.transport:
                side.transport.abort()
        first.close()
        second.close()


def _reset_on_close(connection: socket.socket) -> None:
    if connection.family in (socket.AF_INET, socket.AF_INET6):
        try:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_RESET)
        except OSError:
            pass  # it has ended already


def reset(connection: socket.socket) -> None:
    """Close a TCP connection with a reset: its client sees an error, not an empty answer."""
    _reset_on_close(connection)
    connection.close()


class Listener:
    """Accepts connections on a bound socket and runs `serve(connection)` for each as a task of its own.

    The socket may belong to another network namespace. `serve` owns the connection that it is given.
    """

    def __init__(self, listening: socket.socket, serve: Serve, name: str) -> None:
        self.name = name
        self._listening = listening
        self._serve = serve
        self._tasks: set[asyncio.Task[None]] = set()
        self._accepting: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Listen from now on; the socket must be bound already."""
        self._listening.setblocking(False)
        self._listening.listen(BACKLOG)
        self._accepting = asyncio.create_task(self._accept(), name=self.name)

    async def close(self) -> None:
        """Stop listening and end all connections."""
        tasks = [task for task in (self._accepting, *self._tasks) if task]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._listening.close()

    @property
    def connections(self) -> int:
        """The number of connections now."""
        return len(self._tasks)

    async def _accept(self) -> None:
        # Not by the loop's sock_accept: cancelled in the moment of a connection it loses it, open and never served.
        loop, readable = asyncio.get_running_loop(), asyncio.Event()
        loop.add_reader(self._listening, readable.set)
        try:
            while True:
                await readable.wait()
                readable.clear()
                try:
                    connection, _ = self._listening.accept()
                except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                    continue
                except OSError as error:
                    # Out of descriptors, most likely: the waiting ones are served when others have ended.
                    log.warning("%s cannot accept: %s", self.name, error)
                    loop.remove_reader(self._listening)
                    await pause_async(_ACCEPT_PAUSE)
                    loop.add_reader(self._listening, readable.set)
                    continue
                connection.setblocking(False)
                task = asyncio.create_task(self._serve(connection), name=f"{self.name} connection")
                self._tasks.add(task)
                task.add_done_callback(self._ended)
        finally:
            loop.remove_reader(self._listening)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()):
            log.error("%s failed: %r", task.get_name(), error, exc_info=error)


class Door(Listener):
    """Relays each accepted connection to what `dial` connects to; resets it when nothing answers there.

    So is the connection of a client that `admits` refuses.
    """

    def __init__(
        self, listening: socket.socket, dial: Dial, name: str = "door", admits: Admits = lambda _: True
    ) -> None:
        super().__init__(listening, self._pass, name)
        self._dial = dial
        self._admits = admits

    async def _pass(self, connection: socket.socket) -> None:
        try:
            notice_dead_peers(connection)
            if not self._admits(connection.getpeername()[0]):
                reset(connection)
                return
            target = await self._dial()
        except (OSError, TimeoutError) as error:
            log.debug("%s cannot dial: %s", self.name, error)
            reset(connection)
            return
        except BaseException:
            connection.close()
            raise
        await relay(connection, target)
