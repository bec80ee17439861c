"""One container of a pod: starting it, watching it end, probing it, stopping it. All I/O of its life is here."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import signal
import time
from collections.abc import Callable, Coroutine, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from podlab.errors import ImagePullError, RuntimeRefused
from podlab.images.pull import RunnableImage
from podlab.node import container_spec, environment, hooks, log_links
from podlab.node.api import ApiError
from podlab.node.background import Background
from podlab.node.backoff import Backoff
from podlab.node.container_spec import Paths
from podlab.node.context import NodeContext
from podlab.node.environment import ConfigError
from podlab.node.prober import Target
from podlab.node.probing import PodParts, Probing
from podlab.node.records import Container, Pod, Running, Terminated, Waiting
from podlab.node.runtime.contract import ContainerState, Exit
from podlab.node.runtime.sandbox import beneath
from podlab.node.termination_message import read_message
from podlab.waiting import pause_async

log = logging.getLogger(__name__)

#: A container always gets this many seconds between its stop signal and SIGKILL (kubelet's minimum).
SHORTEST_GRACE = 2.0
#: Seconds after which ErrImagePull is shown as ImagePullBackOff.
PULL_ERROR_SHOWN = 2.0
#: Pauses between tries of a start that failed for the configuration: doubled from the first to the longest.
CONFIG_RETRY_FIRST, CONFIG_RETRY_LONGEST = 1.0, 10.0
#: Exit status and reason of a program that could not be executed (as containerd gives them).
START_ERROR, START_ERROR_STATUS = "StartError", 128
#: Reasons of the runtime that mean: the container was made, its program could not be executed.
START_REASONS = ("RunContainerError", START_ERROR)


class ContainerWorker:
    """The actions on one container. Its record is changed here and nowhere else while the pod runs."""

    def __init__(self, context: NodeContext, parts: PodParts, record: Container) -> None:
        self._context = context
        self._parts = parts
        self.record = record
        self._tasks = Background()
        self._probing = Probing(context, parts, record, self._target, self.condemn)
        #: The signal that asks the attempt that runs to end.
        self._stop_signal = int(signal.SIGTERM)
        self._ended = asyncio.Event()
        #: Set when the deadline of a stop that is under way was moved.
        self._hurry = asyncio.Event()
        self._interrupted = asyncio.Event()
        self._kill_at = float("inf")

    @property
    def _pod(self) -> Pod:
        return self._parts.pod

    @cached_property
    def _folders(self) -> tuple[Path, Path]:
        """The pod's own folder and that of its logs."""
        return self._context.pod_folder(self._pod.uid), self._context.log_folder(self._pod.object)

    def _paths(self, attempt: int) -> Paths:
        return Paths.of(*self._folders, self._context.host_paths, self.record.name, attempt)

    def _event(self, kind: str, reason: str, message: str) -> None:
        self._context.recorder.pod(self._pod.object, kind, reason, message, self.record.spec)

    # Starting

    def start(self) -> None:
        """Start the next attempt in the background."""
        self.record.busy = True
        self._tasks.start(self._start(), f"start {self._pod.name}/{self.record.name}")

    async def _start(self) -> None:
        record = self.record
        attempt = record.attempt + 1
        try:
            image = await self._pull()
            await self._run(image, attempt)
        except ImagePullError as error:
            self._pull_failed(error)
        except (RuntimeRefused, ApiError, OSError) as error:
            self._start_failed(error, attempt)
        except Exception as error:
            # Without a pause and a word in the status the plan would start it again at once, for ever.
            log.exception("starting %s of %s failed", record.name, self._pod.full_name)
            self._start_failed(RuntimeRefused(repr(error), reason="CreateContainerError"), attempt)
        finally:
            record.busy = False
            self._parts.changed()

    async def _pull(self) -> RunnableImage:
        reference = self.record.spec["image"]
        policy = self.record.spec.get("imagePullPolicy") or "IfNotPresent"
        pulling = f'Pulling image "{reference}"'
        image, took = await self._context.image(reference, policy, lambda: self._event("Normal", "Pulling", pulling))
        said = f'Container image "{reference}" already present on machine and can be accessed by the pod'
        if took:
            said = f'Successfully pulled image "{reference}" in {took:.3f}s. Image size: {image.size} bytes.'
        self._event("Normal", "Pulled", said)
        self.record.image_id = image.references[-1] if image.references else image.id
        return image

    def _pull_failed(self, error: ImagePullError) -> None:
        record, now = self.record, time.time()
        record.replacing = False
        reference = record.spec["image"]
        record.pull_backoff = record.pull_backoff.failed(now, self._context.policy)
        record.failed_at, record.retry_at = now, now + record.pull_backoff.pause
        if error.reason == "ErrImagePull":
            self._event("Normal", "Pulling", f'Pulling image "{reference}"')
            self._event("Warning", "Failed", f'Failed to pull image "{reference}": {error}')
            later = ("ImagePullBackOff", f'Back-off pulling image "{reference}": ErrImagePull: {error}')
            record.state = Waiting("ErrImagePull", str(error), later, now + PULL_ERROR_SHOWN)
            self._event("Normal", "BackOff", f'Back-off pulling image "{reference}"')
        else:
            kind = "ErrImageNeverPull" if error.reason == "ErrImageNeverPull" else "InspectFailed"
            self._event("Warning", kind, str(error))
            record.state = Waiting(error.reason, str(error))
        self._event("Warning", "Failed", f"Error: {error.reason}")

    def _start_failed(self, error: Exception, attempt: int) -> None:
        record, now = self.record, time.time()
        record.replacing = False
        message = getattr(error, "message", None) or str(error)
        reason = getattr(error, "reason", "") if isinstance(error, RuntimeRefused) else ""
        self._event("Warning", "Failed", f"Error: {message}")
        if reason in START_REASONS:
            self._begin_attempt(attempt, self._name(attempt))
            record.state = Terminated(
                START_ERROR_STATUS, START_ERROR, message, None, now, self._shown_id(record.container_id)
            )
            record.container_id = self._shown_id(record.container_id)
            return
        record.failures += 1
        pause = min(CONFIG_RETRY_FIRST * 2 ** (record.failures - 1), CONFIG_RETRY_LONGEST)
        record.failed_at, record.retry_at = now, now + pause
        if record.ended:
            record.last = record.ended
        record.state = Waiting(reason or "CreateContainerConfigError", message)

    async def _run(self, image: RunnableImage, attempt: int) -> None:
        record, context, pod = self.record, self._context, self._pod
        who = container_spec.identity(pod, record.spec, image, context.identity)
        wanted = environment.references(record.spec)
        objects = await context.objects.read_all(pod.namespace, wanted) if wanted else {}
        named = environment.files(record.spec)
        texts = await asyncio.to_thread(lambda: {one: self._parts.text(*one) for one in named}) if named else {}
        links = pod.spec.get("enableServiceLinks", True)
        variables = environment.build(
            pod.admitted,
            record.spec,
            context.place(pod.address),
            hostname=self._parts.hostname,
            image={"HOME": who.home, **image.config.environment},
            services=context.services(pod.namespace, links),
            objects=objects,
            texts=texts,
        )
        if pod.terminating:
            return
        paths = self._paths(attempt)
        paths.make()
        # Before others see the container: a shipper looks for the link when the id appears.
        log_links.make(context.host_paths, pod.object, record.name, self._name(attempt), paths.log)
        before = record.container_id
        backoff = self._next_backoff()
        self._stop_signal = container_spec.stop_signal(record.spec, image)
        spec = container_spec.build(
            pod,
            record,
            image,
            who,
            variables,
            self._parts.mounts(record.spec, variables),
            self._parts.files,
            paths,
            name=self._name(attempt),
            attempt=attempt,
            processes_of=self._looks_at(),
            seccomp_default=context.configuration.seccomp_default,
            labels={
                "pod": pod.uid,
                "name": record.name,
                "backoff": json.dumps([backoff.pause, backoff.since]),
                "stop": str(self._stop_signal),
            },
        )
        _write_private(paths.environment, json.dumps(variables))
        if before:
            await context.runtime.remove_container(runtime_id(before))
        state = await context.runtime.start_container(spec)
        self._begin_attempt(attempt, state.id)
        record.environment = variables
        self._event("Normal", "Created", "Container created")
        self._event("Normal", "Started", "Container started")
        self._follow(state)
        await self._post_start(state)

    def _looks_at(self) -> str | None:
        """The runtime's name of the container whose processes this one is to see (`kubectl debug --target`)."""
        name = self.record.spec.get("targetContainerName")
        if not name:
            return None
        target = self._pod.containers.get(name)
        if target is None or not target.running:
            raise ConfigError(f"unable to find target container {name}")
        return runtime_id(target.container_id)

    def _begin_attempt(self, attempt: int, name: str) -> None:
        record = self.record
        record.backoff = self._next_backoff()
        record.last = record.ended or record.last
        record.attempt = attempt
        record.container_id = self._shown_id(name)
        record.failures, record.retry_at, record.condemned = 0, 0.0, None
        record.previous_log_path = record.log_path
        record.log_path = str(self._paths(attempt).log)
        if attempt >= 2:
            # Two logs are kept: of this attempt and of the one before.
            self._remove_logs(attempt - 2)

    def _remove_logs(self, attempt: int) -> None:
        top, path = self._context.host_paths, self._paths(attempt).log
        log_links.remove(top, self._pod.object, path)
        with contextlib.suppress(OSError), beneath.entered(path.parent, top) as folder:
            for old in Path(folder).glob(f"{path.name}*"):
                old.unlink(missing_ok=True)

    def _next_backoff(self) -> Backoff:
        """The back-off after a start at this moment: it grows only after an end, not after a first start."""
        end = self.record.ended
        if not end or not end.finished_at:
            return self.record.backoff
        return self.record.backoff.next(end.finished_at, time.time(), self._context.policy)

    def _name(self, attempt: int) -> str:
        return f"{self._pod.uid}.{self.record.name}.{attempt}"

    def _shown_id(self, name: str | None) -> str | None:
        return name if name is None or "://" in name else f"podlab://{name}"

    async def _post_start(self, state: ContainerState) -> None:
        hook = (self.record.spec.get("lifecycle") or {}).get("postStart")
        if not hook:
            self._is_running(state)
            return
        running = hooks.run(self._context.runtime, self._target(), hook, self._pod.full_name, None)
        try:
            await until_first(running, self._interrupted, self._ended)
            self._is_running(state)
        except Exception as error:
            # Whatever it is: the container runs by now, so that its start can no longer fail.
            log.warning("%s", error, exc_info=not isinstance(error, hooks.HookFailed))
            self._event("Warning", "FailedPostStartHook", "PostStartHook failed")
            self._is_running(state, probed=False)
            self.record.busy = False
            self.condemn("FailedPostStartHook")

    def _is_running(self, state: ContainerState, *, probed: bool = True) -> None:
        """The container has started; the probes begin. A container that has ended meanwhile stays ended."""
        record = self.record
        record.replacing = False
        if self._ended.is_set():
            return
        record.state = Running(state.started_at)
        record.started = "startupProbe" not in record.spec
        record.ready = "readinessProbe" not in record.spec
        if probed and record.kind in ("main", "sidecar"):
            self._probing.start(state.started_at)
        self._parts.changed()

    def _target(self) -> Target:
        record = self.record
        return Target(runtime_id(record.container_id), record.spec, self._pod.address or "", record.environment)

    # Ending

    def _follow(self, state: ContainerState) -> None:
        self._ended = asyncio.Event()
        self._tasks.start(self._watch(state), f"watch {self._pod.name}/{self.record.name}")

    async def _watch(self, state: ContainerState) -> None:
        try:
            end = await self._context.runtime.wait_container(state.id)
        except RuntimeRefused as error:
            log.warning("the end of %s was not seen: %s", state.id, error)
            end = Exit(137, time.time())
        await self._note_exit(state, end)

    async def _note_exit(self, state: ContainerState, end: Exit) -> None:
        record = self.record
        await self._probing.stop()
        message = await asyncio.to_thread(read_message, record.spec, self._paths(record.attempt), end.status)
        reason = "OOMKilled" if end.out_of_memory else "Completed" if end.status == 0 else "Error"
        record.state = Terminated(
            end.status, reason, message, state.started_at, end.finished_at, self._shown_id(state.id)
        )
        record.started = record.ready = False
        record.condemned = None
        self._ended.set()
        self._parts.changed()

    def condemn(self, message: str) -> None:
        """Mark the running container to be killed; its restart policy then says what follows."""
        if self.record.running and not self.record.condemned:
            self.record.condemned = message
            self._parts.changed()

    def kill(self, grace: float) -> None:
        """Stop a condemned container in the background."""
        self.record.busy = True
        self._tasks.start(self._kill(grace), f"kill {self._pod.name}/{self.record.name}")

    async def _kill(self, grace: float) -> None:
        try:
            await self.stop(grace, message=self.record.condemned or "")
        finally:
            self.record.busy = False
            self._parts.changed()

    def interrupt(self) -> None:
        """Give up a postStart hook that is under way: the pod is to end."""
        self._interrupted.set()

    def hurry(self, kill_at: float) -> None:
        """Bring the SIGKILL of a stop that is under way forward to `kill_at` (monotonic seconds)."""
        if kill_at < self._kill_at:
            self._kill_at = kill_at
            self._hurry.set()

    async def stop(self, grace: float, *, message: str = "", turn: Callable[[], Any] | None = None) -> None:
        """Stop the container and return when it has ended: preStop, its turn, stop signal, grace, SIGKILL.

        `turn` is a function whose awaitable returns when this container may be told to stop (sidecars).
        """
        record = self.record
        if not record.container_id or self._ended.is_set():
            return
        self._kill_at = time.monotonic() + grace
        self._event("Normal", "Killing", message or f"Stopping container {record.name}")
        hook = (record.spec.get("lifecycle") or {}).get("preStop")
        if hook and grace > 0:
            await self._limited(self._pre_stop(hook))
        if turn is not None and grace > 0:
            await self._limited(turn())
        self._kill_at = max(self._kill_at, time.monotonic() + SHORTEST_GRACE)
        name = runtime_id(record.container_id)
        try:
            await self._context.runtime.signal_container(name, self._stop_signal)
            await self._limited(self._ended.wait())
            while not self._ended.is_set():
                await self._context.runtime.signal_container(name, signal.SIGKILL)
                await asyncio.wait([asyncio.ensure_future(self._ended.wait())], timeout=5)
        except RuntimeRefused as error:
            log.warning("stopping %s: %s", name, error)
            await self._ended.wait()

    async def _pre_stop(self, hook: Mapping[str, Any]) -> None:
        try:
            left = max(0.1, self._kill_at - time.monotonic())
            await hooks.run(self._context.runtime, self._target(), hook, self._pod.full_name, left)
        except hooks.HookFailed as error:
            log.info("%s", error)
            self._event("Warning", "FailedPreStopHook", "PreStopHook failed")

    async def _limited(self, work: Any) -> None:
        """Wait for `work` until the container has ended or its deadline (which may move) is reached."""
        task = asyncio.ensure_future(work)
        ended = asyncio.ensure_future(self._ended.wait())
        try:
            while not (task.done() or ended.done()):
                left = self._kill_at - time.monotonic()
                if left <= 0:
                    return
                self._hurry.clear()
                hurry = asyncio.ensure_future(self._hurry.wait())
                await asyncio.wait([task, ended, hurry], timeout=left, return_when=asyncio.FIRST_COMPLETED)
                hurry.cancel()
        finally:
            for other in (task, ended):
                other.cancel()

    # Adoption and end

    def adopt(self, state: ContainerState, status: Mapping[str, Any]) -> None:
        """Take over a container that an earlier agent started; `status` is its entry at the API server."""
        record, attempt = self.record, int(state.labels.get("attempt", 0))
        record.attempt = attempt
        record.container_id = self._shown_id(state.id)
        record.image_id = status.get("imageID") or ""
        pause, since = json.loads(state.labels.get("backoff", "[0, 0]"))
        record.backoff = type(record.backoff)(pause, since)
        self._stop_signal = int(state.labels.get("stop", self._stop_signal))
        paths = self._paths(attempt)
        record.log_path = str(paths.log)
        before = self._paths(attempt - 1).log
        record.previous_log_path = str(before) if attempt and before.exists() else None
        try:
            record.environment = json.loads(paths.environment.read_text())
        except (OSError, ValueError):
            record.environment = {}
        record.state = Running(state.started_at)
        same = status.get("containerID") == record.container_id
        record.started = "startupProbe" not in record.spec or bool(same and status.get("started"))
        record.ready = "readinessProbe" not in record.spec or bool(same and status.get("ready"))
        self._follow(state)
        if record.kind in ("main", "sidecar") and state.exit is None:
            self._probing.start(state.started_at)

    def restore_logs(self) -> None:
        """Find the logs of a container that has long ended."""
        for attempt, field in ((self.record.attempt, "log_path"), (self.record.attempt - 1, "previous_log_path")):
            path = self._paths(attempt).log
            setattr(self.record, field, str(path) if path.exists() else None)

    async def close(self) -> None:
        """End all tasks; the container itself is left as it is."""
        await self._probing.stop()
        await self._tasks.cancel()

    async def idle(self) -> None:
        """Return when no start or kill is under way."""
        while self.record.busy:
            await pause_async(0.02)


async def until_first(work: Coroutine[Any, Any, None], *events: asyncio.Event) -> None:
    """Wait for `work`, but give it up when one of `events` is set; raises what `work` raises."""
    task = asyncio.ensure_future(work)
    waits = [asyncio.ensure_future(event.wait()) for event in events]
    try:
        await asyncio.wait([task, *waits], return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            task.result()
    finally:
        for other in (task, *waits):
            other.cancel()


def runtime_id(container_id: str | None) -> str:
    """The runtime's name of a container from the one in the status (podlab://NAME)."""
    return (container_id or "").removeprefix("podlab://")


def _write_private(path: Path, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8", errors="surrogateescape") as file:
        file.write(text)


__all__ = ["ConfigError", "ContainerWorker", "PodParts", "runtime_id"]
