"""Reading and writing pipes and terminals in the event loop, without threads and with back-pressure."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
import struct
import termios

#: Bytes that are read at once: a pipe's usual capacity.
CHUNK = 64 * 1024


class Descriptor:
    """A descriptor that this object owns: `close` closes it."""

    def __init__(self, number: int) -> None:
        self.number = number
        self._loop = asyncio.get_running_loop()
        os.set_blocking(number, False)

    async def read(self) -> bytes:
        """Return what is there, at most CHUNK bytes; empty at the end (also that of a terminal, EIO)."""
        while True:
            try:
                return os.read(self.number, CHUNK)
            except BlockingIOError:
                await self._ready(self._loop.add_reader, self._loop.remove_reader)
            except OSError as error:
                if error.errno == errno.EIO:
                    return b""
                raise

    async def write(self, data: bytes) -> None:
        """Write all of `data`. Raises BrokenPipeError when nobody can read it any more."""
        view = memoryview(data)
        while view:
            try:
                view = view[os.write(self.number, view) :]
            except BlockingIOError:
                await self._ready(self._loop.add_writer, self._loop.remove_writer)
            except OSError as error:
                if error.errno == errno.EIO:
                    raise BrokenPipeError("the terminal has been closed") from error
                raise

    def close(self) -> None:
        """Close the descriptor; closing twice is fine."""
        if self.number >= 0:
            self._loop.remove_reader(self.number)
            self._loop.remove_writer(self.number)
            os.close(self.number)
            self.number = -1

    async def _ready(self, add, remove) -> None:
        ready = self._loop.create_future()
        number = self.number

        def wake() -> None:
            if not ready.done():
                ready.set_result(None)

        add(number, wake)
        try:
            await ready
        finally:
            # After `close` the number may belong to another file: leave that one alone.
            if self.number == number:
                remove(number)


def set_window_size(descriptor: int, rows: int, columns: int) -> None:
    """Set the size of a terminal; the kernel sends SIGWINCH to its foreground processes."""
    fcntl.ioctl(descriptor, termios.TIOCSWINSZ, struct.pack("HHHH", rows & 0xFFFF, columns & 0xFFFF, 0, 0))
