"""Real worker processes, and faults that are proven to have bitten.

A worker is a Python function, run in a forked copy of this process (so it may come from a notebook cell), or a
program. Each has a process group of its own; all of it is killed when the harness is left, and by the kernel
should this process die first (PR_SET_PDEATHSIG: tied to the thread that started the worker, so start workers in the
thread that holds the harness open).
"""

from __future__ import annotations

import ctypes
import mmap
import os
import pickle
import shutil
import signal
import sys
import tempfile
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, NoReturn

from podlab import waiting
from podlab.errors import LaboratoryError, UsageError, WorkerFailed

_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)

#: Bytes of a worker's note of its present task.
_BOARD = 512

#: The board of this process, if it is a worker.
_own_board: mmap.mmap | None = None


def announce(task: str | None) -> None:
    """In a worker: note the task in hand (None: idle), so that whoever kills it can tell what was in flight.

    Does nothing in a process that no harness started.
    """
    if _own_board is None:
        return
    text = (task or "").encode()[: _BOARD - 2]
    _own_board[:2] = b"\0\0"  # idle while the text changes: a torn note is never read
    _own_board[2 : 2 + len(text)] = text
    _own_board[:2] = len(text).to_bytes(2, "little")


def process_state(pid: int) -> str:
    """The letter of a process's state in /proc (R, S, D: alive; T: stopped; Z: ended); "gone" if there is none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return "gone"


def cpu_ticks(pid: int) -> int:
    """Clock ticks of CPU time that a process has used; 0 if it is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return int(fields[11]) + int(fields[12])


@dataclass(frozen=True)
class Proof:
    """What a fault met and what it left: states from /proc before and after, and the task that was in flight.

    `bit` tells whether the fault had the effect that its name promises.
    """

    fault: str
    worker: str
    pid: int
    before: str
    after: str
    task: str | None
    bit: bool

    def __bool__(self) -> bool:
        return self.bit

    def __str__(self) -> str:
        during = f" during {self.task}" if self.task else ""
        effect = "bit" if self.bit else "did not bite"
        return f"{self.fault} of {self.worker} (pid {self.pid}){during} {effect}: state {self.before} -> {self.after}"


