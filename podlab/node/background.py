"""Background tasks with strong references: a task that nobody holds may vanish while it is pending."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any

log = logging.getLogger(__name__)


class Background:
    """A set of running tasks. A failing task is logged with its name, never lost in silence."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()

    def start(self, coroutine: Coroutine[Any, Any, Any], name: str) -> asyncio.Task[Any]:
        """Start `coroutine` as a task called `name` and return it."""
        task = asyncio.get_running_loop().create_task(coroutine, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()):
            log.error("%s failed: %r", task.get_name(), error, exc_info=error)

    async def cancel(self) -> None:
        """Cancel all tasks and return when they have ended."""
        tasks = [task for task in self._tasks if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    def __len__(self) -> int:
        return len(self._tasks)


async def cancelled(task: asyncio.Task[Any] | None) -> None:
    """Cancel `task`, if there is one, and return when it has ended, whatever it ended with."""
    if task is not None and not task.done():
        task.cancel()
        await asyncio.wait([task])
