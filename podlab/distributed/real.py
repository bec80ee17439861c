"""The node code of the simulator, run as real processes: sockets through the proxy, files as disks, real signals.

The same verbs strike here (crash is SIGKILL, pause SIGSTOP), and the record reads the same: `time` is in seconds
since the start, of the one clock that all processes of a machine share, so the same checkers judge it.
"""

from __future__ import annotations

import heapq
import json
import os
import random
import selectors
import shutil
import socket
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from podlab import waiting
from podlab.distributed.context import Context, Message, Node
from podlab.distributed.frames import Frames, encode
from podlab.distributed.harness import Harness, Proof, Worker, announce
from podlab.distributed.network import Conditions, several
from podlab.distributed.proxy import Proxy
from podlab.distributed.storage import FileDisk
from podlab.errors import NodeFailed, UsageError


class _Process:
    """The Context of a node that is a process, and the loop that runs it."""

    def __init__(self, name: str, names: list[str], folder: Path, sockets: Path, seed: str, clock: _Clock) -> None:
        self.name, self._folder, self._sockets, self._clock = name, folder, sockets, clock
        self.random = random.Random(seed)
        self.storage = FileDisk(folder / f"{name}.disk")
        self._names = names
        self._timers: dict[str, int] = {}
        self._due: list[tuple[float, int, str]] = []
        self._number = 0
        self._ways: dict[str, socket.socket] = {}
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        self._record = os.open(folder / f"{name}.record", flags, 0o600)

    def now(self) -> float:
        return self._clock.local(time.monotonic())

    def send(self, to: str, message: Message) -> None:
        if to not in self._names:
            raise UsageError(f"{self.name} sends to {to!r}, which is no node.")
        frame = encode({"source": self.name, "message": message})
        try:
            if to not in self._ways:
                way = socket.socket(socket.AF_UNIX)
                way.settimeout(1.0)
                way.connect(str(self._sockets / f"{self.name}-{to}"))
                self._ways[to] = way
            self._ways[to].sendall(frame)
        except OSError:  # nobody there: the message is lost, the next one tries again
            if lost := self._ways.pop(to, None):
                lost.close()

    def set_timer(self, name: str, after: float) -> None:
        if not after >= 0:
            raise UsageError(f"Timer {name!r} of {self.name} is to fire in {after!r} s; that must be 0 or more.")
        self._number += 1
        self._timers[name] = self._number
        heapq.heappush(self._due, (time.monotonic() + after / self._clock.rate, self._number, name))

    def cancel_timer(self, name: str) -> None:
        self._timers.pop(name, None)

    def record(self, event: str, **fields: Any) -> None:
        now = time.monotonic()
        told = {"local": self._clock.local(now), "rate": self._clock.rate, **fields}
        told.update(time=now - self._clock.began, event=event, node=self.name)
        os.write(self._record, json.dumps(told).encode() + b"\n")

    def live(self, make: Callable[[Context], Node]) -> None:
        """Run the node for ever."""
        door = self._sockets / self.name
        door.unlink(missing_ok=True)
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(door))
        listener.listen(64)
        selector = selectors.DefaultSelector()
        selector.register(listener, selectors.EVENT_READ)
        node = make(self)
        node.start()
        self.record("started", pid=os.getpid())
        announce("running")
        while True:
            self._fire(node)
            wait = max(0.0, self._due[0][0] - time.monotonic()) if self._due else None
            for key, _ in selector.select(wait):
                if key.fileobj is listener:
                    connection, _ = listener.accept()
                    selector.register(connection, selectors.EVENT_READ, Frames())
                else:
                    self._read(selector, key, node)

    def _fire(self, node: Node) -> None:
        while self._due and self._due[0][0] <= time.monotonic():
            _, number, name = heapq.heappop(self._due)
            if self._timers.get(name) == number:
                del self._timers[name]
                node.timer(name)

    @staticmethod
    def _read(selector: selectors.BaseSelector, key: selectors.SelectorKey, node: Node) -> None:
        connection = key.fileobj
        assert isinstance(connection, socket.socket)
        try:
            data = connection.recv(65536)
        except ConnectionError:
            data = b""
        if not data:
            selector.unregister(connection)
            connection.close()
        for envelope in key.data.feed(data):
            node.receive(envelope["source"], envelope["message"])


