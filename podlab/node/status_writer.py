"""Brings a pod's status to the API server: only what differs, gathered while nobody waits for it."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Any

from podlab.node import pod_status
from podlab.node.api import ApiError, Conflict, Forbidden, Invalid, NotFound, Object
from podlab.node.context import NodeContext
from podlab.node.records import Pod
from podlab.waiting import pause_async

log = logging.getLogger(__name__)

#: Seconds for which changes are gathered that nobody waits for (a container being created, a new message).
GATHER = 0.15
#: Seconds for which a container that gives way to a new definition of it is not told, as the kubelet ends the old one
#: and starts the new one in one go.
REPLACE = 10.0
RETRY_FIRST, RETRY_LONGEST = 0.2, 5.0
#: Seconds after which a status that was refused is written again: an API server that has just begun refuses all.
REFUSED = 10.0


class StatusWriter:
    """Writes one pod's status whenever it differs from the API server's. `touch` asks it to look."""

    def __init__(self, context: NodeContext, pod: Pod, answered: Callable[[Object], None]) -> None:
        self._context = context
        self._pod = pod
        #: Takes the newest form of the object, as the API server answers a patch.
        self._answered = answered
        self._touched = asyncio.Event()
        self._lock = asyncio.Lock()
        self._last: tuple[Any, Any] | None = None
        #: The pod does not exist any more at the API server.
        self.gone = False

    def touch(self) -> None:
        """Say that the records, or the object, have changed."""
        self._touched.set()

    def status(self) -> Object:
        """The status as it is, or will be, at the API server."""
        return pod_status.build(self._pod, time.time(), self._context.policy)

    async def run(self) -> None:
        """Write until the pod is gone. A failure of this program itself is logged and tried again."""
        pause = RETRY_FIRST
        while not self.gone:
            await self._touched.wait()
            self._touched.clear()
            try:
                await self._follow()
                pause = RETRY_FIRST
            except Exception:
                log.exception("the status of %s could not be written; it is tried again", self._pod.full_name)
                await pause_async(pause)
                pause = min(pause * 2, RETRY_LONGEST)
                self.touch()

    async def _follow(self) -> None:
        """Write what differs now, at once or with what follows soon."""
        await self._replaced()
        change = self._change()
        if not change:
            return
        if not pod_status.urgent(change, self._present()):
            await self._gather()
            change = {}
        await self.write(change)

    async def _replaced(self) -> None:
        """Return when no container is being replaced, the pod ends, or REPLACE seconds have passed."""
        pod, deadline = self._pod, time.monotonic() + REPLACE
        while any(container.replacing for container in pod.containers.values()):
            left = deadline - time.monotonic()
            if left <= 0 or pod.terminating or pod.deleted or self.gone:
                return
            try:
                async with asyncio.timeout(left):
                    await self._touched.wait()
            except TimeoutError:
                return
            self._touched.clear()

    async def _gather(self) -> None:
        """Let GATHER seconds pass, or less if readiness or the phase turns."""
        begun = pod_status.pod_phase(self._pod), pod_status.all_ready(self._pod)
        deadline = time.monotonic() + GATHER
        while (left := deadline - time.monotonic()) > 0:
            try:
                async with asyncio.timeout(left):
                    await self._touched.wait()
            except TimeoutError:
                return
            self._touched.clear()
            if begun != (pod_status.pod_phase(self._pod), pod_status.all_ready(self._pod)):
                return

    async def write(self, change: Object | None = None) -> None:
        """Write now what differs (`change`, if that is known), until the API server has it or the pod is gone."""
        pause = RETRY_FIRST
        async with self._lock:
            while not self.gone and (change := change or self._change()):
                try:
                    await self._patch(change)
                    return
                except (Invalid, Forbidden) as error:
                    # It will hardly be accepted by trying again at once; the next change may be.
                    log.error("status of %s refused: %s", self._pod.full_name, error)
                    self._last = refused = (change, self._version())
                    asyncio.get_running_loop().call_later(REFUSED, self._again, refused)
                    return
                except (NotFound, Conflict):
                    self.gone = True
                except ApiError as error:
                    log.warning("status of %s: %s", self._pod.full_name, error)
                    await pause_async(pause)
                    pause = min(pause * 2, RETRY_LONGEST)
                    change = None

    def _again(self, refused: tuple[Any, Any]) -> None:
        """Let what was refused be written again, unless another write came meanwhile."""
        if self._last is refused:
            self._last = None
            self.touch()

    def _version(self) -> str:
        return self._pod.object["metadata"].get("resourceVersion") or ""

    def _present(self) -> Object:
        return self._pod.object.get("status") or {}

    def _change(self) -> Object:
        change = pod_status.difference(self.status(), self._present())
        return {} if self._last == (change, self._version()) else change

    async def _patch(self, change: Object) -> None:
        """A merge patch, guarded by the UID against a successor of the same name."""
        pod = self._pod
        body = {"metadata": {"uid": pod.uid}, "status": change}
        answer = await self._context.api.patch(self._context.pod_path(pod.object) + "/status", body)
        answer["metadata"].pop("managedFields", None)
        self._answered(answer)
        # What the API server does not keep as it was written would otherwise be written for ever.
        self._last = (change, self._version())


def newer(one: Object, other: Object) -> bool:
    """Whether `one` is a newer form of the same object than `other`."""
    versions = [int(o["metadata"].get("resourceVersion") or 0) for o in (one, other)]
    return one["metadata"]["uid"] == other["metadata"]["uid"] and versions[0] > versions[1]
