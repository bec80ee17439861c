"""The probes of one running container: when each is asked, and what its verdict does to the container."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from podlab.node import prober, probes
from podlab.node.background import Background
from podlab.node.context import NodeContext
from podlab.node.pod_state import should_restart
from podlab.node.probes import ProbeKind, Settings, Tally
from podlab.node.records import Container, Pod
from podlab.node.runtime.contract import Mount
from podlab.waiting import pause_async

#: Seconds between two looks at whether the startup probe has let the others go.
STARTED_CHECK = 0.1
#: The exit status that a container will have that is killed: asked for whether it is then restarted.
KILLED = 137


class PodParts(Protocol):
    """What a container needs of its pod's worker."""

    pod: Pod

    @property
    def files(self) -> Mapping[str, str]:
        """The files under /etc that the node writes."""

    @property
    def hostname(self) -> str:
        """What the pod calls itself."""

    def changed(self) -> None:
        """Something happened: look again at what is to be done and what the status says."""

    def mounts(self, container: Mapping[str, Any], variables: Mapping[str, str]) -> list[Mount]:
        """The mounts of a container."""

    def text(self, volume: str, path: str) -> str | None:
        """A file in a volume of the pod, None if it is not there."""


class Probing:
    """Asks a container's probes while it runs and keeps `started` and `ready` of its record.

    `condemn(message)` is called when a liveness or startup probe has failed for good.
    """

    def __init__(
        self,
        context: NodeContext,
        parts: PodParts,
        record: Container,
        target: Callable[[], prober.Target],
        condemn: Callable[[str], None],
    ) -> None:
        self._context = context
        self._parts = parts
        self._record = record
        self._target = target
        self._condemn = condemn
        self._tasks = Background()

    def start(self, started_at: float) -> None:
        """Begin with the probes of a container that runs since `started_at`."""
        for kind, field in probes.FIELDS.items():
            if field in self._record.spec:
                work = self._probe(kind, self._record.spec[field], started_at)
                self._tasks.start(work, f"{kind} probe {self._parts.pod.name}/{self._record.name}")

    async def stop(self) -> None:
        """End all probes."""
        await self._tasks.cancel()

    @property
    def _leaving(self) -> bool:
        return self._parts.pod.terminating or self._parts.pod.deleted

    async def _probe(self, kind: ProbeKind, probe: Mapping[str, Any], started_at: float) -> None:
        settings = Settings.of(probe)
        while kind != "startup" and not self._record.started:
            await pause_async(STARTED_CHECK)
        # From here on the monotonic clock: whoever sets the other one must not stop or hurry a probe.
        age = max(0.0, time.time() - started_at)
        begun = time.monotonic() - age
        counted_from = begun + settings.first_counted
        first = counted_from if kind == "liveness" else begun + settings.initial_delay
        if age > settings.first_counted + settings.period:
            # An adopted container: the probes of many must not fall into step.
            await pause_async(random.uniform(0, settings.period))
        await pause_async(max(0.0, first - time.monotonic()))
        tally, tries = Tally(), 0
        # A pod that is going is still asked whether it is ready, but no longer restarted.
        while kind == "readiness" or not self._leaving:
            answer = await prober.ask(self._context.runtime, self._target(), probe, settings.timeout)
            early = counted_from - time.monotonic()
            if not answer.healthy and probes.is_early(kind, tally, early):
                await pause_async(probes.eager_pause(tries, answer.refused, early))
                tries += 1
                continue
            self._report(kind, answer)
            if answer.healthy is not None:
                tally = tally.after(answer.healthy, settings)
                if self._judge(kind, tally):
                    return
            await pause_async(settings.period)

    def _report(self, kind: ProbeKind, answer: prober.Answer) -> None:
        """Tell of anything but a plain success, in the kubelet's words."""
        shown, reason = kind.capitalize(), "Unhealthy"
        if answer.healthy is None:
            text = f"{shown} probe errored and resulted in unknown state: {answer.message}"
        elif answer.warning:
            reason, text = "ProbeWarning", f"{shown} probe warning: {answer.message}"
        elif not answer.healthy:
            text = f"{shown} probe failed: {answer.message}"
        else:
            return
        pod = self._parts.pod.object
        self._context.recorder.pod(pod, "Warning", reason, text, self._record.spec)

    def _judge(self, kind: ProbeKind, tally: Tally) -> bool:
        """Act on a verdict; whether the probe is over."""
        record = self._record
        if tally.verdict is None:
            return False
        if kind == "readiness":
            if record.ready != tally.verdict:
                record.ready = tally.verdict
                self._parts.changed()
            return False
        if tally.verdict:
            if kind == "startup":
                record.started = True
                self._parts.changed()
            return kind == "startup"
        restart = should_restart(self._parts.pod, record, KILLED)
        self._condemn(probes.killed_message(record.name, kind, restart))
        return True
