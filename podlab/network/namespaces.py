"""A network namespace held by a thread, which makes sockets in it for everybody else. Standard library only.

A socket belongs for ever to the namespace of the thread that made it. So one thread that lives in another
network is enough for an event loop to speak there: the thread makes the sockets, the loop uses them.
"""

from __future__ import annotations

import ctypes
import os
import queue
import socket
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

CLONE_NEWNET = 0x4000_0000

T = TypeVar("T")

_libc = ctypes.CDLL(None, use_errno=True)


def _check(result: int, what: str) -> None:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), what)


def unshare_network() -> None:
    """Move the calling thread, and no other, into a new network namespace; OSError if that is refused."""
    _check(_libc.unshare(ctypes.c_int(CLONE_NEWNET)), "unshare(net)")


def enter_network(descriptor: int) -> None:
    """Move the calling thread, and no other, into the network namespace that `descriptor` refers to."""
    _check(_libc.setns(ctypes.c_int(descriptor), ctypes.c_int(CLONE_NEWNET)), "setns(net)")


def set_sysctl(name: str, value: str) -> None:
    """Write a setting of the calling thread's network namespace; `name` is a path below /proc/sys."""
    descriptor = os.open(f"/proc/sys/{name}", os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(descriptor, value.encode())
    finally:
        os.close(descriptor)


def in_network(descriptor: int, action: Callable[[], T]) -> T:
    """Return `action()`, run by a short-lived thread in the network namespace of `descriptor`."""
    future: Future[T] = Future()

    def run() -> None:
        try:
            enter_network(descriptor)
            future.set_result(action())
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=run, name="in-network").start()
    return future.result()


class NetworkThread:
    """A daemon thread in a new network namespace, which runs calls one after another until it is stopped."""

    def __init__(self, name: str) -> None:
        self._calls: queue.SimpleQueue[tuple[Callable[[], Any], Future[Any]] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._entered: Future[None] = Future()

    @property
    def task(self) -> int | None:
        """The thread's id: /proc/TASK/ns/net is its network namespace. None before its start."""
        return self._thread.native_id

    def start(self) -> None:
        """Start the thread and return when it has its namespace; OSError if the kernel refuses one."""
        self._thread.start()
        self._entered.result()

    def call(self, action: Callable[[], T]) -> T:
        """Return `action()`, run by the thread; RuntimeError if it does not run (any more)."""
        if not self._thread.is_alive():
            raise RuntimeError(f"the thread {self._thread.name} does not run")
        future: Future[T] = Future()
        self._calls.put((action, future))
        return future.result()

    def socket(self, family: int, kind: int, protocol: int = 0) -> socket.socket:
        """A new non-blocking socket that belongs to the thread's network namespace."""

        def make() -> socket.socket:
            made = socket.socket(family, kind, protocol)
            made.setblocking(False)
            return made

        return self.call(make)

    def visit(self, descriptor: int, action: Callable[[], T]) -> T:
        """Return `action()`, run by the thread in the network namespace that `descriptor` refers to."""

        def there_and_back() -> T:
            home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
            try:
                enter_network(descriptor)
                try:
                    return action()
                finally:
                    enter_network(home)
            finally:
                os.close(home)

        return self.call(there_and_back)

    def stop(self) -> None:
        """End the thread; its namespace goes with the last socket in it. Doing it twice is fine."""
        if self._thread.is_alive():
            self._calls.put(None)
            self._thread.join()

    def _run(self) -> None:
        try:
            unshare_network()
        except BaseException as error:
            self._entered.set_exception(error)
            return
        self._entered.set_result(None)
        while (item := self._calls.get()) is not None:
            action, future = item
            try:
                future.set_result(action())
            except BaseException as error:
                future.set_exception(error)
            # Else the last call's objects, sockets among them, would live until the next call.
            del item, action, future
        while not self._calls.empty():
            if (item := self._calls.get()) is not None:
                item[1].set_exception(RuntimeError(f"the thread {self._thread.name} was stopped"))
