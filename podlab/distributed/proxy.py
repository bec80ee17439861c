"""A proxy that loses, delays, repeats, reorders and blocks framed messages between real processes.

It stands between a client's socket and a server's, on loopback TCP or Unix sockets. What happens to the n-th message
of a direction depends on the seed and on n only. Messages are judged one by one, so a cut link swallows them while
its connections stay open, as a network does; nothing is sent again.
"""

from __future__ import annotations

import asyncio
import heapq
import os
import random
import threading
import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from podlab.distributed.frames import Frames, decode
from podlab.distributed.network import Conditions, Line
from podlab.errors import LaboratoryError, UsageError

#: A Unix socket's path, or (host, port) on loopback.
Address = str | tuple[str, int]

#: Bytes up to which a message is shown in the log.
_SHOWN = 2000


class _Outlet:
    """Writes frames to a connection at their times, in order where times are equal."""

    def __init__(self, loop: asyncio.AbstractEventLoop, writer: asyncio.StreamWriter) -> None:
        self._loop, self._writer = loop, writer
        self._queue: list[tuple[float, int, bytes]] = []
        self._number = 0
        self._timer: asyncio.TimerHandle | None = None
        self._ending = False
        self._ended = asyncio.Event()

    def put(self, when: float, frame: bytes) -> None:
        self._number += 1
        heapq.heappush(self._queue, (when, self._number, frame))
        if self._queue[0][1] == self._number:  # the first to go: the timer, if there is one, is for a later one
            self._flush()

    def empty(self) -> bool:
        return not self._queue

    async def end(self) -> None:
        """Pass on the end of the stream after what is still to come; returns then."""
        self._ending = True
        self._flush()
        await self._ended.wait()

    def _flush(self) -> None:
        if self._timer:
            self._timer.cancel()
            self._timer = None
        while self._queue and self._queue[0][0] <= self._loop.time():
            frame = heapq.heappop(self._queue)[2]
            if not self._writer.is_closing():
                self._writer.write(frame)
        if self._queue:
            self._timer = self._loop.call_at(self._queue[0][0], self._flush)
        elif self._ending:
            self._ended.set()
            if not self._writer.is_closing() and self._writer.can_write_eof():
                self._writer.write_eof()


