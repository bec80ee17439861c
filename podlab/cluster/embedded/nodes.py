"""The machines and agents of a cluster, kept by the supervisor: power, pauses, cables, restarts."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from podlab import paths
from podlab.cluster.embedded import components, delegation, identities, shares, usage
from podlab.cluster.embedded.folder import ClusterFolder, Record, environment
from podlab.cluster.embedded.nursery import Nursery
from podlab.cluster.embedded.processes import Kept, Running, describe
from podlab.cluster.embedded.resolver import resolver
from podlab.errors import ClusterError, RuntimeRefused, UsageError
from podlab.network import addresses
from podlab.network.backbone import Backbone
from podlab.network.plain import PlainBackbone, fixed
from podlab.node.configuration import NodeConfiguration
from podlab.node.runtime.contract import Process
from podlab.node.runtime.plain.processes import kill_marked
from podlab.node.runtime.sandbox.client import SandboxRuntime
from podlab.node.runtime.sandbox.machine import Machine, start_machine
from podlab.waiting import pause_async, until_async

#: Tells pods and people what the node runs containers with.
RUNTIME_LABEL = "podlab.dev/runtime"
#: Seconds for which a slowed node's processes stand still and then run, in turn: a fifth of its speed.
STANDS, RUNS = 0.8, 0.2
#: Seconds that containers have to end when the cluster is stopped.
GRACE = 2.0


@dataclass
class RunningMachine:
    """A machine as a process that runs (processes.Running)."""

    machine: Machine

    @property
    def pid(self) -> int:
        """The supervisor's number for the machine's first process."""
        return self.machine.pid

    async def wait(self) -> str:
        """Return when the machine has ended."""
        loop = asyncio.get_running_loop()
        ended = asyncio.Event()
        descriptor = os.dup(self.machine.fileno())
        loop.add_reader(descriptor, ended.set)
        try:
            await ended.wait()
        finally:
            loop.remove_reader(descriptor)
            os.close(descriptor)
        self.machine.wait(0)
        return "ended"


@dataclass
class RunningAgent:
    """An agent as a process that runs: `pid` is the supervisor's number, `process` the machine's."""

    pid: int
    process: Process

    async def wait(self) -> str:
        """Return when the agent has ended, by itself or with its machine."""
        try:
            ended = await self.process.wait()
        except RuntimeRefused:
            return "ended with its machine"
        return describe(-ended.signal if ended.signal else ended.status)


class Node:
    """One node: a machine, and the agent in it."""

    def __init__(
        self,
        index: int,
        folder: ClusterFolder,
        record: Record,
        backbone: Backbone | PlainBackbone,
        nursery: Nursery | None,
    ) -> None:
        self.index = index
        self.name = identities.node_name(index)
        self.address = addresses.node_address(index)
        self.isolated = False
        self._cluster = folder
        self._timers = components.PROFILES[record.profile]
        self._share = record.shares or len(record.nodes), record.profile
        self._backbone = backbone
        self._record = record
        self._nursery = nursery
        self._runtime: SandboxRuntime | None = None
        #: Whether it is to be slow, and the task that makes it so: who brings it back to full speed waits for its end.
        self._slow = False
        self._slowing: asyncio.Task[None] | None = None
        self.machine = Kept(f"{self.name}-machine", self._start_machine, folder.log(f"{self.name}-machine"))
        self.agent = Kept(f"{self.name}-agent", self._start_agent, folder.log(f"{self.name}-agent"))

    @property
    def socket(self) -> Path:
        """Where the machine's runtime listens."""
        return self._cluster.run / f"{self.name}.sock"

    @property
    def services(self) -> Path:
        """Where a node of the plain runtime writes down where Services lead."""
        return self._cluster.path / "nodes" / f"{self.name}-services.json"

    def plain(self) -> dict[str, Any]:
        """What the plain runtime is told of the node; empty where nodes have namespaces."""
        if not isinstance(self._backbone, PlainBackbone):
            return {}
        folder, number = str(self._cluster.node(self.name)), self._backbone.loopback
        return {
            "loopback": number,
            "address": self.address,
            "api": ["127.0.0.1", self._record.ports["kube-apiserver"]],
            "dns": addresses.DNS_SERVICE,
            "fixed": fixed(number, self.index, addresses.DNS_SERVICE),
            "services": str(self.services),
            "folder": folder,
            "real": [str(self._cluster.path), str(paths.cache() / "images")],
        }

    @property
    def configuration_file(self) -> Path:
        """What the agent is told."""
        return self._cluster.path / "nodes" / f"{self.name}.json"

    def configuration(self) -> NodeConfiguration:
        """What the agent is told."""
        pki, name = self._cluster.pki, self.name
        plain = self.plain()
        server = f"https://{addresses.BACKBONE}:{addresses.API_PORT}"
        if plain:
            server = "https://{}:{}".format(*plain["api"])
        share = shares.share(shares.this_machine(self._cluster.path), *self._share)
        return NodeConfiguration(
            name=name,
            index=self.index,
            address=self.address,
            pod_cidr=addresses.pod_cidr(self.index),
            server=server,
            plain=plain,
            cluster_ca=str(pki / "ca.crt"),
            certificate=str(pki / f"{name}-client.crt"),
            key=str(pki / f"{name}-client.key"),
            proxy_certificate=str(pki / "kube-proxy.crt"),
            proxy_key=str(pki / "kube-proxy.key"),
            serving_certificate=str(pki / f"{name}-serving.crt"),
            serving_key=str(pki / f"{name}-serving.key"),
            api_client_name=identities.KUBELET_CLIENT,
            runtime_socket=str(self.socket),
            folder=str(self._cluster.node(name)),
            image_store=str(paths.cache() / "images"),
            outside=str(self._cluster.outside),
            registries=os.environ.get("PODLAB_REGISTRIES", "").replace(",", " ").split(),
            resolver=resolver(),
            lease_duration=self._timers.lease_duration,
            lease_period=self._timers.lease_period,
            status_period=self._timers.status_period,
            capacity=share.capacity,
            allocatable=share.allocatable,
            eviction_memory=share.eviction_memory,
            eviction_disk=share.eviction_disk,
            eviction_inodes=share.eviction_inodes,
            pressure_transition=self._timers.toleration,
            seccomp_default=self._record.guarded,
            labels=shares.labels(self.index) | {RUNTIME_LABEL: self._record.runtime},
        )

    async def plug_in(self) -> None:
        """Start the machine (and keep it running) and return when it runs and its cable is plugged in."""
        before = self.machine.ends
        self.machine.begin()
        await until_started(self.machine, before)

    async def power_on(self) -> None:
        """The same, with the agent; it is kept as well if the machine does not start at first, and waits for it."""
        try:
            await self.plug_in()
        finally:
            self.agent.begin()

    async def pull_the_plug(self) -> None:
        """End everything on the node at once and leave it off. Its cable hangs loose."""
        await self.fast()
        agent = asyncio.create_task(self.agent.stop(0))
        await self.machine.stop(0)
        await agent
        self._backbone.detach(self.name)
        await self._forget_runtime()

    async def restart(self) -> None:
        """Power the node off and on again: a reboot."""
        await self.pull_the_plug()
        await self.power_on()

    def pause(self) -> None:
        """Freeze every process of the node, as if its processors stood still."""
        self._signal_all(signal.SIGSTOP)
        self._mark(signal.SIGSTOP)

    def resume(self) -> None:
        """Let every process of the node go on."""
        self._signal_all(signal.SIGCONT)
        self._mark(signal.SIGCONT)

    @property
    def slowed(self) -> bool:
        """Whether the node is slow on purpose."""
        return self._slowing is not None and not self._slowing.done()

    def slow(self) -> None:
        """Let the node's processes run for a fifth of the time only, until `fast` or the machine's next start."""
        if self.machine.pid is None:
            raise ClusterError(f"The machine of {self.name} does not run.")
        if self.machine.state == "paused":
            raise ClusterError(
                f"{self.name} is paused: it stands still all the time.",
                hint=f"Resume it first: `podlab cluster fault node resume {self.name}`.",
            )
        if not self.slowed:
            self._slow = True
            self._slowing = asyncio.create_task(self._stumble(), name=f"slow {self.name}")

    async def fast(self) -> None:
        """Return when the node runs at full speed; at once if it is not slowed."""
        self._slow = False
        if self._slowing:
            await asyncio.wait([self._slowing])

    async def _stumble(self) -> None:
        try:
            while self._slow:
                await asyncio.to_thread(self._signal_all, signal.SIGSTOP)
                await pause_async(STANDS)
                await asyncio.to_thread(self._signal_all, signal.SIGCONT)
                await pause_async(RUNS)
        except ClusterError:
            pass  # its machine has ended, and the next one is fast

    def set_cable(self, plugged: bool) -> None:
        """Pull the node's network cable, or plug it in again."""
        self._backbone.set_link(self.name, plugged)
        self.isolated = not plugged

    async def end_pods(self, grace: float = GRACE) -> None:
        """Ask every container to end (SIGTERM) and return when all have, or after `grace` seconds."""
        runtime = self._runtime
        if runtime is None or self.machine.state != "running":
            return
        try:
            async with asyncio.timeout(grace):
                running = [c for c in (await runtime.inventory()).containers if c.exit is None]
                for container in running:
                    await runtime.signal_container(container.id, signal.SIGTERM)
                await asyncio.gather(*(runtime.wait_container(container.id) for container in running))
        except (TimeoutError, RuntimeRefused):
            pass  # what has not ended by now ends with the machine

    def usage(self) -> dict[str, tuple[int, float]]:
        """Resident bytes and CPU seconds of the agent, and of the machine's own processes without it.

        Pods are in PID namespaces of their own and are not counted.
        """
        found: dict[str, tuple[int, float]] = {}
        agent, machine = self.agent.pid, self.machine.pid
        if agent:
            found[self.agent.name] = usage.usage([agent])
        if machine and self.plain():
            found[self.machine.name] = usage.usage([machine, *usage.children(machine)])
        elif machine and (space := usage.namespace(machine)):
            own = [pid for pid in usage.in_namespace(space) if pid != agent]
            found[self.machine.name] = usage.usage(own)
        return found

    async def _start_machine(self) -> RunningMachine:
        await self.fast()
        folder, plain = self._cluster.node(self.name), self.plain()
        if plain:
            # No namespace has ended what belonged to the machine before.
            self.agent.signal(signal.SIGKILL)
            await until_async(partial(_nothing_left, str(folder)), f"{self.name} being empty", timeout=30.0)
        machine = await asyncio.to_thread(
            start_machine, self.name, folder, self.socket, self._cluster.log(self.machine.name), plain, self._cgroup()
        )
        self._backbone.attach(self.name, self.index, machine.pid)
        self.isolated = False
        await self._forget_runtime()
        self._runtime = SandboxRuntime(self.socket)
        return RunningMachine(machine)

    def _cgroup(self) -> str | None:
        """The path of its own, if the cluster has one."""
        above = self._record.details.get("cgroup")
        return delegation.of_node(above, self._cluster.path, self.name) if above else None

    async def _start_agent(self) -> Running:
        machine = await self.machine.up()
        runtime = self._runtime
        if runtime is None:
            raise ClusterError(f"The machine of {self.name} does not run.")
        self.configuration().write(self.configuration_file)
        if self._nursery and self._nursery.open:
            log = self._cluster.log(self.agent.name)
            within = None if self.plain() else machine.pid
            return await self._nursery.start(within, self.configuration_file, log)
        argv = [sys.executable, "-m", "podlab.node.agent", "--configuration", str(self.configuration_file)]
        process = await runtime.spawn_agent(argv, environment(), self._cluster.log(self.agent.name))
        return RunningAgent(_our_number(machine.pid, process.pid), process)

    async def _forget_runtime(self) -> None:
        runtime, self._runtime = self._runtime, None
        if runtime:
            await runtime.close()

    def _mark(self, number: int) -> None:
        """Have it shown as paused, or not."""
        self.machine.signal(number)
        self.agent.signal(number)

    def _signal_all(self, number: int) -> None:
        machine, agent = self.machine.pid, self.agent.pid
        if machine is None:
            raise ClusterError(f"The machine of {self.name} does not run.")
        seen: set[int] = set()
        # Again until nothing new is found: a process may have forked in between.
        while new := {*usage.descendants(machine), *([agent] if agent else [])} - seen:
            for pid in new:
                try:
                    os.kill(pid, number)
                except ProcessLookupError:
                    pass
            seen |= new


