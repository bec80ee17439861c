"""A house: a machine without a control plane in which boxes run, by the code that runs a node's containers.

A box is one container in namespaces of its own (user, mount, PID, network, IPC, UTS): cleared environment, read-only
root, a small tmpfs as its only writable place, no privileges, limits on memory, processes, files and time. Its
network has nobody in it. All boxes of a house end with the process that opened it, by the kernel's hand.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import fcntl
import itertools
import os
import shutil
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from podlab import paths, waiting
from podlab.errors import PodlabError
from podlab.images.root import RootFileSystem
from podlab.node.runtime.contract import ContainerSpec, Exit, Mount, Process, SandboxSpec
from podlab.node.runtime.sandbox.client import SandboxRuntime
from podlab.node.runtime.sandbox.machine import launch_supervisor

PREFIX = "podlab-house-"
#: Seconds for which a house's folder is left alone, since it may not have its lock yet.
NEW = 600.0
#: The user that a box's programs are; nobody, and never root of anything.
NOBODY = 65534
#: What a program in a box is told of the world.
ENVIRONMENT = {
    "PATH": "/opt/podlab/bin:/usr/local/bin:/usr/bin:/bin",
    "PYTHONPATH": "/opt/course",
    "HOME": "/tmp",
    "LANG": "C.UTF-8",
    "PODLAB_HOME": "/tmp/podlab",
    "PODLAB_GRADED_OUTSIDE": "1",
    "IPYTHONDIR": "/tmp/ipython",
    "MPLBACKEND": "agg",
    "MPLCONFIGDIR": "/tmp/matplotlib",
    "OPENBLAS_NUM_THREADS": "1",
    "PYTHONDONTWRITEBYTECODE": "1",
}
_ROOT = str(Path(__file__).resolve().parents[2])


class HouseError(PodlabError):
    """A box could not be had or was lost: the machine's trouble, not the learner's."""


@dataclass(frozen=True)
class Bounds:
    """What one box may use: bytes of memory, bytes and files on its tmpfs. Processes are limited inside."""

    memory: int = 1536 * 1024**2
    disk: int = 256 * 1024**2
    files: int = 16_384


class House:
    """Opens with `with House(root) as house`; used by one thread. `root` is the file tree of all its boxes."""

    def __init__(self, root: RootFileSystem, bounds: Bounds | None = None) -> None:
        self.root = dataclasses.replace(root, read_only=True)
        self.bounds = bounds or Bounds()
        self._numbers = itertools.count(1)

    def __enter__(self) -> House:
        with contextlib.ExitStack() as stack:
            self._open(stack)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def _open(self, stack: contextlib.ExitStack) -> None:
        bury()
        self.folder = Path(tempfile.mkdtemp(prefix=PREFIX))
        stack.callback(shutil.rmtree, self.folder, ignore_errors=True)
        sockets = paths.sockets(self.folder)
        stack.callback(shutil.rmtree, sockets, ignore_errors=True)
        self._alive = os.open(self.folder / "alive", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        stack.callback(os.close, self._alive)
        fcntl.flock(self._alive, fcntl.LOCK_EX)
        command = [sys.executable, "-P", "-S", "-m", "podlab.grading.first", str(self.folder), str(sockets)]
        environment = {"PYTHONPATH": _ROOT, "PATH": os.environ.get("PATH", os.defpath)}
        self.pid = launch_supervisor(command, environment, self.folder / "house.log")
        stack.callback(self._end)
        waiting.until(
            (self.folder / "ready").exists,
            "the start of the house",
            timeout=60,
            interval=0.01,
            state=lambda: "".join(log.read_text() for log in self.folder.glob("*.log")),
        )
        self._runner = stack.enter_context(asyncio.Runner())
        self._runtime = SandboxRuntime(sockets / "house")
        stack.callback(self.run, self._runtime.close())

    def _end(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        waiting.until(lambda: not _exists(self.pid), "the end of the house", timeout=30, interval=0.01)

    def run(self, work: Any) -> Any:
        """The result of a coroutine on the house's event loop."""
        return self._runner.run(work)

    @contextlib.contextmanager
    def box(self, argv: Sequence[str], files: Mapping[str, str] | None = None, *, log: bool = True) -> Iterator[Box]:
        """A new box that runs `argv`, with `files` (path -> text, read-only to it); everything of it is gone after.

        Without `log` nothing is kept of what its first process prints: another one of the same user can write there,
        without end. Raises HouseError when it cannot be had.
        """
        name = f"box{next(self._numbers)}"
        folder = self.folder / name
        with contextlib.ExitStack() as stack:
            try:
                folder.mkdir(mode=0o755)
                stack.callback(shutil.rmtree, folder, ignore_errors=True)
                box = self._make(stack, name, folder, argv, files or {}, log)
            except (PodlabError, OSError) as error:
                raise HouseError(f"A box for the submission cannot be had: {error}") from error
            yield box

    def _make(
        self,
        stack: contextlib.ExitStack,
        name: str,
        folder: Path,
        argv: Sequence[str],
        files: Mapping[str, str],
        log: bool,
    ) -> Box:
        scratch = folder / "scratch"
        scratch.mkdir()
        self.run(self._runtime.mount_memory(str(scratch), self.bounds.disk, self.bounds.files))
        stack.callback(lambda: self.run(self._runtime.unmount(str(scratch))))
        number = int(name.removeprefix("box"))
        address = f"10.244.{number // 200 % 250}.{number % 200 + 2}"
        self.run(self._runtime.create_sandbox(SandboxSpec(id=name, hostname="box", address=address)))
        stack.callback(lambda: self.run(self._runtime.remove_sandbox(name)))
        spec = ContainerSpec(
            id=name,
            sandbox=name,
            argv=list(argv),
            environment=ENVIRONMENT,
            root=self.root,
            log_path=str(folder / "log") if log else os.devnull,
            folder=str(folder / "container"),
            working_directory="/tmp",
            mounts=(Mount(str(scratch), "/tmp"), Mount(str(scratch), "/dev/shm")),
            files=dict(files),
            user=NOBODY,
            group=NOBODY,
            no_new_privileges=True,
            seccomp=True,
            memory_limit=self.bounds.memory,
        )
        self.run(self._runtime.start_container(spec))
        stack.callback(lambda: self.run(self._runtime.remove_container(name)))
        return Box(self, self._runtime, name, folder / "log")


