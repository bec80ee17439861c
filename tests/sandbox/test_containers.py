"""Containers: start, arguments, environment, exit, signals, commands, terminals, input."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import struct
import time

import pytest
from sandbox_room import PATH, Node, entries, text_of

from podlab import waiting
from podlab.errors import RuntimeRefused
from podlab.node.runtime.contract import Mount
from podlab.node.volume_places import host_path

pytestmark = pytest.mark.sandbox


async def _read_all(descriptor: int) -> bytes:
    pieces = []
    while piece := await asyncio.to_thread(os.read, descriptor, 65536):
        pieces.append(piece)
    os.close(descriptor)
    return b"".join(pieces)


async def execute(node: Node, container: str, *argv: str) -> tuple[int, str]:
    """(status, output) of a command in a container."""
    reading, writing = os.pipe()
    process = await node.runtime.execute(container, argv, {"PATH": PATH}, (reading, writing, writing))
    os.close(writing)
    output = await _read_all(reading)
    return (await process.wait()).status, output.decode()


@pytest.mark.parametrize("status", [0, 1, 77, 255])
async def test_the_exit_status_of_the_program_is_the_container_s(node: Node, status: int) -> None:
    before = time.time()
    exit_, _ = await node.run(await node.pod(), "sh", "-c", f"exit {status}")
    assert (exit_.status, exit_.signal, exit_.out_of_memory) == (status, None, False)
    assert before - 1 < exit_.finished_at < time.time() + 1


async def test_a_program_that_kills_itself_ends_with_128_plus_the_signal(node: Node) -> None:
    # As PID 1 it is safe from its own signals: the program is a child of a shell that reports how it ended.
    exit_, _ = await node.run(await node.pod(), "sh", "-c", "sh -c 'kill -KILL $$'; exit $?")
    assert exit_.status == 137


async def test_sigterm_reaches_a_program_with_a_handler(node: Node) -> None:
    pod = await node.pod()
    script = "trap 'echo bye; exit 5' TERM; echo ready; while :; do sleep 0.02; done"
    container = await node.start(pod, "sh", "-c", script)
    await node.says(container, "ready")
    await node.runtime.signal_container(container, signal.SIGTERM)
    exit_ = await node.runtime.wait_container(container)
    assert exit_.status == 5
    assert text_of(node.log(container)).endswith("bye\n")


@pytest.mark.namespaces("a program is PID 1 only in a PID namespace")
async def test_a_program_without_a_handler_is_pid_1_and_ignores_sigterm_but_not_sigkill(node: Node) -> None:
    container = await node.start(await node.pod(), "sh", "-c", "echo $$; exec sleep 100")
    await node.says(container, "1\n")
    await node.runtime.signal_container(container, signal.SIGTERM)
    assert await execute(node, container, "true") == (0, "")
    await node.runtime.signal_container(container, signal.SIGKILL)
    exit_ = await node.runtime.wait_container(container)
    assert (exit_.status, exit_.signal) == (137, 9)


@pytest.mark.namespaces("the plain runtime tells programs by their environment where they are")
async def test_arguments_and_environment_arrive_as_they_are_and_nothing_else(node: Node) -> None:
    program = "import json, os, sys; print(json.dumps([sys.argv[1:], dict(os.environ)]))"
    arguments = ["", "two words", "ünï", "line\nbreak", "$HOME", "'"]
    environment = {"PATH": PATH, "EMPTY": "", "TEXT": "a=b\nc", "LC_ALL": "C.UTF-8"}
    exit_, output = await node.run(
        await node.pod(), node.room.python, "-c", program, *arguments, environment=environment
    )
    assert exit_.status == 0
    assert json.loads(output) == [arguments, environment]


async def test_an_environment_of_a_megabyte_is_passed(node: Node) -> None:
    environment = {f"V{number}": "x" * 100_000 for number in range(10)} | {"PATH": PATH}
    output = await node.shell(await node.pod(), "env | wc -c", environment=environment)
    assert int(output) > 1_000_000


@pytest.mark.namespaces("a shell sees the real folder")
async def test_the_working_directory_is_made_where_it_is_missing(node: Node) -> None:
    assert await node.shell(await node.pod(), "pwd", working_directory="/srv/deep/er") == "/srv/deep/er\n"


@pytest.mark.parametrize(
    ("argv", "text"),
    [
        (["missing"], 'exec: "missing": executable file not found in $PATH'),
        (["/no/such"], 'exec: "/no/such": stat /no/such: no such file or directory'),
        (["/etc"], 'exec: "/etc": is a directory'),
        (["/etc/passwd"], 'exec: "/etc/passwd": permission denied'),
        ([], "no command specified"),
    ],
)
async def test_a_program_that_cannot_run_is_refused_in_the_runtimes_words(
    node: Node, argv: list[str], text: str
) -> None:
    spec = node.spec(await node.pod(), *argv)
    with pytest.raises(RuntimeRefused) as refused:
        await node.runtime.start_container(spec)
    assert refused.value.message == text
    assert refused.value.reason == "StartError"
    assert not os.path.exists(spec.folder)  # noqa: PTH110
    assert spec.id not in [state.id for state in (await node.runtime.inventory()).containers]


async def test_a_script_without_an_interpreter_is_refused(node: Node) -> None:
    root = node.root(files={"/bad": "#!/no/interpreter\n"})
    mounts = []
    script = node.folder / "script"
    script.write_text("#!/no/interpreter\n")
    script.chmod(0o755)
    node.room.own(script)
    from podlab.node.runtime.contract import Mount

    mounts.append(Mount(str(script), "/script"))
    with pytest.raises(RuntimeRefused, match="exec /script: no such file or directory"):
        await node.start(await node.pod(), "/script", root=root, mounts=mounts)


async def test_a_container_of_an_unknown_sandbox_is_refused(node: Node) -> None:
    with pytest.raises(RuntimeRefused, match="sandbox nowhere does not exist") as refused:
        await node.start("nowhere", "true")
    assert refused.value.reason == "CreateContainerError"


async def test_the_same_container_twice_is_refused_and_the_first_goes_on(node: Node) -> None:
    spec = node.spec(await node.pod(), "sleep", "100")
    await node.runtime.start_container(spec)
    node.containers.append(spec.id)
    with pytest.raises(RuntimeRefused, match="exists already"):
        await node.runtime.start_container(spec)
    assert await execute(node, spec.id, "true") == (0, "")


async def test_a_cancelled_waiter_harms_no_other(node: Node) -> None:
    container = await node.start(await node.pod(), "sleep", "100")
    first = asyncio.create_task(node.runtime.wait_container(container))
    second = asyncio.create_task(node.runtime.wait_container(container))
    await asyncio.sleep(0)
    first.cancel()
    await node.runtime.signal_container(container, signal.SIGKILL)
    assert (await second).signal == 9
    assert (await node.runtime.wait_container(container)).signal == 9


async def test_orders_for_unknown_containers_are_fine(node: Node) -> None:
    await node.runtime.signal_container("unknown", signal.SIGTERM)
    await node.runtime.remove_container("unknown")
    await node.runtime.remove_sandbox("unknown")


@pytest.mark.namespaces("processes and the host name are the machine's")
async def test_a_command_runs_in_the_container_s_namespaces(node: Node) -> None:
    pod = await node.pod()
    container = await node.start(pod, "sh", "-c", "echo here > /tmp/file; exec sleep 100")
    await waiting.until_async(lambda: _succeeds(node, container, "test", "-f", "/tmp/file"), "the file", timeout=60)
    assert await execute(node, container, "cat", "/tmp/file") == (0, "here\n")
    assert await execute(node, container, "hostname") == (0, f"{pod}\n")
    status, listing = await execute(node, container, "sh", "-c", "echo /proc/[0-9]*")
    assert status == 0
    assert "/proc/1 " in listing
    assert len(listing.split()) <= 3


async def _succeeds(node: Node, container: str, *argv: str) -> bool:
    return (await execute(node, container, *argv))[0] == 0


async def test_a_command_reports_its_status_and_can_be_killed(node: Node) -> None:
    container = await node.start(await node.pod(), "sleep", "100")
    assert await execute(node, container, "sh", "-c", "exit 42") == (42, "")
    null = os.open("/dev/null", os.O_RDWR)
    process = await node.runtime.execute(container, ["sleep", "100"], {"PATH": PATH}, (null,) * 3)
    os.close(null)
    await process.signal(signal.SIGKILL)
    assert (await process.wait()).status == 137
    assert (await process.wait()).status == 137
    await process.signal(signal.SIGKILL)


async def test_a_command_that_does_not_exist_is_refused(node: Node) -> None:
    container = await node.start(await node.pod(), "sleep", "100")
    with pytest.raises(RuntimeRefused, match="executable file not found"):
        await execute(node, container, "missing")


async def test_a_command_in_an_ended_container_is_refused(node: Node) -> None:
    container = await node.start(await node.pod(), "true")
    await node.runtime.wait_container(container)
    with pytest.raises(RuntimeRefused, match="is not running"):
        await execute(node, container, "true")


async def test_commands_end_with_their_container(node: Node) -> None:
    container = await node.start(await node.pod(), "sleep", "100")
    null = os.open("/dev/null", os.O_RDWR)
    process = await node.runtime.execute(container, ["sleep", "100"], {"PATH": PATH}, (null,) * 3)
    os.close(null)
    await node.runtime.signal_container(container, signal.SIGKILL)
    assert (await process.wait()).signal == 9


@pytest.mark.namespaces("terminals are the machine's, with its numbers")
async def test_a_container_with_a_terminal_has_one_of_its_own(node: Node) -> None:
    script = "tty; test -t 0 && test -t 1 && test -t 2; stty size; trap 'stty size; exit' WINCH; "
    script += "echo ready; while :; do sleep 0.02; done"
    container = await node.start(await node.pod(), "sh", "-c", script, tty=True)
    await node.says(container, "ready")
    await node.runtime.resize(container, 33, 99)
    exit_ = await node.runtime.wait_container(container)
    lines = text_of(node.log(container)).replace("\r", "").splitlines()
    assert (exit_.status, lines) == (0, ["/dev/pts/0", "0 0", "ready", "33 99"])


async def test_resizing_a_container_without_a_terminal_is_refused(node: Node) -> None:
    container = await node.start(await node.pod(), "sleep", "100")
    with pytest.raises(RuntimeRefused, match="no terminal"):
        await node.runtime.resize(container, 24, 80)


@pytest.mark.namespaces("terminals are the machine's, with its numbers")
async def test_a_command_gets_a_terminal_of_the_container(node: Node) -> None:
    program = """
