"""The client's side of exec and attach: stdin, stdout, stderr, a status at the end and window sizes.

One interface over two transports: WebSocket channels (v5, v4 and older ones) and SPDY streams (v4 to v1).
"""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from podlab.node.streams.connection import Connection, Stream
from podlab.node.streams.spdy import SpdyError
from podlab.node.streams.tasks import end as tasks_end
from podlab.node.streams.upgrade import (
    CLOSE_TIMEOUT,
    Channels,
    Upgraded,
    agree,
    is_spdy,
    is_websocket,
    open_websocket,
    take_over,
)

STDIN, STDOUT, STDERR, ERROR, RESIZE = range(5)
#: Names of the channels as SPDY streams (header `streamType`).
STREAM_TYPES = {"stdin": STDIN, "stdout": STDOUT, "stderr": STDERR, "error": ERROR, "resize": RESIZE}

WEBSOCKET_PROTOCOLS = (
    "v5.channel.k8s.io",
    "v4.channel.k8s.io",
    "v4.base64.channel.k8s.io",
    "channel.k8s.io",
    "base64.channel.k8s.io",
)
SPDY_PROTOCOLS = ("v4.channel.k8s.io", "v3.channel.k8s.io", "v2.channel.k8s.io", "channel.k8s.io")
#: Seconds that a SPDY client has for opening all of its streams.
CREATION_TIMEOUT = 30.0
#: The most rows or columns that a terminal can have: the kernel keeps them in 16 bits.
SIZE_MAX = 0xFFFF
#: Bytes of stdin that are held while the process does not read.
STDIN_LIMIT = 1024 * 1024

Status = Mapping[str, Any]


@dataclass(frozen=True)
class Options:
    """Which streams the client asks for."""

    stdin: bool
    stdout: bool
    stderr: bool
    tty: bool

    @classmethod
    def of(cls, request: web.Request) -> Options:
        """Read the query of an exec or attach request; raises HTTPBadRequest if no stream is asked for."""

        def on(name: str) -> bool:
            return request.query.get(name) in ("1", "true")

        tty = on("tty")
        # A terminal has one output: stderr arrives on stdout.
        options = cls(on("input"), on("output"), on("error") and not tty, tty)
        if not (options.stdin or options.stdout or options.stderr):
            raise web.HTTPBadRequest(text="you must specify at least 1 of stdin, stdout, stderr")
        return options

    def expected_streams(self, protocol: str | None) -> set[int]:
        """The streams that a SPDY client opens."""
        resizes = self.tty and protocol in SPDY_PROTOCOLS[:2]
        wanted = {STDIN: self.stdin, STDOUT: self.stdout, STDERR: self.stderr, ERROR: True, RESIZE: resizes}
        return {stream for stream, on in wanted.items() if on}


class Inbox:
    """Bytes on their way to stdin; `put` waits while `limit` is exceeded."""

    def __init__(self, limit: int = STDIN_LIMIT) -> None:
        self._limit = limit
        self._chunks: deque[bytes] = deque()
        self._size = 0
        self._ended = False
        self._changed = asyncio.Condition()

    async def put(self, data: bytes) -> None:
        """Append `data`, unless the end was put before."""
        async with self._changed:
            await self._changed.wait_for(lambda: self._size < self._limit or self._ended)
            if data and not self._ended:
                self._chunks.append(data)
                self._size += len(data)
                self._changed.notify_all()

    async def end(self) -> None:
        """Mark the end."""
        async with self._changed:
            self._ended = True
            self._changed.notify_all()

    async def get(self) -> bytes:
        """Return the next chunk, empty at the end."""
        async with self._changed:
            await self._changed.wait_for(lambda: self._chunks or self._ended)
            if not self._chunks:
                return b""
            chunk = self._chunks.popleft()
            self._size -= len(chunk)
            self._changed.notify_all()
            return chunk


class Session:
    """What exec and attach work with. `gone` is set when the client has left."""

    def __init__(self, request: web.Request, options: Options) -> None:
        self.options = options
        self.gone = asyncio.Event()
        self.sizes: asyncio.Queue[tuple[int, int]] = asyncio.Queue()
        self._request = request
        self._resizes = JsonStream()
        self._json_status = True

    async def stdin(self) -> bytes:
        """Return the next bytes of the client's stdin, empty at its end."""
        raise NotImplementedError

    async def write(self, channel: int, data: bytes) -> None:
        """Send output; raises ConnectionError when the client has gone."""
        raise NotImplementedError

    async def finish(self, status: Status) -> web.StreamResponse:
        """Send the status, end the connection and return what aiohttp wants from a handler."""
        raise NotImplementedError

    async def abandon(self) -> None:
        """End what is still running for this session; after `finish` there is nothing left to do."""
        raise NotImplementedError

    def _resized(self, data: bytes) -> None:
        for value in self._resizes.feed(data):
            try:
                rows, columns = int(value["Height"]), int(value["Width"])
            except (KeyError, TypeError, ValueError, OverflowError):
                continue
            if 0 <= rows <= SIZE_MAX and 0 <= columns <= SIZE_MAX:
                self.sizes.put_nowait((rows, columns))

    def _encoded(self, status: Status) -> bytes:
        if self._json_status:
            return json.dumps(status).encode()
        return b"" if status["status"] == "Success" else str(status.get("message", "")).encode()


