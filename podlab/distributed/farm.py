"""A job cut into chunks and done by worker processes, with a record of who did what and when.

`farm` runs it for real; `plan` computes the same record for given task lengths, without any process. Both know two
ways to hand out chunks: "dealt" beforehand like cards, or "asked" for by whoever is free (list scheduling).
"""

from __future__ import annotations

import heapq
import os
import selectors
import socket
import time
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from podlab import waiting
from podlab.distributed.frames import Frames, receive, send
from podlab.distributed.harness import Harness, Worker, announce
from podlab.errors import LaboratoryError, UsageError, WorkerFailed

Order = Literal["dealt", "asked"]


@dataclass(frozen=True)
class Span:
    """One chunk in the hands of one worker; times in seconds since the start of the job."""

    worker: int
    chunk: int
    begin: float
    end: float
    items: int = 1
    pid: int = 0


@dataclass(frozen=True)
class Farmed:
    """A job that was done: its spans, the results of its items in their order, seconds from first to last.

    `start` is what it took to have all workers ready; it is not in `seconds`.
    """

    spans: Sequence[Span]
    results: Sequence[Any]
    seconds: float
    workers: int
    start: float = 0.0

    @property
    def busy(self) -> float:
        """Share of the workers' time in which they had a chunk in hand."""
        return sum(span.end - span.begin for span in self.spans) / (self.workers * self.seconds)

    @property
    def idle_end(self) -> float:
        """Seconds for which the first worker to end had nothing to do at the end."""
        last = [
            max((span.end for span in self.spans if span.worker == one), default=0.0) for one in range(self.workers)
        ]
        return max(last) - min(last)

    def __repr__(self) -> str:
        return (
            f"{len(self.results)} items in {len(self.spans)} chunks on {self.workers} "
            f"worker{'' if self.workers == 1 else 's'}: {self.seconds:.2f} s, busy {100 * self.busy:.0f} %"
        )


def cut(items: Sequence[Any], size: int) -> list[Sequence[Any]]:
    """`items` in chunks of `size`, the last one perhaps shorter."""
    if size < 1:
        raise UsageError(f"A chunk holds at least one item, not {size!r}.")
    return [items[at : at + size] for at in range(0, len(items), size)]


def farm(
    work: Callable[[Any], Any],
    chunks: Sequence[Sequence[Any]],
    workers: int,
    *,
    order: Order = "asked",
    slow: Mapping[int, float] | None = None,
    message: float = 0.0,
) -> Farmed:
    """Call `work` on every item of every chunk in `workers` new processes.

    `slow` makes workers stragglers: {0: 3} lets worker 0 take three times as long as it needs. `message` is the
    time in seconds that a chunk is under way before it is begun, as over a network. WorkerFailed, with the
    worker's words, if `work` raises or its process ends.
    """
    if workers < 1:
        raise UsageError(f"A job needs a worker at least, not {workers!r}.")
    began = time.monotonic()
    results: list[Any] = [None] * len(chunks)
    spans: list[Span] = []
    left = list(range(len(chunks)))[::-1]
    hands: dict[int, list[int]] = {
        one: list(range(one, len(chunks), workers))[::-1] if order == "dealt" else left for one in range(workers)
    }
    with Harness() as harness, selectors.DefaultSelector() as selector:
        ways: list[tuple[socket.socket, Worker]] = []
        for one in range(workers):
            ours, theirs = socket.socketpair()
            others = [way for way, _ in ways]
            factor = (slow or {}).get(one, 1.0)
            worker = harness.spawn(_life, ours, theirs, others, work, chunks, factor, message, name=f"worker-{one}")
            theirs.close()
            ways.append((ours, worker))
            selector.register(ours, selectors.EVENT_READ, one)
        frames = [Frames() for _ in range(workers)]
        for way, worker in ways:
            if receive(way) is None:
                raise worker.failure()
        start, began = time.monotonic() - began, time.monotonic()
        for one, (way, _) in enumerate(ways):
            if hands[one]:
                send(way, {"chunk": hands[one].pop()})
        while len(spans) < len(chunks):
            for key, _ in selector.select():
                way, worker = ways[key.data]
                data = way.recv(65536)
                if not data:
                    worker.wait()
                    raise worker.failure()
                for answer in frames[key.data].feed(data):
                    if "error" in answer:
                        raise WorkerFailed(f"worker-{key.data} could not do chunk {answer['chunk']}: {answer['error']}")
                    number, begin, end = answer["chunk"], answer["begin"] - began, answer["end"] - began
                    results[number] = answer["results"]
                    spans.append(Span(key.data, number, begin, end, len(chunks[number]), worker.pid))
                    if hands[key.data]:
                        send(way, {"chunk": hands[key.data].pop()})
        seconds = time.monotonic() - began
        for way, _ in ways:
            way.close()
    ordered = sorted(spans, key=lambda span: span.begin)
    return Farmed(ordered, [one for some in results for one in some], seconds, workers, start)


def _life(
    ours: socket.socket,
    way: socket.socket,
    others: list[socket.socket],
    work: Callable[[Any], Any],
    chunks: Sequence[Sequence[Any]],
    factor: float,
    message: float,
) -> None:
    """A worker's life: say that one is free, take a chunk, do it, tell."""
    for other in (ours, *others):
        other.close()
    send(way, {"free": os.getpid()})
    while (task := receive(way)) is not None:
        number = task["chunk"]
        announce(f"chunk-{number}")
        waiting.pause(message)
        begin = time.monotonic()
        try:
            results = [work(item) for item in chunks[number]]
            waiting.pause((factor - 1) * (time.monotonic() - begin))
            answer: dict[str, Any] = {"chunk": number, "begin": begin, "end": time.monotonic(), "results": results}
            send(way, answer)
        except LaboratoryError as error:
            send(way, {"chunk": number, "error": error.message})
        except Exception as error:
            told = traceback.format_exc(limit=-1).strip().splitlines()
            send(way, {"chunk": number, "error": f"{type(error).__name__}: {error} ({' '.join(told[1:2]).strip()})"})
        announce(None)


def plan(
    chunks: Iterable[Sequence[float]],
    workers: int,
    *,
    order: Order = "asked",
    slow: Mapping[int, float] | None = None,
    message: float = 0.0,
    start: float = 0.0,
) -> Farmed:
    """The record of a job whose items take the seconds given, computed: nothing runs.

    `start` is the time until a worker is there, `message` what each chunk costs besides its items.
    """
    parts = list(chunks)
    spans = []
    free = [(start, one) for one in range(workers)]
    heapq.heapify(free)
    dealt = dict.fromkeys(range(workers), start)
    for number, chunk in enumerate(parts):
        if order == "dealt":
            one = number % workers
            at = dealt[one]
        else:
            at, one = heapq.heappop(free)
        begin = at + message
        end = begin + sum(chunk) * (slow or {}).get(one, 1.0)
        dealt[one] = end
        if order == "asked":
            heapq.heappush(free, (end, one))
        spans.append(Span(one, number, begin, end, len(chunk)))
    seconds = max((span.end for span in spans), default=start)
    return Farmed(spans, [item for chunk in parts for item in chunk], max(seconds, 1e-9), workers)


def amdahl(serial: float, workers: float) -> float:
    """The most that `workers` can speed up a job of which the share `serial` cannot be divided (Amdahl, 1967)."""
    return 1.0 / (serial + (1.0 - serial) / workers)
