"""Between the services: a durable log of events, large objects, and names that point at them.

One contract, two implementations: `broker` (NATS, for services in processes of their own) and `files` (a log in
the same process, for the monolith). The log is the only truth; whatever else a service keeps can be made from it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

#: Accepted events, in the order in which they were accepted.
EVENTS = "events"
#: Raw events from other producers, which ingestion checks: {"id": ..., "kind": "rating", ...} as over HTTP.
ARRIVALS = "arrivals"
#: What was refused, with the reason.
REFUSED = "refused"
STREAMS = (EVENTS, ARRIVALS, REFUSED)


@dataclass(frozen=True)
class Stored:
    """An acknowledgement: the message is kept. `duplicate` if one of its id had been kept before."""

    position: int
    duplicate: bool = False


@dataclass(frozen=True)
class Message:
    """A message of a stream; positions rise, but may have gaps."""

    position: int
    data: bytes
    headers: Mapping[str, str] = field(default_factory=dict)


class Delivery(Protocol):
    """A message handed to one of several workers; handed out again if it is not `done` in time."""

    @property
    def message(self) -> Message:
        """What was published."""

    async def done(self) -> None:
        """The message is dealt with."""


class Bus(Protocol):
    """What a service may ask of the broker. BrokerError if it cannot be reached, StorageFull if there is no room."""

    async def open(self) -> None:
        """Connect, and make the streams that are missing."""

    async def close(self) -> None:
        """Let go."""

    def connected(self) -> bool:
        """Whether the broker can be reached as far as is known."""

    async def publish(
        self, stream: str, data: bytes, *, id: str | None = None, headers: Mapping[str, str] | None = None
    ) -> Stored:
        """Return when the message is kept on disk; of messages with the same id only the first is kept."""

    def follow(self, stream: str, after: int = 0) -> AsyncIterator[list[Message]]:
        """All messages after a position, in order, then new ones as they come; an empty list now and then."""

    def work(self, stream: str, name: str) -> AsyncIterator[Sequence[Delivery]]:
        """Messages shared among all workers of a name; an empty list now and then."""

    async def last(self, stream: str) -> int:
        """The position of the last message; 0 if there is none."""

    async def tail(self, stream: str, count: int) -> list[Message]:
        """The last messages, latest first."""

    async def put(self, name: str, data: bytes) -> None:
        """Keep an object whole, or not at all."""

    async def get(self, name: str) -> bytes | None:
        """An object; None if there is none."""

    async def names(self) -> list[str]:
        """Names of all objects."""

    async def drop(self, name: str) -> None:
        """Forget an object."""

    async def point(self, key: str, value: str, expected: str | None) -> bool:
        """Let a key point at `value` if it points at `expected` now (None: at nothing); else False."""

    async def pointed(self, key: str) -> str | None:
        """What a key points at."""

    def watch(self, key: str) -> AsyncIterator[str]:
        """What a key points at now, and after every change."""


def connect(address: str, *, stream_bytes: int = 2**30, duplicate_seconds: float = 3600) -> Bus:
    """The bus at `nats://HOST:PORT` or `file:FOLDER`, not yet opened."""
    if address.startswith("file:"):
        from movies.bus.files import FileBus

        return FileBus(Path(address.removeprefix("file:")), stream_bytes)
    from movies.bus.broker import NatsBus

    return NatsBus(address, stream_bytes, duplicate_seconds)
