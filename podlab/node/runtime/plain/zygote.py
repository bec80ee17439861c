"""The first process of a node without namespaces: the sandbox's zygote with other pods and containers.

The protocol, the keeper of the output and the bookkeeping are the sandbox's. Here a pod is only an address and a
name, and a container is a guard (guard.py) with its processes below it. Standard library only.
"""

from __future__ import annotations

import os
import select
import signal
import socket
from collections.abc import Callable

from podlab.node.runtime.plain import guard, processes
from podlab.node.runtime.plain.places import NotHere, refuse
from podlab.node.runtime.sandbox import container, memory, zygote
from podlab.node.runtime.sandbox.cgroups import Groups
from podlab.node.runtime.sandbox.containers import Container, Containers, exit_of, kill, pipes
from podlab.node.runtime.sandbox.loop import Children, Loop, Said
from podlab.node.runtime.sandbox.processes import Process, Processes
from podlab.node.runtime.sandbox.sandboxes import Refused, Reply, Sandbox, Table

_CANNOT_SYSCTL = "sysctls belong to a network namespace, which the plain runtime has not"


class PlainSandboxes(Table):
    """All pods of the node: nothing has to be made for them."""

    def create(self, spec: dict, reply: Reply) -> None:
        """Note a pod; Refused if it asks for what only a namespace gives."""
        if spec["sysctls"]:
            raise Refused(_CANNOT_SYSCTL, "CreatePodSandboxError")
        present = self._by_id.get(spec["id"])
        if present and present.state == "removing":
            raise Refused(f"sandbox {spec['id']} is being removed", "CreatePodSandboxError")
        if present is None:
            made = self._by_id[spec["id"]] = Sandbox(spec, "", "")
            made.state = "ready"
        reply()

    def forget(self, sandbox: Sandbox) -> None:
        """Forget a pod whose containers have ended."""
        self._by_id.pop(sandbox.id, None)


class PlainContainers(Containers):
    """Containers as guards. `node` is what places.Places is told of the node."""

    def __init__(self, loop: Loop, children: Children, sandboxes: PlainSandboxes, keep, node: dict) -> None:
        super().__init__(children, sandboxes, keep, "one", Groups(None))  # type: ignore[arg-type]
        self._loop = loop
        self._node = node
        self._lines: dict[str, socket.socket] = {}
        self._asked: dict[int, Reply] = {}
        self._number = 0
        #: The commands that run in each container, and who is told the wait status of each that has ended.
        self._commands: dict[str, set[int]] = {}
        self.command_ended: Callable[[int, int], None] = lambda _pid, _status: None

    def start(self, spec: dict, reply: Reply) -> None:
        """Start a container, if it can be run truthfully."""
        try:
            refuse(spec)
        except NotHere as error:
            raise Refused(str(error), "CreateContainerError") from error
        super().start(spec, reply)

    def _fork(self, found: Container, reply: Reply) -> None:
        spec = found.spec
        sandbox = self._sandboxes.ready(spec["sandbox"])
        own = {"pod_address": sandbox.spec["address"] or self._node["address"], "hostname": sandbox.spec["hostname"]}
        order = {"spec": spec, "node": {**self._node, **own}}
        near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        inside, outside = pipes(spec)
        try:
            found.pid = self._children.fork(
                lambda channel: guard.run(order, inside, far, channel),
                [*inside, far.fileno()],
                lambda said: self._started(found, said, outside, reply),
            )
        except OSError as error:
            near.close()
            for descriptor in outside:
                os.close(descriptor)
            raise Refused(f"no process can be made: {error}") from error
        finally:
            far.close()
            for descriptor in inside:
                os.close(descriptor)
        near.setblocking(False)
        self._lines[found.id] = near
        self._loop.watch(near.fileno(), select.EPOLLIN, lambda _: self._heard(found.id))
        self._children.on_exit(found.pid, lambda status: self._guard_ended(found, status))

    def _started(self, found: Container, said: Said, outside: list[int], reply: Reply) -> None:
        for message, _ in said:
            # What a container's processes have in common here is their guard, not a mount namespace.
            found.pid = message.get("main", found.pid)
        super()._started(found, said, outside, reply)

    def _guard_ended(self, found: Container, status: int) -> None:
        self._hang_up(found.id)
        for pid in self._commands.pop(found.id, ()):
            self.command_ended(pid, signal.SIGKILL)  # by the guard, whose last word it was
        if os.WIFSIGNALED(status):
            # Somebody may have killed the guard itself: then its orphans are ours, and known by their environment.
            for pid in processes.marked(f"PODLAB_PLAIN={found.spec['folder']}/plain.json"):
                kill(pid, signal.SIGKILL)
        self._ended(found, status)

    def _kill(self, found: Container) -> None:
        """Kill the first process; the guard, which ends last, kills the others."""
        kill(found.pid, signal.SIGKILL)

    def _kill_rest(self, found: Container) -> None:
        """Nothing is left: the guard ends last."""

    def _hang_up(self, name: str) -> None:
        line = self._lines.pop(name, None)
        if line is not None:
            self._loop.forget(line.fileno())
            line.close()

    def _heard(self, name: str) -> None:
        """Take what a guard says of its commands."""
        while line := self._lines.get(name):
            try:
                message, _ = container.hear(line)
            except (BlockingIOError, InterruptedError):
                return
            if message is None:
                self._hang_up(name)
            elif "ended" in message:
                self._commands.get(name, set()).discard(message["ended"])
                self.command_ended(message["ended"], message["status"])
            elif answered := self._asked.pop(message.pop("n", -1), None):
                answered(message)

    def command(self, found: Container, command: dict, stdio: list[int], answered: Reply) -> None:
        """Have a guard start a command; `answered` gets its number or an error."""

        def started(message: dict) -> None:
            if "exec" in message and "error" not in message:
                self._commands.setdefault(found.id, set()).add(message["pid"])
            answered(message)

        self._number += 1
        self._asked[self._number] = started
        try:
            container.say(self._lines[found.id], {"n": self._number, "command": command}, stdio)
        except (KeyError, OSError) as error:
            del self._asked[self._number]
            raise Refused(f"container {found.id} is not running") from error


