"""The whole recommender on this machine: a monolith, or a broker and five services, as child processes.

    with start("processes", folder, ratings=20_000) as running:
        print(running.address)

Children end with their parent, whatever ends it (on Linux). None is started again by itself: that is what an
orchestrator is for. `restart` does it by hand.
"""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Literal

import httpx

from movies.bus import server as broker
from movies.compose import PARTS
from movies.config import PREFIX
from movies.data.load import find
from movies.errors import DataError, ServiceFailed

Kind = Literal["monolith", "processes"]
BROKER = "broker"
_HOST = "127.0.0.1"
#: Below Kubernetes' NodePorts, and the range from which the kernel takes ports for outgoing connections.
_PORTS = range(20_000, 30_000)
_LOOK = 0.05
_SHOWN = 15
_SIGTERM_ON_PARENTS_DEATH = 1
#: Of ratings each second that come in at a start, on a small machine that has much else to do.
_SLOWLY = 10_000


@dataclass(frozen=True)
class _Child:
    """What is started: a command, what it is told, and where it answers (None: it is not asked, only connected to)."""

    name: str
    command: Sequence[str]
    environment: Mapping[str, str]
    port: int


class Running:
    """A running recommender. Leaving the `with` block stops it."""

    def __init__(self, kind: Kind, folder: Path, children: Sequence[_Child], environment: Mapping[str, str]) -> None:
        self.kind, self.folder = kind, folder
        #: What the user should know of the first data (see movies.seed.loaded).
        self.notes: tuple[str, ...] = ()
        self._children = {child.name: child for child in children}
        self._environment = dict(environment)
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        # Children end with the thread that started them: this one lives as long as we do.
        self._starter = ThreadPoolExecutor(1, "movies-starter")

    @property
    def names(self) -> list[str]:
        """Names of all processes, in the order of their start."""
        return list(self._children)

    @property
    def address(self) -> str:
        """URL of the site."""
        return self.url("monolith" if self.kind == "monolith" else "ui")

    def url(self, name: str) -> str:
        """URL of a part; in a monolith, of its prefix."""
        if self.kind == "monolith":
            port = self._children["monolith"].port
            return f"http://{_HOST}:{port}" + (f"/{name}" if name not in ("monolith", "ui") else "")
        return f"http://{_HOST}:{self._children[name].port}"

    def pid(self, name: str) -> int:
        """Number of a process."""
        return self._processes[name].pid

    def log(self, name: str) -> Path:
        """What a process has written."""
        return self.folder / "logs" / f"{name}.log"

    def ended(self) -> dict[str, int]:
        """Processes that have ended by themselves, with their status."""
        return {name: code for name, one in self._processes.items() if (code := one.poll()) is not None}

    def spawn(self, name: str) -> None:
        """Start one process, without waiting until it is ready."""
        child = self._children[name]
        self.log(name).parent.mkdir(mode=0o700, parents=True, exist_ok=True)

        def popen() -> subprocess.Popen[bytes]:
            with self.log(name).open("ab") as out:
                return subprocess.Popen(
                    child.command,
                    env={**self._environment, **child.environment},
                    stdin=subprocess.DEVNULL,
                    stdout=out,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,  # Ctrl-C is for us; we end the children in order
                    preexec_fn=_die_with_parent(),
                )

        self._processes[name] = self._starter.submit(popen).result()

    def wait_ready(self, names: Sequence[str] | None = None, *, seconds: float = 90.0) -> None:
        """Return when all (or some) answer that they are ready; ServiceFailed if one ends or the time is over."""
        deadline = time.monotonic() + seconds
        for name in names or self.names:
            while (state := self._state(name)) is not None:
                if (code := self._processes[name].poll()) is not None:
                    raise ServiceFailed(f"{name} ended with status {code}. {self._last(name)}")
                if time.monotonic() > deadline:
                    raise ServiceFailed(f"{name} was not ready within {seconds:g} s: {state}. {self._last(name)}")
                time.sleep(_LOOK)

    def copy(self, name: str, *, seconds: float = 90.0) -> str:
        """Start one more process of a part, on a port and with a folder of its own; its name when it is ready."""
        child = self._children[name]
        made = next(made for number in itertools.count(2) if (made := f"{name}-{number}") not in self._children)
        (port,) = free_ports(1)
        own = {f"{PREFIX}PORT": str(port), f"{PREFIX}DATA": str(self.folder / made)}
        self._children[made] = _Child(made, child.command, dict(child.environment) | own, port)
        self.restart(made, seconds=seconds)
        return made

    def remove(self, name: str, seconds: float = 30.0) -> int:
        """End a copy as `stop_one` does, and know nothing of it any more. Returns its status."""
        status = self.stop_one(name, seconds)
        del self._children[name], self._processes[name]
        return status

    def kill(self, name: str) -> None:
        """End a process at once, as a crash would."""
        self._end(name, signal.SIGKILL, 10)

    def stop_one(self, name: str, seconds: float = 30.0) -> int:
        """Ask a process to end (SIGTERM); killed if it has not after so many seconds. Returns its status."""
        return self._end(name, signal.SIGTERM, seconds)

    def restart(self, name: str, *, seconds: float = 90.0) -> None:
        """Start a process that has ended, and wait until it is ready."""
        self.spawn(name)
        self.wait_ready([name], seconds=seconds)

    def stop(self, seconds: float = 30.0) -> None:
        """Stop everything: all services at once, then the broker. Nothing is left but the folder."""
        services = [name for name in self._processes if name != BROKER]
        for name in services:
            self._signal(name, signal.SIGTERM)
        for name in (*services, *(name for name in self._processes if name == BROKER)):
            self._end(name, signal.SIGTERM, seconds)
        self._processes.clear()
        self._starter.shutdown()

    def __enter__(self) -> Running:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _signal(self, name: str, number: int) -> None:
        if self._processes[name].poll() is None:
            with contextlib.suppress(ProcessLookupError):
                self._processes[name].send_signal(number)

    def _end(self, name: str, number: int, seconds: float) -> int:
        process = self._processes[name]
        self._signal(name, number)
        try:
            return process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            return process.wait()

    def _state(self, name: str) -> str | None:
        """Why a process is not ready; None if it is."""
        child = self._children[name]
        if name == BROKER:
            with socket.socket() as probe:
                return None if probe.connect_ex((_HOST, child.port)) == 0 else "it does not listen"
        try:
            answer = httpx.get(f"http://{_HOST}:{child.port}/readyz", timeout=2, trust_env=False)
        except httpx.HTTPError as error:
            return f"it does not answer ({error!r})"
        return None if answer.status_code == 200 else answer.text[:500]

    def _last(self, name: str) -> str:
        lines = self.log(name).read_text(errors="replace").splitlines()[-_SHOWN:] if self.log(name).exists() else []
        return "Its last lines:\n" + "\n".join(lines) + f"\nFull log: {self.log(name)}"


