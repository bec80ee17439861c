"""Faults as verbs on a kind cluster: what happens to a container happens to the node that it is."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from podlab.cluster.kind.runtime import Node, Runtime
from podlab.errors import UsageError


def _kill(runtime: Runtime, node: Node) -> None:
    if node.paused:
        runtime.run("unpause", node.name)
    if node.running:
        runtime.run("kill", node.name)


def _restart(runtime: Runtime, node: Node) -> None:
    runtime.run("restart", "--time", "0", node.name)


def _pause(runtime: Runtime, node: Node) -> None:
    if not node.paused:
        runtime.run("pause", node.name)


def _resume(runtime: Runtime, node: Node) -> None:
    if node.paused:
        runtime.run("unpause", node.name)


def _isolate(runtime: Runtime, node: Node) -> None:
    """Drop every packet from and to the node, in its own rules: its processes and its address stay."""
    for chain in ("INPUT", "OUTPUT", "FORWARD"):
        for tool in ("iptables", "ip6tables"):
            runtime.run("exec", node.name, tool, "-I", chain, "!", _LO[chain], "lo", "-j", "DROP")


def _rejoin(runtime: Runtime, node: Node) -> None:
    _resume(runtime, node)
    if not node.running:
        runtime.run("start", node.name)  # its rules went with its network namespace
        return
    for chain in ("INPUT", "OUTPUT", "FORWARD"):
        for tool in ("iptables", "ip6tables"):
            rule = f"{tool} -D {chain} ! {_LO[chain]} lo -j DROP"
            runtime.run("exec", node.name, "sh", "-c", f"while {rule} 2>/dev/null; do :; done")


_LO = {"INPUT": "-i", "OUTPUT": "-o", "FORWARD": "-o"}

FAULTS: Mapping[str, Callable[[Runtime, Node], None]] = {
    "node.kill": _kill,
    "node.restart": _restart,
    "node.pause": _pause,
    "node.resume": _resume,
    "node.isolate": _isolate,
    "node.rejoin": _rejoin,
}


def do(runtime: Runtime, nodes: Sequence[Node], action: str, target: str) -> None:
    """Do a fault to the node `target`; UsageError if this provider has no such fault or node."""
    act = FAULTS.get(action)
    if act is None:
        raise UsageError(
            f"A kind cluster cannot do this: {action.replace('.', ' ')}.",
            hint=f"It can do {', '.join(sorted(FAULTS))}; the embedded provider can do all.",
        )
    node = next((one for one in nodes if one.name == target), None)
    if node is None:
        raise UsageError(f"There is no node {target}.", hint=f"There are {', '.join(one.name for one in nodes)}.")
    act(runtime, node)
