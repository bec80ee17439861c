"""What a container may ask of the kernel: capabilities and the seccomp filter; and mounts that must not be misled."""

from __future__ import annotations

import platform
from pathlib import Path

import pytest
from sandbox_room import Node, text_of

from podlab.errors import RuntimeRefused
from podlab.node.runtime import capabilities
from podlab.node.runtime.contract import Mount

pytestmark = [pytest.mark.sandbox, pytest.mark.namespaces("users, capabilities and mounts belong to namespaces")]


def given(node: Node, name: str) -> Path:
    """A folder of the host to mount."""
    path = node.folder / name
    path.mkdir()
    return node.room.own(path)


async def granted(node: Node, pod: str, *names: str) -> dict[str, int]:
    text = await node.shell(pod, "cat /proc/self/status", capabilities=list(names))
    return {line.split(":")[0]: int(line.split()[1], 16) for line in text.splitlines() if line.startswith("Cap")}


async def test_capabilities_are_those_that_were_asked_for(node: Node) -> None:
    pod = await node.pod()
    one = await granted(node, pod, "net_bind_service")
    assert one["CapEff"] == one["CapBnd"] == 1 << 10
    none = await granted(node, pod)
    assert none["CapEff"] == none["CapBnd"] == 0
    for user in (0, 1000):
        assert await node.shell(pod, "id -u", user=user, group=user, capabilities=[]) == f"{user}\n"
    # A pod's network is its own: what NET_ADMIN is for.
    script = "echo 2000 > /proc/sys/net/ipv4/neigh/lo/gc_stale_time && echo set"
    assert "set" not in (await node.run(pod, "sh", "-c", script))[1]
    program = """
import fcntl, socket, struct
control = socket.socket()
fcntl.ioctl(control, 0x8922, struct.pack("16sI12x", b"lo", 2000))
print(struct.unpack_from("I", fcntl.ioctl(control, 0x8921, struct.pack("16sI12x", b"lo", 0)), 16)[0])
"""
    assert await node.python(pod, program, capabilities=["net_admin"]) == "2000\n"
    refused, _ = await node.run(pod, node.room.python, "-c", program)
    assert refused.status == 1


CALLS = """
import ctypes, subprocess
libc = ctypes.CDLL(None, use_errno=True)
def call(*arguments):
    return 0 if libc.syscall(*arguments) >= 0 else ctypes.get_errno()
print(call(425, 0, 0), subprocess.run(["true"]).returncode)
print(open("/proc/self/status").read().partition("Seccomp:")[2].split()[0])
"""


@pytest.mark.skipif(platform.machine() != "x86_64", reason="the number of io_uring_setup is that of x86_64")
async def test_the_seccomp_filter_refuses_what_reaches_for_the_kernel(node: Node) -> None:
    pod = await node.pod()
    plain = (await node.python(pod, CALLS)).split()
    assert plain[1:] == ["0", "0"]
    assert (await node.python(pod, CALLS, seccomp=True)).split() == ["1", "0", "2"]
    names = [*capabilities.DEFAULT, "sys_admin"]
    assert (await node.python(pod, CALLS, seccomp=True, capabilities=names)).split() == ["1", "0", "2"]


@pytest.mark.skipif(platform.machine() not in ("x86_64", "aarch64"), reason="no filter for this processor")
async def test_no_user_under_the_filter_makes_a_namespace(node: Node) -> None:
    pod = await node.pod()
    for user in (0, 1000):
        changes = {"user": user, "group": user}
        assert await node.shell(pod, "unshare -U true || echo refused", seccomp=True, **changes) == "refused\n"
        assert await node.shell(pod, "unshare -U echo fine", **changes) == "fine\n"


@pytest.mark.skipif(platform.machine() not in ("x86_64", "aarch64"), reason="no filter for this processor")
async def test_a_command_in_a_container_is_under_its_filter(node: Node) -> None:
    container = await node.start(await node.pod(), "sleep", "100", seccomp=True)
    found = await node.inside(f"""
read, write = os.pipe()
argv = ["grep", "Seccomp:", "/proc/self/status"]
process = await runtime.execute({container!r}, argv, {{"PATH": "/usr/bin:/bin"}}, (write,) * 3)
await process.wait()
print(json.dumps(os.read(read, 100).decode()))
""")
    assert str(found).split() == ["Seccomp:", "2"]


async def test_a_mount_within_a_volume_never_follows_a_link(node: Node) -> None:
    volume, outside = given(node, "volume"), given(node, "outside-of-it")
    (volume / "sub").mkdir()
    (volume / "sub/file").write_text("inside")
    (volume / "link").symlink_to(outside)
    node.room.own(volume)
    pod = await node.pod()
    mounts = [Mount(f"{volume}/sub", "/m", within=str(volume))]
    assert await node.shell(pod, "cat /m/file", mounts=mounts) == "inside"
    with pytest.raises(RuntimeRefused, match="symbolic links"):
        await node.start(pod, "true", mounts=[Mount(f"{volume}/link", "/m", within=str(volume))])


async def test_memory_is_a_volume_that_every_container_of_a_pod_sees(node: Node) -> None:
    folder = given(node, "memory volume")
    for _ in range(2):
        await node.runtime.mount_memory(str(folder), 1 << 20)
    pod, mounts = await node.pod(), [Mount(str(folder), "/m")]
    script = (
        "echo kept > /m/file; head -c 2000000 /dev/zero > /m/large || rm /m/large; grep -c ' /m tmpfs' /proc/mounts"
    )
    assert await node.shell(pod, script, mounts=mounts) == "1\n"
    reader = await node.start(pod, "cat", "/m/file", mounts=mounts)
    await node.runtime.wait_container(reader)
    assert text_of(node.log(reader)) == "kept\n"
    await node.runtime.unmount(str(folder))
    await node.runtime.unmount(str(folder))
    assert await node.shell(pod, "ls /m", mounts=mounts) == ""
