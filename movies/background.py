"""Work that goes on when it fails: beside the answers of a part, or until it has succeeded once."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from movies.errors import Unavailable

T = TypeVar("T")
_log = logging.getLogger(__name__)
#: Between two tries of the work, and between two of ending it.
_PAUSE = 0.5


async def patiently(work: Callable[[], Awaitable[T]], seconds: float, pause: float = _PAUSE) -> T:
    """What the work returns; while something is Unavailable it is done again, for so many seconds."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            return await work()
        except Unavailable as error:
            if time.monotonic() + pause > deadline:
                raise
            _log.warning("trying again: %s", error)
            await asyncio.sleep(pause)


class Background:
    """A coroutine that runs until it is stopped, and is started again when it fails; `trouble` says why it last did."""

    def __init__(self, name: str, work: Callable[[], Awaitable[None]], pause: float = _PAUSE) -> None:
        self._name, self._work, self._pause = name, work, pause
        self._task: asyncio.Task[None] | None = None
        self.trouble: str | None = None

    def start(self) -> None:
        """Begin; once."""
        self._task = asyncio.create_task(self._again(), name=self._name)

    def well(self) -> None:
        """To be called by the work when it gets on: what troubled it is over."""
        self.trouble = None

    async def stop(self) -> None:
        """Cancel the work and wait for its end."""
        task, self._task = self._task, None
        while task and not task.done():
            # Once is not enough: before Python 3.12 wait_for swallows a cancellation that comes with its result.
            task.cancel()
            await asyncio.wait({task}, timeout=_PAUSE)

    async def _again(self) -> None:
        while True:
            try:
                await self._work()
            except Exception as error:
                self.trouble = f"{self._name} failed: {error}"
                _log.warning("work beside the answers failed", extra={"work": self._name, "reason": repr(error)})
            await asyncio.sleep(self._pause)
