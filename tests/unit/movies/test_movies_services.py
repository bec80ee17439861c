"""Features, training and serving together: histories, snapshots, models, reasons, cold start, hot reload."""

from __future__ import annotations

import asyncio
import json
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from parts import NOW, Parts, data, parts, rating
from prometheus_client import REGISTRY

from movies import artefact, models, snapshot
from movies import store as store_module
from movies.bus import EVENTS
from movies.calls import Peer
from movies.clients import RemoteFeatures
from movies.contracts import EVENT, Accepted, Recommendations, stored
from movies.data.tables import COLUMNS, Interactions
from movies.errors import DataError, NotEnoughData, Unavailable
from movies.services import serving as serving_service
from movies.services import training as training_service
from movies.services.features import POISON as POISON_SEEN
from movies.services.features import POSITION
from movies.services.training import train_on
from movies.store import Store
from podlab import waiting


async def _trained(all_: Parts) -> str:
    """The version of a model that serving uses."""
    await all_.training.run()

    async def published() -> bool:
        return (await all_.training.runs()).runs[0].state != "running"

    await waiting.until_async(published, "the run ends", timeout=120)
    (run, *_) = (await all_.training.runs()).runs
    assert run.state in ("published", "unchanged"), run

    async def used() -> bool:
        return all_.serving.unready() is None and (await all_.serving.model()).version == run.version

    await waiting.until_async(used, "serving uses the model", timeout=60)
    return run.version or ""


async def test_a_new_rating_counts_in_the_next_answer(tmp_path: Path) -> None:
    async with parts(tmp_path) as all_:
        await _trained(all_)
        before = await all_.serving.recommendations(9_001)
        assert before.basis == "popular"
        best = before.items[0].movie
        accepted = await all_.ingestion.accept(rating(user=9_001, movie=best, stars=5))
        assert isinstance(accepted, Accepted)
        after = await all_.serving.recommendations(9_001, at_least=accepted.position)
        assert after.basis == "history"
        assert best not in {item.movie for item in after.items}
        assert {reason.movie for item in after.items for reason in item.because} == {best}


async def test_what_was_seen_is_never_recommended(tmp_path: Path) -> None:
    async with parts(tmp_path) as all_:
        await _trained(all_)
        for user in (1, 2, 3, 17, 40):
            seen = {row.movie for row in (await all_.features.history(user)).rows}
            answer = await all_.serving.recommendations(user, n=100)
            assert seen and not seen & {item.movie for item in answer.items}
            assert len(answer.items) == min(100, 120 - len(seen))
            scores = [item.score for item in answer.items]
            assert scores == sorted(scores, reverse=True)


async def test_without_features_the_model_of_the_training_serves(tmp_path: Path) -> None:
    async with parts(tmp_path) as all_:
        await _trained(all_)

        async def away(*_: object) -> None:
            raise Unavailable("features is away")

        all_.features.history = away  # type: ignore[assignment, method-assign]
        assert (await all_.serving.recommendations(1)).basis == "model"
        assert (await all_.serving.recommendations(9_001)).basis == "popular"


async def test_serving_is_not_ready_without_a_model_and_says_so(tmp_path: Path) -> None:
    async with parts(tmp_path) as all_, all_.http("serving") as client:
        assert (await client.get("/readyz")).json()["reasons"] == ["serving: there is no model yet"]
        answer = await client.get("/users/1/recommendations")
        assert answer.status_code == 503 and "no model yet" in answer.json()["detail"]
        assert (await client.get("/healthz")).status_code == 200


async def test_a_bad_model_is_refused_and_the_old_one_serves_on(tmp_path: Path) -> None:
    async with parts(tmp_path) as all_, all_.http("serving") as client:
        version = await _trained(all_)
        good = await all_.bus.get(f"model-{version}")
        assert good is not None
        spoilt = {
            "cut": good[:-100],
            "other": good.replace(b"movies-model 1", b"movies-model 9", 1),
            "header": good.replace(b'"alpha": 2.0', b'"alpha": 9.0', 1),
        }
        assert good not in spoilt.values()
        for name, bad in spoilt.items():
            await all_.bus.put(f"model-{name}", bad)
            assert await all_.bus.point(models.POINTER, name, await all_.bus.pointed(models.POINTER))

            async def refused(name: str = name) -> bool:
                return f"model {name} was refused" in ((await client.get("/model")).json()["refused"] or "")

            await waiting.until_async(refused, f"model {name} is refused", timeout=60)
            assert (await client.get("/model")).json()["version"] == version
            assert (await client.get("/users/1/recommendations")).status_code == 200
            assert (await client.get("/readyz")).status_code == 200


