"""The keeper: the process that owns the output of a node's containers. It survives the node's agent.

It reads stdout, stderr and terminals, appends to the log files in the CRI format, and serves attached clients.
It takes its orders from the zygote over one connection (wire.py): add, flush, attach, resize, reopen, remove;
every order with an "n" is answered. Where a container has a memory limit it watches that too (memory.py).
Single-threaded, standard library only; nothing in here waits for a slow reader.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import functools
import os
import select
import socket
import struct
import termios
import time

from podlab.node.runtime.sandbox import beneath, log_format, memory, wire
from podlab.node.runtime.sandbox.loop import Loop, Peer, say

_READ = 1 << 16
#: Bytes that an attached client may be behind before the container has to wait for it.
_BEHIND = 1 << 20
#: Seconds without progress after which such a client is dropped, so that it cannot hold a container up.
_STALLED = 10.0
#: Input bytes that wait for a container that does not read.
_INPUT = 1 << 18
#: Most bytes read from one stream when a container has ended (a pipe holds at most 1 MiB).
_DRAIN = 1 << 21

_FRAME = struct.Struct(">BI")


class _Attached:
    """One attached client: frames that wait for it, and its input on the way to the container."""

    def __init__(self, loop: Loop, container: _Container, output: socket.socket) -> None:
        self._loop = loop
        self._container = container
        self._output = output
        self._waiting = bytearray()
        self._ending = False
        self.progress = time.monotonic()
        output.setblocking(False)
        loop.watch(output.fileno(), select.EPOLLRDHUP, self._event)

    @property
    def behind(self) -> int:
        return len(self._waiting)

    def give(self, stream: int, data: bytes) -> None:
        if not self._waiting:
            self.progress = time.monotonic()
        self._waiting += _FRAME.pack(stream, len(data)) + data
        self._push()

    def finish(self) -> None:
        """End the stream when everything has been sent."""
        self._ending = True
        self._push()

    def _event(self, events: int) -> None:
        if events & (select.EPOLLHUP | select.EPOLLERR | select.EPOLLRDHUP):
            self.drop()
        else:
            self._push()

    def _push(self) -> None:
        if self._output.fileno() < 0:
            return
        try:
            while self._waiting:
                sent = self._output.send(self._waiting[: 1 << 17], socket.MSG_NOSIGNAL)
                del self._waiting[:sent]
                self.progress = time.monotonic()
        except (BlockingIOError, InterruptedError):
            pass
        except OSError:
            self.drop()
            return
        if self._ending and not self._waiting:
            self.drop()
            return
        wanted = select.EPOLLRDHUP | (select.EPOLLOUT if self._waiting else 0)
        self._loop.watch(self._output.fileno(), wanted, self._event)
        self._container.pace()

    def drop(self) -> None:
        if self._output.fileno() < 0:
            return
        self._loop.forget(self._output.fileno())
        self._output.close()
        self._container.attached.discard(self)
        self._container.pace()


class _Container:
    """One container's streams: source descriptors by stream number (1, 2), their lines, its log file."""

    def __init__(self, loop: Loop, order: dict, descriptors: list[int]) -> None:
        self._loop = loop
        self._log_path, self._log_within = order["log"], order["log_within"]
        self._log = -1
        self._tty = order["tty"]
        self._stdin_once = order["stdin_once"]
        self._sources: dict[int, int] = {}
        self._lines = {stream: log_format.Lines(stream) for stream in (1, 2)}
        self._paced = False
        self._input = -1
        self._input_waiting = b""
        self._input_sockets: list[socket.socket] = []
        self.attached: set[_Attached] = set()
        for descriptor in descriptors:
            os.set_blocking(descriptor, False)
        self._sources[1] = descriptors[0]
        if self._tty:
            self._input = os.dup(descriptors[0]) if order["stdin"] else -1
        else:
            self._sources[2] = descriptors[1]
            if order["stdin"]:
                self._input = descriptors[2]
        try:
            self.reopen()
            self._listen()
        except BaseException:
            self.close()
            raise

    # Output

    def _listen(self) -> None:
        for stream, descriptor in self._sources.items():
            events = 0 if self._paced else select.EPOLLIN
            self._loop.watch(descriptor, events, functools.partial(self._readable, stream))

    def pace(self) -> None:
        """Stop reading while an attached client is far behind, start again when none is."""
        paced = any(client.behind > _BEHIND for client in self.attached)
        if paced != self._paced:
            self._paced = paced
            self._listen()

    def _readable(self, stream: int, _events: int) -> None:
        self._read(stream)

    def _read(self, stream: int) -> int:
        """Read once and pass it on; the number of bytes, 0 when nothing is there or the stream has ended."""
        descriptor = self._sources.get(stream)
        if descriptor is None:
            return 0
        try:
            data = os.read(descriptor, _READ)
        except (BlockingIOError, InterruptedError):
            return 0
        except OSError as error:
            if error.errno != errno.EIO:  # EIO: nobody has the terminal open any more
                raise
            data = b""
        if not data:
            self._end(stream)
            return 0
        self._write(self._lines[stream].take(data, _now()))
        for client in list(self.attached):
            client.give(stream, data)
        return len(data)

    def _end(self, stream: int) -> None:
        descriptor = self._sources.pop(stream)
        self._loop.forget(descriptor)
        os.close(descriptor)
        self._write(self._lines[stream].end(_now()))

    def drain(self) -> None:
        """Take what is left in the pipes of a container that has ended, and let its clients go."""
        for stream in list(self._sources):
            budget = _DRAIN
            while budget > 0 and (count := self._read(stream)):
                budget -= count
        for client in list(self.attached):
            client.finish()

    def close(self) -> None:
        for stream in list(self._sources):
            self._end(stream)
        for client in list(self.attached):
            client.drop()
        for peer in list(self._input_sockets):
            self._drop_input(peer)
        self._close_input()
        if self._log >= 0:
            os.close(self._log)
            self._log = -1

    # The log file

    def reopen(self) -> None:
        """Open the log file (again), after it was renamed; a log that cannot be opened loses its lines."""
        if self._log >= 0:
            os.close(self._log)
            self._log = -1
        with contextlib.suppress(OSError):
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT
            self._log = beneath.open_file(self._log_path, flags, 0o640, self._log_within)

    def _write(self, text: bytes) -> None:
        rest = memoryview(text)
        try:
            while rest and self._log >= 0:
                rest = rest[os.write(self._log, rest) :]
        except OSError:
            pass  # a full disk costs log lines, not the container

    # Input

    def add_input(self, peer: socket.socket) -> None:
        """Bytes of `peer` go to the container's standard input."""
        if self._input < 0:
            peer.close()
            return
        peer.setblocking(False)
        self._input_sockets.append(peer)
        self._listen_input()

    def _listen_input(self) -> None:
        full = len(self._input_waiting) >= _INPUT
        for peer in self._input_sockets:
            self._loop.watch(peer.fileno(), 0 if full else select.EPOLLIN, functools.partial(self._take, peer))

    def _take(self, peer: socket.socket, _events: int) -> None:
        try:
            data = peer.recv(_READ)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            data = b""
        if data:
            self._input_waiting += data
            self._feed()
        else:
            self._drop_input(peer)
            if self._stdin_once and not self._input_sockets and not self._input_waiting:
                self._close_input()

    def _feed(self) -> None:
        """Hand waiting input to the container as far as it takes it."""
        if self._input < 0:
            return
        try:
            while self._input_waiting:
                self._input_waiting = self._input_waiting[os.write(self._input, self._input_waiting[:4096]) :]
        except (BlockingIOError, InterruptedError):
            self._loop_input()
            return
        except OSError:
            self._close_input()  # the program has closed its standard input
            return
        self._loop.forget(self._input)
        if self._stdin_once and not self._input_sockets:
            self._close_input()
        else:
            self._listen_input()

    def _loop_input(self) -> None:
        self._loop.watch(self._input, select.EPOLLOUT, lambda _: self._feed())
        self._listen_input()

    def _drop_input(self, peer: socket.socket) -> None:
        self._loop.forget(peer.fileno())
        peer.close()
        self._input_sockets.remove(peer)

    def _close_input(self) -> None:
        if self._input >= 0:
            self._loop.forget(self._input)
            os.close(self._input)
            self._input = -1
        self._input_waiting = b""
        for peer in list(self._input_sockets):
            self._drop_input(peer)

    def resize(self, rows: int, columns: int) -> bool:
        """Set the terminal's window size; False if there is no terminal."""
        if not self._tty or 1 not in self._sources:
            return False
        size = struct.pack("HHHH", rows & 0xFFFF, columns & 0xFFFF, 0, 0)
        fcntl.ioctl(self._sources[1], termios.TIOCSWINSZ, size)
        return True


