"""The first processes: what a supervisor finds, how refusals read, and that a machine ends with its starter."""

from __future__ import annotations

import asyncio
import os
import platform

import pytest
from sandbox_room import PATH, Node, close_room, descendants, name_of, open_room

from podlab import waiting
from podlab.errors import EnvironmentUnsuitable
from podlab.node.runtime.sandbox.client import SandboxRuntime
from podlab.node.runtime.sandbox.machine import launch_supervisor

pytestmark = [pytest.mark.sandbox, pytest.mark.namespaces("a machine is made of namespaces")]


def finished(pid: int) -> bool:
    return not descendants(pid)


def test_a_supervisor_is_the_first_of_its_namespaces_and_detached(tmp_path) -> None:
    log = tmp_path / "log"
    log.write_text("before\n")
    script = "echo $$; pwd; cat; echo $WORD; echo /proc/[0-9]*; id -u; cat /proc/self/uid_map; ps -o sid= -p $$"
    pid = launch_supervisor(["sh", "-c", script], {"PATH": PATH, "WORD": "hello"}, log)
    waiting.until(lambda: finished(pid), "the end of the supervisor", timeout=60)
    before, number, folder, word, processes, user, ids, session = log.read_text().splitlines()
    assert (before, number, folder, word, processes, user) == ("before", "1", "/", "hello", "/proc/1", "0")
    assert ids.split()[:2] == ["0", str(os.geteuid())]
    assert session.split() == ["1"]


def test_killing_a_supervisor_ends_what_it_has_started(tmp_path) -> None:
    script = "setsid sleep 1000 & trap '' TERM; (setsid sh -c 'sleep 1001 & sleep 1002'); sleep 1003"
    pid = launch_supervisor(["sh", "-c", script], {"PATH": PATH}, tmp_path / "log")
    waiting.until(lambda: len(descendants(pid)) >= 5, "five processes", timeout=60)
    alive = descendants(pid)
    os.kill(pid, 9)
    waiting.until(lambda: not any(descendants(one) for one in alive), "their end", timeout=60)


@pytest.mark.parametrize(
    ("argv", "log", "text", "hint"),
    [
        (["/no/such/program"], "log", "/no/such/program.*No such file", "may be executed"),
        (["sh"], "missing/log", "missing/log.*No such file", "space"),
        (["sh"], "", "Is a directory", "space"),
    ],
)
def test_what_was_refused_is_said_with_the_cure(tmp_path, argv, log, text, hint) -> None:
    with pytest.raises(EnvironmentUnsuitable, match=text) as refused:
        launch_supervisor(argv, {"PATH": PATH}, tmp_path / log)
    assert hint in (refused.value.hint or "")


LAUNCH = """
from podlab.errors import EnvironmentUnsuitable
from podlab.node.runtime.sandbox.machine import launch_supervisor, start_machine
{before}
try:
    launch_supervisor(["true"], {{}}, "/dev/null")
    print(json.dumps("started"))
except EnvironmentUnsuitable as error:
    print(json.dumps([error.message, error.hint]))
"""

#: A filter that answers unshare(2) with EPERM, as the default profile of Docker does for ordinary users.
FILTER = """
import ctypes, struct
def code(op, value, yes=0, no=0): return struct.pack("=HBBI", op, yes, no, value)
program = b"".join([code(0x20, 0), code(0x15, {number}, 0, 1), code(0x06, 0x50001), code(0x06, 0x7FFF0000)])
buffer = ctypes.create_string_buffer(program)
class Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.c_void_p)]
ready = Program(4, ctypes.addressof(buffer))
libc = ctypes.CDLL(None)
assert libc.prctl(38, 1, 0, 0, 0) == 0
assert libc.prctl(22, 2, ctypes.byref(ready), 0, 0) == 0
"""


async def test_a_sandbox_that_forbids_namespaces_is_recognised(node: Node) -> None:
    number = {"x86_64": 272, "aarch64": 97}.get(platform.machine())
    if number is None:
        pytest.skip(f"the number of unshare(2) on {platform.machine()} is not known here")
    message, hint = await node.inside(LAUNCH.format(before=FILTER.format(number=number)))
    assert message == "A user namespace could not be had: Operation not permitted (unshare(user, mnt, pid))."
    assert "seccomp=unconfined" in hint


async def test_used_up_user_namespaces_are_recognised(user: int | None) -> None:
    room = open_room(user)
    try:
        runtime = SandboxRuntime(room.socket())
        before = "open('/proc/sys/user/max_user_namespaces', 'w').write('0')"
        message, hint = await Node(room, runtime).inside(LAUNCH.format(before=before))
        assert message.startswith("A user namespace could not be had: No space left on device")
        assert "user.max_user_namespaces" in hint
        await runtime.close()
    finally:
        close_room(room)


async def test_a_machine_ends_with_its_starter(node: Node) -> None:
    """Also where the starter is no first process of a PID namespace: here, one in the node itself."""
    program = f"""
from podlab.node.runtime.sandbox.machine import start_machine
folder = {str(node.folder)!r}
machine = start_machine("inner", folder + "/inner", folder + "/inner.socket", folder + "/inner.log")
inner = SandboxRuntime(folder + "/inner.socket")
process = await inner.spawn_agent(["sleep", "1000"], {{"PATH": "/usr/bin:/bin"}}, folder + "/agent.log")
await inner.close()
print(json.dumps([machine.alive(), machine.wait(0)]))
"""
    machine = node.room.machine("node-1")

    def zygotes() -> int:
        return sum(name_of(pid) == "podlab-zygote" for pid in descendants(machine))

    assert await node.inside(program) == [True, False]
    await waiting.until_async(
        lambda: asyncio.to_thread(lambda: zygotes() == 1), "the end of the inner machine", timeout=60
    )


async def test_killing_a_machine_is_seen_by_its_starter(node: Node) -> None:
    program = f"""
from podlab.node.runtime.sandbox.machine import start_machine
folder = {str(node.folder)!r}
machine = start_machine("inner", folder + "/inner", folder + "/inner.socket", folder + "/inner.log")
machine.kill()
found = [machine.wait(60), machine.alive(), machine.wait(0)]
machine.kill()
print(json.dumps(found))
"""
    assert await node.inside(program) == [True, False, True]