async def test_models_change_under_load_without_a_failed_request(tmp_path: Path) -> None:
    async with parts(tmp_path) as all_, all_.http("serving") as client:
        versions = {await _trained(all_)}
        seen, done = set(), asyncio.Event()

        async def ask(user: int) -> None:
            while not done.is_set():
                answer = await client.get(f"/users/{user}/recommendations")
                assert answer.status_code == 200
                seen.add(Recommendations.model_validate(answer.json()).model)
                await asyncio.sleep(0)  # a request without a socket never lets others run

        async with asyncio.TaskGroup() as group:
            for user in (1, 2):
                group.create_task(ask(user))
            for number in range(3):
                await all_.ingestion.accept(rating(f"n-{number}", user=50 + number))
                accepted = await all_.ingestion.accept(rating(f"m-{number}", user=60 + number))
                assert isinstance(accepted, Accepted)
                await all_.features.history(1, at_least=accepted.position)
                versions.add(await _trained(all_))
            done.set()
        assert len(versions) == 4 and len(seen) > 1 and seen <= versions
        assert (await all_.serving.model()).reloads == 3


async def test_training_the_same_rows_again_changes_nothing(tmp_path: Path) -> None:
    async with parts(tmp_path) as all_:
        first = await _trained(all_)
        assert await _trained(all_) == first
        assert (await all_.training.runs()).runs[0].state == "unchanged"
    async with parts(tmp_path / "elsewhere") as other:
        assert await _trained(other) == first


async def test_only_the_model_in_use_and_the_one_before_are_kept(tmp_path: Path) -> None:
    async with parts(tmp_path) as all_:
        versions = [await _trained(all_)]
        for number in range(2):
            accepted = await all_.ingestion.accept(rating(f"n-{number}", user=50 + number))
            assert isinstance(accepted, Accepted)
            await all_.features.history(1, at_least=accepted.position)
            versions.append(await _trained(all_))
        kept = [name for name in await all_.bus.names() if name.startswith("model-")]
        assert sorted(kept) == sorted(f"model-{version}" for version in versions[1:])


async def test_a_training_that_was_outrun_publishes_nothing(tmp_path: Path) -> None:
    async with parts(tmp_path) as all_:
        version = await _trained(all_)
        model = await models.fetch(all_.bus, version)
        pointed = all_.bus.pointed

        async def before_the_other(key: str) -> str | None:
            """What was pointed at, and at once somebody else moves the pointer."""
            found = await pointed(key)
            await all_.bus.point(key, "somebody-else", found)
            return found

        all_.bus.pointed = before_the_other  # type: ignore[method-assign]
        changed = type(model)(**{**vars(model), "rows": model.rows + 1})
        assert (await models.publish(all_.bus, changed))[0] == "outrun"
        assert await pointed(models.POINTER) == "somebody-else"


async def test_a_model_in_use_that_is_lost_or_damaged_is_put_there_again(tmp_path: Path) -> None:
    async with parts(tmp_path) as all_:
        version = await _trained(all_)
        good = await all_.bus.get(f"model-{version}")
        assert good is not None
        for spoil in (all_.bus.drop(f"model-{version}"), all_.bus.put(f"model-{version}", good[:-1])):
            await spoil
            await _trained(all_)
            assert (await all_.training.runs()).runs[0].state == "published"
            assert artefact.write(await models.fetch(all_.bus, version)) == good


async def test_a_model_that_was_refused_is_used_when_it_is_put_there_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serving_service, "_AGAIN", 0.05)
    async with parts(tmp_path) as all_:
        model = train_on(data()[1], [movie.id for movie in data()[0]])
        whole = artefact.write(model)
        version = artefact.version(whole)
        await all_.bus.put(f"model-{version}", whole[:-100])
        assert await all_.bus.point(models.POINTER, version, None)

        async def refused() -> bool:
            return "was refused" in (all_.serving.unready() or "")

        await waiting.until_async(refused, "the model is refused", timeout=60)
        assert await models.publish(all_.bus, model) == ("published", version)

        async def used() -> bool:
            return all_.serving.unready() is None and (await all_.serving.model()).version == version

        await waiting.until_async(used, "the model is used after all", timeout=60)