class JsonStream:
    """Reads JSON values that follow one another in a stream of bytes."""

    #: Longest unfinished value that is kept, in characters; a window size needs 30.
    LIMIT = 4096

    def __init__(self) -> None:
        self._text = ""
        self._decoder = json.JSONDecoder()

    def feed(self, data: bytes) -> list[Any]:
        """Return the values that are complete with `data`; what cannot be JSON is dropped."""
        self._text = (self._text + data.decode("utf-8", "replace")).lstrip()
        values = []
        while self._text:
            try:
                value, end = self._decoder.raw_decode(self._text)
            except ValueError:
                if len(self._text) > self.LIMIT:
                    self._text = ""
                break
            values.append(value)
            self._text = self._text[end:].lstrip()
        return values


class WebSocketSession(Session):
    """Exec and attach over WebSocket channels."""

    def __init__(self, request: web.Request, options: Options, socket: web.WebSocketResponse) -> None:
        super().__init__(request, options)
        self._socket = socket
        self._channels = Channels(socket)
        self._inbox = Inbox()
        self._json_status = (socket.ws_protocol or "").startswith(("v4.", "v5."))
        self._receiving = asyncio.get_running_loop().create_task(self._receive(), name="WebSocket of exec")

    async def opened(self) -> None:
        """Send an empty message on the first channel that we write: the client knows then that we are there."""
        options = self.options
        await self._channels.send(STDOUT if options.stdout else STDERR if options.stderr else ERROR, b"")

    async def stdin(self) -> bytes:
        return await self._inbox.get()

    async def write(self, channel: int, data: bytes) -> None:
        await self._channels.send(channel, data)

    async def finish(self, status: Status) -> web.StreamResponse:
        try:
            if data := self._encoded(status):
                await self._channels.send(ERROR, data)
        except ConnectionError:
            pass  # the client left without waiting for its answer
        finally:
            await self.abandon()
            await self._socket.close()
        return self._socket

    async def abandon(self) -> None:
        await tasks_end([self._receiving])

    async def _receive(self) -> None:
        try:
            async for channel, data in self._channels:
                if channel == STDIN and self.options.stdin:
                    await (self._inbox.end() if data is None else self._inbox.put(data))
                elif channel == RESIZE and data:
                    self._resized(data)
        finally:
            self.gone.set()
            await self._inbox.end()


class SpdySession(Session):
    """Exec and attach over SPDY streams."""

    def __init__(self, request: web.Request, options: Options, protocol: str | None) -> None:
        super().__init__(request, options)
        self._json_status = protocol == SPDY_PROTOCOLS[0]
        self._expected = options.expected_streams(protocol)
        self._streams: dict[int, Stream] = {}
        self._complete = asyncio.Event()
        self._link = take_over(request, protocol)
        self._connection = Connection(self._link, self._accept)
        loop = asyncio.get_running_loop()
        self._serving = loop.create_task(self._serve(), name="SPDY connection of exec")
        self._sizing: asyncio.Task[None] | None = None

    async def opened(self) -> None:
        """Return when the client has opened all streams. Raises ConnectionError if it does not."""
        try:
            async with asyncio.timeout(CREATION_TIMEOUT):
                await self._complete.wait()
        except TimeoutError:
            raise ConnectionError("timed out waiting for client to create streams") from None
        if self.gone.is_set():
            raise ConnectionError("the client left before it had opened all streams")
        if stream := self._streams.get(RESIZE):
            loop = asyncio.get_running_loop()
            self._sizing = loop.create_task(self._follow_sizes(stream), name="window sizes of exec")

    async def stdin(self) -> bytes:
        try:
            return await self._streams[STDIN].read()
        except ConnectionError:
            return b""

    async def write(self, channel: int, data: bytes) -> None:
        await self._streams[channel].write(data)

    async def finish(self, status: Status) -> web.StreamResponse:
        try:
            for channel in (STDOUT, STDERR):
                if stream := self._streams.get(channel):
                    await stream.finish()
            if stream := self._streams.get(ERROR):
                if data := self._encoded(status):
                    await stream.write(data)
                await stream.finish()
            await self._connection.close()
            async with asyncio.timeout(CLOSE_TIMEOUT):
                await self.gone.wait()
        except (ConnectionError, TimeoutError):
            pass  # the client left without waiting for its answer, or does not close its end
        finally:
            await self.abandon()
        return Upgraded()

    async def abandon(self) -> None:
        try:
            await tasks_end([task for task in (self._serving, self._sizing) if task])
        finally:
            self._link.close()

    def _accept(self, stream: Stream) -> bool:
        kind = STREAM_TYPES.get(stream.headers.get("streamtype", ""))
        if kind is None or kind in self._streams:
            return False
        self._streams[kind] = stream
        if self._expected <= self._streams.keys():
            # Only after the reply to this stream has been sent: the client drops what comes before it.
            asyncio.get_running_loop().call_soon(self._complete.set)
        return True

    async def _serve(self) -> None:
        try:
            await self._connection.run()
        except SpdyError:
            self._link.close()
        finally:
            self.gone.set()
            self._complete.set()

    async def _follow_sizes(self, stream: Stream) -> None:
        try:
            while data := await stream.read():
                self._resized(data)
        except ConnectionError:
            return


async def open_session(request: web.Request) -> Session:
    """Upgrade an exec or attach request. Raises an HTTP error where the request is wrong, else ConnectionError."""
    options = Options.of(request)
    if is_websocket(request):
        socket = await open_websocket(request, WEBSOCKET_PROTOCOLS)
        session: WebSocketSession | SpdySession = WebSocketSession(request, options, socket)
    elif is_spdy(request):
        session = SpdySession(request, options, agree(request, SPDY_PROTOCOLS))
    else:
        raise web.HTTPBadRequest(text="unable to upgrade: missing upgrade headers in request")
    try:
        await session.opened()
    except BaseException:
        await session.abandon()
        raise
    return session