class Proxy:
    """Any number of links with faults, in a thread of its own; usable where an event loop runs already.

    `log` has one event for each message: what happened (forward, drop, and with it lost, cut, duplicated, held),
    from whom to whom, and the message. `tally` counts (what, source, destination): the proof that a fault bit.
    """

    def __init__(self, seed: int | str = 0, conditions: Conditions | None = None) -> None:
        self.seed = seed
        self.log: list[dict[str, Any]] = []
        self.tally: Counter[tuple[str, str, str]] = Counter()
        self._conditions = conditions or Conditions(delay=(0.0, 0.0))
        self._special: dict[tuple[str, str], Conditions] = {}
        self._cuts: frozenset[tuple[str, str]] = frozenset()
        self._slow: dict[tuple[str, str], float] = {}
        self._chances: dict[tuple[str, str], tuple[random.Random, Line]] = {}
        self._names: list[str] = []
        self._began = time.monotonic()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)
        self._servers: list[asyncio.Server] = []
        self._tasks: set[asyncio.Task[None]] = set()

    def __enter__(self) -> Proxy:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close all listeners and connections and end the thread."""
        if not self._thread.is_alive():
            return
        asyncio.run_coroutine_threadsafe(self._closed(), self._loop).result(30)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def link(self, source: str, destination: str, server: Address, listen: Path | None = None) -> Address:
        """Open a way from `source` to `destination`, whose real address is `server`; returns where to connect.

        Listens on a free loopback port, or on the Unix socket `listen`. Answers on the same connection go from
        `destination` to `source` and meet that direction's faults.
        """
        if not self._thread.is_alive():
            raise UsageError("The proxy is not open.", hint="Use it as `with Proxy(seed) as proxy:`.")
        self._names += [name for name in (source, destination) if name not in self._names]
        return asyncio.run_coroutine_threadsafe(
            self._listening(source, destination, server, listen), self._loop
        ).result(30)

    # Faults: the same verbs as the simulator's

    def cut(self, sources: Iterable[str], destinations: Iterable[str]) -> None:
        """Block messages from any of `sources` to any of `destinations`, in this direction only."""
        pairs = _pairs(sources, destinations)
        self._cuts |= frozenset(pairs)
        self._note("cut", links=[list(pair) for pair in pairs])

    def partition(self, *groups: Iterable[str]) -> None:
        """Block messages between groups, in place of all earlier cuts; names in no group are one more group."""
        named = [[group] if isinstance(group, str) else list(group) for group in groups]
        named.append([name for name in self._names if not any(name in group for group in named)])
        self._cuts = frozenset(
            (a, b) for one in named for other in named if one is not other for a in one for b in other
        )
        self._note("partition", groups=[group for group in named if group])

    def heal(self) -> None:
        """Remove every cut, and every delay that `slow` added."""
        self._cuts, self._slow = frozenset(), {}
        self._note("heal")

    def slow(self, sources: Iterable[str], destinations: Iterable[str], seconds: float) -> None:
        """Delay messages from any of `sources` to any of `destinations` by `seconds` more."""
        pairs = _pairs(sources, destinations)
        self._slow = {**self._slow, **dict.fromkeys(pairs, seconds)}
        self._note("slow", links=[list(pair) for pair in pairs], seconds=seconds)

    def network(self, conditions: Conditions, source: str | None = None, destination: str | None = None) -> None:
        """Set the conditions of one direction; with neither name given, of all."""
        if (source is None) != (destination is None):
            raise UsageError("Name both source and destination of a direction, or neither for all of them.")
        if source is None or destination is None:
            self._conditions, self._special = conditions, {}
        else:
            self._special = {**self._special, (source, destination): conditions}
        self._note("network", source=source, destination=destination, conditions=conditions.__dict__)

    def bitten(self, what: str, source: str | None = None, destination: str | None = None) -> int:
        """How many messages were lost, cut, duplicated, held or forwarded, of one direction or of all."""
        return sum(
            count
            for (happened, a, b), count in list(self.tally.items())
            if happened == what and source in (None, a) and destination in (None, b)
        )

    # Inside the thread

    async def _listening(self, source: str, destination: str, server: Address, listen: Path | None) -> Address:
        # No coroutine: Python 3.11 writes a traceback to stderr about one that is cancelled.
        def accepted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = self._loop.create_task(self._relay(source, destination, server, reader, writer))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

        if listen is None:
            opened = await asyncio.start_server(accepted, "127.0.0.1", 0)
            address: Address = opened.sockets[0].getsockname()[:2]
        else:
            opened = await asyncio.start_unix_server(accepted, str(listen))
            os.chmod(listen, 0o600)  # noqa: PTH101 - no symbolic link of another's
            address = str(listen)
        self._servers.append(opened)
        return address

    async def _relay(
        self,
        source: str,
        destination: str,
        server: Address,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        try:
            if isinstance(server, str):
                far_reader, far_writer = await asyncio.open_unix_connection(server)
            else:
                far_reader, far_writer = await asyncio.open_connection(*server)
        except OSError as error:
            self._note("refused", source=source, destination=destination, why=str(error))
            writer.close()
            return
        try:
            there = asyncio.create_task(self._pump(source, destination, reader, far_writer))
            back = asyncio.create_task(self._pump(destination, source, far_reader, writer))
            try:
                await asyncio.wait((there, back), return_when=asyncio.FIRST_EXCEPTION)
            finally:
                for task in (there, back):
                    task.cancel()
                await asyncio.gather(there, back, return_exceptions=True)
        finally:
            writer.close()
            far_writer.close()

    async def _pump(
        self, source: str, destination: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        frames, outlet = Frames(), _Outlet(self._loop, writer)
        while data := await reader.read(65536):
            for body in frames.bodies(data):
                self._judge(source, destination, body, outlet)
            if outlet.empty():
                await writer.drain()
        await outlet.end()

    def _judge(self, source: str, destination: str, body: bytes, outlet: _Outlet) -> None:
        pair = (source, destination)
        if pair not in self._chances:
            self._chances[pair] = (random.Random(f"{self.seed}/{source}/{destination}"), Line())
        chance, line = self._chances[pair]
        now = self._loop.time()
        fate = line.fate(now + self._slow.get(pair, 0.0), self._special.get(pair, self._conditions), chance)
        cut = pair in self._cuts
        happened = ("cut",) if cut else fate.names
        arrivals = () if cut else fate.arrivals
        for what in (*happened, *(["forwarded"] if arrivals else [])):
            self.tally[what, source, destination] += 1
        self._note(
            "forward" if arrivals else "drop",
            source=source,
            destination=destination,
            what=list(happened),
            delays=[round(arrival - now, 6) for arrival in arrivals],
            message=_shown(body),
        )
        frame = len(body).to_bytes(4, "big") + body
        for arrival in arrivals:
            outlet.put(arrival, frame)

    def _note(self, event: str, **fields: Any) -> None:
        self.log.append({"time": time.monotonic() - self._began, "event": event, **fields})

    async def _closed(self) -> None:
        for server in self._servers:
            server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


def _pairs(sources: Iterable[str], destinations: Iterable[str]) -> list[tuple[str, str]]:
    some, others = ([names] if isinstance(names, str) else list(names) for names in (sources, destinations))
    return [(a, b) for a in some for b in others if a != b]


def _shown(body: bytes) -> Any:
    if len(body) > _SHOWN:
        return f"{len(body)} bytes"
    try:
        return decode(body)
    except LaboratoryError:
        return f"{len(body)} bytes that are no JSON"
