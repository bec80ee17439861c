"""The pods' sandboxes of a node, held by the zygote. Standard library only."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

from podlab.node.runtime.sandbox import container, kernel, pod_network
from podlab.node.runtime.sandbox.builder import Builder
from podlab.node.runtime.sandbox.loop import Children, Loop, say


class Refused(Exception):
    """A request that cannot be granted; `reason` is the word for the pod's status."""

    def __init__(self, message: str, reason: str = "RunContainerError") -> None:
        super().__init__(message)
        self.reason = reason


#: Answers a request: with a message and descriptors, both optional.
Reply = Callable[..., None]

_NAMES = ("net", "uts", "ipc")

_SAFE = kernel.MS_NOSUID | kernel.MS_NODEV | kernel.MS_NOEXEC
#: Shared memory of a pod: of containerd's size, and with no more files than that has pages.
_SHARED_MEMORY = "mode=1777,size=65536k,nr_inodes=16384"


class Sandbox:
    """A pod's namespaces. `namespaces` holds a descriptor per kind; `pause` is PID 1 of a shared PID one."""

    def __init__(self, spec: dict, link: str, folder: str) -> None:
        self.id: str = spec["id"]
        self.spec = spec
        self.link = link
        self.shared_memory = folder
        self.namespaces: dict[str, int] = {}
        self.pause = 0
        self.pause_namespace = -1
        self.state = "starting"  # starting, ready, removing
        self.waiting: list[Reply] = []

    def describe(self) -> dict:
        """The sandbox for `list`."""
        return {"id": self.id, "address": self.spec["address"], "labels": self.spec["labels"]}


class Table:
    """The sandboxes of a node by id."""

    def __init__(self) -> None:
        self._by_id: dict[str, Sandbox] = {}

    def all(self) -> list[Sandbox]:
        """Every sandbox, also those that are still being made."""
        return list(self._by_id.values())

    def ready(self, name: str) -> Sandbox:
        """The sandbox of that id, ready for containers; Refused if there is none."""
        found = self._by_id.get(name)
        if found is None or found.state != "ready":
            raise Refused(f"sandbox {name} does not exist", "CreateContainerError")
        return found

    def get(self, name: str) -> Sandbox | None:
        """The sandbox of that id in any state, or None."""
        return self._by_id.get(name)


class Sandboxes(Table):
    """All sandboxes of the node."""

    def __init__(self, node: str, loop: Loop, children: Children, folder: str, last_group: int) -> None:
        super().__init__()
        self._children = children
        self._builder = Builder(node, loop, children)
        self._folder = f"{folder}/shared-memory"
        self._last_group = last_group
        self._made = 0
        self._own_pid_namespace = kernel.open_namespace("pid")
        os.makedirs(self._folder, mode=0o700, exist_ok=True)
        kernel.mount("tmpfs", self._folder, "tmpfs", _SAFE, "mode=700")

    def create(self, spec: dict, reply: Reply) -> None:
        """Have a sandbox made by the builder; the same id again is answered when it is ready."""
        if present := self._by_id.get(spec["id"]):
            if present.state == "removing":
                raise Refused(f"sandbox {spec['id']} is being removed", "CreatePodSandboxError")
            if present.state == "ready":
                reply()
            else:
                present.waiting.append(reply)
            return
        self._made += 1
        sandbox = Sandbox(spec, f"pod{self._made}", f"{self._folder}/{self._made}")
        order = {"spec": spec, "link": sandbox.link, "last_group": self._last_group}
        os.mkdir(sandbox.shared_memory)
        kernel.mount("tmpfs", sandbox.shared_memory, "tmpfs", _SAFE, _SHARED_MEMORY)

        def made(descriptors: list[int]) -> None:
            sandbox.namespaces = dict(zip(_NAMES[-len(descriptors) :], descriptors, strict=True))
            sandbox.state = "ready"
            answer({})

        def refused(message: dict) -> None:
            self.forget(sandbox)
            answer({**message, "reason": "CreatePodSandboxError"})

        def answer(message: dict) -> None:
            waiting, sandbox.waiting = sandbox.waiting, []
            for one in waiting:
                one(message)

        sandbox.waiting.append(reply)
        self._by_id[sandbox.id] = sandbox
        self._builder.make(order, made, refused)

    def forget(self, sandbox: Sandbox) -> None:
        """Free what it has: the kernel deletes links with the last descriptor and process in their namespace."""
        if self._by_id.get(sandbox.id) is not sandbox:
            return
        del self._by_id[sandbox.id]
        if sandbox.pause:
            os.kill(sandbox.pause, signal.SIGKILL)  # its end closes the descriptor of its namespace
        for descriptor in sandbox.namespaces.values():
            os.close(descriptor)
        sandbox.namespaces = {}
        if sandbox.spec["address"] and not sandbox.spec["host_network"]:
            pod_network.forget_route(sandbox.spec["address"])
        try:
            kernel.unmount(sandbox.shared_memory)
            os.rmdir(sandbox.shared_memory)
        except OSError as error:
            say(f"{sandbox.shared_memory} stays: {error}")  # nothing depends on it

    def pause_namespace(self, sandbox: Sandbox) -> int:
        """The PID namespace that the sandbox's containers share; its first process only reaps."""
        if not sandbox.pause:
            kernel.unshare(kernel.CLONE_NEWPID)
            try:
                pid = os.fork()
                if pid == 0:
                    container.run_pause(self._folder)
            finally:
                kernel.setns(self._own_pid_namespace, kernel.CLONE_NEWPID)
            sandbox.pause = pid
            sandbox.pause_namespace = kernel.open_namespace("pid", pid)

            def ended(_status: int) -> None:
                sandbox.pause = 0
                os.close(sandbox.pause_namespace)

            self._children.on_exit(pid, ended)
        return sandbox.pause_namespace