async def test_who_tidies_up_leaves_the_model_that_another_training_published_meanwhile(tmp_path: Path) -> None:
    async with parts(tmp_path) as all_:
        await _trained(all_)
        model = train_on(data()[1], [movie.id for movie in data()[0]])
        await all_.bus.put("model-theirs", b"theirs")
        await all_.bus.put("model-old", b"old")
        names = all_.bus.names

        async def then_the_other() -> list[str]:
            found = await names()
            assert await all_.bus.point(models.POINTER, "theirs", await all_.bus.pointed(models.POINTER))
            return found

        all_.bus.names = then_the_other  # type: ignore[method-assign]
        changed = type(model)(**{**vars(model), "rows": model.rows + 1})
        assert (await models.publish(all_.bus, changed))[0] == "published"
        assert await all_.bus.get("model-theirs") == b"theirs" and await all_.bus.get("model-old") is None


async def test_a_model_that_was_tidied_away_before_it_was_pointed_at_is_there_all_the_same(tmp_path: Path) -> None:
    async with parts(tmp_path) as all_:
        point = all_.bus.point

        async def after_the_other(key: str, value: str, expected: str | None) -> bool:
            await all_.bus.drop(f"model-{value}")
            return await point(key, value, expected)

        all_.bus.point = after_the_other  # type: ignore[method-assign]
        model = train_on(data()[1], [movie.id for movie in data()[0]])
        _, version = await models.publish(all_.bus, model)
        assert (await models.fetch(all_.bus, version)).rows == model.rows


async def test_empty_data_is_said_clearly_and_nothing_is_published(tmp_path: Path) -> None:
    async with parts(tmp_path, history=Interactions.empty()) as all_, all_.http("training") as client:
        answer = await client.post("/runs")
        assert answer.status_code == 202

        async def ended() -> bool:
            return (await all_.training.runs()).runs[0].state != "running"

        await waiting.until_async(ended, "the run ends", timeout=60)
        run = (await client.get("/runs")).json()["runs"][0]
        assert run["state"] == "failed" and "nothing to train on" in run["detail"]
        assert await all_.bus.pointed(models.POINTER) is None


async def test_training_begins_by_itself_when_there_is_news(tmp_path: Path) -> None:
    async with parts(tmp_path, start=False) as all_:
        all_.training._settings = type(all_.settings)(**{**vars(all_.settings), "train_after": 3})
        await all_.ingestion.start()
        await all_.features.start()
        await all_.training.start()

        async def runs(count: int) -> bool:
            ended = [run for run in (await all_.training.runs()).runs if run.state == "published"]
            return len(ended) == count

        await waiting.until_async(lambda: runs(1), "the first model is made", timeout=120)
        for number in range(3):
            assert len((await all_.training.runs()).runs) == 1
            await all_.ingestion.accept(rating(f"n-{number}", user=50))
        await waiting.until_async(lambda: runs(2), "a second model is made", timeout=120)


async def test_training_runs_on_a_schedule_without_news(tmp_path: Path) -> None:
    async with parts(tmp_path, train_every=0.2) as all_:

        async def ran(count: int) -> bool:
            runs = (await all_.training.runs()).runs
            return len(runs) >= count and runs[0].state != "running"

        await waiting.until_async(lambda: ran(3), "the third run", timeout=120)
        states = [run.state for run in (await all_.training.runs()).runs]
        assert states[-1] == "published" and set(states[:-1]) == {"unchanged"}


async def test_a_model_that_could_not_be_published_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training_service, "_REST", 0.0)
    async with parts(tmp_path, start=False) as all_:
        put, refused = all_.bus.put, []

        async def away_at_first(name: str, content: bytes) -> None:
            if name.startswith("model-") and not refused:
                refused.append(name)
                raise Unavailable("The broker did not answer.")
            await put(name, content)

        all_.bus.put = away_at_first  # type: ignore[method-assign]
        await all_.ingestion.start()
        await all_.features.start()
        await all_.training.start()

        async def published() -> bool:
            return any(run.state == "published" for run in (await all_.training.runs()).runs)

        await waiting.until_async(published, "a model is published", timeout=120)
        assert refused and (await all_.training.runs()).runs[-1].state == "failed"


