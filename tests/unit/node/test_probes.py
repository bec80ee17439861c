"""Probes: thresholds (pure), and real answers of real servers on loopback."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from local_runtime import LocalRuntime

from podlab.node import grpc_health, hooks, prober
from podlab.node.prober import Target
from podlab.node.probes import Settings, Tally, eager_pause, is_early, killed_message
from podlab.waiting import pause_async

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def target(address: str = "127.0.0.1", container_id: str = "main", **spec: Any) -> Target:
    return Target(container_id, {"name": "main", **spec}, address, {"PATH": "/usr/bin:/bin"})


# Thresholds


def test_defaults_are_those_of_kubernetes() -> None:
    assert Settings.of({}) == Settings(0, 10, 1, 1, 3)


def verdicts(answers: str, settings: Settings) -> list[bool | None]:
    tally, found = Tally(), []
    for letter in answers:
        tally = tally.after(letter == "+", settings)
        found.append(tally.verdict)
    return found


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        ("---", [None, None, False]),
        ("--+--", [None, None, True, True, True]),
        ("+---+", [True, True, True, False, True]),
    ],
)
def test_three_failures_in_a_row_count_and_one_success(answers: str, expected: list[bool | None]) -> None:
    assert verdicts(answers, Settings()) == expected


def test_success_threshold() -> None:
    assert verdicts("++-++", Settings(success=2, failure=1)) == [None, True, False, False, True]


@given(st.text(alphabet="+-", max_size=30), st.integers(1, 4), st.integers(1, 4))
def test_a_verdict_turns_only_after_its_threshold(answers: str, success: int, failure: int) -> None:
    found = verdicts(answers, Settings(success=success, failure=failure))
    for index, verdict in enumerate(found):
        if index and verdict != found[index - 1]:
            need = success if verdict else failure
            assert answers[index + 1 - need : index + 1] == ("+" if verdict else "-") * need


def test_failures_before_the_first_period_do_not_count_for_readiness_and_startup() -> None:
    assert is_early("readiness", Tally(), 5.0) and is_early("startup", Tally(), 5.0)
    assert not is_early("liveness", Tally(), 5.0)
    assert not is_early("readiness", Tally(True, True, 1), 5.0)
    assert not is_early("startup", Tally(), -0.1)


def test_a_closed_port_is_asked_again_soon_but_not_for_ever() -> None:
    pauses = [eager_pause(tries, True, 9.0) for tries in range(7)]
    assert pauses[0] == 0.05 and pauses[-1] == 9.0
    assert eager_pause(0, False, 9.0) == 9.0


def test_killing_messages() -> None:
    assert killed_message("c", "liveness", True) == "Container c failed liveness probe, will be restarted"
    assert killed_message("c", "startup", False) == "Container c failed startup probe"


# Real answers


@asynccontextmanager
async def server(serve: Serve) -> AsyncIterator[int]:
    """A TCP server on loopback; gives its port."""
    made = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with made:
        yield made.sockets[0].getsockname()[1]


def replies(text: str, seen: list[bytes] | None = None) -> Serve:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        if seen is not None:
            seen.append(head)
        writer.write(text.encode())
        writer.close()

    return serve


async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


async def ask(probe: dict[str, Any], timeout: float = 5.0, **spec: Any) -> prober.Answer:
    runtime = LocalRuntime()
    return await prober.ask(runtime, target(**spec), probe, timeout)


@pytest.mark.parametrize("status", [200, 204, 399])
async def test_http_that_is_well(status: int) -> None:
    async with server(replies(f"HTTP/1.1 {status} X\r\n\r\n")) as port:
        assert (await ask({"httpGet": {"port": port}})).healthy


@pytest.mark.parametrize("status", [400, 404, 500, 503, 199])
async def test_http_that_is_not_well(status: int) -> None:
    async with server(replies(f"HTTP/1.1 {status} X\r\n\r\n")) as port:
        answer = await ask({"httpGet": {"port": port}})
    assert answer.healthy is False and answer.message == f"HTTP probe failed with statuscode: {status}"


async def test_what_an_http_probe_sends() -> None:
    seen: list[bytes] = []
    headers = [{"name": "X-One", "value": "1"}, {"name": "Host", "value": "example.com"}]
    async with server(replies("HTTP/1.1 200 OK\r\n\r\n", seen)) as port:
        action = {"port": "http", "path": "/healthz?full=1", "httpHeaders": headers}
        assert (await ask({"httpGet": action}, ports=[{"name": "http", "containerPort": port}])).healthy
    lines = seen[0].decode().split("\r\n")
    assert lines[0] == "GET /healthz?full=1 HTTP/1.1"
    assert "Host: example.com" in lines and "X-One: 1" in lines and "User-Agent: kube-probe/1.37" in lines


async def test_redirects_are_followed_on_the_same_host_only() -> None:
    async with (
        server(replies("HTTP/1.1 500 X\r\n\r\n")) as broken,
        server(replies(f"HTTP/1.1 302 X\r\nLocation: http://127.0.0.1:{broken}/\r\n\r\n")) as here,
        server(replies(f"HTTP/1.1 302 X\r\nLocation: http://localhost:{broken}/\r\n\r\n")) as elsewhere,
    ):
        assert (await ask({"httpGet": {"port": here}})).message.endswith("500")
        answer = await ask({"httpGet": {"port": elsewhere}})
    assert answer.healthy and answer.warning


async def test_a_redirect_in_a_circle_is_a_failure() -> None:
    async with server(replies("HTTP/1.1 302 X\r\nLocation: /\r\n\r\n")) as port:
        assert "stopped after 10 redirects" in (await ask({"httpGet": {"port": port}})).message


async def test_nobody_listens() -> None:
    port = free_port()
    http = await ask({"httpGet": {"port": port, "path": "/x"}})
    assert http.refused and http.healthy is False
    expected = f'Get "http://127.0.0.1:{port}/x": dial tcp 127.0.0.1:{port}: connect: connection refused'
    assert http.message == expected
    tcp = await ask({"tcpSocket": {"port": port}})
    assert tcp.refused and tcp.message == f"dial tcp 127.0.0.1:{port}: connect: connection refused"


async def test_a_server_that_never_answers() -> None:
    async with server(silent) as port:
        answer = await ask({"httpGet": {"port": port}}, timeout=0.2)
    assert answer.healthy is False and "context deadline exceeded" in answer.message


@pytest.mark.parametrize("garbage", ["", "hello\r\n\r\n", "HTTP/1.1 abc\r\n\r\n", "\0" * 100])
async def test_a_server_that_does_not_speak_http(garbage: str) -> None:
    async with server(replies(garbage)) as port:
        assert (await ask({"httpGet": {"port": port}})).healthy is False


async def test_tcp_that_is_well() -> None:
    async with server(silent) as port:
        assert (await ask({"tcpSocket": {"port": port}})).healthy


async def test_an_unknown_port_name_is_an_error_of_the_probe() -> None:
    answer = await ask({"httpGet": {"port": "nope"}})
    assert answer.healthy is None and "couldn't find port" in answer.message


@pytest.fixture
def runtime() -> Any:
    made = LocalRuntime()
    made.start("main", ["sleep", "600"])
    yield made
    made.close()


async def command(runtime: LocalRuntime, script: str, timeout: float = 5.0) -> prober.Answer:
    return await prober.ask(runtime, target(), {"exec": {"command": ["sh", "-c", script]}}, timeout)


async def test_a_command_that_is_well_and_one_that_is_not(runtime: LocalRuntime) -> None:
    assert (await command(runtime, "true")).healthy
    answer = await command(runtime, "echo out; echo err >&2; exit 3")
    assert answer.healthy is False and answer.message == "out\nerr\n"


async def test_a_command_that_takes_too_long(runtime: LocalRuntime) -> None:
    answer = await command(runtime, "sleep 60", timeout=0.2)
    assert answer.healthy is False and "timed out after 0.2s" in answer.message


async def test_only_the_beginning_of_a_long_output_is_kept(runtime: LocalRuntime) -> None:
    answer = await command(runtime, "yes | head -c 1000000; exit 1")
    assert answer.healthy is False and len(answer.message) == 10 * 1024


# gRPC


def grpc(state: int, service: str = "") -> Serve:
    """A server that checks what it is asked, in plain HTTP/2 frames, and answers with `state`."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert await reader.readexactly(24) == grpc_health.PREFACE
        writer.write(grpc_health.frame(grpc_health.SETTINGS, 0, 0, b""))
        while True:
            head = await reader.readexactly(9)
            payload = await reader.readexactly(int.from_bytes(head[:3], "big"))
            if head[3] == grpc_health.DATA:
                name = payload[7:].decode() if len(payload) > 5 else ""
                assert name == service
                break
        # A header block that needs no state: ":status: 200" is entry 8 of HPACK's static table.
        writer.write(grpc_health.frame(grpc_health.HEADERS, grpc_health.END_HEADERS, 1, b"\x88"))
        message = bytes([0x08, state]) if state else b""
        body = b"\0" + struct.pack(">I", len(message)) + message
        writer.write(grpc_health.frame(grpc_health.PING, 0, 0, b"12345678"))
        writer.write(grpc_health.frame(grpc_health.DATA, grpc_health.END_STREAM, 1, body))
        await reader.read()

    return serve


