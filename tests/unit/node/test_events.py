"""Events: how often each is written, and what happens when the API server is away or refuses."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from pods import container, made

from podlab.node import events
from podlab.node.api import Forbidden, NotFound, Unreachable
from podlab.node.events import BURST, COMBINED, SIMILAR, SIMILAR_WITHIN, EventRecorder, reference
from podlab.waiting import until_async


class Written:
    """Stands for the API server: keeps what it is sent, and fails as it is told."""

    def __init__(self) -> None:
        self.posts: list[dict[str, Any]] = []
        self.patches: list[tuple[str, dict[str, Any]]] = []
        self.failures: list[Exception] = []

    async def post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        if self.failures:
            raise self.failures.pop(0)
        self.posts.append(body)
        return body

    async def patch(self, path: str, body: dict[str, Any], **_: Any) -> dict[str, Any]:
        if self.failures:
            raise self.failures.pop(0)
        self.patches.append((path, body))
        return body

    @property
    def count(self) -> int:
        return len(self.posts) + len(self.patches)


async def sent(api: Written, expected: int, *messages: str) -> None:
    recorder = EventRecorder(api, "node-1")  # type: ignore[arg-type]
    for message in messages:
        recorder.pod(made(), "Normal", "Pulled", message)
    task = asyncio.ensure_future(recorder.run())
    await until_async(lambda: _is(api.count >= expected), "the events", timeout=60, state=lambda: api.count)
    task.cancel()


async def _is(value: bool) -> bool:
    return value


def test_the_object_of_an_event() -> None:
    pod = made(container("main"), inits=(container("init"),))
    assert "fieldPath" not in reference(pod)
    assert reference(pod, container("main"))["fieldPath"] == "spec.containers{main}"
    assert reference(pod, container("init"))["fieldPath"] == "spec.initContainers{init}"


async def test_equal_events_are_counted_not_repeated() -> None:
    api = Written()
    await sent(api, 4, "same", "same", "other", "same")
    assert [event["message"] for event in api.posts] == ["same", "other"]
    assert [body["count"] for _, body in api.patches] == [2, 3]
    assert api.patches[0][0].endswith(api.posts[0]["metadata"]["name"])


async def test_an_expired_event_is_written_anew() -> None:
    api = Written()
    recorder = EventRecorder(api, "node-1")  # type: ignore[arg-type]
    task = asyncio.ensure_future(recorder.run())
    recorder.pod(made(), "Normal", "Pulled", "same")
    await until_async(lambda: _is(api.count == 1), "the first", timeout=60)
    api.failures = [NotFound("gone", status=404)]
    recorder.pod(made(), "Normal", "Pulled", "same")
    await until_async(lambda: _is(len(api.posts) == 2), "the second", timeout=60)
    task.cancel()
    assert api.posts[1]["count"] == 1


async def test_an_event_outlives_an_api_server_that_is_away() -> None:
    api = Written()
    api.failures = [Unreachable("away")]
    await sent(api, 1, "one")
    assert api.posts[0]["message"] == "one"


async def test_an_api_server_that_is_away_for_long_costs_no_event(monkeypatch: pytest.MonkeyPatch) -> None:
    async def at_once(_: float) -> None:
        await asyncio.sleep(0)

    monkeypatch.setattr(events, "pause_async", at_once)
    api = Written()
    api.failures = [Unreachable("away") for _ in range(BURST + 5)]
    await sent(api, 2, "one", "two")
    assert [event["message"] for event in api.posts] == ["one", "two"]


async def test_a_refused_event_does_not_hold_up_the_next() -> None:
    api = Written()
    api.failures = [Forbidden("the namespace is being terminated", status=403)]
    await sent(api, 1, "refused", "next")
    assert [event["message"] for event in api.posts] == ["next"]


async def test_an_event_about_a_node_waits_for_the_namespace_that_comes_after_the_api_server() -> None:
    api = Written()
    api.failures = [NotFound('namespaces "default" not found', status=404)]
    recorder = EventRecorder(api, "node-1")  # type: ignore[arg-type]
    recorder.record({"kind": "Node", "name": "node-1"}, "Normal", "Starting", "Starting kubelet.")
    task = asyncio.ensure_future(recorder.run())
    await until_async(lambda: _is(api.count == 1), "the event", timeout=60)
    task.cancel()
    assert api.posts[0]["reason"] == "Starting"


async def test_an_event_about_a_pod_whose_namespace_is_gone_holds_nothing_up() -> None:
    api = Written()
    api.failures = [NotFound("the namespace is gone", status=404)]
    await sent(api, 1, "refused", "next")
    assert [event["message"] for event in api.posts] == ["next"]


async def test_a_pod_that_floods_is_cut_off() -> None:
    api = Written()
    await sent(api, BURST, *(f"message {n}" for n in range(BURST * 4)))
    assert api.count == BURST


async def test_names_are_unique_and_short() -> None:
    api = Written()
    count = SIMILAR - 1
    await sent(api, count, *(f"message {n}" for n in range(count)))
    names = {event["metadata"]["name"] for event in api.posts}
    assert len(names) == count and all(len(name) < 253 for name in names)


async def test_many_similar_events_become_one() -> None:
    api = Written()
    await sent(api, SIMILAR + 2, *(f"message {n}" for n in range(SIMILAR + 2)))
    assert [event["message"] for event in api.posts[SIMILAR - 1 :]] == [f"{COMBINED}message {SIMILAR - 1}"]
    name = api.posts[-1]["metadata"]["name"]
    assert [(path.rpartition("/")[2], body["count"], body["message"]) for path, body in api.patches] == [
        (name, 2, f"{COMBINED}message {SIMILAR}"),
        (name, 3, f"{COMBINED}message {SIMILAR + 1}"),
    ]


def test_similar_events_are_forgotten_and_others_are_not_similar() -> None:
    similar = events._Similar()
    assert not any(similar.too_many(f"message {n}", 0.0) for n in range(SIMILAR - 1))
    assert not similar.too_many("one more", SIMILAR_WITHIN + 1)
    assert not any(similar.too_many("the same", SIMILAR_WITHIN + 2) for _ in range(SIMILAR * 2))


def test_a_clock_that_steps_back_costs_a_pod_no_event() -> None:
    bucket = events._Bucket()
    assert bucket.take(1_000_000.0)
    assert all(bucket.take(at) for at in (10.0, 11.0, 12.0))