def _failing_once(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def first_not(*given: Any) -> Any:
        monkeypatch.setattr(training_service, "train_on", train_on)
        raise error

    monkeypatch.setattr(training_service, "train_on", first_not)


async def _ended(all_: Parts) -> str:
    """The state of a run that is asked for, when it has ended."""
    await all_.training.run()

    async def over() -> bool:
        return (await all_.training.runs()).runs[0].state != "running"

    await waiting.until_async(over, "the run ends", timeout=120)
    return (await all_.training.runs()).runs[0].state


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("can't start new thread"), Unavailable("away")])
async def test_rows_that_are_not_at_fault_are_trained_on_again_after_a_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    monkeypatch.setattr(training_service, "_REST", 3600.0)
    async with parts(tmp_path) as all_:
        _failing_once(monkeypatch, error)
        assert await _ended(all_) == "failed"
        assert not await all_.training._due(), "whoever is away is not to be trained for all the time"
        all_.training._rests_until = 0.0
        assert await all_.training._due() or (await all_.training.runs()).runs[0].state != "failed"


async def test_who_asks_for_a_model_need_not_wait_for_the_rest_to_be_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with parts(tmp_path) as all_:
        _failing_once(monkeypatch, MemoryError())
        assert [await _ended(all_), await _ended(all_)] == ["failed", "published"]


async def test_rows_that_cannot_be_trained_on_wait_for_news(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with parts(tmp_path) as all_:
        _failing_once(monkeypatch, NotEnoughData("too few"))
        assert await _ended(all_) == "failed"
        assert all_.training._rows == len(data()[1]) and not await all_.training._due()


async def test_features_say_nothing_of_the_movies_before_they_know_them(tmp_path: Path) -> None:
    async with parts(tmp_path, start=False) as all_:
        with pytest.raises(Unavailable):
            await all_.features.movies()
        await all_.features.start()
        found = await all_.features.movies()
        assert found is not None and len(found.movies) == len(data()[0])


async def test_a_catalogue_that_is_known_is_not_sent_again(tmp_path: Path) -> None:
    async with parts(tmp_path) as all_, all_.http("features") as client:
        remote = RemoteFeatures(Peer("ui", "features", client, 60))
        first = await remote.movies()
        assert first is not None and len(first.movies) == len(data()[0])
        assert await remote.movies(first.version) is None and await all_.features.movies(first.version) is None
        tag = (await client.get("/movies")).headers["etag"]
        again = await client.get("/movies", headers={"If-None-Match": tag})
        assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag)
        assert await remote.movies("another") == first


async def test_the_snapshot_is_what_the_histories_say(tmp_path: Path) -> None:
    async with parts(tmp_path) as all_, all_.http("features") as client:
        accepted = await all_.ingestion.accept(rating(user=9_001, stars=2))
        assert isinstance(accepted, Accepted)
        await all_.features.history(9_001, at_least=accepted.position)
        answer = await client.get("/snapshot")
        rows = snapshot.read(answer.content)
        assert int(answer.headers["x-position"]) == accepted.position
        expected = data()[1]
        assert len(rows) == len(expected) + 1
        for name in COLUMNS:
            assert np.array_equal(getattr(rows, name)[:-1], getattr(expected, name), equal_nan=True)
        assert (rows.user[-1], rows.movie[-1], rows.stars[-1]) == (9_001, 3, 2)


async def test_a_restarted_store_goes_on_where_it_was(tmp_path: Path) -> None:
    async with parts(tmp_path) as all_:
        one = await all_.ingestion.accept(rating("r-1", user=9_001))
        assert isinstance(one, Accepted)
        await all_.features.history(1, at_least=one.position)
        await all_.features.stop()
        two = await all_.ingestion.accept(rating("r-2", user=9_001, movie=5))
        assert isinstance(two, Accepted)
        await all_.features.start()
        history = await all_.features.history(9_001, at_least=two.position)
        assert {row.movie for row in history.rows} == {3, 5}
        assert (await all_.features.status()).events == len(data()[1]) + 2


