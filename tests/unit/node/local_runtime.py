"""A test double of the container runtime: containers and commands are plain processes of this machine.

It keeps to podlab.node.runtime.contract where the node's own API needs it, without any namespace.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import signal
import socket
import struct
import subprocess
import termios
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from podlab.errors import RuntimeRefused
from podlab.node.runtime.contract import ContainerState, Exit, Inventory, Usage


def _control_terminal() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # tests that nohup started would hand on that it is ignored
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


class LocalProcess:
    """A real process (contract.Process)."""

    def __init__(self, process: subprocess.Popen) -> None:
        self._process = process
        self.pid = process.pid

    async def wait(self) -> Exit:
        code = await asyncio.to_thread(self._process.wait)
        return Exit(code if code >= 0 else 128 - code, time.time(), -code if code < 0 else None)

    async def signal(self, number: int) -> None:
        self._process.send_signal(number)


@dataclass
class LocalContainer:
    """A running "container": one process, with what attach needs."""

    process: subprocess.Popen
    master: int | None = None
    started_at: float = field(default_factory=time.time)


class LocalRuntime:
    """Runs what it is asked to run, on this machine."""

    def __init__(self) -> None:
        self.containers: dict[str, LocalContainer] = {}
        self.executed: list[subprocess.Popen] = []
        self.environments: list[dict[str, str]] = []
        self.broken = False

    def start(self, name: str, argv: Sequence[str], *, tty: bool = False) -> LocalContainer:
        """Start a container's process, with pipes or on a terminal."""
        if tty:
            master, slave = os.openpty()
            process = subprocess.Popen(
                argv, stdin=slave, stdout=slave, stderr=slave, start_new_session=True, preexec_fn=_control_terminal
            )
            os.close(slave)
            container = LocalContainer(process, master)
        else:
            pipe = subprocess.PIPE
            container = LocalContainer(subprocess.Popen(argv, stdin=pipe, stdout=pipe, stderr=pipe, bufsize=0))
        self.containers[name] = container
        return container

    def close(self) -> None:
        """End everything that was started."""
        for process in [*(container.process for container in self.containers.values()), *self.executed]:
            if process.poll() is None:
                process.kill()
            process.wait()
            for stream in (process.stdin, process.stdout, process.stderr):
                if stream:
                    stream.close()

    async def execute(
        self,
        container: str,
        argv: Sequence[str],
        environment: Mapping[str, str],
        stdio: tuple[int, int, int],
        *,
        tty: bool = False,
    ) -> LocalProcess:
        if container not in self.containers:
            raise RuntimeRefused(f"container {container} is not running")
        self.environments.append(dict(environment))
        try:
            process = subprocess.Popen(
                argv,
                stdin=stdio[0],
                stdout=stdio[1],
                stderr=stdio[2],
                env={"PATH": os.environ["PATH"], **environment},
                start_new_session=True,
                preexec_fn=_control_terminal if tty else None,
            )
        except OSError as error:
            raise RuntimeRefused(f'exec: "{argv[0]}": {error.strerror}') from error
        self.executed.append(process)
        return LocalProcess(process)

    async def open_terminal(self, container: str) -> tuple[int, int]:
        if container not in self.containers:
            raise RuntimeRefused(f"container {container} is not running")
        return os.openpty()

    async def attach(self, container: str, *, stdin: bool) -> tuple[socket.socket | None, socket.socket]:
        entry = self.containers[container]
        ours, theirs = socket.socketpair()
        lock = threading.Lock()

        def pump(descriptor: int, stream: int) -> None:
            while data := _read(descriptor):
                with lock:
                    ours.sendall(struct.pack(">BI", stream, len(data)) + data)

        def pumps() -> None:
            process = entry.process
            sources = [(entry.master, 1)] if entry.master is not None else []
            if not sources:
                assert process.stdout and process.stderr
                sources = [(process.stdout.fileno(), 1), (process.stderr.fileno(), 2)]
            threads = [threading.Thread(target=pump, args=source, daemon=True) for source in sources]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            ours.close()

        threading.Thread(target=pumps, daemon=True).start()
        if not stdin:
            return None, theirs
        near, far = socket.socketpair()

        def feed() -> None:
            target = entry.master if entry.master is not None else entry.process.stdin.fileno()
            while data := near.recv(65536):
                os.write(target, data)
            if entry.master is None:
                entry.process.stdin.close()
            near.close()

        threading.Thread(target=feed, daemon=True).start()
        return far, theirs

    async def resize(self, container: str, rows: int, columns: int) -> None:
        master = self.containers[container].master
        assert master is not None
        fcntl.ioctl(master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    async def wait_container(self, container: str) -> Exit:
        return await LocalProcess(self.containers[container].process).wait()

    async def signal_container(self, container: str, number: int) -> None:
        self.containers[container].process.send_signal(signal.Signals(number))

    async def usage(self) -> Mapping[str, Usage]:
        if self.broken:
            raise RuntimeRefused("the runtime does not answer")
        shown = {}
        for name, entry in self.containers.items():
            if entry.process.poll() is None:
                fields = Path(f"/proc/{entry.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
                ticks = int(fields[11]) + int(fields[12])
                memory = int(fields[21]) * os.sysconf("SC_PAGE_SIZE")
                shown[name] = Usage(ticks / os.sysconf("SC_CLK_TCK"), memory, 1)
        return shown

    async def inventory(self) -> Inventory:
        states = [
            ContainerState(name, "sandbox", entry.process.pid, entry.started_at, None, {})
            for name, entry in self.containers.items()
        ]
        return Inventory([], states)

    def open_in_sandbox(self, sandbox: str, family: int, kind: int) -> socket.socket:
        return socket.socket(family, kind)


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 65536)
    except OSError:
        return b""
