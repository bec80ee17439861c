"""Commands in containers and processes of the node itself, held by the zygote. Standard library only."""

from __future__ import annotations

import os

from podlab.node.runtime.sandbox import container, kernel
from podlab.node.runtime.sandbox.containers import Containers, exit_of, kill
from podlab.node.runtime.sandbox.loop import Children, Said
from podlab.node.runtime.sandbox.sandboxes import Refused, Reply

#: Ended commands that are remembered although nobody has asked for their exit yet.
_REMEMBERED = 256


class Process:
    """A command in a container, or a process of the node."""

    def __init__(self) -> None:
        self.exit: dict | None = None
        self.waiting: list[Reply] = []


class Processes:
    """All of them by pid, until many newer ones have ended."""

    def __init__(self, children: Children, containers: Containers) -> None:
        self._children = children
        self._containers = containers
        self._own_pid_namespace = kernel.open_namespace("pid")
        self._processes: dict[int, Process] = {}

    def execute(self, request: dict, stdio: list[int], reply: Reply) -> None:
        """Start a command in a running container with three descriptors; answered when it runs."""
        if len(stdio) != 3:
            raise Refused("a command needs three descriptors")
        found = self._containers.running(request["container"])
        spec = {
            **found.spec,
            "argv": request["argv"],
            "environment": request["environment"],
            "tty": request["tty"],
        }
        # The user namespace last: after it the right to enter the others is gone.
        names = ["net", "uts", "ipc", "mnt", *(["user"] if self._containers.nested(found.spec) else [])]
        if self._containers.groups:
            names.insert(0, "cgroup")
        opened: dict[str, int] = {}
        try:
            for name in ("pid", *names):
                opened[name] = kernel.open_namespace(name, found.pid)
            pid_namespace = opened.pop("pid")
            try:
                kernel.setns(pid_namespace, kernel.CLONE_NEWPID)
                with self._containers.groups.door(found.spec) as group:
                    order = self._containers.order(found, group) | {"spec": spec}
                    pid = self._children.fork(
                        lambda channel: container.run_command(order, stdio, opened, channel),
                        [*stdio, *opened.values(), group],
                        lambda said: self._process_started(said, reply, lambda: pid),
                    )
            finally:
                os.close(pid_namespace)
                kernel.setns(self._own_pid_namespace, kernel.CLONE_NEWPID)
        except (FileNotFoundError, ProcessLookupError) as error:
            raise Refused(f"container {found.id} is not running") from error
        finally:
            for descriptor in opened.values():
                os.close(descriptor)
        self._remember(pid)

    def spawn(self, request: dict, reply: Reply) -> None:
        """Start a process of the node itself with its output appended to a log file."""
        null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        log = os.open(request["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            pid = self._children.fork(
                lambda channel: container.run_process(request, [null, log, log], channel),
                [null, log],
                lambda said: self._process_started(said, reply, lambda: pid),
            )
        finally:
            os.close(null)
            os.close(log)
        self._remember(pid)

    def _remember(self, pid: int) -> None:
        process = self._processes[pid] = Process()

        def ended(status: int) -> None:
            process.exit = exit_of(status)
            for one in process.waiting:
                one({"exit": process.exit})
            process.waiting.clear()
            over = [number for number, other in self._processes.items() if other.exit]
            for number in over[:-_REMEMBERED]:
                del self._processes[number]

        self._children.on_exit(pid, ended)

    def _process_started(self, said: Said, reply: Reply, pid) -> None:
        messages = {key: value for message, _ in said for key, value in message.items()}
        if "exec" in messages and "error" not in messages:
            reply({"pid": pid()})
        else:
            text = messages.get("error", "it was killed before its program ran")
            reply({"error": text, "reason": messages.get("reason", "RunContainerError")})

    def wait(self, pid: int, reply: Reply) -> None:
        """Answer with the exit of a command or process."""
        process = self._processes.get(pid)
        if process is None:
            raise Refused(f"process {pid} is not known")
        if process.exit:
            reply({"exit": process.exit})
        else:
            process.waiting.append(reply)

    def signal(self, pid: int, number: int) -> None:
        """Send a signal to a command or process; nothing happens when it has ended."""
        process = self._processes.get(pid)
        if process is not None and process.exit is None:
            kill(pid, number)
