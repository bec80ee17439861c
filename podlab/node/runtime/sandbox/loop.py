"""epoll with a callback per descriptor, and forked children with a start channel. Standard library only."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import sys
from collections.abc import Callable, Sequence

from podlab import trees
from podlab.node.runtime.sandbox import container, wire

#: Files that are deleted without a child: it would cost more than they do.
_SWEPT_AT_ONCE = 64

#: What a child said on its channel: messages with their descriptors.
Said = list[tuple[dict, list[int]]]


def say(text: str) -> None:
    """A line for the node's log. A full disk takes none, and is no reason to end with every pod of the node."""
    with contextlib.suppress(OSError):
        print(text, file=sys.stderr, flush=True)


class Loop:
    """epoll with a callback per descriptor."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._handlers: dict[int, Callable[[int], None]] = {}

    def watch(self, descriptor: int, events: int, handler: Callable[[int], None]) -> None:
        """Call `handler(events)` whenever one of `events` is there; replaces an earlier watch."""
        if descriptor in self._handlers:
            self._epoll.modify(descriptor, events)
        else:
            self._epoll.register(descriptor, events)
        self._handlers[descriptor] = handler

    def forget(self, descriptor: int) -> None:
        """Watch it no longer; call before it is closed."""
        if self._handlers.pop(descriptor, None) is not None:
            self._epoll.unregister(descriptor)

    def once(self, timeout: float | None) -> None:
        """Wait for events, at most `timeout` seconds, and handle them."""
        for descriptor, events in self._epoll.poll(-1 if timeout is None else timeout):
            handler = self._handlers.get(descriptor)
            if handler is not None:  # an earlier handler of this round may have forgotten it
                handler(events)


class Peer:
    """A wire.Connection on a loop: messages go to `received`, its end goes to `gone`."""

    def __init__(
        self,
        loop: Loop,
        connection: wire.Connection,
        received: Callable[[dict, list[int]], None],
        gone: Callable[[str], None],
    ) -> None:
        self._loop = loop
        self._connection = connection
        self._received = received
        self._gone = gone
        self.closed = False
        self._follow()

    def send(self, message: dict, descriptors: Sequence[int] = ()) -> None:
        """Send a message; nothing happens if the other side is gone."""
        if self.closed:
            return
        try:
            self._connection.send(message, list(descriptors))
        except wire.Disconnected as error:
            self._close(str(error))
            return
        self._follow()

    def _follow(self) -> None:
        if not self.closed:
            events = select.EPOLLIN | (select.EPOLLOUT if self._connection.wants_write else 0)
            self._loop.watch(self._connection.fileno(), events, self._ready)

    def _ready(self, events: int) -> None:
        try:
            if events & select.EPOLLOUT:
                self._connection.flush()
            if events & ~select.EPOLLOUT:
                for message, descriptors in self._connection.receive():
                    self._received(message, descriptors)
        except wire.Disconnected as error:
            self._close(str(error))
        self._follow()

    def _close(self, why: str) -> None:
        if not self.closed:
            self.closed = True
            self._loop.forget(self._connection.fileno())
            self._connection.close()
            self._gone(why)


class Children:
    """Forked children of a process that reaps everything, as PID 1 must."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._on_exit: dict[int, Callable[[int], None]] = {}
        self._channels: dict[int, Callable[[int], None]] = {}
        reading, writing = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)

        def woken(_events: int) -> None:
            try:
                os.read(reading, 4096)
            except BlockingIOError:
                pass
            self._reap()

        loop.watch(reading, select.EPOLLIN, woken)

    def on_exit(self, pid: int, handler: Callable[[int], None]) -> None:
        """Call `handler(wait status)` when the child has ended; must follow its fork at once."""
        self._on_exit[pid] = handler

    def fork(
        self,
        body: Callable[[socket.socket], None],
        keep: Sequence[int],
        done: Callable[[Said], None],
    ) -> int:
        """Fork a child that runs `body(channel)` and never returns; returns its pid.

        `keep` are the descriptors that it keeps. `done` gets what it said when its channel has closed, that is
        when it has executed a program or ended; always before its `on_exit`.
        """
        near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            pid = os.fork()
        except OSError:
            near.close()
            far.close()
            raise
        if pid == 0:
            try:
                container.fresh_child([*keep, far.fileno()])
                body(far)
            except BaseException as error:
                container.fail(far, error)
            finally:
                os._exit(0)
        far.close()
        near.setblocking(False)
        said: Said = []

        def listen(_events: int) -> None:
            while True:
                try:
                    message, descriptors = container.hear(near)
                except (BlockingIOError, InterruptedError):
                    return
                if message is None:
                    break
                said.append((message, descriptors))
            self._loop.forget(near.fileno())
            near.close()
            del self._channels[pid]
            done(said)

        self._channels[pid] = listen
        self._loop.watch(near.fileno(), select.EPOLLIN, listen)
        return pid

    def sweep(self, path: str, done: Callable[[], None]) -> None:
        """Delete a folder, in a child if it is more than a handful of files; then `done()`.

        What cannot be deleted stays and is said in the log: nothing depends on it.
        """
        try:
            if trees.remove_tree(path, most=_SWEPT_AT_ONCE):
                done()
                return

            def body(channel: socket.socket) -> None:
                trees.remove_tree(path)
                channel.close()

            def over(said: Said) -> None:
                for message, _ in said:
                    say(f"{path} was not deleted: {message.get('error')}")
                done()

            self.fork(body, [], over)
        except OSError as error:
            say(f"{path} was not deleted: {error}")
            done()

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if listen := self._channels.get(pid):
                _call(listen, select.EPOLLIN)
            if handler := self._on_exit.pop(pid, None):
                _call(handler, status)


def _call(handler: Callable[[int], None], value: int) -> None:
    """Call it; a fault of it is told and does not keep others from being called."""
    try:
        handler(value)
    except Exception:
        import traceback  # 5 ms that a start need not pay

        traceback.print_exc()
        sys.stderr.flush()
