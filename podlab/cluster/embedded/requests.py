"""What a supervisor can be asked, and the bring-up that all who ask can follow."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from podlab.cluster.embedded import bring_up, faults, steps
from podlab.cluster.embedded.system import SHUT_DOWN, System
from podlab.cluster.provider import Progress, StepReport
from podlab.errors import ClusterError, PodlabError, StepFailed, UsageError, disk_errors

log = logging.getLogger("podlab.supervisor")

#: Exit status of a supervisor whose bring-up failed.
FAILED = 18


class Follow:
    """The reports of bring-up, for everybody who asks, also late; and how it ended."""

    def __init__(self) -> None:
        self._reports: list[StepReport] = []
        self._listeners: list[Progress] = []
        self.outcome: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        # Nobody may ask: an outcome that is never looked at is no mistake.
        self.outcome.add_done_callback(lambda outcome: outcome.cancelled() or outcome.exception())

    def report(self, step: StepReport) -> None:
        """Keep and pass on one report."""
        log.info("%s: %s after %.2f s %s", step.name, step.state, step.seconds, step.detail)
        self._reports.append(step)
        for listener in self._listeners:
            listener(step)

    async def follow(self, progress: Progress) -> None:
        """Tell `progress` all that was and will be reported; return or raise when bring-up ends."""
        for step in self._reports:
            progress(step)
        self._listeners.append(progress)
        try:
            await asyncio.shield(self.outcome)
        finally:
            self._listeners.remove(progress)


class Requests:
    """Requests against one System."""

    def __init__(self, system: System) -> None:
        self.system = system
        self.state = "starting"
        self.follow = Follow()
        self.over = asyncio.Event()
        self.exit_status = 0
        self._bring_up: asyncio.Task[None] | None = None
        self._verbs: dict[str, Callable[[dict[str, Any], Progress], Awaitable[Any]]] = {
            "follow": self._follow,
            "status": self._status,
            "stop": self._stop,
            "abort": self._abort,
            "fault": self._fault,
            "add-node": self._add_node,
            "remove-node": self._remove_node,
        }

    def begin(self) -> None:
        """Bring the cluster up."""
        self._bring_up = asyncio.create_task(self._come_up(), name="bring-up")

    async def handle(self, request: dict[str, Any], progress: Progress) -> Any:
        """Serve one request."""
        verb = str(request.get("verb"))
        if verb not in self._verbs:
            raise UsageError(f"The supervisor does not know the verb {verb}.")
        return await self._verbs[verb](request, progress)

    async def _come_up(self) -> None:
        try:
            await steps.run(bring_up.STEPS, self.system, self.follow.report)
            with disk_errors(self.system.folder.path):
                self.system.folder.write(self.system.record)
        except asyncio.CancelledError:
            raise
        except Exception as error:
            log.error("bring-up failed: %s", error)
            known = isinstance(error, PodlabError)
            self.follow.outcome.set_exception(error if known else ClusterError(str(error)))
            self._leave(FAILED)
            return
        self.state = "running"
        self.follow.outcome.set_result(None)

    async def _follow(self, _request: dict[str, Any], progress: Progress) -> None:
        await self.follow.follow(progress)

    async def _status(self, _request: dict[str, Any], _progress: Progress) -> dict[str, Any]:
        components = self.system.status()
        whole = all(one["state"] == "running" for one in components)
        state = "degraded" if self.state == "running" and not whole else self.state
        return {
            "state": state,
            "server": self.system.plane.server,
            "components": components,
            "notes": self.system.notes(),
        }

    async def _stop(self, _request: dict[str, Any], progress: Progress) -> None:
        self._end_bring_up("The cluster was stopped while it came up.")
        self.state = "stopping"
        await steps.run(SHUT_DOWN, self.system, progress)
        self._leave(0)

    async def _abort(self, request: dict[str, Any], _progress: Progress) -> None:
        self._end_bring_up(str(request.get("reason") or "The cluster was taken down while it came up."))
        self._leave(0)

    async def _fault(self, request: dict[str, Any], _progress: Progress) -> Any:
        return await faults.inject(self.system, str(request["action"]), str(request["target"]))

    async def _add_node(self, _request: dict[str, Any], _progress: Progress) -> str:
        await asyncio.shield(self.follow.outcome)
        return await bring_up.add_node(self.system)

    async def _remove_node(self, request: dict[str, Any], _progress: Progress) -> None:
        await asyncio.shield(self.follow.outcome)
        await bring_up.remove_node(self.system, str(request["node"]))

    def _end_bring_up(self, reason: str) -> None:
        if self._bring_up and not self._bring_up.done():
            self._bring_up.cancel()
        if not self.follow.outcome.done():
            self.follow.outcome.set_exception(StepFailed(reason))

    def _leave(self, status: int) -> None:
        """Exit soon: answers that are being written get their moment."""
        self.exit_status = status
        asyncio.get_running_loop().call_later(0.05, self.over.set)
