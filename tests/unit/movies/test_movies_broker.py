"""The bus of NATS where the broker, or the way to it, loses something."""

from __future__ import annotations

import asyncio
import socket
import subprocess
from collections.abc import AsyncIterator, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from nats.errors import TimeoutError as NatsTimeout

from movies.bus import EVENTS, broker
from movies.bus.broker import NatsBus
from movies.bus.server import command
from movies.errors import BrokerError
from movies.runner import free_ports
from podlab import waiting


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    (port,) = free_ports(1)
    process = subprocess.Popen(command(tmp_path / "broker", port), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def listens() -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    try:
        waiting.until(listens, "the broker listens", timeout=60)
        yield f"nats://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


@pytest.fixture
async def bus(address: str) -> AsyncIterator[NatsBus]:
    made = NatsBus(address)
    await made.open()
    yield made
    await made.close()


async def test_an_object_that_has_lost_its_pieces_is_not_waited_for_and_can_be_put_again(
    bus: NatsBus, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = bytes(range(256)) * 2_000
    await bus.put("model", data)
    info = await bus._objects.get_info("model")
    await bus._stream.purge_stream("OBJ_movies-objects", subject=f"$O.movies-objects.C.{info.nuid}")
    held = len(bus._client._subs)
    with monkeypatch.context() as patched:
        patched.setattr(broker, "_LATE", 0.2)
        async with asyncio.timeout(60):
            with pytest.raises(BrokerError):
                await bus.get("model")
    assert len(bus._client._subs) == held, "what was waited for is let go"
    await bus.put("model", data)
    assert await bus.get("model") == data


async def test_names_that_do_not_come_are_not_waited_for(bus: NatsBus, monkeypatch: pytest.MonkeyPatch) -> None:
    class Silent:
        """A watcher to whom nothing is told."""

        stopped = False

        async def updates(self, timeout: float) -> None:
            async with asyncio.timeout(timeout):
                await asyncio.Event().wait()

        async def stop(self) -> None:
            self.stopped = True

        async def watch(self, **_: object) -> Silent:
            return self

    silent = Silent()
    monkeypatch.setattr(broker, "_LATE", 0.2)
    monkeypatch.setattr(bus, "_objects", silent)
    async with asyncio.timeout(60):
        with pytest.raises(BrokerError):
            await bus.names()
    assert silent.stopped


async def test_who_cannot_open_it_keeps_no_connection(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    bus = NatsBus(address)

    async def refuses() -> None:
        raise BrokerError("The broker refused: it is busy.")

    with monkeypatch.context() as patched:
        patched.setattr(bus, "_made", refuses)
        with pytest.raises(BrokerError, match="busy"):
            await bus.open()
    assert bus._client.is_closed
    await bus.open()
    assert bus.connected()
    await bus.close()


@dataclass
class Forgetful:
    """JetStream with a few messages, whose first consumer loses some of them on the way."""

    loses: set[int]
    messages: int = 5
    began: list[int] = field(default_factory=list)

    async def pull_subscribe(self, *_: object, config: Any, **__: object) -> _Consumer:
        self.began.append(config.opt_start_seq)
        lost = self.loses if len(self.began) == 1 else set()
        return _Consumer(range(config.opt_start_seq, self.messages + 1), lost)


class _Consumer:
    def __init__(self, positions: Iterable[int], lost: set[int]) -> None:
        told = [(number, position) for number, position in enumerate(positions, 1) if position not in lost]
        self._left = [self._message(number, position, len(told) - 1) for number, position in told]

    @staticmethod
    def _message(number: int, position: int, pending: int) -> Any:
        metadata = SimpleNamespace(sequence=SimpleNamespace(consumer=number, stream=position), num_pending=pending)
        return SimpleNamespace(metadata=metadata, data=b"%d" % position, headers=None)

    async def fetch(self, count: int, timeout: float) -> list[Any]:
        found, self._left = self._left[:count], self._left[count:]
        if not found:
            await asyncio.sleep(0)
            raise NatsTimeout
        return found

    async def consumer_info(self) -> None: ...

    async def unsubscribe(self) -> None: ...


@pytest.mark.parametrize("loses", [set(), {1}, {3}, {1, 2, 3}, {4}])
async def test_what_is_lost_on_the_way_to_a_follower_is_told_by_another_consumer(loses: set[int]) -> None:
    bus, stream = NatsBus("nats://nowhere"), Forgetful(loses)
    bus._stream = stream  # type: ignore[assignment]
    found: list[int] = []
    async with asyncio.timeout(60):
        async for batch in bus.follow(EVENTS):
            found += [one.position for one in batch]
            if found and found[-1] == 5:
                break
    assert found == [1, 2, 3, 4, 5] and len(stream.began) == 1 + bool(loses)