async def test_a_restarted_store_shows_at_once_how_far_it_is(tmp_path: Path) -> None:
    async with parts(tmp_path) as all_:
        one = await all_.ingestion.accept(rating("r-1", user=9_001))
        assert isinstance(one, Accepted)
        await all_.features.history(1, at_least=one.position)
        await all_.features.stop()
        POSITION.set(0)  # as in a new process
        await all_.features.start()
        assert REGISTRY.get_sample_value("movies_features_position") == all_.features.store.position


async def test_a_lost_store_is_made_again_from_the_log(tmp_path: Path) -> None:
    async with parts(tmp_path) as all_:
        one = await all_.ingestion.accept(rating("r-1", user=9_001))
        assert isinstance(one, Accepted)
        await all_.features.stop()
        for path in tmp_path.glob("features.sqlite*"):
            path.unlink()
        await all_.features.start()
        assert [row.movie for row in (await all_.features.history(9_001, at_least=one.position)).rows] == [3]


async def test_what_is_no_event_in_the_log_does_not_stop_it(tmp_path: Path) -> None:
    async with parts(tmp_path) as all_:
        await all_.bus.publish(EVENTS, b"rubbish")
        await all_.bus.publish(EVENTS, json.dumps({"id": "x", "user": None}).encode())
        accepted = await all_.ingestion.accept(rating(user=9_001))
        assert isinstance(accepted, Accepted)
        assert len((await all_.features.history(9_001, at_least=accepted.position)).rows) == 1


POISON = [
    {"stars": "four"}, {"stars": [4]}, {"stars": 9}, {"stars": True}, {"watched": {"a": 1}}, {"watched": -1},
    {"user": 2**70}, {"user": 0}, {"movie": "3"}, {"at": 2**80}, {"at": -1}, {"at": None}, {"id": ["x"]},
    {"id": "x" * 101},
]  # fmt: skip


async def test_an_event_that_went_past_ingestion_and_cannot_be_is_counted_and_passed_over(tmp_path: Path) -> None:
    async with parts(tmp_path) as all_, all_.http("features") as client:
        before = await all_.features.status()
        counted = POISON_SEEN._value.get()
        good = json.loads(stored(EVENT.validate_python(rating("good")), NOW))
        for wrong in POISON:
            await all_.bus.publish(EVENTS, json.dumps(good | {"id": "poison"} | wrong).encode())
        last = await all_.bus.publish(EVENTS, json.dumps(good).encode())
        assert [row.movie for row in (await all_.features.history(7, at_least=last.position)).rows].count(3) == 1
        assert (await all_.features.status()).events == before.events + 1
        assert POISON_SEEN._value.get() == counted + len(POISON)
        assert len(snapshot.read((await client.get("/snapshot")).content)) == before.events + 1
        assert (await client.get("/readyz")).status_code == 200


async def test_an_id_that_the_broker_has_forgotten_still_counts_once(tmp_path: Path) -> None:
    async with parts(tmp_path) as all_:
        told = json.loads(stored(EVENT.validate_python(rating("once", user=9_001, stars=5)), NOW))
        await all_.bus.publish(EVENTS, json.dumps(told).encode())
        again = await all_.bus.publish(EVENTS, json.dumps(told | {"movie": 4}).encode())
        assert not again.duplicate, "the bus takes it for another"
        history = await all_.features.history(9_001, at_least=again.position)
        assert [(row.movie, row.stars) for row in history.rows] == [(3, 5.0)]


async def test_features_online_are_those_offline(tmp_path: Path) -> None:
    from movies import features

    async with parts(tmp_path) as all_, all_.http("features") as client:
        rows, _ = await all_.features.snapshot()
        genres = features.genres_of(data()[0])
        for user, as_of in ((1, NOW), (2, NOW - 200 * features.DAY), (9_001, NOW)):
            online = (await client.get(f"/users/{user}/features", params={"as_of": as_of})).json()
            offline = features.user_features(user, rows, genres, as_of)
            assert online == json.loads(json.dumps(vars(offline)))


