"""Calls of one service to another: a deadline, one more try where that is safe and affordable, and a breaker."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from typing import Any

import httpx

from movies import telemetry
from movies.errors import Unavailable

#: After so many failures in a row a service is left alone for so many seconds; then one call tries whether it is back.
_FAILURES, _REST = 5, 2.0
#: A tenth of all calls may be repeated, and ten at once: repetition must not become a load of its own.
_EARNED, _MOST = 0.1, 10.0
#: Of the time that our own caller waits, what a call may take: the rest is for an answer without it.
_SHARE = 0.7
#: The header that says how many seconds the caller will wait.
SECONDS_LEFT = "x-seconds-left"

#: Until when (time.monotonic) whoever asked us waits for the answer.
deadline: ContextVar[float | None] = ContextVar("deadline", default=None)


def heed(header: str) -> None:
    """Note the caller's patience from its header, for all calls that are made on its behalf."""
    try:
        seconds = float(header)
    except ValueError:
        return
    if 0 <= seconds < 3600:
        deadline.set(time.monotonic() + seconds)


class Peer:
    """Another service, as seen from the one named `caller`."""

    def __init__(
        self,
        caller: str,
        name: str,
        client: httpx.AsyncClient,
        seconds: float,
        address: str = "",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = name
        self._caller, self._client, self._seconds, self._clock = caller, client, seconds, clock
        self._address = address
        self._failures = 0
        self._rests_until = 0.0
        self._budget = _MOST

    @property
    def open(self) -> bool:
        """Whether the breaker keeps calls away now."""
        return self._failures >= _FAILURES and self._clock() < self._rests_until

    async def call(
        self, method: str, path: str, *, again: bool = True, allowed: tuple[int, ...] = (), **options: Any
    ) -> httpx.Response:
        """The answer; `again` if a repetition does no harm. Unavailable if its status is neither 2xx nor `allowed`."""
        self._admit()
        self._budget = min(_MOST, self._budget + _EARNED)
        until = self._until()
        while True:
            began = self._clock()
            try:
                answer = await self._once(method, path, max(0.001, until - began), options)
            except Unavailable:
                self._note("failed", began)
                again = again and self._budget >= 1 and not self.open and self._clock() < until
                if not again:
                    raise
                self._budget -= 1
                again = False
                continue
            except asyncio.CancelledError:
                self._note("failed", began)
                raise
            self._note("ok", began)
            if not answer.is_success and answer.status_code not in allowed:
                raise Unavailable(f"{self.name} answered {method} {path} with status {answer.status_code}")
            return answer

    def _admit(self) -> None:
        """Unavailable while the breaker is open; after its rest one call is let through, and the others rest on."""
        if self.open:
            telemetry.CALLS.labels(self._caller, self.name, "open").inc()
            raise Unavailable(f"{self.name} is left alone after {self._failures} failures in a row")
        if self._failures >= _FAILURES:
            self._rests_until = self._clock() + _REST

    def _until(self) -> float:
        """When to give up: after our own patience, or a share of what our caller's leaves."""
        limit, now = deadline.get(), time.monotonic()
        left = self._seconds if limit is None else min(self._seconds, _SHARE * (limit - now))
        return self._clock() + max(0.001, left)

    async def _once(self, method: str, path: str, seconds: float, options: Mapping[str, Any]) -> httpx.Response:
        headers = telemetry.headers() | {SECONDS_LEFT: f"{seconds:.3f}"} | dict(options.get("headers", {}))
        try:
            async with asyncio.timeout(seconds):
                answer = await self._client.request(method, self._address + path, **{**options, "headers": headers})
        except TimeoutError:
            raise Unavailable(f"{self.name} did not answer within {seconds:.2g} s") from None
        except httpx.HTTPError as error:
            raise Unavailable(f"{self.name} cannot be reached: {error!r}") from error
        if answer.status_code >= 500 or answer.status_code == 429:
            raise Unavailable(f"{self.name} answered {method} {path} with status {answer.status_code}")
        return answer

    def _note(self, outcome: str, began: float) -> None:
        telemetry.CALLS.labels(self._caller, self.name, outcome).inc()
        telemetry.CALL_LATENCY.labels(self._caller, self.name).observe(self._clock() - began)
        if outcome == "ok":
            self._failures = 0
            return
        self._failures += 1
        if self._failures >= _FAILURES:
            self._rests_until = self._clock() + _REST
