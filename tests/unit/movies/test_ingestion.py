"""Ingestion: what is kept, what is refused, and that each event counts once."""

from __future__ import annotations

import asyncio
import json
import logging
from pathlib import Path

import pytest
from parts import NOW, parts, rating
from prometheus_client import REGISTRY

from movies.bus import ARRIVALS, EVENTS
from movies.bus.files import FileBus
from movies.config import Settings
from movies.contracts import Accepted, Refused
from movies.errors import BrokerError, StorageFull, Unavailable
from movies.services.ingestion import EVENTS_SEEN, Ingestion
from podlab import waiting

JSON = {"content-type": "application/json"}


async def test_an_accepted_event_is_in_the_log_and_in_the_history(tmp_path: Path) -> None:
    async with parts(tmp_path) as all_, all_.http("ingestion") as client:
        answer = await client.post("/events", json=rating(user=9_001))
        assert answer.status_code == 200
        accepted = Accepted.model_validate(answer.json())
        assert not accepted.duplicate and not accepted.late
        history = await all_.features.history(9_001, at_least=accepted.position)
        assert [(row.movie, row.stars) for row in history.rows] == [(3, 4.5)]


async def test_the_same_id_again_changes_nothing(tmp_path: Path) -> None:
    async with parts(tmp_path) as all_, all_.http("ingestion") as client:
        first = (await client.post("/events", json=rating(user=9_001))).json()
        again = (await client.post("/events", json=rating(user=9_001, stars=1))).json()
        assert again == first | {"duplicate": True}
        other = (await client.post("/events", json=rating("e-2", user=9_001, movie=4))).json()
        history = await all_.features.history(9_001, at_least=other["position"])
        assert {(row.movie, row.stars) for row in history.rows} == {(3, 4.5), (4, 4.5)}


@pytest.mark.parametrize(
    ("event", "reason", "told"),
    [
        ({"id": "x"}, "malformed", "kind"),
        (rating(kind="listen"), "malformed", "listen"),
        (rating(stars=4.3), "malformed", "stars"),
        (rating(stars="4"), "malformed", "stars"),
        (rating(stars=float("nan")), "malformed", "stars"),
        (rating(user=True), "malformed", "user"),
        (rating(user=2**53), "malformed", "user"),
        (rating(id="a b"), "malformed", "id"),
        (rating(id="x" * 101), "malformed", "id"),
        (rating(id="x\nlevel=error"), "malformed", "id"),
        (rating(more=1), "malformed", "more"),
        (rating(at="2025-01-01T00:00:00"), "malformed", "timezone"),
        (rating(at="1850-01-01T00:00:00Z"), "malformed", "1990"),
        (rating(at=12), "malformed", "2026-01-31"),
        (rating(movie=4_711), "unknown-movie", "no movie 4711"),
        (rating(at="2026-01-01T01:00:00Z"), "future", "clock"),
        ([1, 2], "malformed", "body"),
        (None, "malformed", "body"),
    ],
)
async def test_what_cannot_be_is_refused_with_its_reason(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, event: object, reason: str, told: str
) -> None:
    caplog.set_level(logging.INFO, "movies")
    async with parts(tmp_path) as all_, all_.http("ingestion") as client:
        body = json.dumps(event).encode()
        answer = await client.post("/events", content=body, headers=JSON)
        assert answer.status_code == 422
        refused = Refused.model_validate(answer.json())
        assert refused.reason == reason and told in refused.detail
        assert await all_.bus.last(EVENTS) == 0
        assert (await all_.ingestion.status()).refused == 1
        (line,) = [one for one in caplog.records if one.message == "event"]
        assert line.outcome == "refused" and line.reason == reason  # type: ignore[attr-defined]


