"""Real worker processes that do numbered tasks at the checker's word, so that a fault strikes where it is meant to.

A held task ends only when it is told to: whoever has it in hand can be killed or stopped in its middle, certainly.
"""

from __future__ import annotations

import os
import selectors
import socket
from contextlib import ExitStack
from typing import Any

from podlab.checks.contract import Inconclusive
from podlab.distributed.frames import Frames, receive, send
from podlab.distributed.harness import Harness, Proof, Worker, announce

#: A task that a worker has ended, or None: its end of the socket is closed, it is gone.
Message = tuple[str, int | None]


class Crew(ExitStack):
    """Workers by name (w0, w1, ...). Their processes end when it is left."""

    def __init__(self, size: int, patience: float) -> None:
        super().__init__()
        self.size, self.patience = size, patience
        self.workers: dict[str, Worker] = {}
        self._ways: dict[str, socket.socket] = {}
        self._frames: dict[str, Frames] = {}

    def __enter__(self) -> Crew:
        harness = self.enter_context(Harness())
        self._selector = self.enter_context(selectors.DefaultSelector())
        for number in range(self.size):
            ours, theirs = socket.socketpair()
            self.callback(ours.close)
            name = f"w{number}"
            self.workers[name] = harness.spawn(_life, theirs, [ours, *self._ways.values()], name=name)
            theirs.close()
            self._ways[name], self._frames[name] = ours, Frames()
            self._selector.register(ours, selectors.EVENT_READ, name)
        return self

    def give(self, worker: str, task: int, *, hold: bool = False) -> None:
        """Give a task to a worker; it begins at once."""
        send(self._ways[worker], {"task": task, "hold": hold})

    def release(self, worker: str) -> None:
        """Let a worker end the task that it holds."""
        send(self._ways[worker], {})

    def kill(self, worker: str, task: int | None = None) -> Proof:
        """SIGKILL, in the middle of `task` if one is named. Inconclusive if it did not bite."""
        if task is None:
            return _bitten(self.workers[worker].kill())
        return _bitten(self.workers[worker].kill_in_flight(f"task {task} ", timeout=self.patience))

    def stop(self, worker: str) -> Proof:
        """SIGSTOP: it stands still, and nobody is told. Inconclusive if it did not bite."""
        return _bitten(self.workers[worker].stop())

    def resume(self, worker: str) -> Proof:
        """SIGCONT: it goes on as if nothing had happened."""
        return _bitten(self.workers[worker].resume())

    def news(self, seconds: float | None = None) -> list[Message]:
        """What workers say next. Nothing within `seconds` gives []; without, silence is Inconclusive: they are ours."""
        found: list[Message] = []
        for key, _ in self._selector.select(self.patience if seconds is None else seconds):
            name = key.data
            data = self._ways[name].recv(65536)
            if not data:
                self._selector.unregister(self._ways[name])
                self.workers[name].wait(self.patience)
                found.append((name, None))
            found += [(name, message["task"]) for message in self._frames[name].feed(data)]
        if not found and seconds is None:
            raise Inconclusive(f"no worker said anything for {self.patience:.0f} s")
        return found


def _bitten(proof: Proof) -> Proof:
    if not proof:
        raise Inconclusive(str(proof))
    return proof


def _life(way: socket.socket, others: list[socket.socket]) -> None:
    """A worker: take a task, do it, say so, until nobody is there to say it to."""
    for other in others:
        other.close()
    while (told := receive(way)) is not None:
        done: dict[str, Any] = {"task": told["task"], "pid": os.getpid()}
        announce(f"task {told['task']} ")
        if told["hold"] and receive(way) is None:
            return
        announce(None)
        send(way, done)
