"""A node's agent: `python -m podlab.node.agent --configuration FILE`.

It runs the pods that are bound to its node. Pods outlive it: on SIGTERM it leaves them running and exits with
status 0; the next agent takes them over from the runtime's inventory.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import logging
import signal
import sys
from collections.abc import Awaitable, Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

from podlab.errors import PodlabError
from podlab.images import registry
from podlab.images.pull import Images, Registries
from podlab.network import fiction
from podlab.network.dns import asking
from podlab.network.node import ZONE_LABEL, NodeNetwork
from podlab.network.plain import PlainNodeNetwork
from podlab.node import log_links, logs, pod_state
from podlab.node.admission import pressed, verdict
from podlab.node.api import ApiClient, ApiError, Event, Object
from podlab.node.authorization import Webhook
from podlab.node.background import Background
from podlab.node.backoff import BackoffPolicy
from podlab.node.configuration import NodeConfiguration
from podlab.node.context import Addresses, NodeContext
from podlab.node.environment import service_variables, visible_services
from podlab.node.events import EventRecorder
from podlab.node.eviction import MemoryPressure, machine_memory_taken
from podlab.node.lease import Heartbeat
from podlab.node.local_storage import LocalStorage, Size, Turn, Used, left, measure
from podlab.node.objects import ObjectReader
from podlab.node.pod_files import node_hosts
from podlab.node.pod_worker import RETRY_FIRST, RETRY_LONGEST, PodWorker, remove_files
from podlab.node.process_limit import ProcessLimit
from podlab.node.quantity import whole
from podlab.node.registration import Registration
from podlab.node.runtime.contract import ContainerState, Inventory, Runtime, SandboxState
from podlab.node.runtime.plain.client import PlainRuntime
from podlab.node.runtime.sandbox.beneath import entered, make_below
from podlab.node.runtime.sandbox.client import SandboxRuntime
from podlab.node.server import serve
from podlab.node.view import PodView
from podlab.node.volumes import remove_tree
from podlab.waiting import pause_async

log = logging.getLogger("podlab.node.agent")

#: Threads for what blocks: image unpacking, volume files.
THREADS = 3
#: Python looks for cycles after so many new objects; its default of 700 costs a tenth of a busy agent's time.
COLLECT_AFTER = 20_000


class Agent:
    """The pods of one node and everything that serves them. Implements podlab.node.view.NodeView."""

    def __init__(self, configuration: NodeConfiguration) -> None:
        self.configuration = configuration
        self._runtime = _runtime(configuration)
        self._api = ApiClient(
            configuration.server, configuration.cluster_ca, configuration.certificate, configuration.key
        )
        self._proxy_api = ApiClient(
            configuration.server,
            configuration.cluster_ca,
            configuration.proxy_certificate,
            configuration.proxy_key,
        )
        self._network = _network(self._proxy_api, configuration)
        images = Images(Path(configuration.image_store), _registries(configuration))
        recorder = EventRecorder(self._api, configuration.name)
        self._registration = Registration(self._api, configuration, images.list, recorder)
        self._context = NodeContext(
            configuration=configuration,
            api=self._api,
            runtime=self._runtime,
            images=images,
            recorder=recorder,
            objects=ObjectReader(self._api),
            services=self._services,
            addresses=Addresses(configuration.index),
            allocatable=self._registration.allocatable,
            network=self._network,
            policy=BackoffPolicy(
                configuration.backoff_first, configuration.backoff_longest, configuration.backoff_reset
            ),
        )
        self._workers: dict[str, PodWorker] = {}
        #: Pods in their newest form that could not be worked on yet.
        self._behind: dict[str, Object] = {}
        self._tasks = Background()

    # NodeView

    @property
    def runtime(self) -> Runtime:
        return self._runtime

    def find(self, namespace: str, name: str) -> PodView | None:
        """The newest pod of that name, or None."""
        found = [w for w in self._workers.values() if (w.pod.namespace, w.pod.name) == (namespace, name)]
        return found[-1].view() if found else None

    def pods(self) -> Iterator[PodView]:
        """All pods that are bound to this node."""
        for worker in list(self._workers.values()):
            yield worker.view()

    # Life

    async def run(self) -> bool:
        """Serve until SIGTERM or SIGINT, then leave the pods as they are; False if a part of the agent failed."""
        # Few threads: each one brings an arena of memory of its own, and most of them would wait for the disk.
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(THREADS))
        stop = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        configuration = self.configuration
        # First of all: if it is of another version, nothing else is of use.
        self._registration.controllers = (await self._runtime.inventory()).controllers
        _write_node_files(self._context.host_paths, configuration)
        server = await serve(self, configuration, Webhook(self._context.api, configuration.name))
        needed = [
            self._tasks.start(self._network.run(), "node network"),
            self._tasks.start(self._context.recorder.run(), "events"),
        ]
        self._registration.starting()
        await self._registration.register()
        log.info("%s registered at %s", configuration.name, configuration.address)
        heartbeat = Heartbeat(self._api, configuration, lambda: self._registration.uid, self._registration.refresh)
        needed += [
            self._tasks.start(heartbeat.run(), "heartbeat"),
            self._tasks.start(self._registration.run(), "node status"),
            self._tasks.start(self._follow_node(), "watch of the node"),
            self._tasks.start(self._follow_pods(), "watch of pods"),
            self._tasks.start(logs.run(self._runtime, self.pods, configuration.host_paths), "log rotation"),
            self._tasks.start(self._watch_memory(), "memory"),
            self._tasks.start(self._watch_disk(), "disk"),
            self._tasks.start(self._watch_processes(), "processes"),
        ]
        told = asyncio.ensure_future(stop.wait())
        await asyncio.wait([told, *needed], return_when=asyncio.FIRST_COMPLETED)
        well = told.done()
        log.info("ending; %d pods stay", len(self._workers))
        await self._tasks.cancel()
        for worker in list(self._workers.values()):
            await worker.abandon()
        await server.close()
        await self._runtime.close()
        await self._api.close()
        await self._proxy_api.close()
        return well

    def _services(self, namespace: str, links: bool) -> Mapping[str, str]:
        return service_variables(visible_services(self._network.table.services, namespace, links))

    async def _follow_node(self) -> None:
        selector = f"metadata.name={self.configuration.name}"
        async for event in self._api.list_and_watch("/api/v1/nodes", field_selector=selector):
            if event.type in ("ADDED", "MODIFIED"):
                self._registration.apply(event.object)

    async def _watch_memory(self) -> None:
        """Evict pods when the node's share of memory gets short, if it has one."""
        configuration = self.configuration
        if not configuration.eviction_memory:
            await asyncio.Event().wait()
        pressure = MemoryPressure(
            self._registration.memory,
            capacity=whole(self._registration.capacity["memory"]),
            threshold=configuration.eviction_memory,
            taken=machine_memory_taken,
            usage=self._runtime.usage,
            pods=self.pods,
            evict=self._evict,
        )
        await pressure.run()

    async def _watch_disk(self) -> None:
        """Evict pods that use more of the disk than they may, or than there is."""
        context, configuration = self._context, self.configuration

        def measured(pod: PodView) -> Used:
            logs = context.log_folder({"metadata": pod.metadata})
            return measure(pod, context.pod_folder(pod.uid), logs, context.host_paths)

        storage = LocalStorage(
            self._registration.disk,
            threshold=Size(configuration.eviction_disk, configuration.eviction_inodes),
            left=lambda: left(Path(configuration.folder)),
            measure=measured,
            pods=self.pods,
            evict=self._evict,
            turn=Turn(Path(configuration.folder).parent / "disk-turn"),
        )
        await storage.run()

    async def _watch_processes(self) -> None:
        """Evict pods that fork without end."""
        await ProcessLimit(usage=self._runtime.usage, pods=self.pods, evict=self._evict).run()

    def _evict(self, uid: str, message: str) -> bool:
        return uid in self._workers and self._workers[uid].evict(message)

    # Pods

    async def _follow_pods(self) -> None:
        # Service variables are part of a container's environment: without the list a pod would lack them.
        await self._network.table.synced.wait()
        inventory = await self._runtime.inventory()
        selector = f"spec.nodeName={self.configuration.name}"
        listed: list[Object] | None = []
        async for event in self._api.list_and_watch("/api/v1/pods", field_selector=selector):
            if listed is not None and event.type == "ADDED":
                listed.append(event.object)
            elif listed is not None and event.type == "SYNC":
                await self._take_over(listed, inventory)
                listed = None
            else:
                self._apply(event)

    def _apply(self, event: Event) -> None:
        if event.type == "SYNC":
            return
        uid = event.object["metadata"]["uid"]
        worker = self._workers.get(uid)
        if event.type == "DELETED":
            self._behind.pop(uid, None)
            if worker:
                worker.vanish()
        elif uid in self._behind:
            self._behind[uid] = event.object
        elif worker:
            self._patiently(event.object, worker.update)
        else:
            self._begin_patiently(event.object, [], None)

    async def _take_over(self, pods: list[Object], inventory: Inventory) -> None:
        """Begin with the pods that are bound to this node, from what an earlier agent has left."""
        sandboxes = {sandbox.id: sandbox for sandbox in inventory.sandboxes}
        live = set()
        for pod in pods:
            uid = pod["metadata"]["uid"]
            if (pod.get("status") or {}).get("phase") not in pod_state.TERMINAL:
                live.add(uid)
        for sandbox in sandboxes.values():
            if sandbox.id in live and sandbox.address:
                self._context.addresses.claim(sandbox.address)
        for uid in sandboxes.keys() - live:
            log.info("removing the sandbox of a pod that is not here any more: %s", uid)
            await self._runtime.remove_sandbox(uid)
        containers: dict[str, list[ContainerState]] = {}
        for container in inventory.containers:
            if container.sandbox in live:
                containers.setdefault(container.sandbox, []).append(container)
            else:
                await self._runtime.remove_container(container.id)
        await self._sweep({pod["metadata"]["uid"] for pod in pods})
        for pod in sorted(pods, key=lambda pod: pod["metadata"]["creationTimestamp"]):
            uid = pod["metadata"]["uid"]
            self._begin_patiently(pod, containers.get(uid, []), sandboxes.get(uid) if uid in live else None)
        await self._network.settle()

    async def _sweep(self, known: set[str]) -> None:
        """Remove the folders of pods that do not exist any more, and their logs."""
        folder = Path(self.configuration.folder) / "pods"
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for entry in folder.iterdir():
            if entry.name not in known:
                await self._runtime.unmount(str(entry))
                await asyncio.to_thread(remove_tree, entry)
        host = self._context.host_paths
        with suppress(OSError), entered(self._context.logs, host) as kept:
            for entry in Path(kept).iterdir():
                if entry.name.count("_") == 2 and log_links.uid_of(entry.name) not in known:
                    await asyncio.to_thread(remove_tree, entry)
        log_links.sweep(host, known)

    def _begin_patiently(self, pod: Object, adopted: list[ContainerState], sandbox: SandboxState | None) -> None:
        """Begin with a pod and with what the runtime has of it."""

        async def end() -> None:
            # No worker is there that could.
            uid = pod["metadata"]["uid"]
            await self._runtime.remove_sandbox(uid)
            for container in adopted:
                await self._runtime.remove_container(container.id)
            await self._runtime.unmount(str(self._context.pod_folder(uid)))
            await remove_files(self._context, pod)
            await self._context.network.pod_down(uid)
            if sandbox and sandbox.address:
                self._context.addresses.free(sandbox.address)

        self._patiently(pod, lambda newest: self._begin(newest, adopted, sandbox), end)

    def _patiently(
        self, pod: Object, work: Callable[[Object], None], end: Callable[[], Awaitable[None]] | None = None
    ) -> None:
        """Do what a pod asks for; if that fails, try again later in its newest form. `end` it if it is deleted then."""
        if not self._safely(pod, work):
            self._behind[pod["metadata"]["uid"]] = pod
            self._tasks.start(self._later(pod["metadata"]["uid"], work, end), f"trying {pod['metadata']['name']}")

    async def _later(self, uid: str, work: Callable[[Object], None], end: Callable[[], Awaitable[None]] | None) -> None:
        pause = RETRY_FIRST
        while True:
            await pause_async(pause)
            pause = min(pause * 2, RETRY_LONGEST)
            pod = self._behind.get(uid)
            if pod is None:
                break
            if self._safely(pod, work):
                del self._behind[uid]
                return
        if end:
            await end()

    def _safely(self, pod: Object, work: Callable[[Object], None]) -> bool:
        """Do what a pod asks for; whether it went well. A failure costs that pod alone and is told."""
        try:
            work(pod)
        except Exception as error:
            metadata = pod["metadata"]
            log.exception("%s/%s cannot be worked on", metadata["namespace"], metadata["name"])
            self._context.recorder.pod(pod, "Warning", "FailedSync", f"Error syncing pod, trying again: {error!r}")
            return False
        return True

    def _begin(self, pod: Object, adopted: list[ContainerState], sandbox: SandboxState | None) -> None:
        worker = PodWorker(self._context, pod, self._forget)
        if not adopted and sandbox is None and worker.active and not pod["metadata"].get("deletionTimestamp"):
            others = [other.pod.admitted for other in self._workers.values() if other.counted]
            node = self._registration
            short = [each.kind for each in (node.memory, node.disk) if each.on]
            refused = pressed(pod, short) or verdict(pod, others, node.allocatable, node.labels)
            if refused:
                worker.reject(*refused)
        try:
            worker.begin(adopted, sandbox)
        except Exception:
            # Another one is made for the next try: this one must not go on to probe what it has adopted.
            self._tasks.start(worker.abandon(), f"abandon {pod['metadata']['name']}")
            raise
        self._workers[pod["metadata"]["uid"]] = worker

    def _forget(self, uid: str) -> None:
        self._workers.pop(uid, None)