def start(
    kind: Kind,
    folder: Path,
    *,
    ratings: int = 20_000,
    seed: int = 0,
    data: Path | None = None,
    scale: int | None = None,
    ports: Mapping[str, int] | None = None,
    environment: Mapping[str, str] | None = None,
    seconds: float = 90.0,
) -> Running:
    """Start a recommender with its files in `folder`, and return when it is ready.

    The first time the folder gets generated data of a size, or the user's own from `data` (`scale`: see
    movies.data.load.load). `seconds` are for the first data, and then for each process. `ports` fixes ports by the
    name of a process; others are free ones. `environment` is added to every process (see movies.config).
    ServiceFailed names what did not start and shows its last lines; nothing is left running then.
    """
    folder = folder.absolute()
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    names = ["monolith"] if kind == "monolith" else [BROKER, *PARTS]
    port = dict(zip(names, free_ports(len(names)), strict=True)) | dict(ports or {})
    address = f"file:{folder / 'bus'}" if kind == "monolith" else f"nats://{_HOST}:{port[BROKER]}"
    told = {f"{PREFIX}BROKER": address, f"{PREFIX}HOST": _HOST}
    told |= {f"{PREFIX}{name.upper()}_URL": f"http://{_HOST}:{port[name]}" for name in names if name in PARTS[:-1]}
    told |= dict(environment or {})
    children = [_child(name, folder, port[name], told) for name in names]
    running = Running(kind, folder, children, _inherited())
    try:
        if kind == "processes":
            running.spawn(BROKER)
            running.wait_ready([BROKER], seconds=seconds)
        what = ["--from", str(data)] if data else ["--ratings", str(ratings), "--seed", str(seed)]
        what += ["--scale", str(scale)] if scale is not None else []
        running.notes = _seed(told, what, seconds)
        for name in names:
            if name != BROKER:
                running.spawn(name)
        running.wait_ready(seconds=seconds)
    except BaseException:
        running.stop(5)
        raise
    return running


def _child(name: str, folder: Path, port: int, told: Mapping[str, str]) -> _Child:
    if name == BROKER:
        return _Child(name, broker.command(folder / "broker", port, _HOST), {}, port)
    own = {f"{PREFIX}PORT": str(port), f"{PREFIX}DATA": str(folder / name)}
    return _Child(name, [sys.executable, "-m", "movies", "serve", name], dict(told) | own, port)


def _inherited() -> dict[str, str]:
    """Our environment without settings of ours that were meant for something else; one thread for linear algebra."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
    return kept | {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}


def patience(ratings: int, data: Path | None = None) -> float:
    """Seconds for each step of a start, a day at most, for the user who waits for it.

    A rating of `data` takes some 20 bytes; that there are none, or none that can be read, says who reads them.
    """
    if data:
        with contextlib.suppress(DataError, OSError):
            ratings = max(ratings, find(data)[0].stat().st_size // 20)
    return min(300 + ratings / _SLOWLY, 86_400)


def _seed(told: Mapping[str, str], what: Sequence[str], seconds: float) -> tuple[str, ...]:
    done = subprocess.run(
        [sys.executable, "-m", "movies", "seed", "--patience", str(round(seconds)), *what],
        env=_inherited() | dict(told),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise ServiceFailed(f"The first data could not be made: {done.stderr.strip()[-2000:]}")
    return tuple(line for line in done.stdout.splitlines() if line.startswith("Note: "))


def _die_with_parent() -> Callable[[], object] | None:
    """What a child does before it runs: ask the kernel (Linux) for SIGTERM when its parent dies."""
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None).prctl
    return lambda: prctl(_SIGTERM_ON_PARENTS_DEATH, signal.SIGTERM)


def free_ports(count: int) -> list[int]:
    """Ports of loopback that nobody listens on now."""
    found: list[int] = []
    for port in random.sample(_PORTS, len(_PORTS)):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with contextlib.suppress(OSError):
                probe.bind((_HOST, port))
                found.append(port)
        if len(found) == count:
            return found
    raise ServiceFailed(f"There are no {count} free ports from {_PORTS.start} to {_PORTS.stop}.")
