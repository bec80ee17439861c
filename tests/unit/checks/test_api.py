"""The connection to an API server that is slow, silent or gone."""

from __future__ import annotations

import json
import socket
import threading
import types
from collections.abc import Callable, Iterator

import pytest
import urllib3

from podlab.checks.api import AGAIN, Api, ApiAway, ApiError, Resource
from podlab.checks.traffic import ask

Serve = Callable[..., Api]


@pytest.fixture
def served() -> Iterator[Serve]:
    """served(answer, ...): an API whose server gives each connection the next of these answers; None is silence."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        kept: list[socket.socket] = []

        def serve(answers) -> None:
            for answer in answers:
                try:
                    connection, _ = listener.accept()
                except OSError:  # the test is over
                    return
                kept.append(connection)
                if answer is None:
                    continue
                connection.recv(65536)
                status, body = answer
                data = json.dumps(body).encode()
                head = f"HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {len(data)}\r\n"
                connection.sendall(head.encode() + b"Connection: close\r\n\r\n" + data)

        def made(*answers) -> Api:
            threading.Thread(target=serve, args=(answers,), daemon=True).start()
            host = f"http://127.0.0.1:{listener.getsockname()[1]}"
            return api_at(host)

        yield made
        for connection in kept:
            connection.close()


def api_at(host: str) -> Api:
    pool = types.SimpleNamespace(pool_manager=urllib3.PoolManager())
    configuration = types.SimpleNamespace(host=host, auth_settings=dict)
    return Api(types.SimpleNamespace(configuration=configuration, rest_client=pool))  # type: ignore[arg-type]


def test_a_silent_server_is_asked_once_more_where_that_is_wanted(served: Serve) -> None:
    api = served(None, (200, {"kind": "Pod"}))
    assert json.loads(api.raw("GET", "/x", timeout=0.2, again=60).data) == {"kind": "Pod"}


def test_a_silent_server_is_said_to_be_away(served: Serve) -> None:
    with pytest.raises(ApiAway, match="does not answer"):
        served(None, (200, {})).raw("GET", "/x", timeout=0.2)


def test_silence_behind_the_proxy_is_not_said_of_the_api_server(served: Serve) -> None:
    path = "/api/v1/namespaces/spark/pods/spark-1:4040/proxy/api/v1/applications"
    with pytest.raises(ApiAway, match=r"^The pod spark-1:4040 did not answer within 0\.2 s"):
        served(None, (200, {})).raw("GET", path, timeout=0.2)


@pytest.mark.parametrize("status", [200, 403])
def test_a_pod_is_silent_if_only_the_api_server_answers(served: Serve, status: int) -> None:
    assert ask(served(None, (status, {})), "n", "web", "/", timeout=0.2).status == 0


@pytest.mark.parametrize("status", [429, 500])
def test_no_pod_is_called_silent_while_the_api_server_fails(served: Serve, status: int) -> None:
    with pytest.raises(ApiError) as failure:
        ask(served(None, (status, {})), "n", "web", "/", timeout=0.2)
    assert failure.value.status == status


def test_nobody_is_asked_twice_where_nobody_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as reserved:
        port = reserved.getsockname()[1]
    with pytest.raises(ApiAway, match="does not answer"):
        api_at(f"http://127.0.0.1:{port}").raw("GET", "/x", again=60)


def test_what_reads_or_applies_is_tried_again_and_only_if_nobody_set_a_limit(monkeypatch) -> None:
    asked: list[dict[str, float]] = []

    def raw(_self, method, path, **options):
        asked.append(options)
        return types.SimpleNamespace(status=200, data=b"{}")

    monkeypatch.setattr(Api, "raw", raw)
    api = api_at("http://127.0.0.1:1")
    api.request("GET", "/x")
    api.request("GET", "/x", timeout=3)
    api.request("POST", "/x", body={})
    assert asked == [{"again": AGAIN}, {"timeout": 3}, {"body": {}}]
    monkeypatch.setattr(Api, "resource", lambda *_words: Resource("v1", "Pod", "pods", True))
    api.apply({"kind": "Pod", "metadata": {"name": "one"}}, "n")
    api.delete("Pod", "one", "n")
    assert [options.get("again") for options in asked[3:]] == [AGAIN, None]


def test_a_watch_that_is_refused_is_no_event(served: Serve) -> None:
    resources = (200, {"resources": [{"name": "pods", "kind": "Pod", "namespaced": True}]})
    api = served(resources, (410, {"reason": "Expired", "message": "too old resource version"}))
    with pytest.raises(ApiError, match="too old") as refused:
        next(api.watch("Pod", "n", "1"))
    assert refused.value.status == 410