def _now() -> bytes:
    return log_format.stamp(time.time_ns())


class Keeper:
    """Carries out the zygote's orders."""

    def __init__(self, channel: socket.socket, watch: memory.Watch) -> None:
        self._loop = Loop()
        self._containers: dict[str, _Container] = {}
        self._watch = watch
        self._zygote = Peer(self._loop, wire.Connection(channel), self._ordered, lambda _: os._exit(0))

    def run(self) -> None:
        """Serve until the zygote is gone."""
        while True:
            self._loop.once(self._pause())
            self._drop_stalled()
            for container, used in self._watch.look():
                self._zygote.send({"event": "memory", "container": container, "bytes": used})

    def _pause(self) -> float | None:
        waits = [self._watch.pause()]
        if any(client.behind for container in self._containers.values() for client in container.attached):
            waits.append(1.0)
        return min((wait for wait in waits if wait is not None), default=None)

    def _drop_stalled(self) -> None:
        late = time.monotonic() - _STALLED
        for container in self._containers.values():
            for client in list(container.attached):
                if client.behind > _BEHIND and client.progress < late:
                    client.drop()

    def _ordered(self, order: dict, descriptors: list[int]) -> None:
        try:
            answer = getattr(self, f"_do_{order['op']}")(order, descriptors) or {}
        except Exception as error:
            import traceback  # 5 ms that a start need not pay

            # A fault of ours must cost one order, not every pod of the node.
            say(f"keeper, {order}: {traceback.format_exc()}")
            answer = {"error": f"{order.get('op')}: {error!r}"}
        if "n" in order:
            self._zygote.send({"n": order["n"], **answer})

    def _do_add(self, order: dict, descriptors: list[int]) -> None:
        self._containers[order["container"]] = _Container(self._loop, order, descriptors)

    def _do_limit(self, order: dict, _descriptors: list[int]) -> None:
        pod = (order["pod"], order["pod_bytes"]) if order["pod_bytes"] else None
        self._watch.add(order["container"], order["mount_namespace"], order["bytes"], pod)

    def _do_flush(self, order: dict, _descriptors: list[int]) -> None:
        self._watch.remove(order["container"])
        if container := self._containers.get(order["container"]):
            container.drain()

    def _do_attach(self, order: dict, descriptors: list[int]) -> dict:
        output, *inputs = (socket.socket(fileno=descriptor) for descriptor in descriptors)
        container = self._containers.get(order["container"])
        if container is None:
            for peer in (output, *inputs):
                peer.close()
            return {"error": "the container has ended"}
        container.attached.add(_Attached(self._loop, container, output))
        for peer in inputs:
            container.add_input(peer)
        return {}

    def _do_resize(self, order: dict, _descriptors: list[int]) -> dict:
        container = self._containers.get(order["container"])
        if container is None or not container.resize(order["rows"], order["columns"]):
            return {"error": "the container has no terminal"}
        return {}

    def _do_reopen(self, order: dict, _descriptors: list[int]) -> None:
        if container := self._containers.get(order["container"]):
            container.reopen()

    def _do_remove(self, order: dict, _descriptors: list[int]) -> None:
        self._watch.remove(order["container"])
        if container := self._containers.pop(order["container"], None):
            container.close()