class Worker:
    """One process of a harness. `status` is None while it runs, then the exit status, negative for a signal."""

    def __init__(self, name: str, pid: int, output: IO[bytes], returned: IO[bytes] | None, board: mmap.mmap) -> None:
        self.name, self.pid = name, pid
        self.started = time.monotonic()
        self.status: int | None = None
        self._output, self._returned, self._board = output, returned, board
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"<Worker {self.name} pid {self.pid} {self.describe()}>"

    # Looking

    @property
    def task(self) -> str | None:
        """What the worker announced last; None if it is idle or has ended."""
        size = int.from_bytes(self._board[:2], "little")
        return self._board[2 : 2 + size].decode(errors="replace") if size and self.running() else None

    @property
    def state(self) -> str:
        """The letter of its state in /proc, or "gone"."""
        return process_state(self.pid) if self.running() else "gone"

    def running(self) -> bool:
        """Whether it has not ended yet; a stopped one is running."""
        with self._lock:
            if self.status is None:
                pid, status = os.waitpid(self.pid, os.WNOHANG)
                if pid:
                    self.status = os.waitstatus_to_exitcode(status)
            return self.status is None

    def describe(self) -> str:
        """In words how it is, or how it ended."""
        if self.running():
            return "is stopped" if self.state == "T" else "is running"
        assert self.status is not None
        if self.status < 0:
            return f"was killed by {signal.Signals(-self.status).name}"
        return f"ended with exit status {self.status}"

    def output(self, most: int = 1_000_000) -> str:
        """The last `most` bytes of what it wrote to its standard output and error."""
        size = os.fstat(self._output.fileno()).st_size
        return os.pread(self._output.fileno(), most, max(0, size - most)).decode(errors="replace")

    def last_lines(self, count: int = 10) -> str:
        """The end of its output, for an error message."""
        lines = self.output(10_000).splitlines()[-count:]
        return "\n".join(f"  {line[:300]}" for line in lines) or "  (it wrote nothing)"

    # Waiting

    def wait(self, timeout: float = 60.0) -> int:
        """The exit status, once it has ended; WaitTimeout after `timeout` seconds."""
        what = f"The end of worker {self.name} (pid {self.pid})"
        waiting.until(lambda: not self.running(), what, timeout=timeout, interval=0.005, state=self.describe)
        assert self.status is not None
        return self.status

    def result(self, timeout: float = 60.0) -> Any:
        """What the worker's function returned; WorkerFailed, with its last lines, if it did not return."""
        status = self.wait(timeout)
        if status != 0 or self._returned is None:
            raise self.failure()
        self._returned.seek(0)
        data = self._returned.read()
        if not data:
            raise self.failure("left before its function returned")
        return pickle.loads(data)

    def failure(self, what: str | None = None) -> WorkerFailed:
        """An error that tells how this worker ended."""
        return WorkerFailed(
            f"Worker {self.name} (pid {self.pid}) {what or self.describe()} "
            f"after {time.monotonic() - self.started:.1f} s. Its last lines:\n{self.last_lines()}"
        )

    # Faults

    def kill(self) -> Proof:
        """End it with SIGKILL, and all its children. Bites if it was alive."""
        before, task = self.state, self.task
        self._signal(signal.SIGKILL)
        self._ended("SIGKILL")
        bit = before != "gone" and self.status == -signal.SIGKILL
        return Proof("SIGKILL", self.name, self.pid, before, self.state, task, bit)

    def kill_in_flight(self, task: str | None = None, timeout: float = 30.0) -> Proof:
        """Kill it in the middle of a task (any, or one that contains `task`), waiting until it has one in hand.

        It is frozen first and then looked at, so that the task cannot end between the look and the blow.
        """

        def caught() -> str | None:
            if not self.running():
                raise LaboratoryError(f"Worker {self.name} {self.describe()} before it could be killed in a task.")
            if not self._wanted(task):
                return None
            self._freeze()
            if found := self._wanted(task):
                return found
            self._signal(signal.SIGCONT)
            return None

        found = waiting.until(
            caught, f"A task {task or ''} in the hands of {self.name}", timeout=timeout, interval=0.001
        )
        before = self.state
        self._signal(signal.SIGKILL)
        self._ended("SIGKILL")
        bit = before == "T" and self.status == -signal.SIGKILL
        return Proof("SIGKILL", self.name, self.pid, before, self.state, found, bit)

    def stop(self) -> Proof:
        """Freeze it with SIGSTOP. Bites if /proc then shows it stopped."""
        before = self.state
        self._freeze()
        return Proof("SIGSTOP", self.name, self.pid, before, self.state, self.task, self.state == "T")

    def resume(self) -> Proof:
        """Let it go on with SIGCONT. Bites if it was stopped."""
        before = self.state
        self._signal(signal.SIGCONT)
        if before == "T":
            what = f"Worker {self.name} going on after SIGCONT"
            waiting.until(lambda: self.state != "T", what, timeout=10, interval=0.001, state=lambda: self.state)
        return Proof("SIGCONT", self.name, self.pid, before, self.state, self.task, before == "T" and self.running())

    def pause(self, seconds: float) -> Proof:
        """Freeze it for that long. Bites if it stayed stopped and used no CPU time in between."""
        proof = self.stop()
        used = cpu_ticks(self.pid)
        waiting.pause(seconds)
        bit = proof.bit and self.state == "T" and cpu_ticks(self.pid) == used
        self.resume()
        return Proof(f"pause of {seconds:g} s", self.name, self.pid, proof.before, self.state, proof.task, bit)

    def _wanted(self, task: str | None) -> str | None:
        found = self.task
        return found if found is not None and (task is None or task in found) else None

    def _freeze(self) -> None:
        self._signal(signal.SIGSTOP)
        what = f"Worker {self.name} standing still after SIGSTOP"
        waiting.until(
            lambda: self.state == "T" or not self.running(), what, timeout=10, interval=0.001, state=lambda: self.state
        )

    def _signal(self, number: signal.Signals) -> None:
        if self.running():  # not reaped yet, so the number still means this process
            try:
                os.killpg(self.pid, number)
            except ProcessLookupError:
                os.kill(self.pid, number)

    def _ended(self, how: str) -> None:
        what = f"The end of worker {self.name} (pid {self.pid}) after {how}"
        waiting.until(lambda: not self.running(), what, timeout=30, interval=0.001, state=lambda: self.state)

    def _close(self) -> None:
        try:
            os.killpg(self.pid, signal.SIGKILL)  # children that outlived it keep the group's number in use
        except (ProcessLookupError, PermissionError):
            pass
        if self.running():
            self._ended("SIGKILL")