class Box:
    """One running box."""

    #: How many processes a program that `execute` has started may see in the box, itself included.
    processes = 512

    def __init__(self, house: House, runtime: SandboxRuntime, name: str, log: Path) -> None:
        self._house = house
        self._runtime = runtime
        self.name = name
        self._log = log
        self._executing: set[int] = set()

    def wait(self, seconds: float) -> Exit | None:
        """How its program ended; None when it has not within `seconds` (then everything in it is killed)."""

        async def ended() -> Exit | None:
            try:
                async with asyncio.timeout(seconds):
                    return await self._runtime.wait_container(self.name)
            except TimeoutError:
                await self._runtime.signal_container(self.name, signal.SIGKILL)
                await self._runtime.wait_container(self.name)
                return None

        return self._house.run(ended())

    def output(self, most: int) -> str:
        """What its program wrote to standard output, at most `most` characters of it."""
        text = ""
        with self._log.open(errors="replace") as lines:
            for line in lines:
                _, stream, flag, piece = line.rstrip("\n").split(" ", 3)
                if stream == "stdout":
                    text += piece + ("\n" if flag == "F" else "")
                if len(text) > most:
                    break
        return text[:most]

    def execute(self, argv: Sequence[str], stdio: tuple[int, int, int]) -> Process:
        """Start a further program in the box with three descriptors."""
        process = self._house.run(self._runtime.execute(self.name, argv, ENVIRONMENT, stdio))
        self._executing.add(process.pid)
        return process

    def ending(self, process: Process) -> socket.socket:
        """A socket that becomes readable when a program that was started by `execute` has ended."""
        return self._runtime.ending(process.pid)

    def kill(self, process: Process) -> int:
        """End a program that was started by `execute` and, after the last of them, what they left; its status."""

        async def end() -> int:
            await process.signal(signal.SIGKILL)
            status = (await process.wait()).status
            self._executing.discard(process.pid)
            if not self._executing:
                await self._runtime.kill_others(self.name)
            return status

        return self._house.run(end())


def bury(folder: Path | None = None) -> list[Path]:
    """Remove what houses of killed graders have left on disk; returns the folders. Houses in use hold their lock."""
    removed = []
    for left in (folder or Path(tempfile.gettempdir())).glob(f"{PREFIX}*"):
        try:
            if left.stat().st_uid != os.geteuid() or time.time() - left.stat().st_mtime < NEW:
                continue
            descriptor = os.open(left / "alive", os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError:
            continue
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(left, ignore_errors=True)
            removed.append(left)
        except BlockingIOError:
            pass
        finally:
            os.close(descriptor)
    return removed


def _exists(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False
