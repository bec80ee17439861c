"""Processes that are kept running: started, watched, restarted with a growing pause, and described.

The supervisor is PID 1 of its namespace, so every orphan of the cluster becomes its child. One `Reaper`
collects them all; nothing else waits for children.
"""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from podlab.waiting import pause_async

#: Pauses before a restart in seconds: doubled from the first to the longest, from the start again after a
#: process has run for `BACKOFF_RESET`.
BACKOFF_FIRST, BACKOFF_LONGEST, BACKOFF_RESET = 0.25, 10.0, 30.0
#: A log that has grown beyond this many bytes keeps its last half in NAME.log.1 and begins anew.
LOG_LIMIT = 32 * 1024 * 1024
#: A Go program that panics writes its reason first and then the stacks of all goroutines.
_GOROUTINES = re.compile(r"^goroutine \d+ .*\[running", re.MULTILINE)


class Running(Protocol):
    """A process that runs."""

    @property
    def pid(self) -> int:
        """The supervisor's number for it."""

    async def wait(self) -> str:
        """Return how it ended, e.g. "exited with status 1"; may be cancelled without harm."""


class Reaper:
    """Collects ended children and tells those who wait for them."""

    def __init__(self) -> None:
        self._waiting: dict[int, asyncio.Future[int]] = {}

    def install(self) -> None:
        """Collect from now on, in the running event loop."""
        asyncio.get_running_loop().add_signal_handler(signal.SIGCHLD, self.collect)
        self.collect()

    def expect(self, pid: int) -> asyncio.Future[int]:
        """A future of the wait status of a child that has just been started."""
        future = self._waiting[pid] = asyncio.get_running_loop().create_future()
        return future

    def collect(self) -> None:
        """Reap every child that has ended."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            future = self._waiting.pop(pid, None)
            if future and not future.done():
                future.set_result(status)


@dataclass
class Child:
    """A direct child of the supervisor."""

    pid: int
    ended: asyncio.Future[int]

    async def wait(self) -> str:
        """Return how it ended."""
        return describe(os.waitstatus_to_exitcode(await asyncio.shield(self.ended)))


def spawn(reaper: Reaper, argv: Sequence[str], environment: Mapping[str, str], folder: Path, log: Path) -> Child:
    """Start a program with its output appended to `log` (0600); OSError if it cannot be executed."""
    pid = launch(argv, environment, folder, log)
    return Child(pid, reaper.expect(pid))


def launch(argv: Sequence[str], environment: Mapping[str, str], folder: Path, log: Path) -> int:
    """The same before there is an event loop: returns the number of a child that somebody must wait for."""
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        process = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=descriptor,
            stderr=subprocess.STDOUT,
            env=dict(environment),
            cwd=folder,
            start_new_session=True,
        )
    finally:
        os.close(descriptor)
    # The reaper collects it, not Popen: say so, or its destructor would complain.
    process.returncode = 0
    return process.pid


def describe(code: int) -> str:
    """How a process ended, in words: `code` is negative after a signal."""
    if code >= 0:
        return f"exited with status {code}"
    try:
        return f"was killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"was killed by signal {-code}"


def next_pause(pause: float, ran: float) -> float:
    """The pause before the next restart, after a pause of `pause` (0: none yet) and a run of `ran` seconds."""
    if pause == 0 or ran >= BACKOFF_RESET:
        return BACKOFF_FIRST
    return min(pause * 2, BACKOFF_LONGEST)


class Kept:
    """A process that is kept running by `start`, until it is stopped or held.

    `start` starts it and returns it; it may wait for what it needs, and any exception counts as a failed
    start. `log` is where the process writes.
    """

    def __init__(self, name: str, start: Callable[[], Awaitable[Running]], log: Path) -> None:
        self.name = name
        self.log = log
        self.restarts = 0
        self.message = ""
        self.since = time.time()
        self.running: Running | None = None
        self.ends = 0
        self._start = start
        self._state = "stopped"
        self._paused = False
        self._task: asyncio.Task[None] | None = None
        self._changed = asyncio.Event()

    @property
    def pid(self) -> int | None:
        """The supervisor's number for the process, while it runs."""
        return self.running.pid if self.running else None

    @property
    def state(self) -> str:
        """stopped, starting, running, paused or restarting."""
        return "paused" if self._paused and self.running else self._state

    def begin(self) -> None:
        """Keep it running from now on; nothing happens if it is kept already."""
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._keep(), name=f"keep {self.name}")

    async def up(self) -> Running:
        """Return the process as soon as it runs."""
        while self.running is None:
            self._changed.clear()
            await self._changed.wait()
        return self.running

    async def end(self, before: int) -> str:
        """Return how it ended, as soon as it has ended or failed to start more than `before` times."""
        while self.ends == before:
            self._changed.clear()
            await self._changed.wait()
        return self.message

    def signal(self, number: int) -> bool:
        """Send a signal to the process; returns whether there was one."""
        if self.running is None:
            return False
        try:
            os.kill(self.running.pid, number)
        except ProcessLookupError:
            return False
        if number in (signal.SIGSTOP, signal.SIGCONT):
            self._paused = number == signal.SIGSTOP
        return True

    async def stop(self, patience: float = 10.0) -> None:
        """End it for good: SIGTERM, then SIGKILL after `patience` seconds (0: SIGKILL at once)."""
        running, task, self._task = self.running, self._task, None
        if task:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        if running:
            await self._terminate(running, patience)
        self.running, self._paused = None, False
        self._became("stopped")

    async def _terminate(self, running: Running, patience: float) -> None:
        for number, seconds in ((signal.SIGTERM, patience), (signal.SIGKILL, 10.0)):
            if seconds == 0:
                continue
            try:
                os.kill(running.pid, number)
                os.kill(running.pid, signal.SIGCONT)
            except ProcessLookupError:
                pass
            try:
                async with asyncio.timeout(seconds):
                    await running.wait()
                return
            except TimeoutError:
                continue

    async def _keep(self) -> None:
        pause = 0.0
        while True:
            self._became("starting" if self.ends == 0 else "restarting")
            began = time.monotonic()
            try:
                self.running = await self._start()
                self._became("running")
                how = await self.running.wait()
            except asyncio.CancelledError:
                raise
            except Exception as error:
                how = f"could not be started: {error}"
            ran = time.monotonic() - began
            self.running, self._paused = None, False
            self.message = f"{how} after {ran:.1f} s"
            self.ends += 1
            self._became("restarting")
            pause = next_pause(pause, ran)
            await pause_async(pause)
            self.restarts += 1

    def _became(self, state: str) -> None:
        self._state = state
        self.since = time.time()
        self._changed.set()