@dataclass(frozen=True)
class _Clock:
    began: float
    offset: float
    drift: float

    @property
    def rate(self) -> float:
        return 1.0 + self.drift

    def local(self, now: float) -> float:
        return (now - self.began) * self.rate + self.offset


@dataclass
class _Member:
    make: Callable[[Context], Node]
    clock: _Clock
    worker: Worker | None = None
    lives: int = 0


@dataclass(order=True)
class _Action:
    time: float
    number: int
    call: Callable[[], object] = field(compare=False)


class RealRun:
    """Nodes as processes, in `folder` (their disks and records). Add all nodes, then `run`.

    ::

        with RealRun(folder, seed=1) as run:
            for name in names:
                run.add(name, make)
            run.at(3.0, "crash", "n1")
            run.run(10.0)
            print(check_leases(run.record))
    """

    def __init__(self, folder: Path, seed: int | str = 0, conditions: Conditions | None = None) -> None:
        self.folder, self.seed = folder, seed
        self.proxy = Proxy(seed, conditions)
        self.proofs: list[Proof] = []
        self._harness = Harness()
        self._members: dict[str, _Member] = {}
        self._actions: list[_Action] = []
        self._own: list[dict[str, Any]] = []
        self._running = False

    def __enter__(self) -> RealRun:
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._sockets = Path(tempfile.mkdtemp(prefix="podlab-"))  # a short path: Unix sockets need one
        self._harness.__enter__()
        self.proxy.__enter__()
        self._began = time.monotonic()
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self._harness.close()
        finally:
            self.proxy.close()
            shutil.rmtree(self._sockets, ignore_errors=True)

    @property
    def time(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self._began

    @property
    def record(self) -> list[dict[str, Any]]:
        """What nodes recorded and what faults did, by time; messages are in `proxy.log`."""
        told = list(self._own)
        for name in self._members:
            path = self.folder / f"{name}.record"
            lines = path.read_text().split("\n")[:-1] if path.exists() else []
            told += [json.loads(line) for line in lines]
        return sorted(told, key=lambda event: event["time"])

    def worker(self, name: str) -> Worker:
        """The present process of a node."""
        worker = self._member(name).worker
        if worker is None:
            raise UsageError(f"Node {name} has not been started yet; `run` starts it.")
        return worker

    def add(self, name: str, make: Callable[[Context], Node], *, offset: float = 0.0, drift: float = 0.0) -> None:
        """Add a node; its clock is `offset` s ahead and gains `drift` s a second."""
        if self._running or name in self._members or "-" in name or "/" in name:
            raise UsageError(f"Node {name!r} cannot be added: names are new, without - and /, and come before the run.")
        self._members[name] = _Member(make, _Clock(self._began, offset, drift))

    def run(self, seconds: float) -> None:
        """Let `seconds` pass, with the faults that are due; NodeFailed if a node ended by itself."""
        end = self.time + seconds
        if not self._running:
            self._start()
        while True:
            until = min(end, self._actions[0].time) if self._actions else end
            waiting.pause(max(0.0, until - self.time))
            self._look()
            if self._actions and self._actions[0].time <= self.time:
                heapq.heappop(self._actions).call()
            elif self.time >= end:
                return

    def run_until(self, condition: Callable[[RealRun], object], within: float) -> bool:
        """Run until `condition(run)` holds; False if it does not within that many seconds."""
        end = self.time + within
        while not condition(self):
            if self.time >= end:
                return False
            self.run(waiting.INTERVAL)
        return True

    def at(self, time: float, verb: str | Callable[[], object], *arguments: Any) -> None:
        """Call at a time to come the method `verb` (a fault), or a function."""
        action = getattr(self, verb, None) if isinstance(verb, str) else verb
        if action is None or str(verb).startswith("_"):
            raise UsageError(f"There is no fault {verb!r}.")
        heapq.heappush(self._actions, _Action(time, len(self._actions) + len(self._own), lambda: action(*arguments)))

    # Faults

    def crash(self, name: str, at: str = "now") -> None:
        """Kill a node's process with SIGKILL; its disk stays. A real one is struck wherever it is, whatever `at`."""
        worker = self.worker(name)
        if worker.running():
            self.proofs.append(worker.kill())
            self._note("crash", name)

    def restart(self, name: str) -> None:
        """Start a node whose process was killed, with what its disk holds."""
        if not self.worker(name).running():
            self._note("restart", name)
            self._spawn(name)

    def pause(self, name: str, at: str = "now") -> None:
        """Freeze a node's process with SIGSTOP."""
        worker = self.worker(name)
        if worker.running() and worker.state != "T":
            self.proofs.append(worker.stop())
            self._note("pause", name)

    def resume(self, name: str) -> None:
        """Let a frozen process go on with SIGCONT."""
        worker = self.worker(name)
        if worker.running() and worker.state == "T":
            self.proofs.append(worker.resume())
            self._note("resume", name)

    def cut(self, sources: Iterable[str], destinations: Iterable[str]) -> None:
        """Block messages from any of `sources` to any of `destinations`, in this direction only."""
        here, there = several(sources), several(destinations)
        self.proxy.cut(here, there)
        self._note("cut", links=[[a, b] for a in here for b in there if a != b])

    def partition(self, *groups: Iterable[str]) -> None:
        """Block messages between groups, in place of all earlier cuts; the nodes not named are one more group."""
        named = [several(group) for group in groups]
        self.proxy.partition(*named)
        rest = [name for name in self._members if not any(name in group for group in named)]
        self._note("partition", groups=[*named, rest] if rest else named)

    def slow(self, sources: Iterable[str], destinations: Iterable[str], seconds: float) -> None:
        """Delay messages from any of `sources` to any of `destinations` by `seconds` more."""
        self.proxy.slow(sources, destinations, seconds)
        self._note("slow")

    def heal(self) -> None:
        """Remove every cut, and every delay that `slow` added."""
        self.proxy.heal()
        self._note("heal")

    def network(self, conditions: Conditions, source: str | None = None, destination: str | None = None) -> None:
        """Set the conditions of one direction; with neither name given, of all."""
        self.proxy.network(conditions, source, destination)
        self._note("network")

    # Inside

    def _member(self, name: str) -> _Member:
        if name not in self._members:
            raise UsageError(f"There is no node {name!r}; there are {', '.join(self._members) or 'none'}.")
        return self._members[name]

    def _note(self, event: str, node: str | None = None, **fields: Any) -> None:
        self._own.append({"time": self.time, "event": event, **({"node": node} if node else {}), **fields})

    def _start(self) -> None:
        self._running = True
        names = list(self._members)
        for a in names:
            for b in names:
                if a != b:
                    self.proxy.link(a, b, str(self._sockets / b), self._sockets / f"{a}-{b}")
        for name in names:
            self._spawn(name)

    def _spawn(self, name: str) -> None:
        member = self._members[name]
        member.lives += 1
        seed = f"{self.seed}/{name}/{member.lives}"

        def life() -> None:
            _drop_sockets()
            process = _Process(name, list(self._members), self.folder, self._sockets, seed, member.clock)
            process.live(member.make)

        member.worker = self._harness.spawn(life, name=name)

    def _look(self) -> None:
        killed = {proof.pid for proof in self.proofs}
        for name, member in self._members.items():
            if member.worker and not member.worker.running() and member.worker.pid not in killed:
                raise NodeFailed(f"Node {name} ended by itself: {member.worker.failure().message}")


def _drop_sockets() -> None:
    """In a forked node: give up its copies of the proxy's sockets.

    A connection ends for its far side only when its last copy is closed: a node that kept them would keep those alive
    that the proxy has closed. The numbers stay taken, so that whoever still owns one closes nothing of the node's.
    """
    nothing = os.open(os.devnull, os.O_RDWR)
    for entry in list(Path("/proc/self/fd").iterdir()):
        if entry.is_socket():
            os.dup2(nothing, int(entry.name), inheritable=False)
    os.close(nothing)
