"""exec: real commands through the node's own API, over WebSockets and over SPDY."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import sys
from pathlib import Path
from urllib.parse import urlencode

import aiohttp
import pytest
from api_room import Room, container_view, pod_view

from podlab import waiting
from podlab.node.streams import spdy
from podlab.node.streams.remote_command import adapted, has_one_user

V4, V5 = "v4.channel.k8s.io", "v5.channel.k8s.io"


def path(*argv: str, container: str = "main", verb: str = "exec", **options: int) -> str:
    query = [("command", part) for part in argv] + [(name, str(value)) for name, value in options.items()]
    return f"/{verb}/default/web/{container}?{urlencode(query)}"


async def drain(socket: aiohttp.ClientWebSocketResponse) -> dict[int, bytes]:
    """Everything that comes on each channel until the server closes."""
    channels: dict[int, bytearray] = {}
    async for message in socket:
        data = message.data
        channels.setdefault(data[0], bytearray()).extend(data[1:])
    return {channel: bytes(data) for channel, data in channels.items()}


def status_of(channels: dict[int, bytes]) -> dict:
    return json.loads(channels[3])


async def run(room: Room, *argv: str, stdin: bytes | None = None, **options: int) -> dict[int, bytes]:
    """Run a command as kubectl does, over v5, and return what came on each channel."""
    given = {} if stdin is None else {"input": 1}
    async with room.websocket(path(*argv, output=1, error=1, **given, **options), V5) as socket:
        if stdin is not None:
            for start in range(0, len(stdin), 32768):
                await socket.send_bytes(b"\0" + stdin[start : start + 32768])
            await socket.send_bytes(b"\xff\0")
        return await drain(socket)


async def test_output_errors_and_success(room: Room):
    channels = await run(room, "sh", "-c", "echo to-stdout; echo to-stderr >&2")
    assert channels[1] == b"to-stdout\n"
    assert channels[2] == b"to-stderr\n"
    assert status_of(channels) == {"metadata": {}, "status": "Success"}


async def test_exit_code(room: Room):
    status = status_of(await run(room, "sh", "-c", "exit 3"))
    assert status["reason"] == "NonZeroExitCode"
    assert status["details"]["causes"] == [{"reason": "ExitCode", "message": "3"}]
    assert "exit code 3" in status["message"]


async def test_signal_gives_128_and_its_number(room: Room):
    status = status_of(await run(room, "sh", "-c", "kill -9 $$"))
    assert status["details"]["causes"][0]["message"] == "137"


async def test_unknown_program(room: Room):
    status = status_of(await run(room, "no-such-program"))
    assert status["reason"] == "InternalError"
    assert "error executing command in container" in status["message"]
    assert '"no-such-program"' in status["message"]


async def test_arguments_arrive_unharmed(room: Room):
    words = ["a b", "c&d=e", "+", "%41", "ä☃", "", "'\"", "x" * 100_000]
    program = "import sys,json; print(json.dumps(sys.argv[1:]))"
    channels = await run(room, sys.executable, "-c", program, *words)
    assert json.loads(channels[1]) == words


async def test_environment_is_the_containers(room: Room):
    channels = await run(room, "sh", "-c", "echo $COLOUR")
    assert channels[1] == b"blue\n"


@pytest.mark.parametrize("size", [0, 1, 3_000_000])
async def test_stdin_to_its_end_and_back(room: Room, size: int):
    data = os.urandom(size)
    channels = await run(room, "cat", stdin=data)
    assert channels.get(1, b"") == data
    assert status_of(channels)["status"] == "Success"


async def test_command_that_does_not_read_its_stdin(room: Room):
    channels = await run(room, "true", stdin=os.urandom(500_000))
    assert status_of(channels)["status"] == "Success"


async def test_large_output_to_a_slow_client_is_held_back(room: Room):
    """The command must not run ahead of a client that does not read: its output stays in the pipe."""
    program = "import sys,os\nfor n in range(400):\n    os.write(1, bytes(100_000))\n    os.write(2, b'%d\\n' % n)\n"
    marks = room.folder / "marks"
    argv = ["sh", "-c", f'exec "$0" -c "$1" 2>"{marks}"', sys.executable, program]
    async with room.websocket(path(*argv, output=1), V5) as socket:
        await socket.receive()  # the greeting
        stuck: list[int] = []

        def stands_still() -> bool:
            stuck.append(marks.stat().st_size if marks.exists() else -1)
            return len(stuck) > 20 and stuck[-1] == stuck[-20] and stuck[-1] > 0

        await asyncio.to_thread(waiting.until, stands_still, "the command stands still", timeout=60)
        assert len(marks.read_text().splitlines()) < 300
        channels = await drain(socket)
    assert len(channels[1]) == 40_000_000
    assert len(marks.read_text().splitlines()) == 400


async def test_without_stdin_the_command_reads_nothing(room: Room):
    channels = await run(room, "sh", "-c", "cat; echo done")
    assert channels[1] == b"done\n"


async def test_only_what_was_asked_for_is_sent(room: Room):
    async with room.websocket(path("sh", "-c", "echo a; echo b >&2", error=1), V5) as socket:
        channels = await drain(socket)
    assert 1 not in channels
    assert channels[2] == b"b\n"


async def test_terminal_with_window_size_and_exit_code(room: Room):
    argv = ["sh", "-c", 'test -t 0 && stty size && echo $TERM && read line && echo "got $line"; exit 4']
    async with room.websocket(path(*argv, input=1, output=1, tty=1), V5) as socket:
        await socket.send_bytes(b"\4" + json.dumps({"Width": 99, "Height": 33}).encode())
        await socket.send_bytes(b"\0hello\n")
        channels = await drain(socket)
    text = channels[1].replace(b"\r\n", b"\n").decode()
    # The terminal echoes what is typed whenever it comes: between other lines, too.
    assert [line for line in text.splitlines() if line != "hello"] == ["33 99", "xterm", "got hello"]
    assert status_of(channels)["details"]["causes"][0]["message"] == "4"


async def test_window_change_reaches_the_program(room: Room):
    program = (
        "import os,signal\n"
        # Blocked first: a signal that comes before the program waits for it must not be lost.
        "signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGWINCH])\n"
        "print('ready', flush=True)\n"
        "while os.get_terminal_size().columns != 132:\n"
        "    signal.sigwait([signal.SIGWINCH])\n"
        "print('%d x %d' % tuple(os.get_terminal_size()), flush=True)\n"
    )
    async with room.websocket(path(sys.executable, "-c", program, input=1, output=1, tty=1), V5) as socket:
        await socket.send_bytes(b'\4{"Width":80,"Height":24}')
        seen = b""
        while b"ready" not in seen:
            seen += (await socket.receive()).data[1:]
        await socket.send_bytes(b'\4{"Width":132,"Height":43}')
        channels = await drain(socket)
    assert b"132 x 43" in channels[1]


async def test_client_that_leaves_ends_a_terminals_command(room: Room):
    async with room.websocket(path("sleep", "600", input=1, output=1, tty=1), V5) as socket:
        await socket.receive()
        await asyncio.to_thread(waiting.until, lambda: room.runtime.executed, "the command started", timeout=60)
    process = room.runtime.executed[-1]
    await asyncio.to_thread(waiting.until, lambda: process.poll() is not None, "SIGHUP ended it", timeout=60)
    assert process.returncode == -1


async def test_client_that_leaves_breaks_the_pipes(room: Room):
    async with room.websocket(path("cat", input=1, output=1), V5) as socket:
        await socket.receive()
        await asyncio.to_thread(waiting.until, lambda: room.runtime.executed, "the command started", timeout=60)
    process = room.runtime.executed[-1]
    await asyncio.to_thread(waiting.until, lambda: process.poll() is not None, "its stdin ended", timeout=60)
    assert process.returncode == 0


async def test_no_descriptor_is_left_open(room: Room):
    await run(room, "true", stdin=b"x")
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(5):
        await run(room, "cat", stdin=b"x")
        async with room.websocket(path("true", input=1, output=1, tty=1), V5) as socket:
            await drain(socket)
    assert len(list(Path("/proc/self/fd").iterdir())) <= before + 2


async def test_thirty_commands_at_once(room: Room):
    texts = [f"number {number}" for number in range(30)]
    answers = await asyncio.gather(*(run(room, "cat", stdin=text.encode()) for text in texts))
    assert [answer[1].decode() for answer in answers] == texts


async def test_older_websocket_protocols(room: Room):
    for protocol in (V4, "channel.k8s.io"):
        async with room.websocket(path("sh", "-c", "echo hi; exit 2", output=1, error=1), protocol) as socket:
            channels = await drain(socket)
        assert channels[1] == b"hi\n"
        if protocol == V4:
            assert status_of(channels)["reason"] == "NonZeroExitCode"
        else:
            assert b"exit code 2" in channels[3]


async def test_base64_protocol(room: Room):
    address = path("cat", input=1, output=1)
    async with room.websocket(address, "v4.base64.channel.k8s.io") as socket:
        await socket.send_str("0" + base64.b64encode(b"hello").decode())
        while True:
            message = (await socket.receive()).data
            if len(message) > 1:
                break
        assert message[0] == "1"
        assert base64.b64decode(message[1:]) == b"hello"


async def test_unknown_protocol_is_refused(room: Room):
    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        async with room.websocket(path("true", output=1), "v9.channel.k8s.io"):
            pass
    assert refused.value.status == 403


async def test_refusals(room: Room):
    room.node.add(pod_view("late", [container_view("main", running=False)]))
    cases = [
        ("/exec/default/none/main?command=true&output=1", 404, "does not exist"),
        ("/exec/default/web/none?command=true&output=1", 500, 'container not found ("none")'),
        ("/exec/default/late/main?command=true&output=1", 500, 'container not found ("main")'),
        ("/exec/default/web/main?command=true", 400, "at least 1 of stdin, stdout, stderr"),
        ("/exec/default/web/main?command=true&output=1", 400, "missing upgrade headers"),
        ("/exec/default/web/another-uid/main?command=true&output=1", 404, "pod not found"),
    ]
    for address, status, text in cases:
        async with room.client.post(room.url(address)) as answer:
            assert (answer.status, text in await answer.text()) == (status, True), address


def test_nodes_of_ordinary_users_cannot_restore_owners():
    assert has_one_user("         0       1000          1\n")
    assert not has_one_user("         0          0 4294967295\n")
    assert not has_one_user("0 1000 1\n1 100000 65536\n")
    given = {"A": "b"}
    assert adapted(["/bin/tar", "-xmf", "-"], given, one_user=True) == {"A": "b", "TAR_OPTIONS": "--no-same-owner"}
    assert adapted(["tar"], {"TAR_OPTIONS": "-v"}, one_user=True)["TAR_OPTIONS"] == "-v --no-same-owner"
    assert adapted(["tar"], given, one_user=False) == adapted(["sh"], given, one_user=True) == given


# Over SPDY


async def spdy_exec(room: Room, *argv: str, stdin: bytes | None = None, tty: bool = False, **headers: str):
    options = {"output": 1, **({"input": 1} if stdin is not None else {}), **({"tty": 1} if tty else {"error": 1})}
    client = await room.spdy(path(*argv, **options), **(headers or {"X_Stream_Protocol_Version": V4}))
    assert client.head.startswith("HTTP/1.1 101 "), client.head
    kinds = ["error", *(["stdin"] if stdin is not None else []), "stdout", "resize" if tty else "stderr"]
    return client, {kind: await client.open(streamType=kind) for kind in kinds}


async def test_spdy_output_and_exit_code(room: Room):
    client, streams = await spdy_exec(room, "sh", "-c", "echo out; echo err >&2; exit 5")
    assert f"X-Stream-Protocol-Version: {V4}" in client.head
    data, others = await client.collect(streams["stdout"], streams["stderr"], streams["error"])
    assert data[streams["stdout"]] == b"out\n"
    assert data[streams["stderr"]] == b"err\n"
    assert json.loads(data[streams["error"]])["details"]["causes"][0]["message"] == "5"
    assert {frame.stream for frame in others if isinstance(frame, spdy.SynReply)} == set(streams.values())
    client.close()


async def test_spdy_stdin_with_its_end(room: Room):
    blob = os.urandom(2_000_000)
    client, streams = await spdy_exec(room, "cat", stdin=b"")

    async def send() -> None:
        for start in range(0, len(blob), 16384):
            await client.send(spdy.Data(streams["stdin"], blob[start : start + 16384]))
        await client.send(spdy.Data(streams["stdin"], b"", last=True))

    sending = asyncio.ensure_future(send())
    data, _ = await client.collect(streams["stdout"], streams["error"])
    await sending
    assert data[streams["stdout"]] == blob
    assert json.loads(data[streams["error"]])["status"] == "Success"
    client.close()


async def test_spdy_terminal(room: Room):
    client, streams = await spdy_exec(room, "stty", "size", stdin=b"", tty=True)
    await client.send(spdy.Data(streams["resize"], b'{"Width":77,"Height":22}'))
    data, _ = await client.collect(streams["stdout"], streams["error"])
    assert data[streams["stdout"]].split() == [b"22", b"77"]
    client.close()


async def test_spdy_ping_is_answered_while_a_command_runs(room: Room):
    client, streams = await spdy_exec(room, "cat", stdin=b"")
    await client.send(spdy.Ping(7))
    seen: list[spdy.Frame] = []
    while spdy.Ping(7) not in seen:
        seen += await client.frames()
    await client.send(spdy.Data(streams["stdin"], b"", last=True))
    await client.collect(streams["error"])
    client.close()


async def test_spdy_client_without_a_version_gets_errors_as_text(room: Room):
    client, streams = await spdy_exec(room, "sh", "-c", "exit 6", X_Other="1")
    data, _ = await client.collect(streams["error"])
    assert b"exit code 6" in data[streams["error"]]
    client.close()


async def test_spdy_unknown_version_is_refused(room: Room):
    client = await room.spdy(path("true", output=1), X_Stream_Protocol_Version="v9.channel.k8s.io")
    assert client.head.startswith("HTTP/1.1 403 ")
    assert f"X-Accepted-Stream-Protocol-Versions: {V4}" in client.head
    client.close()


async def test_spdy_nonsense_ends_the_connection_and_the_command(room: Room):
    client, _ = await spdy_exec(room, "sleep", "600", stdin=b"", tty=True)
    await asyncio.to_thread(waiting.until, lambda: room.runtime.executed, "the command started", timeout=60)
    client._writer.write(b"\x80\x09" + b"\xff" * 100)
    while await client.frames():
        pass
    process = room.runtime.executed[-1]
    await asyncio.to_thread(waiting.until, lambda: process.poll() is not None, "SIGHUP ended it", timeout=60)
    client.close()


# attach


async def test_attach_to_pipes(room: Room):
    program = (
        "import sys\nfor line in sys.stdin:\n    print('got', line.strip(), flush=True)\nprint('end', file=sys.stderr)"
    )
    room.runtime.start("reader", [sys.executable, "-u", "-c", program])
    room.node.add(pod_view("web", [container_view("main"), container_view("reader")]))
    address = path(container="reader", verb="attach", input=1, output=1, error=1)
    async with room.websocket(address, V5) as socket:
        await socket.send_bytes(b"\0one\n")
        await socket.send_bytes(b"\0two\n")
        await socket.send_bytes(b"\xff\0")
        channels = await drain(socket)
    assert channels[1] == b"got one\ngot two\n"
    assert channels[2] == b"end\n"
    assert status_of(channels)["status"] == "Success"


async def test_attach_to_a_terminal_with_resize(room: Room):
    room.runtime.start("shell", ["sh", "-c", "read line; stty size; exit 0"], tty=True)
    room.node.add(pod_view("web", [container_view("shell", spec={"name": "shell", "tty": True})]))
    address = path(container="shell", verb="attach", input=1, output=1, tty=1)
    async with room.websocket(address, V5) as socket:
        await socket.send_bytes(b'\4{"Width":120,"Height":40}')
        await socket.send_bytes(b"\0go\n")
        channels = await drain(socket)
    assert b"40 120" in channels[1]


@pytest.mark.parametrize("size", [b"70000", b"-1", b"Infinity", b"NaN", b"1e400", b'"wide"', b"null"])
async def test_a_window_size_that_no_terminal_has_goes_no_further(room: Room, size: bytes):
    room.runtime.start("shell", ["sh", "-c", "read line; stty size; exit 0"], tty=True)
    room.node.add(pod_view("web", [container_view("shell", spec={"name": "shell", "tty": True})]))
    address = path(container="shell", verb="attach", input=1, output=1, tty=1)
    async with room.websocket(address, V5) as socket:
        await socket.send_bytes(b'\4{"Width":%s,"Height":%s}' % (size, size))
        await socket.send_bytes(b'\4{"Width":120,"Height":40}')
        await socket.send_bytes(b"\0go\n")
        channels = await drain(socket)
    assert b"40 120" in channels[1] and status_of(channels)["status"] == "Success"


async def test_a_client_that_leaves_does_not_end_the_container(room: Room):
    room.runtime.start("talker", ["sh", "-c", "echo hello; read line; echo $line"])
    room.node.add(pod_view("web", [container_view("talker")]))
    address = path(container="talker", verb="attach", output=1)
    async with room.websocket(address, V5) as first:
        seen = b""
        while b"hello" not in seen:
            seen += (await first.receive()).data
    assert room.runtime.containers["talker"].process.poll() is None
