"""A node's machine for tests, without a control plane: a room is a supervisor with machines in it."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

import podlab
from podlab import waiting
from podlab.cluster.embedded import delegation
from podlab.node.runtime.contract import ContainerSpec, Exit, RootFileSystem, SandboxSpec
from podlab.node.runtime.sandbox import cgroups
from podlab.node.runtime.sandbox.client import SandboxRuntime
from podlab.node.streams.log_format import Lines, Selection, parse

NOBODY = 65534
PATH = "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"
_REPOSITORY = Path(podlab.__file__).parents[1]
_ROOM = Path(__file__).with_name("room.py")

#: Starts a supervisor with the room as its program; standard library only, so any interpreter will do.
_LAUNCH = """
import os, sys
from podlab.node.runtime.sandbox.machine import launch_supervisor
room, folder, *names = sys.argv[1:]
environment = {name: os.environ[name] for name in ("PYTHONPATH", "PATH", "ROOM_CGROUP") if name in os.environ}
print(launch_supervisor([sys.executable, room, folder, *names], environment, folder + "/room.log"))
"""


@dataclass
class Entry:
    """One line of a CRI log."""

    time: str
    stream: str
    flag: str
    text: str


def entries(path: Path) -> list[Entry]:
    """The lines of a CRI log file; a line that is just being written is left out."""
    lines = path.read_text(errors="surrogateescape").split("\n")[:-1]
    return [Entry(*line.split(" ", 3)) for line in lines]


def text_of(path: Path, stream: str = "stdout") -> str:
    """What a container wrote to one stream, from its log file."""
    whole = (entry for line in Lines().feed(path.read_bytes()) if (entry := parse(line)))
    return b"".join(Selection(stream=stream.encode()).show(whole)).decode(errors="surrogateescape")


@dataclass
class Room:
    """A supervisor (the room) with machines in it; `user` is None for the user who runs the tests."""

    folder: Path
    pid: int
    python: str
    prefix: str
    user: int | None
    pids: dict[str, int] = field(default_factory=dict)
    cgroup: Path | None = None

    def socket(self, name: str = "node-1") -> Path:
        return self.folder / f"{name}.socket"

    def log(self, name: str = "node-1") -> str:
        return (self.folder / f"{name}.log").read_text()

    def own(self, path: Path) -> Path:
        """Give a path made by the tests to the room's user."""
        if self.user is not None:
            for one in (path, *path.rglob("*")) if path.is_dir() else (path,):
                os.chown(one, self.user, self.user, follow_symlinks=False)
        return path

    def machine(self, name: str) -> int:
        """The pid of a machine's first process, as it is out here."""
        depth = len(_numbers(self.pid)) + 1
        for pid in descendants(self.pid):
            numbers = _numbers(pid)
            if len(numbers) == depth and numbers[-2:] == [self.pids[name], 1]:
                return pid
        raise LookupError(name)

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, 9)
        waiting.until(lambda: not descendants(self.pid), "the end of every process of the room", timeout=60)


def _numbers(pid: int) -> list[int]:
    """The pids of a process in the PID namespaces from ours down to its own."""
    text = Path(f"/proc/{pid}/status").read_text()
    line = next(line for line in text.splitlines() if line.startswith("NSpid:"))
    return [int(word) for word in line.split()[1:]]


def name_of(pid: int) -> str:
    """The name of a process, empty if it is gone."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/comm").read_text().strip()
    return ""


def running(pid: int) -> bool:
    """Whether a process is there and is no zombie."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    return False


def descendants(pid: int) -> list[int]:
    """This process, if it lives, and every process below it."""
    parents: dict[int, list[int]] = {}
    alive = set()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
                if fields[0] not in "ZX":
                    alive.add(int(entry.name))
                parents.setdefault(int(fields[1]), []).append(int(entry.name))
    found, todo = [], [pid]
    while todo:
        one = todo.pop()
        if one in alive:
            found.append(one)
        todo.extend(parents.get(one, []))
    return found


