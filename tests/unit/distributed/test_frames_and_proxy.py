"""Frames, and the proxy between real sockets: what it does to messages, and its log as proof."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from podlab import waiting
from podlab.distributed.frames import LONGEST, Frames, encode, receive, send
from podlab.distributed.network import Conditions
from podlab.distributed.proxy import Address, Proxy
from podlab.errors import LaboratoryError, UsageError


@given(st.lists(st.dictionaries(st.text(max_size=5), st.integers(), max_size=3)), st.integers(1, 7))
def test_frames_survive_any_cutting(messages: list[dict[str, int]], piece: int) -> None:
    stream = b"".join(map(encode, messages))
    frames, found = Frames(), []
    for begin in range(0, len(stream), piece):
        found += frames.feed(stream[begin : begin + piece])
    assert found == messages


def test_what_is_no_frame_is_refused() -> None:
    with pytest.raises(LaboratoryError, match="no stream of framed messages"):
        list(Frames().feed(b"GET / HTTP/1.1\r\n"))
    with pytest.raises(LaboratoryError, match="no JSON"):
        list(Frames().feed(b"\0\0\0\1{"))
    with pytest.raises(LaboratoryError, match="cannot be written as JSON"):
        encode({1, 2})
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall((LONGEST + 1).to_bytes(4, "big"))
        with pytest.raises(LaboratoryError):
            receive(ours)
        theirs.sendall(b"\0\0")
        theirs.close()
        assert receive(ours) is None


class Server:
    """Notes what arrives and answers it, on TCP or a Unix socket."""

    def __init__(self, path: Path | None) -> None:
        self.heard: list[Any] = []
        self._socket = socket.socket(socket.AF_UNIX if path else socket.AF_INET)
        self._socket.bind(str(path) if path else ("127.0.0.1", 0))
        self._socket.listen()
        self.address: Address = str(path) if path else self._socket.getsockname()
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection:
            while (message := receive(connection)) is not None:
                self.heard.append(message)
                try:
                    send(connection, {"answer": message["n"]})
                except OSError:
                    return

    def close(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()


@contextmanager
def connected(proxy: Proxy, path: Path | None = None) -> Iterator[tuple[Server, socket.socket]]:
    server = Server(path / "server" if path else None)
    address = proxy.link("client", "server", server.address, path / "link" if path else None)
    with socket.socket(socket.AF_UNIX if path else socket.AF_INET) as client:
        client.settimeout(30)
        client.connect(address)
        yield server, client
    server.close()


def judged(proxy: Proxy, source: str, count: int) -> list[dict[str, Any]]:
    """The log of one direction, once the proxy has judged `count` messages of it."""

    def found() -> list[dict[str, Any]]:
        return [one for one in list(proxy.log) if one.get("message") is not None and one["source"] == source]

    waiting.until(lambda: len(found()) >= count, f"{count} messages from {source}", timeout=60, interval=0.005)
    return found()


@pytest.mark.parametrize("unix", [False, True], ids=["tcp", "unix"])
def test_without_faults_everything_passes_in_order(unix: bool, tmp_path: Path) -> None:
    with Proxy() as proxy, connected(proxy, tmp_path if unix else None) as (server, client):
        for number in range(100):
            send(client, {"n": number})
        assert [receive(client)["answer"] for _ in range(100)] == list(range(100))
        assert [one["n"] for one in server.heard] == list(range(100))
        assert proxy.bitten("forwarded") == 200 and proxy.bitten("lost") == 0
        if unix:
            assert (tmp_path / "link").stat().st_mode & 0o777 == 0o600


def test_loss_and_duplication_follow_the_seed_and_the_log_tells() -> None:
    def go(seed: int) -> list[list[str]]:
        faults = Conditions(loss=0.3, duplication=0.3, delay=(0.0, 0.0))
        with Proxy(seed) as proxy:
            with connected(proxy) as (server, client):
                proxy.network(faults, "client", "server")
                for number in range(60):
                    send(client, {"n": number})
                log = judged(proxy, "client", 60)
                expected = [one["message"]["n"] for one in log for _ in one["delays"]]
                waiting.until(lambda: len(server.heard) == len(expected), "what passed", timeout=60, interval=0.005)
                assert sorted(one["n"] for one in server.heard) == sorted(expected)
                assert proxy.bitten("lost", "client") == sum(not one["delays"] for one in log) > 5
                assert proxy.bitten("duplicated", "client", "server") > 5
                assert proxy.bitten("lost", "server") == 0
            json.dumps(proxy.log)
            return [one["what"] for one in log]

    assert go(1) == go(1) != go(2)


def test_held_messages_are_passed_by_later_ones() -> None:
    with Proxy(3, Conditions(delay=(0.0, 0.0), reorder=0.3, hold=0.3)) as proxy, connected(proxy) as (server, client):
        for number in range(40):
            send(client, {"n": number})
        waiting.until(lambda: len(server.heard) == 40, "all messages", timeout=60, interval=0.005)
        heard = [one["n"] for one in server.heard]
        assert heard != sorted(heard) and sorted(heard) == list(range(40))
        held = {one["message"]["n"] for one in judged(proxy, "client", 40) if "held" in one["what"]}
        rest = [number for number in heard if number not in held]
        assert held and rest == sorted(rest)


def test_a_cut_blocks_one_direction_and_is_proven() -> None:
    with Proxy() as proxy, connected(proxy) as (server, client):
        proxy.cut("server", "client")
        send(client, {"n": 1})
        assert judged(proxy, "server", 1)[0]["what"] == ["cut"]
        assert [one["n"] for one in server.heard] == [1]
        proxy.partition(["client"], ["server"])
        send(client, {"n": 2})
        judged(proxy, "client", 2)
        assert proxy.bitten("cut", "client", "server") == 1
        proxy.heal()
        send(client, {"n": 3})
        assert receive(client) == {"answer": 3}
        assert [one["n"] for one in server.heard] == [1, 3]
        assert {"cut", "partition", "heal"} <= {one["event"] for one in proxy.log}


def test_many_messages_on_their_way_need_few_timers() -> None:
    with Proxy(0, Conditions(delay=(0.3, 0.3))) as proxy, connected(proxy) as (server, client):
        made = []
        call_at = proxy._loop.call_at
        proxy._loop.call_at = lambda *told, **more: made.append(told) or call_at(*told, **more)  # type: ignore[method-assign]
        for number in range(300):
            send(client, {"n": number})
        assert [receive(client)["answer"] for _ in range(300)] == list(range(300))
        assert [one["n"] for one in server.heard] == list(range(300))
        assert len(made) < 3 * 600, "at most one for each message, and some of asyncio's own"


def test_slow_shows_in_the_log() -> None:
    with Proxy() as proxy, connected(proxy) as (_, client):
        proxy.slow(["client"], ["server"], 0.05)
        send(client, {"n": 1})
        assert receive(client) == {"answer": 1}
        assert judged(proxy, "client", 1)[0]["delays"] == [0.05]


def test_what_is_on_its_way_still_arrives_after_the_sender_hangs_up() -> None:
    with Proxy(0, Conditions(delay=(0.05, 0.05))) as proxy, connected(proxy) as (server, client):
        send(client, {"n": 1})
        client.shutdown(socket.SHUT_WR)
        assert receive(client) == {"answer": 1}
        assert receive(client) is None
        assert server.heard == [{"n": 1}]


def test_a_proxy_that_closes_before_its_connections_says_nothing(caplog: pytest.LogCaptureFixture) -> None:
    with contextlib.ExitStack() as stack:
        with Proxy(seed=1) as proxy:
            _, client = stack.enter_context(connected(proxy))
            send(client, {"n": 1})
            assert receive(client) == {"answer": 1}
        assert receive(client) is None
    assert not caplog.records


def test_a_server_that_is_not_there(tmp_path: Path) -> None:
    with Proxy() as proxy:
        address = proxy.link("client", "server", str(tmp_path / "nobody"))
        with socket.create_connection(address, timeout=30) as client:
            assert client.recv(10) == b""
        assert [one["event"] for one in proxy.log] == ["refused"]
    with pytest.raises(UsageError, match="not open"):
        proxy.link("client", "server", ("127.0.0.1", 1))