async def test_similar_movies_and_movies_that_nobody_knows(tmp_path: Path) -> None:
    async with parts(tmp_path) as all_, all_.http("serving") as client:
        await _trained(all_)
        popular = (await client.get("/popular", params={"n": 3})).json()["items"]
        assert len(popular) == 3
        similar = await client.get(f"/movies/{popular[0]['movie']}/similar")
        assert similar.status_code == 200 and len(similar.json()["items"]) == 10
        missing = await client.get("/movies/4711/similar")
        assert missing.status_code == 404 and "4711" in missing.json()["detail"]
        for path in ("/users/0/recommendations", "/users/x/recommendations", "/popular?n=0", "/popular?n=101"):
            assert (await client.get(path)).status_code == 422


@pytest.mark.parametrize("bad", [b"", b"PK", b"\x00" * 100])
def test_a_damaged_snapshot_is_refused(bad: bytes) -> None:
    with pytest.raises(DataError):
        snapshot.read(bad)
    whole = snapshot.write(data()[1])
    with pytest.raises(DataError):
        snapshot.read(whole[: len(whole) // 2])


def test_neither_the_store_nor_a_snapshot_holds_many_rows_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_module, "_CHUNK", 1_000)
    numbers = np.arange(1, 200_001)
    rows = Interactions.of(numbers, numbers, numbers % 2, numbers % 2, numbers)
    store = Store(tmp_path / "store.sqlite")
    store.restart("one", [rows])
    size = sum(getattr(rows, name).nbytes for name in COLUMNS)
    tracemalloc.start()
    try:
        found, _ = store.everything()
        assert tracemalloc.get_traced_memory()[1] < 1.2 * size
        tracemalloc.reset_peak()
        before = tracemalloc.get_traced_memory()[0]
        assert sum(map(len, snapshot.pieces(found))) > size
        assert tracemalloc.get_traced_memory()[1] - before < 5 * snapshot._PIECE < size
    finally:
        tracemalloc.stop()
        store.close()
    assert all(np.array_equal(getattr(found, name), getattr(rows, name)) for name in COLUMNS)


async def test_models_of_equal_rows_have_equal_bytes(tmp_path: Path) -> None:
    async with parts(tmp_path) as all_:
        version = await _trained(all_)
        model = await models.fetch(all_.bus, version)
        assert artefact.version(artefact.write(model)) == version


async def test_who_is_told_that_nothing_is_behind_is_told_of_all_events(tmp_path: Path) -> None:
    async with parts(tmp_path) as all_:
        before = (await all_.features.status()).events
        last = all_.bus.last

        async def slow(stream: str) -> int:
            """An event comes in while the broker is asked."""
            accepted = await all_.ingestion.accept(rating("in-between"))
            assert isinstance(accepted, Accepted)
            await all_.features.history(7, at_least=accepted.position)
            return await last(stream)

        all_.bus.last = slow  # type: ignore[method-assign]
        status = await all_.features.status()
        assert status.behind == 0 and status.events == before + 1


async def test_a_full_disk_under_the_features_is_told_and_what_came_meanwhile_is_in_afterwards(tmp_path: Path) -> None:
    async with parts(tmp_path) as all_, all_.http("features") as client:
        writer = all_.features.store._writer
        used = writer.execute("PRAGMA page_count").fetchone()[0]
        writer.execute(f"PRAGMA max_page_count={used + 1}")
        sent: list[str] = []

        async def told() -> bool:
            for number in range(len(sent), len(sent) + 100):
                accepted = await all_.ingestion.accept(rating(f"f-{number}", user=10_000 + number))
                sent.append(accepted.id)
            reasons = (await client.get("/readyz")).json()["reasons"]
            return any("no room left" in reason for reason in reasons)

        await waiting.until_async(told, "features says that its disk is full", timeout=120)
        assert (await client.get("/users/1/history")).json()["rows"], "what it has is answered"
        writer.execute("PRAGMA max_page_count=1000000")
        last = await all_.bus.last(EVENTS)

        async def caught_up() -> bool:
            return (await all_.features.status()).position == last

        await waiting.until_async(caught_up, "the log is read on", timeout=120)
        histories = [await all_.features.history(10_000 + number) for number in range(len(sent))]
        assert all(len(one.rows) == 1 for one in histories)
        assert (await client.get("/readyz")).status_code == 200