def cap_log(log: Path, limit: int = LOG_LIMIT) -> bool:
    """Cut a log that is longer than `limit` bytes: its last half goes to NAME.1; returns whether it did.

    Writers have it open for appending, so they go on at the new end. Lines written meanwhile may be lost, and on a
    full disk the half that was to be kept.
    """
    try:
        size = log.stat().st_size
    except FileNotFoundError:
        return False
    if size <= limit:
        return False
    with log.open("rb+") as file:
        file.seek(size - limit // 2)
        rest = file.read()
        older = log.with_name(log.name + ".1")
        try:
            older.write_bytes(rest[rest.find(b"\n") + 1 :])
            older.chmod(0o600)
        except OSError:
            pass  # cutting the log is what makes room
        file.truncate(0)
    return True


def last_lines(log: Path, count: int = 5) -> list[str]:
    """The last `count` lines of a log, without empty ones and stacks of goroutines; nothing if there is no log."""
    try:
        with log.open("rb") as file:
            file.seek(0, os.SEEK_END)
            file.seek(max(0, file.tell() - 16384))
            text = file.read().decode(errors="replace")
    except FileNotFoundError:
        return []
    text = _GOROUTINES.split(text, maxsplit=1)[0] or text
    return [line[:400] for line in text.splitlines() if line.strip()][-count:]


def failure(name: str, how: str, log: Path) -> str:
    """What to say of a component that failed: how, its last lines, and where the rest is."""
    lines = last_lines(log)
    said = "\n  " + "\n  ".join(lines) if lines else " It wrote nothing."
    return f"{name} {how}. Its last lines:{said}\nFull log: {log}" if lines else f"{name} {how}.{said}"
