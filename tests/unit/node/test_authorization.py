from __future__ import annotations

import dataclasses
from typing import Any

import aiohttp
import pytest
from api_room import Room, client_context, configuration

from podlab.node import authorization
from podlab.node.api import ApiError
from podlab.node.authorization import Unauthenticated, Webhook, wanted
from podlab.node.server import serve


class Reviews:
    """An API server that knows one token, whose user may do what is in `grants`."""

    def __init__(self, *grants: tuple[str, str]) -> None:
        self.grants = set(grants)
        self.asked: list[str] = []
        self.away = False

    async def post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        if self.away:
            raise ApiError("the API server is away")
        self.asked.append(body["kind"])
        if body["kind"] == "TokenReview":
            if body["spec"]["token"] != "good":
                return {"status": {"error": "invalid"}}
            return {"status": {"authenticated": True, "user": {"username": "prometheus", "groups": ["g"]}}}
        spec = body["spec"]
        assert spec["user"] == "prometheus" and spec["groups"] == ["g"]
        what = spec["resourceAttributes"]
        assert what["resource"] == "nodes" and what["name"] == "node-1"
        return {"status": {"allowed": (what["verb"], what["subresource"]) in self.grants}}


@pytest.mark.parametrize(
    ("method", "path", "meant"),
    [
        ("GET", "/metrics/cadvisor", ("get", ("metrics",))),
        ("GET", "/stats/summary", ("get", ("stats",))),
        ("GET", "/pods", ("get", ("pods", "proxy"))),
        ("GET", "/healthz", ("get", ("healthz", "proxy"))),
        ("POST", "/exec/default/web/main", ("create", ("proxy",))),
        ("GET", "/containerLogs/a/b/c", ("get", ("proxy",))),
        ("GET", "/", ("get", ("proxy",))),
    ],
)
def test_a_request_means_a_verb_on_a_part_of_the_node(method: str, path: str, meant: object) -> None:
    assert wanted(method, path) == meant


async def test_who_may_read_metrics_may_not_do_anything_else() -> None:
    webhook = Webhook(Reviews(("get", "metrics")), "node-1")
    assert await webhook.refusal("good", "GET", "/metrics") is None
    refusal = await webhook.refusal("good", "POST", "/exec/a/b/c")
    assert refusal == "Forbidden (user=prometheus, verb=create, resource=nodes, subresource(s)=[proxy])"


async def test_any_of_the_parts_is_enough() -> None:
    assert await Webhook(Reviews(("get", "proxy")), "node-1").refusal("good", "GET", "/pods") is None


async def test_a_token_of_nobody() -> None:
    with pytest.raises(Unauthenticated):
        await Webhook(Reviews(), "node-1").refusal("bad", "GET", "/metrics")


async def test_answers_are_kept_for_their_time_a_no_for_a_short_one() -> None:
    clock = [0.0]
    reviews = Reviews()
    webhook = Webhook(reviews, "node-1", now=lambda: clock[0])
    for _ in range(3):
        assert await webhook.refusal("good", "GET", "/metrics")
    assert reviews.asked == ["TokenReview", "SubjectAccessReview"]
    reviews.grants.add(("get", "metrics"))
    clock[0] = authorization.DENIED
    assert await webhook.refusal("good", "GET", "/metrics") is None
    reviews.grants.clear()
    clock[0] += authorization.ALLOWED - 1
    assert await webhook.refusal("good", "GET", "/metrics") is None
    clock[0] += 1
    assert await webhook.refusal("good", "GET", "/metrics")


async def test_the_answers_kept_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(authorization, "MOST", 10)
    webhook = Webhook(Reviews(), "node-1")
    for number in range(50):
        with pytest.raises(Unauthenticated):
            await webhook.refusal(f"bad-{number}", "GET", "/metrics")
    assert len(webhook._kept) <= 10


async def get(room: Room, path: str, token: str) -> tuple[int, str]:
    connector = aiohttp.TCPConnector(ssl=client_context(room.pki, None))
    headers = {"Authorization": f"Bearer {token}"}
    async with aiohttp.ClientSession(connector=connector, headers=headers) as client:
        answer = await client.get(room.url(path))
        return answer.status, await answer.text()


async def test_the_nodes_api_takes_tokens_as_the_api_server_says(room: Room) -> None:
    reviews = Reviews(("get", "metrics"))
    runner = await serve(room.node, configuration(room.folder, room.pki, 0), Webhook(reviews, "node-1"))
    try:
        await ask_with_tokens(dataclasses.replace(room, runner=runner), reviews)
    finally:
        await runner.close()


async def ask_with_tokens(room: Room, reviews: Reviews) -> None:
    assert (await get(room, "/metrics", "good"))[0] == 200
    status, text = await get(room, "/pods", "good")
    assert status == 403 and "subresource(s)=[pods proxy]" in text
    assert (await get(room, "/metrics", "bad"))[0] == 401
    reviews.away = True
    status, text = await get(room, "/metrics", "another")
    assert status == 500 and "cannot say who this is" in text


async def test_without_a_webhook_no_token_is_taken(room: Room) -> None:
    assert (await get(room, "/metrics", "good"))[0] == 401