async def test_grpc_health() -> None:
    async with server(grpc(1, "db")) as port:
        assert (await ask({"grpc": {"port": port, "service": "db"}})).healthy
    async with server(grpc(2)) as port:
        answer = await ask({"grpc": {"port": port}})
    assert answer.message == 'service unhealthy (responded with "NOT_SERVING")'


@pytest.mark.parametrize("payload", [b"", b"\x01", b"\xff1234"])
async def test_padding_that_a_frame_has_no_room_for(payload: bytes) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        flags = grpc_health.END_STREAM | grpc_health.PADDED
        writer.write(grpc_health.frame(grpc_health.DATA, flags, 1, payload))
        await reader.read()

    async with server(serve) as port:
        answer = await ask({"grpc": {"port": port}})
    assert (answer.healthy, answer.message) == (False, "error: health rpc probe failed: the answer is no HTTP/2")


async def test_a_probe_that_fails_itself_is_no_answer_and_no_end_of_the_probe() -> None:
    class Broken(LocalRuntime):
        async def execute(self, *_: Any, **__: Any) -> Any:
            raise RuntimeError("a fault")

    answer = await prober.ask(Broken(), target(), {"exec": {"command": ["true"]}}, 1.0)
    assert (answer.healthy, answer.message) == (None, "RuntimeError('a fault')")


async def test_a_server_that_does_not_speak_grpc() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    async with server(serve) as port:
        assert (await ask({"grpc": {"port": port}})).healthy is False


# Hooks


async def test_hooks(runtime: LocalRuntime) -> None:
    await hooks.run(runtime, target(), {"exec": {"command": ["true"]}}, "web_shop(u)", 5)
    with pytest.raises(hooks.HookFailed, match="Exec lifecycle hook"):
        await hooks.run(runtime, target(), {"exec": {"command": ["false"]}}, "web_shop(u)", 5)
    with pytest.raises(hooks.HookFailed, match="connection refused"):
        await hooks.run(runtime, target(), {"httpGet": {"port": free_port()}}, "web_shop(u)", 5)
    async with server(replies("HTTP/1.1 500 X\r\n\r\n")) as port:
        await hooks.run(runtime, target(), {"httpGet": {"port": port}}, "web_shop(u)", 5)


async def test_a_sleep_hook_sleeps(runtime: LocalRuntime) -> None:
    loop = asyncio.get_running_loop()
    begun = loop.time()
    await hooks.run(runtime, target(), {"sleep": {"seconds": 1}}, "web_shop(u)", 5)
    assert loop.time() - begun >= 1
    await pause_async(0)