def _interpreter(user: int | None) -> tuple[str, str]:
    """(path, prefix) of a Python that this user may run; one that any user may run, if there is one."""
    found = []
    for candidate in (os.path.realpath(sys.executable), "/usr/bin/python3", "/usr/local/bin/python3"):
        with contextlib.suppress(OSError, subprocess.CalledProcessError):
            answer = subprocess.run(
                [candidate, "-I", "-c", "import sys; print(sys.base_prefix, *sys.version_info[:2])"],
                user=user,
                check=True,
                capture_output=True,
                text=True,
                cwd="/",
            ).stdout.split()
            if (int(answer[1]), int(answer[2])) >= (3, 11):
                found.append((candidate, answer[0]))
    if not found:
        pytest.skip(f"user {user} may run no Python of version 3.11 or newer")
    return next((one for one in found if _open_to_all(Path(one[0]))), found[0])


def _open_to_all(path: Path) -> bool:
    return all(one.stat().st_mode & 0o1 for one in (path, *path.parents))


def open_room(user: int | None, names: tuple[str, ...] = ("node-1",)) -> Room:
    """Start a room with machines of these names and return when they listen."""
    python, prefix = _interpreter(user)
    folder = Path(tempfile.mkdtemp(prefix="podlab-room-"))
    path = str(_REPOSITORY)
    if user is not None:
        # The repository may lie where only its owner may read.
        shutil.copytree(Path(podlab.__file__).parent, folder / "code" / "podlab", ignore=_sources_only)
        path = str(folder / "code")
    shutil.copy(_ROOM, folder / "room.py")
    if user is not None:
        for one in (folder, *folder.rglob("*")):
            os.chown(one, user, user)
    with _cgroup(user, folder.name) as cgroup:
        launched = subprocess.run(
            [python, "-c", _LAUNCH, str(folder / "room.py"), str(folder), *names],
            user=user,
            group=user,
            extra_groups=None if user is None else [],
            env={"PYTHONPATH": path, "PATH": PATH} | ({"ROOM_CGROUP": str(cgroup)} if cgroup else {}),
            cwd="/",
            capture_output=True,
            text=True,
            check=False,
        )
    if launched.returncode:
        shutil.rmtree(folder)
        pytest.fail(f"the room did not start: {launched.stderr}")
    room = Room(folder, int(launched.stdout), python, prefix, user, cgroup=cgroup)
    waiting.until(
        (folder / "ready").exists,
        "the start of the room",
        timeout=60,
        state=lambda: "".join(log.read_text() for log in folder.glob("*.log")),
    )
    room.pids = {name: int(pid) for name, pid in (line.split() for line in (folder / "pids").read_text().splitlines())}
    return room


@contextlib.contextmanager
def _cgroup(user: int | None, name: str) -> Iterator[Path | None]:
    """The cgroup of a room, if this process could have one; in the block this process is where its user may be moved.

    As systemd does it: the user owns it, and begins in it.
    """
    offer = delegation.offered()
    if offer.path is None:
        yield None
        return
    delegation.take(offer)
    cgroup = offer.path / name
    rest = cgroup / delegation.REST
    rest.mkdir(parents=True)
    delegation.take(replace(offer, path=cgroup))
    if user is not None:
        for path in (cgroup, rest):
            for one in (path, path / "cgroup.procs", path / "cgroup.subtree_control"):
                os.chown(one, user, user)
    before = delegation.own()
    assert before
    (rest / "cgroup.procs").write_text("0")
    try:
        yield cgroup
    finally:
        (before / "cgroup.procs").write_text("0")


def _sources_only(folder: str, names: list[str]) -> set[str]:
    return {name for name in names if not name.endswith(".py") and not (Path(folder) / name).is_dir()}


def close_room(room: Room) -> None:
    """End a room and delete its folder."""
    room.kill()
    if room.cgroup:
        cgroups.clear(str(room.cgroup))
    shutil.rmtree(room.folder)


_count = itertools.count(1)


