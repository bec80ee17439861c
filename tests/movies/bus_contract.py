"""What every bus must do."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from movies.bus import ARRIVALS, EVENTS, REFUSED, Bus, connect

_PATIENCE = 60


async def first(batches: Any, count: int) -> list[Any]:
    """The first so many of an endless stream of batches."""
    found: list[Any] = []
    async with asyncio.timeout(_PATIENCE):
        async for batch in batches:
            found += batch
            if len(found) >= count:
                break
    await batches.aclose()
    return found


class BusContract:
    """Tests of a bus; a subclass has the fixture `address`."""

    @pytest.fixture
    async def bus(self, address: str) -> AsyncIterator[Bus]:
        made = connect(address)
        await made.open()
        yield made
        await made.close()

    async def test_messages_come_in_order_with_headers(self, bus: Bus) -> None:
        kept = [await bus.publish(EVENTS, b"%d" % number, headers={"traceparent": "t"}) for number in range(5)]
        assert [one.position for one in kept] == sorted({one.position for one in kept})
        found = await first(bus.follow(EVENTS), 5)
        assert [one.data for one in found] == [b"0", b"1", b"2", b"3", b"4"]
        assert found[0].headers["traceparent"] == "t"
        assert [one.position for one in found] == [one.position for one in kept]
        assert await bus.last(EVENTS) == kept[-1].position

    async def test_of_one_id_only_the_first_is_kept(self, bus: Bus) -> None:
        one = await bus.publish(EVENTS, b"one", id="a")
        again = await bus.publish(EVENTS, b"two", id="a")
        assert not one.duplicate and again.duplicate and again.position == one.position
        assert not (await bus.publish(REFUSED, b"other stream", id="a")).duplicate
        await bus.publish(EVENTS, b"end")
        assert [one.data for one in await first(bus.follow(EVENTS), 2)] == [b"one", b"end"]

    async def test_following_goes_on_after_a_position_and_sees_what_comes(self, bus: Bus) -> None:
        kept = [await bus.publish(EVENTS, b"%d" % number) for number in range(3)]
        follower = bus.follow(EVENTS, after=kept[1].position)
        assert [one.data for one in await anext(follower)] == [b"2"]
        await bus.publish(EVENTS, b"3")
        assert [one.data for one in await first(follower, 1)] == [b"3"]

    async def test_work_that_was_not_done_comes_again(self, bus: Bus, address: str) -> None:
        for number in range(3):
            await bus.publish(ARRIVALS, b"%d" % number)
        (one, *_) = await first(bus.work(ARRIVALS, "w"), 3)
        await one.done()
        await bus.close()
        other = connect(address)
        await other.open()
        try:
            again = await first(other.work(ARRIVALS, "w"), 2)
            assert {delivery.message.data for delivery in again} == {b"1", b"2"}
        finally:
            await other.close()

    async def test_the_tail_is_the_latest_first(self, bus: Bus) -> None:
        assert await bus.tail(REFUSED, 5) == []
        for number in range(4):
            await bus.publish(REFUSED, b"%d" % number)
            await bus.publish(EVENTS, b"between")
        assert [one.data for one in await bus.tail(REFUSED, 3)] == [b"3", b"2", b"1"]

    async def test_objects_are_kept_whole(self, bus: Bus) -> None:
        data = bytes(range(256)) * 2_000
        assert await bus.get("large") is None and await bus.names() == []
        await bus.put("large", data)
        await bus.put("large", data[::-1])
        await bus.put("empty", b"")
        assert await bus.get("large") == data[::-1] and await bus.get("empty") == b""
        assert sorted(await bus.names()) == ["empty", "large"]
        await bus.drop("large")
        await bus.drop("never-there")
        assert await bus.get("large") is None and await bus.names() == ["empty"]

    async def test_of_many_who_move_a_pointer_one_succeeds(self, bus: Bus) -> None:
        assert await bus.pointed("key") is None
        firsts = await asyncio.gather(*(bus.point("key", f"v{number}", None) for number in range(5)))
        assert sum(firsts) == 1
        now = await bus.pointed("key")
        nexts = await asyncio.gather(*(bus.point("key", f"w{number}", now) for number in range(5)))
        assert sum(nexts) == 1 and await bus.pointed("key") in {f"w{number}" for number in range(5)}
        assert not await bus.point("key", "late", now)

    async def test_a_watcher_sees_what_is_and_what_comes(self, bus: Bus) -> None:
        await bus.point("key", "one", None)
        watcher = bus.watch("key")
        async with asyncio.timeout(_PATIENCE):
            assert await anext(watcher) == "one"
            await bus.point("key", "two", "one")
            assert await anext(watcher) == "two"
        await watcher.aclose()  # type: ignore[attr-defined]