class Nodes:
    """All nodes of a cluster by name. `known` (node name -> address) is kept up to date for others."""

    def __init__(
        self,
        folder: ClusterFolder,
        record: Record,
        backbone: Backbone | PlainBackbone,
        known: dict[str, str],
        nursery: Nursery | None = None,
    ) -> None:
        self._folder, self._record, self._backbone, self._nursery = folder, record, backbone, nursery
        self._nodes: dict[str, Node] = {}
        #: Held while a node is removed: one at a time.
        self.removing = asyncio.Lock()
        self._known = known
        for index in record.nodes:
            self.add(index)

    def add(self, index: int) -> Node:
        """A new node (not started)."""
        node = Node(index, self._folder, self._record, self._backbone, self._nursery)
        self._nodes[node.name] = node
        self._known[node.name] = node.address
        return node

    def discard(self, name: str) -> None:
        """Forget a node that has been ended."""
        self._nodes.pop(name, None)
        self._known.pop(name, None)

    def all(self) -> Iterable[Node]:
        """The nodes in the order of their numbers."""
        return sorted(self._nodes.values(), key=lambda node: node.index)

    def get(self, name: str) -> Node:
        """One node; UsageError lists them if the name is unknown."""
        if name not in self._nodes:
            raise UsageError(f"There is no node {name}.", hint=f"There are {', '.join(self._nodes) or 'none'}.")
        return self._nodes[name]


async def _nothing_left(folder: str) -> bool:
    """Whether no process of a node of the plain runtime is left; those that are left are killed."""
    return not await asyncio.to_thread(kill_marked, [f"PODLAB_NODE={folder}"])


async def until_started(kept: Kept, before: int, timeout: float = 30.0) -> None:
    """Return when a process runs; ClusterError with the reason once it has failed more than `before` times."""

    async def started() -> bool:
        if kept.ends > before and kept.running is None:
            raise ClusterError(f"{kept.name} {kept.message}.", hint=f"Full log: {kept.log}")
        return kept.running is not None

    await until_async(started, f"{kept.name} starting", timeout=timeout, interval=0.01)


def _our_number(machine: int, pid: int) -> int:
    """The supervisor's number for the process that the machine calls `pid`."""
    found = usage.outer_numbers(machine).get(pid)
    if found is None:
        raise ClusterError(f"The process {pid} of the machine ended at once.")
    return found
