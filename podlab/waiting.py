"""Waiting as a named condition with a deadline. The only module in which podlab sleeps."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from podlab.errors import WaitTimeout

T = TypeVar("T")

#: Seconds between two looks at a condition, unless told otherwise.
INTERVAL = 0.05


def _timeout(what: str, timeout: float, last: object) -> WaitTimeout:
    shown = "nothing was seen" if last is None else f"last seen: {str(last)[:600]}"
    return WaitTimeout(f"{what} did not happen within {timeout:g} s; {shown}.")


def until(
    condition: Callable[[], T | None],
    what: str,
    *,
    timeout: float,
    interval: float = INTERVAL,
    state: Callable[[], object] | None = None,
    ignore: tuple[type[BaseException], ...] = (),
) -> T:
    """Return the first truthy value of `condition()`.

    `what` names the condition for the error. `state()`, if given, describes the last state seen; otherwise
    the last falsy value or ignored exception does. Exceptions of the types in `ignore` count as "not yet".
    Raises WaitTimeout after `timeout` seconds; `condition` is looked at once more at the deadline.
    """
    deadline = time.monotonic() + timeout
    last: object = None
    while True:
        over = time.monotonic() >= deadline
        try:
            value = condition()
            if value:
                return value
            last = value
        except ignore as error:
            last = error
        if over:
            raise _timeout(what, timeout, state() if state else last)
        time.sleep(min(interval, max(0.0, deadline - time.monotonic())))


def held(
    condition: Callable[[], bool],
    what: str,
    *,
    polls: int = 5,
    interval: float = 0.2,
    timeout: float = 30.0,
    state: Callable[[], object] | None = None,
) -> None:
    """Return once `condition()` was true in `polls` consecutive looks; WaitTimeout otherwise."""
    run = 0

    def met() -> bool:
        nonlocal run
        run = run + 1 if condition() else 0
        return run >= polls

    until(met, f"{what} (for {polls} looks in a row)", timeout=timeout, interval=interval, state=state)


async def until_async(
    condition: Callable[[], Awaitable[T | None]],
    what: str,
    *,
    timeout: float,
    interval: float = INTERVAL,
    state: Callable[[], object] | None = None,
    ignore: tuple[type[BaseException], ...] = (),
) -> T:
    """Like `until`, for a coroutine function."""
    deadline = time.monotonic() + timeout
    last: object = None
    while True:
        over = time.monotonic() >= deadline
        try:
            value = await condition()
            if value:
                return value
            last = value
        except ignore as error:
            last = error
        if over:
            raise _timeout(what, timeout, state() if state else last)
        await asyncio.sleep(min(interval, max(0.0, deadline - time.monotonic())))


def pause(seconds: float) -> None:
    """Let `seconds` pass: for labs and faults in which time itself is the subject."""
    time.sleep(seconds)


async def pause_async(seconds: float) -> None:
    """Let `seconds` pass without blocking the event loop: back-off, probe periods, lease renewal."""
    await asyncio.sleep(seconds)