def _write_node_files(root: Path, configuration: NodeConfiguration) -> None:
    """What hostPath volumes find on every machine: /tmp and /etc/hosts, unless somebody has changed them."""
    root.mkdir(parents=True, exist_ok=True)
    with suppress(OSError):  # a pod may have put anything there, even a link that leads out of the node's folder
        make_below(root.resolve(), ("tmp",), 0o1777)
        make_below(root.resolve(), ("etc",), 0o755)
        with entered(root / "etc", root) as folder, (Path(folder) / "hosts").open("x") as file:
            file.write(node_hosts(configuration.name, configuration.address))


def _runtime(configuration: NodeConfiguration) -> SandboxRuntime:
    if configuration.plain:
        return PlainRuntime(configuration.runtime_socket, configuration.plain)
    return SandboxRuntime(configuration.runtime_socket)


def _network(api: ApiClient, configuration: NodeConfiguration) -> NodeNetwork | PlainNodeNetwork:
    if not configuration.plain:
        return NodeNetwork(api, configuration)
    return PlainNodeNetwork(
        api,
        configuration.name,
        configuration.address,
        Path(configuration.plain["services"]),
        dns=configuration.dns_service,
        domain=configuration.cluster_domain,
        zone=configuration.labels.get(ZONE_LABEL),
        ask=asking(configuration.outside, configuration.resolver),
    )


