"""Agents forked from one process that has loaded their modules already: at bring-up, three starts of Python less.

The nursery is forked from the supervisor before that has an event loop or threads, and loads the agent itself: the
supervisor, which stays, needs no memory for it. For each agent the nursery forks a guard, which enters the machine's
PID namespace and forks the agent into it; when the guard has gone, the kernel makes the agent a child of the
supervisor, which can wait for it like for any other. An agent that is started later, after a crash, is started by
its machine, as a program of its own.
"""

from __future__ import annotations

import asyncio
import gc
import importlib
import json
import os
import signal
import socket
import sys
from pathlib import Path
from typing import Any, NoReturn

from podlab.cluster.embedded.processes import Child, Reaper
from podlab.errors import ClusterError
from podlab.node.runtime.sandbox import kernel

#: Seconds that one start may take.
PATIENCE = 30.0
_LONGEST = 65536
#: The namespaces of a machine that an agent enters itself, in this order: with the last it sees other files.
_ENTERED = ("net", "uts", "ipc", "mnt")


class Nursery:
    """The supervisor's side."""

    def __init__(self, connection: socket.socket, reaper: Reaper) -> None:
        self._connection = connection
        self._reaper = reaper
        self._turn: asyncio.Lock | None = None
        self.open = True

    async def start(self, machine: int | None, configuration: Path, log: Path) -> Child:
        """Start an agent in the machine whose first process is `machine` (None: in no namespace of its own).

        ClusterError if that is refused.
        """
        self._turn = self._turn or asyncio.Lock()
        loop = asyncio.get_running_loop()
        order = {"machine": machine, "configuration": str(configuration), "log": str(log)}
        async with self._turn, asyncio.timeout(PATIENCE):
            await loop.sock_sendall(self._connection, json.dumps(order).encode())
            answer = json.loads(await loop.sock_recv(self._connection, _LONGEST) or b"{}")
            if "pid" not in answer:
                raise ClusterError(f"The agent could not be forked: {answer.get('error', 'the nursery has ended')}.")
            # Its guard waits for this word: before it goes, the agent's end cannot be missed.
            child = Child(answer["pid"], self._reaper.expect(answer["pid"]))
            await loop.sock_sendall(self._connection, b"{}")
            await loop.sock_recv(self._connection, _LONGEST)
            return child

    def close(self) -> None:
        """End the nursery; the agents go on."""
        if self.open:
            self.open = False
            self._connection.close()


def begin(title: str, reaper: Reaper) -> Nursery:
    """Fork a nursery, which shares what this process has loaded. Only while there are no threads."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    gc.collect()
    gc.freeze()
    if os.fork() == 0:
        _run(theirs, title)
    theirs.close()
    ours.setblocking(False)
    return Nursery(ours, reaper)


def _run(connection: socket.socket, title: str) -> NoReturn:
    """Serve orders until the supervisor closes the connection; never returns."""
    try:
        keep = connection.fileno()
        os.closerange(3, keep)
        os.closerange(keep + 1, 1 << 20)
        kernel.set_process_title(title)
        importlib.import_module("podlab.node.agent")  # before the agents: each has it, and shares it with the others
        while data := connection.recv(_LONGEST):
            _one(connection, json.loads(data))
    except ConnectionError:
        pass
    except BaseException as error:
        print(f"nursery: {error!r}", file=sys.stderr, flush=True)
    os._exit(0)


def _one(connection: socket.socket, order: dict[str, Any]) -> None:
    """Start one agent: fork its guard, pass on what it says, and let it go when the supervisor knows."""
    said, saying = os.pipe()
    waited, going = os.pipe()
    guard = os.fork()
    if guard == 0:
        connection.close()
        os.close(said)
        os.close(going)
        _guard(order, saying, waited)
    os.close(saying)
    os.close(waited)
    with os.fdopen(said, "rb") as answers:
        answer = answers.read()
    connection.send(answer or b'{"error": "its guard ended"}')
    if b'"pid"' in answer:
        connection.recv(_LONGEST)
    os.close(going)
    os.waitpid(guard, 0)
    if b'"pid"' in answer:
        connection.send(b"{}")


def _guard(order: dict[str, Any], saying: int, waited: int) -> NoReturn:
    """Fork the agent into the machine's PID namespace, say its number out here, and go when told to."""
    try:
        machine = order["machine"]
        names = (*_ENTERED, "pid") if machine else ()
        spaces = {name: kernel.open_namespace(name, machine) for name in names}
        if machine:
            kernel.setns(spaces["pid"], kernel.NAMESPACES["pid"])
        agent = os.fork()
        if agent == 0:
            os.close(saying)
            _agent(order, spaces)
        os.write(saying, json.dumps({"pid": agent}).encode())
        os.close(saying)
        os.read(waited, 1)
    except BaseException as error:
        os.write(saying, json.dumps({"error": str(error)}).encode())
    os._exit(0)


def _agent(order: dict[str, Any], spaces: dict[str, int]) -> NoReturn:
    """Become an agent as if started as a program in the machine."""
    status = 1
    try:
        log = os.open(order["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        for name in _ENTERED if spaces else ():
            kernel.setns(spaces[name], kernel.NAMESPACES[name])
        os.setsid()
        os.chdir("/")
        os.umask(0o022)
        os.dup2(log, 1)
        os.dup2(log, 2)
        os.closerange(3, 1 << 20)
        for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_DFL)
        kernel.set_process_title(f"podlab.node.agent --configuration {order['configuration']}")
        sys.argv = ["podlab.node.agent", "--configuration", order["configuration"]]
        from podlab.node import agent

        status = agent.main()
    except SystemExit as error:
        status = error.code if isinstance(error.code, int) else 1
    except BaseException as error:
        print(f"agent: {error!r}", file=sys.stderr)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)