import errno, fcntl, struct, termios
terminal = {container!r}
master, slave = await runtime.open_terminal(terminal)
fcntl.ioctl(master, termios.TIOCSWINSZ, struct.pack("HHHH", 44, 111, 0, 0))
script = "tty; stty size; test -t 0; echo $?; ps -o tty= -p $$"
process = await runtime.execute(terminal, ["sh", "-c", script], {{"PATH": "/usr/bin:/bin"}}, (slave,) * 3, tty=True)
os.close(slave)
exit_ = await process.wait()
# The kernel hands a terminal's output over in its own time: all of it is there when nobody holds the other end.
output = b""
try:
    while piece := os.read(master, 10000):
        output += piece
except OSError as error:
    if error.errno != errno.EIO:
        raise
print(json.dumps([exit_.status, output.decode()]))
"""
    container = await node.start(await node.pod(), "sleep", "100")
    status, output = await node.inside(program.format(container=container))
    assert status == 0
    assert output.split() == ["/dev/pts/0", "44", "111", "0", "pts/0"]


async def _frames(output: socket.socket) -> list[tuple[int, bytes]]:
    output.setblocking(True)
    data = b""
    while piece := await asyncio.to_thread(output.recv, 65536):
        data += piece
    output.close()
    found = []
    while data:
        stream, length = struct.unpack_from(">BI", data)
        found.append((stream, data[5 : 5 + length]))
        data = data[5 + length :]
    return found


async def test_attach_gives_input_and_sees_both_streams_to_the_end(node: Node) -> None:
    script = "while read line; do echo got $line; echo no $line >&2; done; echo end"
    container = await node.start(await node.pod(), "sh", "-c", script, stdin=True, stdin_once=True)
    given, output = await node.runtime.attach(container, stdin=True)
    assert given is not None
    given.setblocking(True)
    given.sendall(b"one\ntwo\n")
    given.close()
    frames = await _frames(output)
    exit_ = await node.runtime.wait_container(container)
    assert exit_.status == 0
    assert b"".join(data for stream, data in frames if stream == 1) == b"got one\ngot two\nend\n"
    assert b"".join(data for stream, data in frames if stream == 2) == b"no one\nno two\n"
    assert text_of(node.log(container)) == "got one\ngot two\nend\n"


async def test_input_stays_open_for_the_next_client_unless_it_is_once(node: Node) -> None:
    container = await node.start(await node.pod(), "sh", "-c", "while read l; do echo got $l; done", stdin=True)
    for word in ("first", "second"):
        given, output = await node.runtime.attach(container, stdin=True)
        assert given is not None
        given.setblocking(True)
        given.sendall(f"{word}\n".encode())
        await node.says(container, f"got {word}")
        given.close()
        output.close()
    assert await execute(node, container, "true") == (0, "")


async def test_much_input_passes_whole(node: Node) -> None:
    container = await node.start(await node.pod(), "sha256sum", stdin=True, stdin_once=True)
    given, output = await node.runtime.attach(container, stdin=True)
    assert given is not None
    given.setblocking(True)
    data = os.urandom(3_000_000)
    await asyncio.to_thread(given.sendall, data)
    given.close()
    output.close()
    await node.runtime.wait_container(container)
    import hashlib

    assert text_of(node.log(container)).split()[0] == hashlib.sha256(data).hexdigest()


async def test_a_container_without_input_reads_nothing_and_attach_says_so(node: Node) -> None:
    pod = await node.pod()
    exit_, output = await node.run(pod, "cat")
    assert (exit_.status, output) == (0, "")
    container = await node.start(pod, "sleep", "100")
    given, sink = await node.runtime.attach(container, stdin=True)
    assert given is None
    sink.close()


async def test_a_client_that_does_not_read_is_waited_for_and_loses_nothing(node: Node) -> None:
    container = await node.start(
        await node.pod(), "sh", "-c", "read go; head -c 8000000 /dev/zero | tr '\\0' x", stdin=True
    )
    given, output = await node.runtime.attach(container, stdin=True)
    assert given is not None
    given.setblocking(True)
    given.sendall(b"go\n")
    given.close()
    frames = await _frames(output)
    assert sum(len(data) for _, data in frames) == 8_000_000


@pytest.mark.namespaces("all processes of the machine are seen, and none is PID 1")
async def test_sharing_processes_gives_one_set_of_pids_and_an_end_of_one_s_own(node: Node) -> None:
    pod = await node.pod()
    first = await node.start(pod, "sleep", "101", share_processes=True)
    second = await node.start(pod, "sh", "-c", "sleep 102 & exec sleep 103", share_processes=True)

    async def commands() -> list[str]:
        _, text = await execute(node, first, "sh", "-c", "cat /proc/[0-9]*/cmdline | tr '\\0' ' '")
        return [word for word in text.split() if word in ("101", "102", "103")]

    await waiting.until_async(lambda: _equal(commands(), ["101", "102", "103"]), "three sleeps", timeout=60)
    await node.runtime.signal_container(second, signal.SIGKILL)
    await node.runtime.wait_container(second)
    assert await commands() == ["101"]
    _, first_process = await execute(node, first, "cat", "/proc/1/comm", "/proc/1/cmdline")
    assert first_process.rstrip("\0") == "pause\npause"
    await node.runtime.signal_container(first, signal.SIGTERM)
    assert (await node.runtime.wait_container(first)).status == 143


async def _equal(coroutine, expected: list[str]) -> bool:
    return sorted(await coroutine) == expected


@pytest.mark.namespaces("PID 1 is the machine's")
async def test_host_processes_are_the_node_s(node: Node) -> None:
    container = await node.start(await node.pod(), "sleep", "100", host_processes=True)
    assert (await execute(node, container, "cat", "/proc/1/comm")) == (0, "podlab-zygote\n")
    await node.runtime.signal_container(container, signal.SIGKILL)
    assert (await node.runtime.wait_container(container)).signal == 9


async def test_usage_counts_memory_time_and_processes(node: Node) -> None:
    pod = await node.pod()
    program = "data = bytearray(50_000_000); data[::4096] = b'x' * len(data[::4096])\n"
    program += "sum(range(3_000_000)); print('ready', flush=True); import time; time.sleep(100)"
    hog = await node.start(pod, node.room.python, "-c", program)
    idle = await node.start(pod, "sh", "-c", "sleep 100 & sleep 100")
    await node.says(hog, "ready")
    usage = await node.inside(
        "import dataclasses\nprint(json.dumps({k: dataclasses.asdict(v) for k, v in (await runtime.usage()).items()}))"
    )
    assert 50_000_000 < usage[hog]["memory"] < 80_000_000
    assert usage[hog]["cpu"] > 0.02
    assert usage[hog]["processes"] == 1
    assert usage[idle]["memory"] < 20_000_000
    assert usage[idle]["processes"] in (2, 3)


async def test_a_container_over_its_memory_limit_is_killed_and_its_neighbour_is_not(node: Node) -> None:
    pod = await node.pod()
    program = "import time\nhold = []\nwhile True: hold.append(b'x' * 1_000_000); time.sleep(0.005)"
    hog = await node.start(pod, node.room.python, "-c", program, memory_limit=40 << 20)
    other = await node.start(pod, "sleep", "100", memory_limit=40 << 20)
    exit_ = await node.runtime.wait_container(hog)
    assert (exit_.status, exit_.out_of_memory) == (137, True)
    assert await execute(node, other, "true") == (0, "")
    await node.runtime.signal_container(other, signal.SIGKILL)
    assert not (await node.runtime.wait_container(other)).out_of_memory


async def test_the_limit_of_a_pod_holds_for_the_sum_of_its_containers(node: Node) -> None:
    program = "import time\nhold = b'x' * {}_000_000\nprint('held', flush=True)\ntime.sleep(100)"
    pod, together = await node.pod(), 100 << 20
    small = await node.start(pod, node.room.python, "-c", program.format(20), pod_memory_limit=together)
    await node.says(small, "held")
    large = await node.start(pod, node.room.python, "-c", program.format(80), pod_memory_limit=together)
    async with asyncio.timeout(60):
        exit_ = await node.runtime.wait_container(large)
    assert (exit_.status, exit_.out_of_memory) == (137, True)
    assert await execute(node, small, "true") == (0, "")


@pytest.mark.namespaces("PID namespaces are what is counted and joined")
async def test_a_container_may_look_at_the_processes_of_another_and_ends_with_it(node: Node) -> None:
    pod = await node.pod()
    target = await node.start(pod, "sleep", "1234")
    debugger = await node.start(pod, "sh", "-c", "cat /proc/1/cmdline; echo; exec sleep 4321", processes_of=target)
    await node.says(debugger, "sleep\0001234\0")
    await node.runtime.signal_container(debugger, signal.SIGKILL)
    await node.runtime.wait_container(debugger)
    again = await node.start(pod, "sleep", "4321", processes_of=target)
    await node.runtime.signal_container(target, signal.SIGKILL)
    async with asyncio.timeout(60):
        assert (await node.runtime.wait_container(again)).status == 137
        await node.runtime.wait_container(target)
    with pytest.raises(RuntimeRefused, match="is not running") as refused:
        await node.start(pod, "true", processes_of=target)
    assert refused.value.reason == "CreateContainerConfigError"  # which is tried again


@pytest.mark.namespaces("PID namespaces are what is counted and joined")
async def test_the_processes_of_a_shared_pid_namespace_are_bounded(node: Node) -> None:
    release = [int(part) for part in os.uname().release.split("-")[0].split(".")[:2]]
    if release < [6, 14]:
        pytest.skip("this kernel does not count processes per namespace")
    most = await node.shell(await node.pod(), "cat /proc/sys/kernel/pid_max", share_processes=True)
    assert most == "4096\n"


@pytest.mark.namespaces("a shell writes to the machine's own folders outside of /tmp and volumes")
async def test_removing_a_container_deletes_its_folder_and_keeps_its_log(node: Node) -> None:
    script = "mkdir -p /srv/a/b; echo x > /srv/a/b/c; chmod 0 /srv/a/b; ln -s /etc /srv/link; echo done"
    spec = node.spec(await node.pod(), "sh", "-ec", script)
    await node.runtime.start_container(spec)
    await node.runtime.wait_container(spec.id)
    await node.runtime.remove_container(spec.id)
    assert not os.path.exists(spec.folder)  # noqa: PTH110
    assert [entry.text for entry in entries(node.log(spec.id))] == ["done"]
    with pytest.raises(RuntimeRefused, match="does not exist"):
        await node.runtime.wait_container(spec.id)


async def test_a_host_path_that_became_a_link_is_not_mounted(node: Node) -> None:
    top, outside = node.folder / "files-of-the-node", node.folder / "outside-of-the-node"
    outside.mkdir()
    whole, part = (host_path(top, {"path": path}) for path in ("/", "/x"))
    assert part.path.is_dir()
    node.room.own(top)
    pod = await node.pod()
    mounts = [Mount(str(one.path), "/m", within=str(one.within)) for one in (whole, part)]
    await node.shell(pod, f"rmdir /m/x && ln -s {outside} /m/x", mounts=mounts[:1])
    assert (top / "x").is_symlink()
    with pytest.raises(RuntimeRefused, match=r"symbolic links|leads out"):
        await node.start(pod, "true", mounts=mounts[1:])
