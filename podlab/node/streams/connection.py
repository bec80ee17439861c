"""The server's end of a SPDY connection: streams that can be read, written, half-closed and reset."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping
from typing import Protocol

from podlab.node.streams import spdy

#: Longest payload of a data frame that is sent, in bytes: small enough for streams to take turns.
CHUNK = 32 * 1024
#: Bytes that a stream may hold unread before the whole connection is no longer read. The peers ignore SPDY's
#: windows, so that one stream which nobody reads finally holds up the others, as with Kubernetes' own servers.
HIGH_WATER = 4 * 1024 * 1024


class Link(Protocol):
    """A two-way stream of bytes below a connection."""

    async def read(self) -> bytes:
        """Return the next bytes, empty at the end."""

    async def write(self, data: bytes) -> None:
        """Send, waiting while the peer is slow. Raises ConnectionError when it has gone."""


class Stream:
    """One stream of a connection."""

    def __init__(self, connection: Connection, number: int, headers: Mapping[str, str]) -> None:
        self.number = number
        self.headers = headers
        self._connection = connection
        self._chunks: deque[bytes] = deque()
        self._arrived = asyncio.Event()
        self._ended = False
        self._reset = False
        self._finished = False
        self.unread = 0

    async def read(self) -> bytes:
        """Return the next chunk, empty at the end. Raises ConnectionResetError if the peer has reset the stream."""
        while not self._chunks:
            if self._reset:
                raise ConnectionResetError(f"stream {self.number} was reset by the peer")
            if self._ended:
                return b""
            self._arrived.clear()
            await self._arrived.wait()
        chunk = self._chunks.popleft()
        self.unread -= len(chunk)
        self._connection.drained.set()
        return chunk

    async def write(self, data: bytes) -> None:
        """Send all of `data`. Raises ConnectionError when the stream or the connection has gone."""
        for start in range(0, len(data), CHUNK):
            if self._reset or self._finished:
                raise ConnectionResetError(f"stream {self.number} is closed")
            await self._connection.send(spdy.Data(self.number, data[start : start + CHUNK]))

    async def finish(self) -> None:
        """Close our side: the peer reads the end of the stream."""
        if not (self._finished or self._reset):
            self._finished = True
            await self._connection.send(spdy.Data(self.number, b"", last=True))
            self._connection.forget_if_done(self)

    async def reset(self, status: int = spdy.CANCEL) -> None:
        """End the stream in both directions."""
        if not self._reset:
            self.break_off()
            await self._connection.send(spdy.RstStream(self.number, status))

    def release(self) -> None:
        """Throw away what arrives from now on: nobody reads this stream any more."""
        self._chunks.clear()
        self.unread = 0
        self._connection.streams.pop(self.number, None)
        self._connection.drained.set()

    def receive(self, payload: bytes, last: bool) -> None:
        """Take what the connection has received for this stream."""
        if payload and not self._ended:
            self._chunks.append(payload)
            self.unread += len(payload)
        self._ended = self._ended or last
        self._arrived.set()

    def break_off(self) -> None:
        """Forget the stream; readers and writers get ConnectionResetError."""
        self._reset = True
        self.release()
        self._arrived.set()

    @property
    def done(self) -> bool:
        """Whether both sides have been closed."""
        return self._finished and self._ended


class Connection:
    """Reads frames from `link` and hands every new stream to `accept`, which refuses it by returning False."""

    def __init__(self, link: Link, accept: Callable[[Stream], bool]) -> None:
        self.streams: dict[int, Stream] = {}
        self.drained = asyncio.Event()
        self._link = link
        self._accept = accept
        self._decoder = spdy.Decoder()
        self._encoder = spdy.Encoder()
        self._sending = asyncio.Lock()
        self._newest = 0
        self._leaving = False

    async def run(self) -> None:
        """Serve until the peer leaves; returns then, with all streams reset. Raises SpdyError on nonsense."""
        try:
            while data := await self._link.read():
                for frame in self._decoder.feed(data):
                    if isinstance(frame, spdy.GoAway):
                        return
                    await self._receive(frame)
                await self._hold_back()
        except ConnectionError:
            return
        finally:
            for stream in list(self.streams.values()):
                stream.break_off()

    async def send(self, frame: spdy.Frame) -> None:
        """Send one frame; frames of several tasks take turns."""
        async with self._sending:
            await self._link.write(self._encoder.encode(frame))

    async def close(self) -> None:
        """Say that no further streams are accepted, after everything that has been sent."""
        if not self._leaving:
            self._leaving = True
            await self.send(spdy.GoAway(self._newest))

    def forget_if_done(self, stream: Stream) -> None:
        """Drop a stream of which both sides are closed; what it holds can still be read."""
        if stream.done:
            self.streams.pop(stream.number, None)

    async def _receive(self, frame: spdy.Frame) -> None:
        if isinstance(frame, spdy.Data):
            if stream := self.streams.get(frame.stream):
                stream.receive(frame.payload, frame.last)
                self.forget_if_done(stream)
        elif isinstance(frame, spdy.SynStream):
            await self._open(frame)
        elif isinstance(frame, spdy.RstStream):
            if stream := self.streams.get(frame.stream):
                stream.break_off()
        elif isinstance(frame, spdy.Ping) and frame.number % 2:
            await self.send(frame)

    async def _open(self, frame: spdy.SynStream) -> None:
        if frame.stream % 2 == 0 or frame.stream <= self._newest:
            await self.send(spdy.RstStream(frame.stream, spdy.PROTOCOL_ERROR))
            return
        self._newest = frame.stream
        stream = Stream(self, frame.stream, frame.headers)
        self.streams[frame.stream] = stream
        if self._leaving or not self._accept(stream):
            await stream.reset(spdy.REFUSED_STREAM)
            return
        # The reply goes out before anything that `accept` has started can run: the peer drops earlier data.
        await self.send(spdy.SynReply(frame.stream))
        stream.receive(b"", frame.last)

    async def _hold_back(self) -> None:
        while any(stream.unread > HIGH_WATER for stream in self.streams.values()):
            self.drained.clear()
            await self.drained.wait()