def _believe(plain: Mapping[str, Any]) -> None:
    """Let this process's sockets know the cluster's addresses, before any of them is made."""
    fixed = {(host, port): (to, number) for host, port, to, number in plain["fixed"]}
    tables = fiction.Tables(lambda: [plain["services"]])
    fiction.install(fiction.Fiction(plain["loopback"], own=plain["address"], fixed=fixed, tables=tables))


def _registries(configuration: NodeConfiguration) -> Registries | None:
    """Which registries this node may ask for images; None without a way out."""
    if not configuration.outside:
        return None
    return Registries(registry.through(Path(configuration.outside)), frozenset(configuration.registries))


def main() -> int:
    """Run an agent; the exit status."""
    parser = argparse.ArgumentParser(prog="python -m podlab.node.agent", description=__doc__)
    parser.add_argument("--configuration", type=Path, required=True, help="the node's configuration (JSON)")
    arguments = parser.parse_args()
    logging.basicConfig(
        stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname).1s %(name)s: %(message)s"
    )
    gc.freeze()
    gc.set_threshold(COLLECT_AFTER, 20, 50)
    try:
        configuration = NodeConfiguration.read(arguments.configuration)
        if configuration.plain:
            _believe(configuration.plain)
        well = asyncio.run(Agent(configuration).run())
    except (PodlabError, ApiError, OSError) as error:
        log.error("%s", error)
        return 1
    return 0 if well else 1


if __name__ == "__main__":
    sys.exit(main())