async def test_half_a_character_is_refused_and_what_follows_is_kept(tmp_path: Path) -> None:
    half = [rating(id="\ud800"), rating(kind="\udfff"), {**rating(), "\ud800": 1}]
    async with parts(tmp_path) as all_, all_.http("ingestion") as client:
        for event in half:  # json writes it as \\ud800, which is good JSON
            answer = await client.post("/events", content=json.dumps(event), headers=JSON)
            assert answer.status_code == 422 and Refused.model_validate(answer.json()).reason == "malformed"
        batch = json.dumps({"events": [*half, rating("good")]})
        answer = await client.post("/events/batch", content=batch, headers=JSON)
        assert answer.status_code == 200
        told = answer.json()
        assert (told["accepted"], told["refused"]) == (1, 3) and told["results"][0]["id"] == "?"
        assert await all_.bus.last(EVENTS) == 1


async def test_late_and_out_of_order_events_count_as_of_their_date(tmp_path: Path) -> None:
    async with parts(tmp_path) as all_:
        new = await all_.ingestion.accept(rating("new", user=9_001, stars=5, at="2025-12-31T23:59:00Z"))
        old = await all_.ingestion.accept(rating("old", user=9_001, stars=1, at="2025-06-01T12:00:00+02:00"))
        assert isinstance(new, Accepted) and not new.late
        assert isinstance(old, Accepted) and old.late
        (row,) = (await all_.features.history(9_001, at_least=old.position)).rows
        assert row.stars == 5


async def test_a_batch_is_judged_event_by_event(tmp_path: Path) -> None:
    async with parts(tmp_path) as all_, all_.http("ingestion") as client:
        events = [rating(f"b-{number % 90}") for number in range(100)] + [rating("c", movie=999), "nothing"]
        answer = (await client.post("/events/batch", json={"events": events})).json()
        assert (answer["accepted"], answer["duplicates"], answer["refused"]) == (90, 10, 2)
        assert [one.get("reason") for one in answer["results"][-2:]] == ["unknown-movie", "malformed"]
        assert (await client.post("/events/batch", json={"events": []})).status_code == 422
        assert (await client.post("/events/batch", json={"events": [1] * 501})).status_code == 422


async def test_arrivals_are_kept_and_poison_is_set_aside(tmp_path: Path) -> None:
    async with parts(tmp_path) as all_:
        good, poison = (
            rating("s-1", user=9_001),
            [b"{", b"\xff\xfe", b"[" * 100_000, json.dumps(rating(stars=9)).encode()],
        )
        for data in (*poison, json.dumps(good).encode(), json.dumps(good).encode()):
            await all_.bus.publish(ARRIVALS, data)

        async def kept() -> bool:
            return (await all_.ingestion.status()).duplicates == 1

        await waiting.until_async(kept, "the last arrival is dealt with", timeout=60)
        status = await all_.ingestion.status()
        assert (status.accepted, status.refused) == (1, len(poison))
        set_aside = (await all_.ingestion.refused()).events
        assert len(set_aside) == len(poison) and {one.reason for one in set_aside} == {"malformed"}
        assert '"stars": 9' in set_aside[0].raw


async def test_arrivals_that_cannot_be_are_set_aside_as_those_over_http_are_refused(tmp_path: Path) -> None:
    async with parts(tmp_path) as all_:
        wrong = {"unknown-movie": rating("u", movie=4_711), "future": rating("f", at="2199-01-01T00:00:00Z")}
        for event in wrong.values():
            await all_.bus.publish(ARRIVALS, json.dumps(event).encode())
        await all_.bus.publish(ARRIVALS, json.dumps(rating("late", at="1999-01-01T00:00:00Z")).encode())

        async def kept() -> bool:
            return (await all_.ingestion.status()).accepted == 1

        await waiting.until_async(kept, "the last arrival is kept", timeout=60)
        assert {one.reason for one in (await all_.ingestion.refused()).events} == set(wrong)
        assert len([one async for one in _all(all_)]) == 1


async def test_arrivals_wait_while_the_log_is_full_and_are_not_lost(tmp_path: Path) -> None:
    async with parts(tmp_path) as all_:
        publish, full = all_.bus.publish, asyncio.Event()

        async def refusing(stream: str, *rest, **more):
            if stream == EVENTS and not full.is_set():
                full.set()
                raise StorageFull("There is no room left.")
            return await publish(stream, *rest, **more)

        all_.bus.publish = refusing  # type: ignore[method-assign]
        await publish(ARRIVALS, json.dumps(rating("s-1")).encode())
        await asyncio.wait_for(full.wait(), 60)

        async def kept() -> bool:
            return (await all_.ingestion.status()).accepted == 1

        await waiting.until_async(kept, "the arrival is kept after all", timeout=60)