class PlainProcesses(Processes):
    """Commands in containers, started by the guards."""

    def __init__(self, children: Children, containers: PlainContainers) -> None:
        super().__init__(children, containers)
        self._plain = containers
        containers.command_ended = self._command_ended

    def execute(self, request: dict, stdio: list[int], reply: Reply) -> None:
        """Start a command in a running container with three descriptors; answered when it runs."""
        if len(stdio) != 3:
            raise Refused("a command needs three descriptors")
        found = self._containers.running(request["container"])
        command = {name: request[name] for name in ("argv", "environment", "tty")}

        def answered(message: dict) -> None:
            if "exec" in message and "error" not in message:
                self._processes.setdefault(message["pid"], Process())
            self._process_started([(message, [])], reply, lambda: message["pid"])

        self._plain.command(found, command, stdio, answered)

    def _command_ended(self, pid: int, status: int) -> None:
        process = self._processes.get(pid)
        if process is not None:
            process.exit = exit_of(status)
            waiting, process.waiting = process.waiting, []
            for one in waiting:
                one({"exit": process.exit})


class PlainZygote(zygote.Zygote):
    """The node's runtime without namespaces."""

    def __init__(self, name: str, folder: str, listener: socket.socket, life: int, node: dict) -> None:
        self._node = node
        super().__init__(name, folder, listener, life, Groups(None))

    def _make_parts(self, _folder: str) -> None:
        sandboxes = PlainSandboxes()
        self._sandboxes = sandboxes  # type: ignore[assignment]
        self._containers = PlainContainers(self._loop, self._children, sandboxes, self._keep, self._node)
        self._processes = PlainProcesses(self._children, self._containers)

    def _watch(self) -> memory.Watch:
        return memory.Watch(scan=processes.Families)  # type: ignore[arg-type]

    def mount_memory(self, _request: dict, _descriptors: list[int], reply: Reply) -> None:
        """A volume in memory is an ordinary folder here."""
        reply()

    def unmount(self, _request: dict, _descriptors: list[int], reply: Reply) -> None:
        """Nothing was mounted."""
        reply()

    def network_namespace(self, _request: dict, _descriptors: list[int], _reply: Reply) -> None:
        """There is none."""
        raise Refused("the plain runtime has no network namespaces")
