"""What a pod has before its containers start: its name, its address, its sandbox and its volumes."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping

from podlab.errors import RuntimeRefused
from podlab.network.netfilter import NetfilterError
from podlab.node import container_spec, pod_files
from podlab.node.admission import dotted
from podlab.node.api import ApiError, NotFound
from podlab.node.context import NodeContext
from podlab.node.records import Pod
from podlab.node.runtime.contract import SandboxSpec, SandboxState
from podlab.node.volume_files import VolumeError
from podlab.node.volumes import REFRESH, PodVolumes
from podlab.waiting import pause_async

log = logging.getLogger(__name__)

#: Pauses between tries to make a sandbox or to fill volumes: doubled from the first to the longest.
RETRY_FIRST, RETRY_LONGEST = 0.5, 10.0
#: What the outside may do to us; any other exception is a fault of this program.
_EXPECTED = (RuntimeRefused, VolumeError, NetfilterError, ApiError, OSError, ValueError)
#: Handlers of a RuntimeClass that mean this node's one runtime.
HANDLERS = ("podlab", "runc")


class Preparation:
    """Makes a pod's sandbox and volumes and keeps the volumes up to date. `changed()` is called at each step."""

    def __init__(self, context: NodeContext, pod: Pod, changed: Callable[[], None]) -> None:
        self._context = context
        self._pod = pod
        self._changed = changed
        self.volumes = PodVolumes(context.pod_folder(pod.uid), context)
        self.files: Mapping[str, str] = {}
        self.hostname = pod.name
        self._kernel_hostname = pod.name

    def adopt(self, sandbox: SandboxState) -> None:
        """Take over a sandbox that an earlier agent made."""
        self._pod.sandbox = sandbox.id
        self._pod.address = sandbox.address or self._pod.host_address
        self._name()
        self._context.network.adopt(self._pod.object, self._pod.address)
        self._pod.sandbox_ready = True

    async def run(self) -> None:
        """Make both, trying again until they are there, then refresh the volumes until cancelled."""
        if self._pod.address is None:
            self._pod.address = self._take_address()
        await asyncio.gather(
            self._persist("FailedCreatePodSandBox", "Failed to create pod sandbox: ", self._make_sandbox),
            self._persist("FailedMount", "", self._fill_volumes),
        )
        while self.volumes.refreshing(self._pod.object):
            await pause_async(REFRESH)
            try:
                await self.volumes.refresh(self._pod.admitted, self._context.place(self._pod.address))
            except Exception as error:
                self._tell("FailedMount", "", error)

    def _take_address(self) -> str | None:
        if self._pod.spec.get("hostNetwork"):
            return self._pod.host_address
        return self._context.addresses.take()

    async def _persist(self, reason: str, prefix: str, work: Callable[[], Awaitable[None]]) -> None:
        pause = RETRY_FIRST
        while not (self._pod.terminating or self._pod.deleted):
            try:
                await work()
                self._pod.hindrances.pop(reason, None)
                self._changed()
                return
            except Exception as error:
                # Events are forgotten after an hour; the status stays.
                self._pod.hindrances[reason] = self._tell(reason, prefix, error)
                self._changed()
            await pause_async(pause)
            pause = min(pause * 2, RETRY_LONGEST)

    def _tell(self, reason: str, prefix: str, error: Exception) -> str:
        """Tell of a failed try by an Event, and of a fault of ours by the log; the Event's message."""
        message = prefix + (getattr(error, "message", None) or str(error))
        if not isinstance(error, _EXPECTED):
            log.error("preparing %s failed", self._pod.full_name, exc_info=error)
            message = f"{prefix}{error!r}"
        self._context.recorder.pod(self._pod.object, "Warning", reason, message)
        return message

    def _name(self) -> None:
        """Settle the pod's names and the files that contain them; ValueError if the kernel cannot hold them."""
        pod, configuration = self._pod, self._context.configuration
        domain = configuration.cluster_domain
        self.hostname, subdomain = pod_files.names(pod.object, domain, configuration.name)
        self._kernel_hostname = pod_files.kernel_hostname(pod.object, self.hostname, subdomain)
        self.files = container_spec.etc_files(
            pod,
            self.hostname,
            subdomain,
            server=configuration.dns_service,
            cluster_domain=domain,
            node_hosts=pod_files.node_hosts(configuration.name, configuration.address),
        )

    async def _make_sandbox(self) -> None:
        pod = self._pod
        if pod.address is None:
            pod.address = self._take_address()
            if pod.address is None:
                raise RuntimeRefused("no free address is left on this node")
        self._name()
        await self._check_runtime_class()
        await self._context.network.pod_up(pod.object, pod.address)
        host_network = bool(pod.spec.get("hostNetwork"))
        context = pod.spec.get("securityContext") or {}
        await self._context.runtime.create_sandbox(
            SandboxSpec(
                id=pod.uid,
                hostname=self._kernel_hostname,
                address=None if host_network else pod.address,
                host_network=host_network,
                sysctls={dotted(entry["name"]): entry["value"] for entry in context.get("sysctls") or ()},
                labels={"namespace": pod.namespace, "name": pod.name, "uid": pod.uid},
            )
        )
        pod.sandbox = pod.uid
        pod.sandbox_ready = True

    async def _check_runtime_class(self) -> None:
        """Raise RuntimeRefused if the pod wants a runtime that this node does not have."""
        name = self._pod.spec.get("runtimeClassName")
        if not name:
            return
        try:
            found = await self._context.api.get(f"/apis/node.k8s.io/v1/runtimeclasses/{name}")
        except NotFound as error:
            raise RuntimeRefused(f'RuntimeClass "{name}" not found') from error
        if found["handler"] not in HANDLERS:
            raise RuntimeRefused(
                f'no runtime for "{found["handler"]}" is configured (RuntimeClass {name}); '
                f"this node has {', '.join(HANDLERS)}"
            )

    async def _fill_volumes(self) -> None:
        await self.volumes.prepare(self._pod.admitted, self._context.place(self._pod.address))
        self._pod.volumes_ready = True