async def test_without_room_nothing_is_acknowledged_and_the_log_goes_on_afterwards(tmp_path: Path) -> None:
    async with parts(tmp_path / "a") as all_, all_.http("ingestion") as client:
        database = all_.bus._database
        assert database is not None
        used = database.execute("PRAGMA page_count").fetchone()[0]
        database.execute(f"PRAGMA max_page_count={used + 1}")
        answers = [await client.post("/events", json=rating(f"f-{number}", user=9_001)) for number in range(100)]
        codes = [answer.status_code for answer in answers]
        assert codes[0] == 200 and codes[-1] == 507
        assert "no room" in answers[-1].json()["detail"] and answers[-1].headers["retry-after"]
        database.execute("PRAGMA max_page_count=100000")
        kept = await client.post("/events", json=rating("f-99", user=9_001, movie=5))
        assert kept.json()["duplicate"] is False
        assert len([one async for one in _all(all_)]) == codes.count(200) + 1


async def test_an_arrival_with_an_endless_name_is_set_aside_and_those_behind_it_are_kept(tmp_path: Path) -> None:
    async with parts(tmp_path, start=False) as all_:
        publish = all_.bus.publish

        async def as_a_broker(stream: str, data: bytes, **more):
            if len(data) > 1_000_000:
                raise BrokerError("The message is too large.")
            return await publish(stream, data, **more)

        all_.bus.publish = as_a_broker  # type: ignore[method-assign]
        for event in (rating("endless", **{"€" * 300_000: 1}), rating("good")):
            await all_.bus.publish(ARRIVALS, json.dumps(event, ensure_ascii=False).encode())
        await all_.ingestion.start()

        async def kept() -> bool:
            return (await all_.ingestion.status()).accepted == 1

        await waiting.until_async(kept, "the arrival behind it is kept", timeout=60)
        (one,) = (await all_.ingestion.refused()).events
        assert one.reason == "malformed" and one.detail.startswith("rating.€") and len(one.detail) == 2_000


async def test_before_it_knows_the_movies_it_refuses_no_rating_for_good(tmp_path: Path) -> None:
    async with parts(tmp_path, start=False) as all_:
        with pytest.raises(Unavailable):
            await all_.ingestion.accept(rating())
        await all_.ingestion.start()
        assert isinstance(await all_.ingestion.accept(rating()), Accepted)


async def _all(all_):
    last = await all_.bus.last(EVENTS)
    async for batch in all_.bus.follow(EVENTS):
        for message in batch:
            yield message
        if batch and batch[-1].position >= last:
            return


async def test_hostile_text_is_data(tmp_path: Path) -> None:
    async with parts(tmp_path) as all_, all_.http("ingestion") as client:
        for id_ in ("1'; DROP TABLE event; --", "<script>alert(1)</script>", "a\x00b", "\u202e", "é" * 5000):
            answer = await client.post("/events", json=rating(id_))
            assert answer.status_code == 422 and answer.json()["reason"] == "malformed"
        accepted = await all_.ingestion.accept(rating("good"))
        assert isinstance(accepted, Accepted)
        assert NOW


def test_what_has_not_happened_yet_is_counted_as_0(tmp_path: Path) -> None:
    """A counter that begins with its first event has not risen: nobody is alarmed."""
    EVENTS_SEEN.clear()
    Ingestion(Settings(), FileBus(tmp_path))
    for outcome in ("accepted", "duplicate", "refused"):
        for source in ("http", "stream"):
            labels = {"outcome": outcome, "source": source}
            assert REGISTRY.get_sample_value("movies_events_total", labels) == 0


async def test_without_movies_it_does_not_start(tmp_path: Path) -> None:
    bus = FileBus(tmp_path)
    await bus.open()
    with pytest.raises(Unavailable, match="movies seed"):
        await Ingestion(Settings(), bus).start()
    await bus.close()
