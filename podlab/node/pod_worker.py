"""One pod, from its binding to this node to its end: compares what is with what should be, and acts.

What should be is decided by pod_state.plan (pure). One task per pod waits for anything that may change the
answer: the object, a container's start or end, a probe, or time.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from podlab.errors import RuntimeRefused
from podlab.node import adoption, clock, log_links, pod_state
from podlab.node.api import ApiError, Conflict, NotFound, Object
from podlab.node.background import Background, cancelled
from podlab.node.container_worker import ContainerWorker, runtime_id
from podlab.node.context import NodeContext
from podlab.node.preparation import Preparation
from podlab.node.probes import FIELDS, killed_message
from podlab.node.records import EVICTED, Container, Pod, declared, new_containers
from podlab.node.runtime.contract import ContainerState, Mount, SandboxState
from podlab.node.runtime.sandbox.beneath import entered
from podlab.node.status_writer import StatusWriter, newer
from podlab.node.view import ContainerView, Later, PodView
from podlab.node.volumes import remove_tree
from podlab.waiting import pause_async

log = logging.getLogger(__name__)

#: Pauses between tries to make a sandbox or to fill volumes.
RETRY_FIRST, RETRY_LONGEST = 0.5, 10.0
DEFAULT_GRACE = 30
#: What a patch's answer may bring that the pod's worker must act upon.
_NEWS = ("generation", "deletionTimestamp", "deletionGracePeriodSeconds")


class PodWorker:
    """Owns one pod. `ended(uid)` is called when nothing of it is left on the node."""

    def __init__(self, context: NodeContext, made: Object, ended: Callable[[str], None]) -> None:
        self._context = context
        self._ended = ended
        configuration = context.configuration
        self.pod = Pod(
            made,
            new_containers(made["spec"]),
            configuration.address,
            read_only_mounts=not configuration.plain,
        )
        self._workers = {name: ContainerWorker(context, self, record) for name, record in self.pod.containers.items()}
        self._preparation = Preparation(context, self.pod, self.changed)
        self._status = StatusWriter(context, self.pod, self._answered)
        self._tasks = Background()
        self._writing: asyncio.Task[None] | None = None
        self._preparing: asyncio.Task[None] | None = None
        self._wake = asyncio.Event()
        self._reported: set[tuple[str, int]] = set()
        #: The object is gone at the API server: end at once, report to nobody.
        self._vanished = False
        status = made.get("status") or {}
        self.pod.started_at = clock.parse(status.get("startTime"))
        self._was_final = status.get("phase") in pod_state.TERMINAL

    # What others say

    def begin(self, adopted: list[ContainerState] | None = None, sandbox: SandboxState | None = None) -> None:
        """Start working. `adopted` are containers of this pod that already exist, in `sandbox`."""
        self._restore(adopted or [], sandbox)
        self._tasks.start(self._run(), f"pod {self.pod.name}")

    def update(self, made: Object) -> None:
        """Take in a newer form of the object."""
        if self._take(made):
            self.changed()

    def _answered(self, made: Object) -> None:
        """Take in the answer to a patch of the status: only what others changed meanwhile is news."""
        before = self.pod.object["metadata"]
        if self._take(made) and any(before.get(key) != made["metadata"].get(key) for key in _NEWS):
            self.changed()

    def _take(self, made: Object) -> bool:
        """Whether `made` is newer than what is known; if so, it is what is known."""
        if not newer(made, self.pod.object):
            return False
        for kind, spec in declared(made["spec"]):
            record = self.pod.containers.get(spec["name"])
            if record is None:
                record = Container(spec["name"], kind, spec)
                self._workers[record.name] = ContainerWorker(self._context, self, record)
                self.pod.containers[record.name] = record
                continue
            changed = record.spec.get("image") != spec.get("image")
            record.spec = {**spec, "resources": record.spec.get("resources") or {}}
            if changed:
                record.replacing = record.running
                self._workers[spec["name"]].condemn(f"Container {record.name} definition changed, will be restarted")
        self.pod.object = made  # last: what fails before is done when it is tried again
        return True

    def vanish(self) -> None:
        """The object was deleted at the API server, whatever this node thinks: end it quickly."""
        self._vanished = True
        self._status.gone = True
        self.changed()

    def reject(self, reason: str, message: str) -> None:
        """The node does not take the pod: it fails before anything of it runs."""
        self.pod.failure, self.pod.rejected = (reason, message), True
        self._context.recorder.pod(self.pod.object, "Warning", reason, message)

    def evict(self, message: str) -> bool:
        """End the pod at once and for good, since the node needs its resources; whether it was still to be ended."""
        if self.pod.failure or self.pod.deleted or self._vanished or not self.active:
            return False
        self.pod.failure = (EVICTED, message)
        self._context.recorder.pod(self.pod.object, "Warning", EVICTED, message)
        self.changed()
        return True

    def changed(self) -> None:
        """Something happened: look again at what is to be done and what the status says."""
        self._wake.set()
        self._status.touch()

    def mounts(self, container: Mapping[str, Any], variables: Mapping[str, str]) -> list[Mount]:
        """The mounts of a container."""
        return self._preparation.volumes.mounts(container, variables)

    def text(self, volume: str, path: str) -> str | None:
        """A file in a volume of the pod, None if it is not there."""
        return self._preparation.volumes.text(volume, path)

    @property
    def files(self) -> Mapping[str, str]:
        """The files under /etc that the node writes for every container of the pod."""
        return self._preparation.files

    @property
    def hostname(self) -> str:
        """What the pod calls itself."""
        return self._preparation.hostname

    @property
    def active(self) -> bool:
        """Whether the pod uses, or will use, resources of the node."""
        return not (self.pod.stopped or self._was_final)

    @property
    def counted(self) -> bool:
        """Whether other pods have to leave room for it. As with a kubelet one whose object is gone keeps nobody out."""
        return self.active and not self._vanished

    # The loop

    async def _run(self) -> None:
        """Work until nothing is left of the pod. A failure of this program itself is logged and tried again."""
        pause = RETRY_FIRST
        while True:
            try:
                await self._whole_life()
                return
            except Exception:
                log.exception("the worker of %s failed; it begins again", self.pod.full_name)
            await pause_async(pause)
            pause = min(pause * 2, RETRY_LONGEST)

    async def _whole_life(self) -> None:
        if self.active:
            if self._writing is None:
                self._writing = self._tasks.start(self._status.run(), f"status {self.pod.name}")
            if self.pod.started_at is None:
                self.pod.started_at = time.time()
            self.changed()
            await self._live()
        while not (self.pod.deleted or self._vanished):
            await self._wake.wait()
            self._wake.clear()
        await self._leave()

    async def _live(self) -> None:
        """Until the pod is to end, do what the plan says; then stop what runs and report the final status."""
        pod = self.pod
        if not (pod.failure or pod.deleted or self._vanished):
            await cancelled(self._preparing)
            self._preparing = self._tasks.start(self._preparation.run(), f"prepare {pod.name}")
        while not (pod.failure or pod.deleted or self._vanished):
            self._wake.clear()
            plan = pod_state.plan(pod, time.time(), self._context.policy)
            if plan.finish:
                if plan.failure:
                    pod.failure = plan.failure
                    self._context.recorder.pod(pod.object, "Normal", *plan.failure)
                break
            self._act(plan)
            await self._sleep(plan.wake_at)
        await self._terminate()

    def _act(self, plan: pod_state.Plan) -> None:
        for name in plan.kill:
            self._workers[name].kill(self._kill_grace(self.pod.containers[name]))
        for name in plan.start:
            self._workers[name].start()
        for name in plan.backing_off:
            record = self.pod.containers[name]
            if (name, record.attempt) not in self._reported:
                self._reported.add((name, record.attempt))
                message = f"Back-off restarting failed container {name} in pod {self.pod.full_name}"
                self._context.recorder.pod(self.pod.object, "Warning", "BackOff", message, record.spec)

    def _kill_grace(self, record: Container) -> float:
        """Grace of a container that failed a probe: the probe's own, or the pod's."""
        for kind in ("liveness", "startup"):
            own = (record.spec.get(FIELDS[kind]) or {}).get("terminationGracePeriodSeconds")
            if own is not None and killed_message(record.name, kind, False) in (record.condemned or ""):
                return float(own)
        return self._spec_grace()

    def _spec_grace(self) -> float:
        grace = self.pod.spec.get("terminationGracePeriodSeconds")
        return float(DEFAULT_GRACE if grace is None else grace)

    async def _sleep(self, until: float | None) -> None:
        """Wait for a change, or until the time `until`. Time may pass the status's own limits as well."""
        try:
            async with asyncio.timeout(None if until is None else max(0.0, until - time.time())):
                await self._wake.wait()
        except TimeoutError:
            self._status.touch()

    def _restore(self, adopted: list[ContainerState], sandbox: SandboxState | None) -> None:
        """Continue where an earlier agent stopped: from the runtime's containers and the written status."""
        pod = self.pod
        entries = adoption.restore(pod, {state.labels.get("name") for state in adopted}, final=self._was_final)
        held = {state.labels.get("name"): state for state in sorted(adopted, key=adoption.attempt)}
        for name, record in pod.containers.items():
            if name in held:
                self._workers[name].adopt(held[name], entries.get(name) or {})
            elif record.attempt >= 0:
                self._workers[name].restore_logs()
        if self._was_final:
            return
        if sandbox:
            self._preparation.adopt(sandbox)
        else:
            pod_state.rebooted(pod)

    # End

    async def _terminate(self) -> None:
        """Stop every container for good, in order, within the grace period, and write the final status."""
        pod = self.pod
        pod.terminating = True
        self.changed()
        hurry = self._tasks.start(self._watch_grace(), f"grace {pod.name}")
        kill_at = time.monotonic() + self._grace()
        for worker in self._workers.values():
            worker.interrupt()
            worker.hurry(kill_at)
        await asyncio.gather(*(worker.idle() for worker in self._workers.values()))
        order = pod_state.stop_after(pod)
        running = {name: worker for name, worker in self._workers.items() if pod.containers[name].running}
        stopped = {name: asyncio.Event() for name in running}

        async def stop(name: str, worker: ContainerWorker) -> None:
            async def turn() -> None:
                for other in order.get(name, ()):
                    if other in stopped:
                        await stopped[other].wait()

            await worker.stop(self._grace(), turn=turn if name in order else None)
            stopped[name].set()

        await asyncio.gather(*(stop(name, worker) for name, worker in running.items()))
        hurry.cancel()
        await asyncio.gather(*(worker.close() for worker in self._workers.values()))
        await cancelled(self._preparing)
        pod_state.settle(pod)
        await asyncio.gather(self._remove_sandbox(), self._report())

    async def _report(self) -> None:
        """Write the final status, then remove the containers: until then only the runtime knows how they ended."""
        await self._status.write()
        try:
            for record in self.pod.containers.values():
                if record.container_id:
                    await self._context.runtime.remove_container(runtime_id(record.container_id))
        except RuntimeRefused as error:
            log.warning("removing the containers of %s: %s", self.pod.full_name, error)

    def _grace(self) -> float:
        """Seconds that the containers have from now on to end by themselves."""
        if self._vanished or self.pod.evicted:
            return 0.0
        grace = self.pod.object["metadata"].get("deletionGracePeriodSeconds") if self.pod.deleted else None
        return self._spec_grace() if grace is None else float(grace)

    async def _watch_grace(self) -> None:
        """Shorten the grace of a pod that is being stopped when it is deleted (again) with a smaller one."""
        begun, least = time.monotonic(), self._grace()
        while True:
            self._wake.clear()
            await self._wake.wait()
            grace = self._grace()
            if grace < least:
                least = grace
                until = max(time.monotonic(), min(begun, time.monotonic()) + grace)
                for worker in self._workers.values():
                    worker.hurry(until)

    async def _remove_sandbox(self) -> None:
        pod = self.pod
        try:
            await self._context.runtime.remove_sandbox(pod.uid)
            await self._preparation.volumes.release(pod.object)
            if pod.evicted:
                await asyncio.to_thread(remove_tree, self._context.pod_folder(pod.uid) / "volumes")
        except RuntimeRefused as error:
            log.warning("removing %s: %s", pod.full_name, error)
        await self._context.network.pod_down(pod.uid)
        if pod.address and not pod.spec.get("hostNetwork"):
            self._context.addresses.free(pod.address)

    async def _leave(self) -> None:
        """Confirm the deletion to the API server and remove everything that is left of the pod."""
        pod = self.pod
        self._status.gone = True
        pause = RETRY_FIRST
        while not self._vanished:
            try:
                options = {
                    "kind": "DeleteOptions",
                    "apiVersion": "v1",
                    "gracePeriodSeconds": 0,
                    "preconditions": {"uid": pod.uid},
                }
                await self._context.api.delete(self._context.pod_path(pod.object), options)
                break
            except (NotFound, Conflict):
                break
            except ApiError as error:
                log.warning("deleting %s: %s", pod.full_name, error)
                await pause_async(pause)
                pause = min(pause * 2, RETRY_LONGEST)
        await remove_files(self._context, pod.object)
        self._ended(pod.uid)
        await self._tasks.cancel()

    async def abandon(self) -> None:
        """Stop working and leave the pod as it is: the agent ends, a later one takes over."""
        await self._tasks.cancel()
        for worker in self._workers.values():
            await worker.close()

    # For the node's own API

    def view(self) -> PodView:
        """The pod as the node's own API shows it."""
        pod = self.pod
        return PodView(
            namespace=pod.namespace,
            name=pod.name,
            uid=pod.uid,
            sandbox_id=pod.sandbox if pod.sandbox_ready and not pod.stopped else None,
            metadata=pod.object["metadata"],
            spec=pod.admitted["spec"],
            status=Later(lambda: {**(pod.object.get("status") or {}), **self._status.status()}),
            containers={name: _container_view(record) for name, record in pod.containers.items()},
        )


async def remove_files(context: NodeContext, pod: Object) -> None:
    """Remove a pod's folder and its logs."""
    await asyncio.to_thread(remove_tree, context.pod_folder(pod["metadata"]["uid"]))
    host, logs = context.host_paths, context.log_folder(pod)
    with contextlib.suppress(OSError), entered(logs.parent, host) as folder:
        await asyncio.to_thread(remove_tree, Path(folder) / logs.name)
    log_links.remove(host, pod, logs)


def _container_view(record: Container) -> ContainerView:
    return ContainerView(
        container_id=runtime_id(record.container_id) or None,
        name=record.name,
        attempt=max(0, record.attempt),
        running=record.running,
        spec=record.spec,
        log_path=record.log_path,
        previous_log_path=record.previous_log_path,
        environment=record.environment,
    )