class Node:
    """One machine's runtime with short verbs for tests. Pods get addresses of their own, ids are unique."""

    def __init__(self, room: Room, runtime: SandboxRuntime) -> None:
        self.room = room
        self.runtime = runtime
        self.folder = room.folder / f"test-{next(_count)}"
        self.folder.mkdir()
        room.own(self.folder)
        self.addresses: dict[str, str] = {}
        self.containers: list[str] = []

    def root(self, **changes: object) -> RootFileSystem:
        """A root that borrows /usr and the interpreter from the host."""
        paths, links = ["/usr", "/etc/ld.so.cache"], {}
        for name in ("bin", "sbin", "lib", "lib64"):
            path = Path("/") / name
            if path.is_symlink():
                links[str(path)] = str(path.readlink())
            elif path.exists():
                paths.append(str(path))
        if not self.room.prefix.startswith("/usr"):
            paths.append(self.room.prefix)
        settings: dict = {"host_paths": paths, "links": links}
        settings["files"] = {"/etc/passwd": "root:x:0:0:root:/root:/bin/sh\n"}
        return RootFileSystem(**(settings | changes))

    async def pod(self, **changes: object) -> str:
        """Make a sandbox and return its id; its address is in `addresses`."""
        number = next(_count)
        settings: dict = {
            "id": f"pod-{number}",
            "hostname": f"pod-{number}",
            "address": f"10.244.{number // 200}.{number % 200 + 2}",
        }
        spec = SandboxSpec(**(settings | changes))
        await self.runtime.create_sandbox(spec)
        self.addresses[spec.id] = spec.address or ""
        return spec.id

    def spec(self, pod: str, *argv: str, **changes: object) -> ContainerSpec:
        """A container spec with every path below this test's folder."""
        name = f"container-{next(_count)}"
        settings: dict = {
            "id": name,
            "sandbox": pod,
            "argv": list(argv),
            "environment": {"PATH": PATH},
            "root": self.root(),
            "log_path": str(self.log(name)),
            "folder": str(self.folder / "containers" / name),
        }
        return ContainerSpec(**(settings | changes))

    def log(self, container: str) -> Path:
        return self.folder / f"{container}.log"

    async def start(self, pod: str, *argv: str, **changes: object) -> str:
        """Start a container and return its id."""
        spec = self.spec(pod, *argv, **changes)
        state = await self.runtime.start_container(spec)
        assert state.exit is None
        self.containers.append(spec.id)
        return spec.id

    async def run(self, pod: str, *argv: str, **changes: object) -> tuple[Exit, str]:
        """Run a container to its end; (exit, what it wrote to standard output)."""
        container = await self.start(pod, *argv, **changes)
        exit_ = await self.runtime.wait_container(container)
        return exit_, text_of(self.log(container))

    async def shell(self, pod: str, script: str, **changes: object) -> str:
        """What a script writes to standard output; it must end with status 0."""
        container = await self.start(pod, "sh", "-ec", script, **changes)
        exit_ = await self.runtime.wait_container(container)
        log = self.log(container)
        assert exit_.status == 0, f"{exit_}: {log.read_text()}"
        return text_of(log)

    async def python(self, pod: str, program: str, **changes: object) -> str:
        """What a Python program writes to standard output; it must end with status 0."""
        container = await self.start(pod, self.room.python, "-c", program, **changes)
        exit_ = await self.runtime.wait_container(container)
        log = self.log(container)
        assert exit_.status == 0, f"{exit_}: {log.read_text()}"
        return text_of(log)

    async def says(self, container: str, text: str) -> None:
        """Wait until a container's standard output contains `text`."""
        await waiting.until_async(
            lambda: _true(text in text_of(self.log(container))),
            f"{text!r} in the log of {container}",
            timeout=60,
            state=lambda: self.log(container).read_text(),
        )

    def client(self) -> str:
        """How a program in the node makes its client."""
        return f"SandboxRuntime({str(self.room.socket())!r})"

    async def inside(self, program: str) -> object:
        """What a Python program in the node's own namespaces prints as JSON; `runtime` is there as in here."""
        log = self.folder / f"inside-{next(_count)}.log"
        code = _INSIDE.format(client=self.client(), body=program.strip().replace("\n", "\n    "))
        search = str(self.room.folder / "code") if self.room.user is not None else str(_REPOSITORY)
        process = await self.runtime.spawn_agent(
            [self.room.python, "-c", code], {"PYTHONPATH": search, "PATH": PATH}, log
        )
        exit_ = await process.wait()
        assert exit_.status == 0, log.read_text()
        return json.loads(log.read_text().splitlines()[-1])

    async def clean(self) -> None:
        for container in self.containers:
            await self.runtime.remove_container(container)
        for pod in self.addresses:
            await self.runtime.remove_sandbox(pod)


async def _true(value: bool) -> bool:
    return value


_INSIDE = """
import asyncio, json, os, socket
from podlab.node.runtime.sandbox.client import SandboxRuntime

async def main():
    runtime = {client}
    {body}
    await runtime.close()

asyncio.run(main())
"""
