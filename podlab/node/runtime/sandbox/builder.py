"""The builder: a child of the zygote that makes sandboxes one after the other. Standard library only.

Making one takes the kernel a millisecond or two, which the zygote's clients should not wait for; a fork for each
would cost twice as much again.
"""

from __future__ import annotations

import os
import select
import socket
from collections.abc import Callable

from podlab.network import netlink
from podlab.node.runtime.sandbox import container, kernel, pod_network, wire
from podlab.node.runtime.sandbox.loop import Children, Loop, Peer

#: Seconds without work after which a builder ends; the next sandbox gets a new one (a fork: 1.5 ms).
_IDLE = 5.0
#: How often a sandbox is asked for of a new builder when the old one has ended meanwhile.
_ATTEMPTS = 2


class _Asked:
    """One sandbox that is being made."""

    def __init__(self, order: dict, done: Callable[[list[int]], None], refused: Callable[[dict], None]) -> None:
        self.order = order
        self.done = done
        self.refused = refused
        self.attempts = 0


class Builder:
    """The zygote's side: a builder is started when there is work for it."""

    def __init__(self, node: str, loop: Loop, children: Children) -> None:
        self._node = node
        self._loop = loop
        self._children = children
        self._count = 0
        self._waiting: dict[int, _Asked] = {}
        self._peer: Peer | None = None

    def make(self, order: dict, done: Callable[[list[int]], None], refused: Callable[[dict], None]) -> None:
        """Make a sandbox; then `done(descriptors of its namespaces)` or `refused(error message)`."""
        self._ask(_Asked(order, done, refused))

    def _ask(self, asked: _Asked) -> None:
        if asked.attempts == _ATTEMPTS:
            asked.refused({"error": "its builder has ended twice"})
            return
        asked.attempts += 1
        if self._peer is None or self._peer.closed:
            try:
                self._peer = self._start()
            except OSError as error:
                asked.refused({"error": f"no process can be made for it: {error.strerror}"})
                return
        self._count += 1
        self._waiting[self._count] = asked
        self._peer.send({**asked.order, "n": self._count})

    def _start(self) -> Peer:
        near, far = socket.socketpair()
        try:
            pid = os.fork()
        except OSError:
            near.close()
            far.close()
            raise
        if pid == 0:
            try:
                container.fresh_child([far.fileno()])
                kernel.set_process_title(f"podlab-builder {self._node}")
                serve(far)
            finally:
                os._exit(1)
        far.close()
        self._children.on_exit(pid, lambda _status: None)
        return Peer(self._loop, wire.Connection(near), self._made, self._ended)

    def _made(self, message: dict, descriptors: list[int]) -> None:
        asked = self._waiting.pop(message["n"])
        if "error" in message:
            asked.refused(message)
        else:
            asked.done(descriptors)

    def _ended(self, _why: str) -> None:
        """Ask again for what it had not made: it may have ended just before it was asked."""
        waiting, self._waiting = self._waiting, {}
        for asked in waiting.values():
            self._ask(asked)


def serve(channel: socket.socket) -> None:
    """Make what is asked for until there was nothing to do for a while, or the zygote is gone."""
    connection = wire.Connection(channel)
    home = {name: kernel.open_namespace(name) for name in ("net", "uts", "ipc")}
    poller = select.poll()
    try:
        with netlink.Netlink() as node:
            while True:
                events = select.POLLIN | (select.POLLOUT if connection.wants_write else 0)
                poller.register(connection.fileno(), events)
                if not poller.poll(_IDLE * 1000):
                    return
                connection.flush()
                for order, _ in connection.receive():
                    _make(connection, node, order)
                    for name, descriptor in home.items():
                        kernel.setns(descriptor, kernel.NAMESPACES[name])
    except wire.Disconnected:
        return


def _make(connection: wire.Connection, node: netlink.Netlink, order: dict) -> None:
    descriptors: list[int] = []
    try:
        descriptors = pod_network.make_sandbox(order, node)
        connection.send({"n": order["n"]}, descriptors)
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        connection.send({"n": order["n"], "error": f"{where}{(error.strerror or str(error)).lower()}"})
    except ValueError as error:
        connection.send({"n": order["n"], "error": str(error)})
    finally:
        for descriptor in descriptors:
            os.close(descriptor)
