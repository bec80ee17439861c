"""Faults as verbs: what can be done to a component or a node of a running cluster, as a table."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable

from podlab.cluster.embedded.nodes import Node
from podlab.cluster.embedded.processes import Kept
from podlab.cluster.embedded.system import System
from podlab.errors import ClusterError, UsageError


def _signal(kept: Kept, number: int) -> None:
    if not kept.signal(number):
        raise ClusterError(f"{kept.name} does not run now; its state is {kept.state}.")


async def _kill(kept: Kept) -> None:
    """Kill a process that is kept running, and return when it has ended: the fault has bitten."""
    before = kept.ends
    _signal(kept, signal.SIGKILL)
    try:
        async with asyncio.timeout(10.0):
            await kept.end(before)
    except TimeoutError as error:
        raise ClusterError(
            f"{kept.name} was killed, but its end was not reported within 10 s.",
            hint="If its node is paused, resume it: `podlab cluster fault node resume`.",
        ) from error


async def _kill_component(system: System, target: str) -> None:
    await _kill(system.plane.component(target))


async def _pause_component(system: System, target: str) -> None:
    _signal(system.plane.component(target), signal.SIGSTOP)


async def _resume_component(system: System, target: str) -> None:
    _signal(system.plane.component(target), signal.SIGCONT)


def _on_node(action: Callable[[Node], Awaitable[None]]) -> Callable[[System, str], Awaitable[None]]:
    async def act(system: System, target: str) -> None:
        await action(system.nodes.get(target))

    return act


async def _pause(node: Node) -> None:
    await node.fast()
    await asyncio.to_thread(node.pause)


async def _resume(node: Node) -> None:
    await asyncio.to_thread(node.resume)


async def _slow(node: Node) -> None:
    node.slow()


async def _isolate(node: Node) -> None:
    node.set_cable(False)


async def _rejoin(node: Node) -> None:
    """Full speed, power on, then plug the cable in; each only if need be."""
    await node.fast()
    if node.machine.state == "stopped":
        await node.power_on()
    if node.isolated:
        node.set_cable(True)


async def _kill_agent(node: Node) -> None:
    await _kill(node.agent)


async def _stop_agent(node: Node) -> None:
    await node.agent.stop(0)


async def _start_agent(node: Node) -> None:
    node.agent.begin()
    await node.agent.up()


#: Action -> what it does to its target. The names are those of the CLI and of `Cluster.nodes`.
ACTIONS: dict[str, Callable[[System, str], Awaitable[None]]] = {
    "component.kill": _kill_component,
    "component.pause": _pause_component,
    "component.resume": _resume_component,
    "node.pause": _on_node(_pause),
    "node.resume": _on_node(_resume),
    "node.kill": _on_node(Node.pull_the_plug),
    "node.restart": _on_node(Node.restart),
    "node.slow": _on_node(_slow),
    "node.fast": _on_node(Node.fast),
    "node.isolate": _on_node(_isolate),
    "node.rejoin": _on_node(_rejoin),
    "node.kill-agent": _on_node(_kill_agent),
    "node.stop-agent": _on_node(_stop_agent),
    "node.start-agent": _on_node(_start_agent),
}


async def inject(system: System, action: str, target: str) -> None:
    """Do `action` to `target` and return when it has taken effect."""
    if action not in ACTIONS:
        raise UsageError(f"There is no fault {action}.", hint=f"There are {', '.join(ACTIONS)}.")
    await ACTIONS[action](system, target)
