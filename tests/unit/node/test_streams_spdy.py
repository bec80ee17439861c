"""SPDY: the frames, and the server's end of a connection over an in-memory link."""

from __future__ import annotations

import asyncio
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from podlab.node.streams import spdy
from podlab.node.streams.connection import HIGH_WATER, Connection, Stream
from podlab.waiting import pause_async

STREAMS = st.integers(1, 2**31 - 1)
TEXT = st.text(max_size=60).filter(lambda text: "\x00" not in text and text.lower() == text)
HEADERS = st.dictionaries(TEXT, st.text(max_size=200), max_size=8)
FRAMES = st.one_of(
    st.builds(spdy.Data, STREAMS, st.binary(max_size=3000), st.booleans()),
    st.builds(spdy.SynStream, STREAMS, HEADERS, st.booleans()),
    st.builds(spdy.SynReply, STREAMS, HEADERS, st.booleans()),
    st.builds(spdy.RstStream, STREAMS, st.integers(1, 11)),
    st.builds(spdy.Ping, st.integers(0, 2**32 - 1)),
    st.builds(spdy.GoAway, STREAMS, st.integers(0, 2)),
)


def test_dictionary_is_the_one_of_the_protocol():
    assert len(spdy.DICTIONARY) == 1423
    assert zlib.adler32(spdy.DICTIONARY) == spdy.DICTIONARY_ADLER32 == 0xE3C6A7C2


@given(st.lists(FRAMES, max_size=12), st.lists(st.integers(1, 400), min_size=1))
def test_frames_survive_encoding_however_they_are_cut(frames: list[spdy.Frame], cuts: list[int]):
    encoder, decoder = spdy.Encoder(), spdy.Decoder()
    wire = b"".join(encoder.encode(frame) for frame in frames)
    seen: list[spdy.Frame] = []
    position = turn = 0
    while position < len(wire):
        size = cuts[turn % len(cuts)]
        seen += decoder.feed(wire[position : position + size])
        position, turn = position + size, turn + 1
    assert seen == frames


@given(st.binary(max_size=400))
def test_garbage_is_waited_for_skipped_or_refused(garbage: bytes):
    try:
        list(spdy.Decoder().feed(garbage))
    except spdy.SpdyError:
        pass


def test_long_control_frames_and_bombs_are_refused():
    with pytest.raises(spdy.SpdyError, match="too long"):
        list(spdy.Decoder().feed(b"\x80\x03\x00\x01\x00\xff\xff\xff"))
    bomb = spdy.Encoder().encode(spdy.SynStream(1, {"a": "x" * (spdy.MAX_HEADERS + 1000)}))
    with pytest.raises(spdy.SpdyError, match="longer than"):
        list(spdy.Decoder().feed(bomb))


def test_version_is_checked():
    with pytest.raises(spdy.SpdyError, match="version 2"):
        list(spdy.Decoder().feed(b"\x80\x02\x00\x06\x00\x00\x00\x04\x00\x00\x00\x01"))


class MemoryLink:
    """A link whose far end is the test."""

    def __init__(self) -> None:
        self.encoder, self.decoder = spdy.Encoder(), spdy.Decoder()
        self.incoming: asyncio.Queue[bytes] = asyncio.Queue()
        self.sent: asyncio.Queue[spdy.Frame] = asyncio.Queue()

    async def read(self) -> bytes:
        return await self.incoming.get()

    async def write(self, data: bytes) -> None:
        for frame in self.decoder.feed(data):
            self.sent.put_nowait(frame)
        await pause_async(0)  # as a link does whose peer is slow

    def arrive(self, *frames: spdy.Frame) -> None:
        for frame in frames:
            self.incoming.put_nowait(self.encoder.encode(frame))


class Served:
    """A connection that runs, and the streams that it has accepted."""

    def __init__(self) -> None:
        self.link = MemoryLink()
        self.accepted: asyncio.Queue[Stream] = asyncio.Queue()
        self.connection = Connection(self.link, self.accept)
        self.running = asyncio.ensure_future(self.connection.run())

    def accept(self, stream: Stream) -> bool:
        if "refuse" in stream.headers:
            return False
        self.accepted.put_nowait(stream)
        return True

    async def open(self, number: int = 1, **headers: str) -> Stream:
        self.link.arrive(spdy.SynStream(number, headers))
        stream = await self.accepted.get()
        assert await self.link.sent.get() == spdy.SynReply(number)
        return stream


@pytest.fixture
async def served():
    served = Served()
    yield served
    served.link.incoming.put_nowait(b"")
    await asyncio.wait_for(served.running, 60)


async def test_data_in_both_directions_and_half_close(served: Served):
    stream = await served.open(streamType="data")
    assert stream.headers == {"streamtype": "data"}
    served.link.arrive(spdy.Data(1, b"abc"), spdy.Data(1, b"def", last=True))
    assert await stream.read() == b"abc"
    assert await stream.read() == b"def"
    assert await stream.read() == b""
    await stream.write(b"answer")
    await stream.finish()
    assert await served.link.sent.get() == spdy.Data(1, b"answer")
    assert await served.link.sent.get() == spdy.Data(1, b"", last=True)
    assert not served.connection.streams
    with pytest.raises(ConnectionResetError):
        await stream.write(b"too late")


async def test_reset_by_the_peer_reaches_a_reader(served: Served):
    stream = await served.open()
    reading = asyncio.ensure_future(stream.read())
    served.link.arrive(spdy.RstStream(1))
    with pytest.raises(ConnectionResetError):
        await reading


async def test_end_of_the_connection_reaches_a_reader(served: Served):
    stream = await served.open()
    served.link.arrive(spdy.GoAway(0))
    with pytest.raises(ConnectionResetError):
        await stream.read()


async def test_refused_and_misnumbered_streams_are_reset(served: Served):
    await served.open(5)
    served.link.arrive(spdy.SynStream(7, {"refuse": "yes"}), spdy.SynStream(3), spdy.SynStream(8))
    assert await served.link.sent.get() == spdy.RstStream(7, spdy.REFUSED_STREAM)
    assert await served.link.sent.get() == spdy.RstStream(3, spdy.PROTOCOL_ERROR)
    assert await served.link.sent.get() == spdy.RstStream(8, spdy.PROTOCOL_ERROR)


async def test_only_the_clients_pings_are_echoed(served: Served):
    served.link.arrive(spdy.Ping(2), spdy.Ping(3))
    assert await served.link.sent.get() == spdy.Ping(3)


async def test_a_stream_that_nobody_reads_holds_the_connection_back(served: Served):
    stream = await served.open()
    block = bytes(1024 * 1024)
    blocks = 3 * HIGH_WATER // len(block)
    for _ in range(blocks):
        served.link.arrive(spdy.Data(1, block))
    served.link.arrive(spdy.Data(1, b"", last=True))
    for _ in range(100):
        await pause_async(0)
    assert stream.unread <= HIGH_WATER + len(block)
    assert served.link.incoming.qsize() > 0
    total = 0
    while data := await stream.read():
        total += len(data)
    assert total == blocks * len(block)


async def test_long_writes_are_cut_so_that_streams_take_turns(served: Served):
    one, two = await served.open(1), await served.open(3)
    await asyncio.gather(one.write(bytes(200_000)), two.write(bytes(200_000)))
    order = []
    while not served.link.sent.empty():
        order.append(served.link.sent.get_nowait().stream)
    assert order[:4] == [1, 3, 1, 3] or order[:4] == [3, 1, 3, 1]
