"""The agent's side of the plain runtime: the sandbox's client, without what only namespaces give."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Mapping
from typing import Any

from podlab.errors import RuntimeRefused
from podlab.network.fiction import real_host
from podlab.node.runtime.contract import Usage
from podlab.node.runtime.plain.processes import Families
from podlab.node.runtime.sandbox import memory
from podlab.node.runtime.sandbox.client import SandboxRuntime, ask_once


class PlainRuntime(SandboxRuntime):
    """contract.Runtime for a node without namespaces; `node` is what its zygote is told (nodes.plain_settings)."""

    def __init__(self, socket_path: str, node: Mapping) -> None:
        super().__init__(socket_path)
        self._node = node
        self._addresses: dict[str, str] = {}

    async def open_terminal(self, container: str) -> tuple[int, int]:
        """(master, slave) of a new terminal of this machine."""
        return os.openpty()

    async def usage(self) -> Mapping[str, Usage]:
        """Usage of each running container, by id."""
        answer = await self._ask({"op": "list"})
        guards = {state["id"]: state["mount_namespace"] for state in answer["containers"] if state["exit"] is None}
        return await asyncio.to_thread(_usage, guards)

    def open_in_sandbox(self, sandbox: str, family: int, kind: int) -> socket.socket:
        """A new socket whose localhost is the pod's own address; only IPv4."""
        if family != socket.AF_INET:
            raise RuntimeRefused("pods of the plain runtime have no IPv6")
        address = self._addresses.get(sandbox)
        if address is None:
            self._addresses = _addresses(self._path)
            address = self._addresses.get(sandbox)
        if address is None:
            raise RuntimeRefused(f"sandbox {sandbox} does not exist")
        return _PodsOwn(real_host(address, self._node["loopback"]), family, kind)


class _PodsOwn(socket.socket):
    """A socket for which localhost is a pod."""

    def __init__(self, pod: str, family: int, kind: int) -> None:
        super().__init__(family, kind)
        self._pod = pod

    def connect(self, address: Any) -> None:
        super().connect((self._pod, *address[1:]))

    def connect_ex(self, address: Any) -> int:
        return super().connect_ex((self._pod, *address[1:]))


def _addresses(path: str) -> dict[str, str]:
    return {one["id"]: one["address"] for one in ask_once(path, {"op": "list"})["sandboxes"] if one["address"]}


def _usage(guards: Mapping[str, int]) -> dict[str, Usage]:
    families = Families()
    found = {}
    for name, guard in guards.items():
        own = families.get(guard, [])
        found[name] = Usage(memory.processor_time(own), memory.resident(own), len(own))
    return found