class Harness:
    """Starts workers and ends every one of them when it is left, whatever happens.

    ::

        with Harness() as harness:
            worker = harness.spawn(count_words, "text", name="worker-1")
            print(worker.kill_in_flight())
    """

    def __init__(self) -> None:
        self.workers: list[Worker] = []
        self._files: list[IO[bytes]] = []
        self._open = False

    def __enter__(self) -> Harness:
        self._open = True
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def spawn(self, function: Callable[..., Any], *arguments: Any, name: str | None = None, **named: Any) -> Worker:
        """Run a Python function in a process of its own. What it returns must be picklable to be had back."""
        returned = self._file()

        def body() -> None:
            value = function(*arguments, **named)
            with os.fdopen(os.dup(returned.fileno()), "wb") as file:
                pickle.dump(value, file)

        return self._start(str(name or getattr(function, "__name__", "worker")), body, returned)

    def run(
        self,
        command: Sequence[str],
        *,
        name: str | None = None,
        environment: Mapping[str, str] | None = None,
        folder: Path | None = None,
    ) -> Worker:
        """Run a program with its arguments; `environment` is added to this process's."""
        if isinstance(command, str) or not command:
            raise UsageError(f"A command is a list of words, not {command!r}.")
        if not shutil.which(command[0]):
            raise LaboratoryError(f"There is no program {command[0]!r} here.", hint="Check its name and PATH.")
        told = {**os.environ, **(environment or {})}

        def body() -> None:
            if folder:
                os.chdir(folder)
            os.execvpe(command[0], list(command), told)

        return self._start(name or Path(command[0]).name, body, None)

    def close(self) -> None:
        """Kill and reap every worker and whatever it started in its group. What they wrote stays readable."""
        self._open = False
        for worker in self.workers:
            worker._close()

    @contextmanager
    def stopped(self, *workers: Worker) -> Iterator[list[Proof]]:
        """Workers frozen while the block runs."""
        proofs = [worker.stop() for worker in workers]
        try:
            yield proofs
        finally:
            for worker in workers:
                worker.resume()

    def _file(self) -> IO[bytes]:
        file = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the harness
        self._files.append(file)
        return file

    def _start(self, name: str, body: Callable[[], None], returned: IO[bytes] | None) -> Worker:
        if not self._open:
            raise UsageError("The harness is not open.", hint="Use it as `with Harness() as harness:`.")
        output, board, parent = self._file(), mmap.mmap(-1, _BOARD), os.getpid()
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        with warnings.catch_warnings():  # the child of a process with threads runs plain code only
            warnings.simplefilter("ignore", DeprecationWarning)
            pid = os.fork()
        if pid == 0:
            _be_worker(body, output.fileno(), board, parent)
        try:
            os.setpgid(pid, pid)  # the child does it too: whoever comes first
        except OSError:
            pass
        worker = Worker(name, pid, output, returned, board)
        self.workers.append(worker)
        return worker


def _be_worker(body: Callable[[], None], output: int, board: mmap.mmap, parent: int) -> NoReturn:
    """The child's whole life: never returns into the code of the parent."""
    global _own_board
    status = 1
    try:
        os.setpgid(0, 0)
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:
            os._exit(1)
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL)
        signal.set_wakeup_fd(-1)
        nothing = os.open(os.devnull, os.O_RDONLY)
        for new, old in ((nothing, 0), (output, 1), (output, 2)):
            os.dup2(new, old)
        sys.stdout = open(1, "w", buffering=1, closefd=False, errors="backslashreplace")  # noqa: SIM115
        sys.stderr = open(2, "w", buffering=1, closefd=False, errors="backslashreplace")  # noqa: SIM115
        _own_board = board
        body()
        status = 0
    except SystemExit as leaving:
        status = leaving.code if isinstance(leaving.code, int) else int(leaving.code is not None)
        if isinstance(leaving.code, str):
            print(leaving.code, file=sys.stderr)
    except BaseException:
        traceback.print_exc()
    finally:
        try:
            sys.stdout.flush()
            sys.stderr.flush()
        finally:
            os._exit(status & 0xFF)
