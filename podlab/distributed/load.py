"""An open-loop load generator: requests start when they are due, whether earlier ones are answered or not.

Latency counts from the moment at which a request was due, so a server that stalls pays for everyone who would have
come meanwhile. A loop that waits for each answer before it asks again hides that (coordinated omission, Gil Tene).
"""

from __future__ import annotations

import asyncio
import math
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from podlab import waiting
from podlab.errors import UsageError


def arrivals(
    rate: float, seconds: float, *, process: Literal["poisson", "even"] = "poisson", seed: int | str = 0
) -> Iterator[float]:
    """The times, from 0 to below `seconds`, at which requests are due: `rate` a second on average.

    Poisson: independent users, who come in bunches by chance. Even: a metronome.
    """
    if not rate > 0 or not seconds >= 0:
        raise UsageError(f"A load of {rate!r} requests a second for {seconds!r} s cannot be made.")
    if process == "even":
        yield from (number / rate for number in range(math.ceil(seconds * rate)) if number / rate < seconds)
        return
    if process != "poisson":
        raise UsageError(f"There is no arrival process {process!r}.", hint='"poisson" or "even".')
    chance = random.Random(f"{seed}/arrivals")
    due = chance.expovariate(rate)
    while due < seconds:
        yield due
        due += chance.expovariate(rate)


def percentile(values: Sequence[float], percent: float) -> float:
    """The smallest of `values` that at least `percent` of them do not exceed (nearest rank); NaN if there is none."""
    if not 0 <= percent <= 100:
        raise UsageError(f"A percentile lies between 0 and 100, not at {percent!r}.")
    if not values:
        return math.nan
    ordered = sorted(values)
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)]


@dataclass(frozen=True, slots=True)
class Request:
    """One request, in seconds since the start: when it was due, sent and answered; `error` if it failed."""

    number: int
    due: float
    sent: float
    ended: float
    value: Any = None
    error: str | None = None

    @property
    def latency(self) -> float:
        """Seconds that a user waited: from the moment at which the request was due."""
        return self.ended - self.due

    @property
    def service(self) -> float:
        """Seconds from sending to the answer: what a generator that waits its turn would have shown."""
        return self.ended - self.sent


@dataclass
class Report:
    """All requests of a run by number; every one that was due is in it."""

    requests: list[Request] = field(repr=False)

    @property
    def answered(self) -> list[Request]:
        """Those without an error."""
        return [one for one in self.requests if one.error is None]

    @property
    def errors(self) -> Counter[str]:
        """How often each error occurred."""
        return Counter(one.error for one in self.requests if one.error is not None)

    @property
    def throughput(self) -> float:
        """Answered requests a second, from the first one due to the last answer."""
        if not self.answered:
            return 0.0
        span = max(one.ended for one in self.answered) - min(one.due for one in self.requests)
        return len(self.answered) / span if span > 0 else math.inf

    @property
    def lateness(self) -> float:
        """Seconds by which the generator itself was late at worst: if it is large, measure with less load."""
        return max((one.sent - one.due for one in self.requests), default=0.0)

    def percentile(self, percent: float, *, errors: bool = False) -> float:
        """Latency in seconds that `percent` of the answered requests (with `errors`: of all) did not exceed."""
        return percentile([one.latency for one in (self.requests if errors else self.answered)], percent)

    def __str__(self) -> str:
        shown = ", ".join(f"p{percent:g} {self.percentile(percent) * 1000:.1f} ms" for percent in (50, 90, 99, 100))
        failed = f", {len(self.requests) - len(self.answered)} failed" if self.errors else ""
        return f"{len(self.requests)} requests{failed}, {self.throughput:.1f} answers a second, {shown}"


async def generate(
    call: Callable[[int], Awaitable[Any]],
    due: Iterator[float] | Sequence[float],
    *,
    timeout: float | None = None,
    most: int = 10_000,
) -> Report:
    """Call `call(number)` at every moment of `due` (seconds from now, ascending) and wait for all answers.

    An exception makes the request an error, named after its type; so does `timeout` seconds without an answer
    ("TimeoutError"). With more than `most` requests under way, those due are errors ("TooManyUnderWay"), not late.
    """
    loop = asyncio.get_running_loop()
    start = loop.time()
    finished: list[Request] = []
    under_way: set[asyncio.Task[None]] = set()

    async def one(number: int, when: float) -> None:
        sent = loop.time() - start
        value, error = None, None
        try:
            async with asyncio.timeout(timeout):
                value = await call(number)
        except Exception as raised:
            error = type(raised).__name__
        finished.append(Request(number, when, sent, loop.time() - start, value, error))

    try:
        for number, when in enumerate(due):
            wait = start + when - loop.time()
            await waiting.pause_async(max(0.0, wait))
            if len(under_way) >= most:
                now = loop.time() - start
                finished.append(Request(number, when, now, now, None, "TooManyUnderWay"))
                continue
            task = loop.create_task(one(number, when))
            under_way.add(task)
            task.add_done_callback(under_way.discard)
        while under_way:
            await asyncio.wait(under_way)
    finally:
        for task in list(under_way):
            task.cancel()
        await asyncio.gather(*under_way, return_exceptions=True)
    return Report(sorted(finished, key=lambda request: request.number))
