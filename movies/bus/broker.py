"""The bus between processes: NATS JetStream. Streams, objects and pointers are files of the broker.

A follower keeps its position itself, beside what it made from the messages, so that both are right or neither is;
workers leave theirs to the broker, which hands messages that were not acknowledged to another.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from nats.aio.client import Client
from nats.errors import Error as NatsError
from nats.errors import TimeoutError as NatsTimeout
from nats.js import JetStreamContext
from nats.js.api import (
    AckPolicy,
    ConsumerConfig,
    DeliverPolicy,
    DiscardPolicy,
    KeyValueConfig,
    ObjectStoreConfig,
    RetentionPolicy,
    StorageType,
    StreamConfig,
)
from nats.js.errors import (
    APIError,
    BucketNotFoundError,
    DigestMismatchError,
    KeyNotFoundError,
    KeyWrongLastSequenceError,
    NotFoundError,
    ObjectNotFoundError,
)
from nats.js.kv import KeyValue
from nats.js.object_store import ObjectStore

from movies.bus import ARRIVALS, REFUSED, STREAMS, Message, Stored
from movies.errors import BrokerError, StorageFull

T = TypeVar("T")
_log = logging.getLogger(__name__)

_CONNECT = 3.0
_WAIT = 2.0
_BATCH = 500
_WORK_BATCH = 64
_IDLE = 1.0
_REST = 0.3
#: Between two pieces of an object, or two names: one that was lost would be waited for without end.
_LATE = 30.0
_OBJECTS, _POINTERS = "movies-objects", "movies-pointers"
#: Error codes of JetStream that mean "no room": maximum bytes, maximum messages, no storage, resource limits.
_FULL = {10023, 10047, 10077, 10122, 10028}
#: What the client raises when the broker is away, restarting or has forgotten a consumer.
_TROUBLE = (NatsError, OSError, TimeoutError, asyncio.TimeoutError)


class NatsBus:
    """See movies.bus.Bus."""

    def __init__(self, address: str, stream_bytes: int = 2**30, duplicate_seconds: float = 3600) -> None:
        self._address, self._bytes, self._window = address, stream_bytes, duplicate_seconds
        self._client = Client()
        self._stream: JetStreamContext = None  # type: ignore[assignment]
        self._closing = asyncio.Event()

    async def open(self) -> None:
        """Connect, and make streams and buckets; BrokerError if the broker cannot be reached."""
        client = Client()
        try:
            async with asyncio.timeout(_CONNECT):  # the client itself would try for ever
                await client.connect(
                    self._address,
                    max_reconnect_attempts=-1,
                    reconnect_time_wait=0.2,  # type: ignore[arg-type]
                    allow_reconnect=True,
                    connect_timeout=2,
                    ping_interval=10,
                    error_cb=_told,
                )
        except (*_TROUBLE, ValueError) as error:
            await _let_go(client)
            raise BrokerError(f"The broker {self._address} cannot be reached: {error!r}.") from error
        self._client = client
        self._stream = client.jetstream(timeout=5)
        try:
            await self._made()
        except BaseException:  # whoever opens the bus again gets another client
            await _let_go(client)
            raise

    async def _made(self) -> None:
        for name in STREAMS:
            config = StreamConfig(
                name=name,
                subjects=[f"movies.{name}"],
                storage=StorageType.FILE,
                # What was refused may be forgotten, so that rubbish cannot fill the broker; events never.
                discard=DiscardPolicy.OLD if name == REFUSED else DiscardPolicy.NEW,
                max_bytes=self._bytes,
                max_msg_size=1_000_000,
                duplicate_window=self._window,
                retention=RetentionPolicy.WORK_QUEUE if name == ARRIVALS else RetentionPolicy.LIMITS,
            )
            try:
                await self._limit(name, self._bytes, self._window)
            except _Missing:
                with contextlib.suppress(_InUse):  # another service has made it meanwhile
                    await self._asked(_unless_there(self._stream.add_stream(config)))
        self._objects = await self._asked(self._object_store())
        await self._limit(f"OBJ_{_OBJECTS}", 4 * self._bytes)
        self._pointers = await self._asked(self._key_value())

    async def _limit(self, stream: str, most: int, window: float | None = None) -> None:
        """Give a stream that is there the limits of our settings; those that it cannot have are told in the log."""
        config = (await self._asked(_or_none(self._stream.stream_info(stream)))).config
        there = (config.max_bytes, config.duplicate_window)
        config.max_bytes, config.duplicate_window = most, window or config.duplicate_window
        if (config.max_bytes, config.duplicate_window) == there:
            return
        try:
            await self._stream.update_stream(config)
        except APIError as error:
            told = {"stream": stream, "bytes": there[0], "wanted": most, "reason": error.description}
            _log.warning("a stream keeps the limits that it had", extra=told)
        except _TROUBLE as error:
            raise BrokerError(f"The broker {self._address} does not answer: {error!r}.") from error

    async def _object_store(self) -> ObjectStore:
        try:
            return await self._stream.object_store(_OBJECTS)
        except (BucketNotFoundError, NotFoundError):
            config = ObjectStoreConfig(max_bytes=4 * self._bytes)
            return await self._stream.create_object_store(_OBJECTS, config=config)

    async def _key_value(self) -> KeyValue:
        try:
            return await self._stream.key_value(_POINTERS)
        except (BucketNotFoundError, NotFoundError):
            return await self._stream.create_key_value(KeyValueConfig(bucket=_POINTERS, history=1))

    async def close(self) -> None:
        """Let go of the broker; what is under way is finished."""
        self._closing.set()
        await _let_go(self._client)

    def connected(self) -> bool:
        """Whether the connection stands."""
        return self._client.is_connected

    async def _asked(self, question: Awaitable[T]) -> T:
        """The broker's answer, with its complaints as ours."""
        try:
            return await question
        except APIError as error:
            if error.err_code in _FULL:
                raise StorageFull(f"The broker has no room left: {error.description}.") from error
            raise BrokerError(f"The broker refused: {error.description}.") from error
        except _TROUBLE as error:
            late = isinstance(error, (TimeoutError, asyncio.TimeoutError, NatsTimeout))
            hint = " If its disk is full, it takes nothing until it is started again with room." if late else ""
            raise BrokerError(f"The broker {self._address} does not answer: {error!r}.{hint}") from error

    async def publish(
        self, stream: str, data: bytes, *, id: str | None = None, headers: Mapping[str, str] | None = None
    ) -> Stored:
        """Return when the broker has the message on disk."""
        if not self._client.is_connected:
            raise BrokerError(f"The broker {self._address} cannot be reached.")
        sent = dict(headers or {}) | ({"Nats-Msg-Id": id} if id else {})
        kept = await self._asked(
            self._stream.publish(f"movies.{stream}", data, timeout=_WAIT, stream=stream, headers=sent or None)
        )
        return Stored(kept.seq, bool(kept.duplicate))

    async def follow(self, stream: str, after: int = 0) -> AsyncIterator[list[Message]]:
        """Messages after a position; a broker that went away is waited for."""
        while not self._closing.is_set():
            try:
                config = ConsumerConfig(
                    deliver_policy=DeliverPolicy.BY_START_SEQUENCE,
                    opt_start_seq=after + 1,
                    ack_policy=AckPolicy.NONE,
                    inactive_threshold=30,
                    mem_storage=True,
                )
                asked = await self._stream.pull_subscribe(f"movies.{stream}", stream=stream, config=config)
                told = 0
                async with contextlib.aclosing(self._fetched(asked, _BATCH)) as batches:
                    async for batch in batches:
                        if batch and batch[-1].metadata.sequence.consumer != told + len(batch):
                            break  # some were lost on the way, and are not sent again: another consumer tells them
                        told += len(batch)
                        found = [message for message in map(_message, batch) if message.position > after]
                        if found:
                            after = found[-1].position
                        yield found
            except _TROUBLE as error:
                _log.info("following %s is interrupted", stream, extra={"error": repr(error)})
                yield []
                await self._pause(0.2)

    async def work(self, stream: str, name: str) -> AsyncIterator[list[_Delivery]]:
        """Messages shared among the workers of a name."""
        while not self._closing.is_set():
            try:
                config = ConsumerConfig(ack_policy=AckPolicy.EXPLICIT, ack_wait=10, max_ack_pending=1000)
                asked = await self._stream.pull_subscribe(f"movies.{stream}", name, stream=stream, config=config)
                async for batch in self._fetched(asked, _WORK_BATCH):
                    yield [_Delivery(_message(one), one) for one in batch]
            except _TROUBLE as error:
                _log.info("work on %s is interrupted", stream, extra={"error": repr(error)})
                yield []
                await self._pause(0.2)

    async def _fetched(self, asked: JetStreamContext.PullSubscription, count: int) -> AsyncGenerator[list[Any], None]:
        """Batches, empty ones too; an error if the broker does not know the consumer any more."""
        try:
            while not self._closing.is_set():
                try:
                    # The client waits until a batch is full or the time is over. So one is asked for, which says how
                    # many more there are, and then so many: a message that comes alone is delivered at once.
                    batch = await asked.fetch(1, timeout=_IDLE)
                    if more := min(count - 1, batch[0].metadata.num_pending):
                        with contextlib.suppress(NatsTimeout):
                            batch += await asked.fetch(more, timeout=_REST)
                    yield batch
                except NatsTimeout:
                    await asked.consumer_info()
                    yield []
        finally:
            with contextlib.suppress(Exception):
                await asked.unsubscribe()

    async def _pause(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._closing.wait()

    async def last(self, stream: str) -> int:
        """The position of the last message."""
        found = await self._asked(self._stream.stream_info(stream))
        return int(found.state.last_seq)

    async def tail(self, stream: str, count: int) -> list[Message]:
        """The last messages: one question for each, for people who look."""
        found: list[Message] = []
        state = (await self._asked(self._stream.stream_info(stream))).state
        for position in range(state.last_seq, max(state.first_seq - 1, state.last_seq - count, 0), -1):
            with contextlib.suppress(_Missing):
                raw = await self._asked(_or_none(self._stream.get_msg(stream, position)))
                found.append(Message(position, raw.data or b"", raw.headers or {}))
        return found

    async def put(self, name: str, data: bytes) -> None:
        """Keep an object; its name is known only when all of it is there."""
        await self._asked(self._objects.put(name, data))

    async def get(self, name: str) -> bytes | None:
        """An object, checked against its digest."""
        try:
            return await self._asked(_or_none(self._read(name)))
        except _Missing:
            return None

    async def _read(self, name: str) -> bytes:
        """As the client itself does it, except that it would wait for ever for a piece that was lost."""
        info = await self._objects.get_info(name)
        pieces = await self._stream.subscribe(
            f"$O.{_OBJECTS}.C.{info.nuid}", stream=f"OBJ_{_OBJECTS}", ordered_consumer=True
        )
        try:
            data = b"".join([(await pieces.next_msg(_LATE)).data for _ in range(info.chunks or 0)])
        finally:
            with contextlib.suppress(Exception):
                await pieces.unsubscribe()
        if info.digest != f"SHA-256={base64.urlsafe_b64encode(hashlib.sha256(data).digest()).decode()}":
            raise DigestMismatchError
        return data

    async def names(self) -> list[str]:
        """Names of all objects."""
        return await self._asked(self._listed())

    async def _listed(self) -> list[str]:
        found, watcher = list[str](), await self._objects.watch(ignore_deletes=True)
        try:
            while one := await watcher.updates(_LATE):
                found.append(one.name)
        finally:
            with contextlib.suppress(Exception):
                await watcher.stop()
        return found

    async def drop(self, name: str) -> None:
        """Forget an object."""
        with contextlib.suppress(_Missing):
            await self._asked(_or_none(self._objects.delete(name)))

    async def point(self, key: str, value: str, expected: str | None) -> bool:
        """Move a pointer if nobody else did, by the revision that was read."""
        try:
            entry = await self._asked(_or_none(self._pointers.get(key)))
        except _Missing:
            entry = None
        if ((entry.value or b"").decode() if entry else None) != expected:
            return False
        try:
            await self._pointers.update(key, value.encode(), entry.revision if entry else 0)
        except KeyWrongLastSequenceError:
            return False
        except (APIError, *_TROUBLE) as error:
            raise BrokerError(f"The broker does not answer: {error!r}.") from error
        return True

    async def pointed(self, key: str) -> str | None:
        """What a key points at."""
        try:
            entry = await self._asked(_or_none(self._pointers.get(key)))
        except _Missing:
            return None
        return (entry.value or b"").decode()

    async def watch(self, key: str) -> AsyncIterator[str]:
        """What a key points at, now and after every change; asked for again after trouble."""
        told: str | None = None
        while not self._closing.is_set():
            try:
                watcher = await self._pointers.watch(key)
                try:
                    async for value in self._changes(watcher, key):
                        if value != told:
                            told = value
                            yield value
                finally:
                    with contextlib.suppress(Exception):
                        await watcher.stop()
            except (BrokerError, *_TROUBLE) as error:
                _log.info("watching %s is interrupted", key, extra={"error": repr(error)})
                await self._pause(0.5)

    async def _changes(self, watcher: Any, key: str) -> AsyncIterator[str]:
        """Values as they change; when nothing comes for a while the key is read, should a change have been missed."""
        while not self._closing.is_set():
            try:
                entry = await watcher.updates(timeout=5)
                value = entry.value.decode() if entry is not None and entry.value else None
            except NatsTimeout:
                value = await self.pointed(key)
            if value:
                yield value


class _Missing(Exception):
    """There is no object or key of that name."""


class _InUse(Exception):
    """The stream is there already, with other limits."""


async def _or_none(question: Awaitable[T]) -> T:
    try:
        return await question
    except (ObjectNotFoundError, KeyNotFoundError, NotFoundError) as error:
        raise _Missing from error


async def _unless_there(question: Awaitable[T]) -> T:
    try:
        return await question
    except APIError as error:
        if error.err_code == 10058:  # stream name already in use with a different configuration
            raise _InUse from error
        raise


async def _let_go(client: Client) -> None:
    with contextlib.suppress(*_TROUBLE):
        async with asyncio.timeout(2):
            await client.close()


async def _told(error: Exception) -> None:
    _log.info("broker: %r", error)


def _message(one: Any) -> Message:
    return Message(one.metadata.sequence.stream, one.data, one.headers or {})


@dataclass(frozen=True)
class _Delivery:
    message: Message
    raw: Any

    async def done(self) -> None:
        with contextlib.suppress(*_TROUBLE):  # not acknowledged: it comes again, and is known by its id
            await self.raw.ack()
