"""Bring-up as a list of named steps. Each runs as soon as what it needs is done; the CLI draws this list."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

from podlab.cluster.embedded import objects
from podlab.cluster.embedded.nodes import Node
from podlab.cluster.embedded.processes import failure, last_lines
from podlab.cluster.embedded.steps import Step
from podlab.cluster.embedded.system import System
from podlab.errors import ClusterError, WaitTimeout
from podlab.node.api import ApiError, Invalid, NotFound
from podlab.trees import remove_tree
from podlab.waiting import until_async

#: Seconds that a part may take on a slow and busy machine.
PATIENCE = 120.0

T = TypeVar("T")


async def insist(request: Callable[[], Awaitable[T]], what: str) -> T:
    """Repeat `request` until the API server has done it; ClusterError if it does not accept what it is sent."""

    async def answered() -> tuple[T]:
        try:
            return (await request(),)
        except Invalid as error:
            raise ClusterError(f"The API server refuses one of the cluster's own objects: {error.message}") from error

    (answer,) = await until_async(answered, what, timeout=PATIENCE, ignore=(ApiError,))
    return answer


async def certificates(system: System) -> None:
    """In a process of its own: `cryptography` need not stay in the supervisor's memory."""
    await system.plane.certificates()


async def etcd(system: System) -> None:
    """Every object of the cluster is kept here."""
    await system.plane.start("etcd", PATIENCE)


async def network(system: System) -> None:
    """The backbone, the API server's door in it, and the way in for the API server."""
    await system.network.start()


async def api_server(system: System) -> str:
    """Ready means /readyz: storage, roles and informers."""
    await system.plane.start("kube-apiserver", PATIENCE)
    system.open_api()
    answer = await insist(lambda: system.api.get("/version"), "the API server telling its version")
    system.record.version = answer["gitVersion"]
    return system.record.version


async def controllers(system: System) -> None:
    """The controller manager and the scheduler. Before the API server's roles are written they would exit."""
    names = ("kube-controller-manager", "kube-scheduler")
    await asyncio.gather(*(system.plane.start(name, PATIENCE) for name in names))


async def machines(system: System) -> str:
    """The nodes' first processes, each with its cable in the backbone."""
    await asyncio.gather(*(node.plug_in() for node in system.nodes.all()))
    return _count(system.nodes.all())


async def agents(system: System) -> str:
    """They wait by themselves for the API server."""
    for node in system.nodes.all():
        node.agent.begin()
    for node in system.nodes.all():
        await node.agent.up()
    if system.nursery:
        system.nursery.close()
    return _count(system.nodes.all())


async def api_objects(system: System) -> None:
    """What upstream leaves to the installer: where pods find the API server."""
    await insist(lambda: objects.write(system.api), "writing the cluster's own objects")


async def service_account(system: System) -> None:
    """Without it the API server refuses every pod."""
    await until_async(
        lambda: objects.default_account_exists(system.api),
        "the default service account appearing",
        timeout=PATIENCE,
        ignore=(ApiError,),
    )


async def nodes_ready(system: System) -> str:
    """Ready, and without the taint that kept pods away until then."""
    nodes = list(system.nodes.all())
    await until_ready(system, nodes)
    return _count(nodes)


async def until_ready(system: System, nodes: list[Node]) -> None:
    """Return when a pod could run on each of the nodes; ClusterError with the agents' last lines otherwise."""
    reasons: dict[str, str] = {}

    async def ready() -> bool:
        nonlocal reasons
        for node in nodes:
            if node.agent.ends and node.agent.running is None:
                raise ClusterError(failure(node.agent.name, node.agent.message, node.agent.log))
        reasons = await objects.nodes_not_ready(system.api, [node.name for node in nodes], system.began)
        return not reasons

    try:
        await until_async(ready, "the nodes becoming Ready", timeout=PATIENCE, ignore=(ApiError,))
    except WaitTimeout as error:
        raise ClusterError(_not_ready(system, reasons) or error.message) from error


async def add_node(system: System) -> str:
    """One more node for a running cluster; returns its name when a pod could run on it."""
    index = min(set(range(1, len(system.record.nodes) + 2)) - set(system.record.nodes))
    system.record.nodes.append(index)
    await system.plane.make_certificates()
    node = system.nodes.add(index)
    system.folder.write(system.record)
    await node.power_on()
    await until_ready(system, [node])
    return node.name


async def remove_node(system: System, name: str) -> None:
    """Take a node away for good: its machine, its Node object and its folder. Draining it is the user's work.

    Until its Node object is gone the cluster knows it, so that it can be removed again if that fails. Of two who remove
    it at once the second is told that it is gone.
    """
    async with system.nodes.removing:
        node = system.nodes.get(name)
        await node.pull_the_plug()
        await insist(lambda: _delete(system, f"/api/v1/nodes/{name}"), f"deleting the Node object {name}")
        system.nodes.discard(name)
        system.record.nodes.remove(node.index)
        system.folder.write(system.record)
        await asyncio.to_thread(remove_tree, str(system.folder.node(name)))


async def _delete(system: System, path: str) -> None:
    try:
        await system.api.delete(path)
    except NotFound:
        pass


async def node_ports(system: System) -> None:
    """On this host's loopback, from now on."""
    system.open_node_ports()
    await insist(system.serve_load_balancers, "giving load balancers' addresses")


async def metrics(system: System) -> None:
    """metrics.k8s.io, for `kubectl top` and autoscalers."""
    await insist(system.serve_metrics, "registering the metrics API")


async def storage(system: System) -> None:
    """The StorageClass `standard`, and the provisioner behind it."""
    await insist(system.serve_storage, "making the StorageClass")


def _not_ready(system: System, reasons: dict[str, str]) -> str:
    parts = []
    for name, why in reasons.items():
        agent = system.nodes.get(name).agent
        lines = "\n  ".join(last_lines(agent.log))
        parts.append(f"{name}: {why}. Last lines of its agent:\n  {lines}\nFull log: {agent.log}")
    return "\n".join(parts)


def _count(nodes: Iterable[Node]) -> str:
    return ", ".join(node.name for node in nodes)


STEPS: tuple[Step[System], ...] = (
    Step("etcd", etcd),
    Step("Certificates", certificates),
    Step("Network", network),
    Step("API server", api_server, ("Certificates",)),
    Step("Machines", machines, ("Network",)),
    Step("Agents", agents, ("Machines", "Certificates")),
    Step("Controllers", controllers, ("API server",)),
    Step("Cluster objects", api_objects, ("API server",)),
    Step("Default service account", service_account, ("Controllers",)),
    Step("Nodes Ready", nodes_ready, ("Agents", "Controllers")),
    Step("Node ports", node_ports, ("API server", "Network")),
    Step("Storage", storage, ("Cluster objects",)),
    Step("Metrics API", metrics, ("Cluster objects", "Network")),
)
