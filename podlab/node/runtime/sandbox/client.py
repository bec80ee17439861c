"""The agent's side of the sandbox runtime: contract.Runtime on asyncio, over the zygote's socket."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path

from podlab.errors import RuntimeRefused
from podlab.node.runtime.contract import (
    ContainerSpec,
    ContainerState,
    Exit,
    Inventory,
    Process,
    SandboxSpec,
    SandboxState,
    Usage,
)
from podlab.node.runtime.sandbox import kernel, memory, wire


class _Gone(RuntimeRefused):
    """The zygote does not answer any more: the node has ended."""


class SandboxProcess:
    """A command in a container, or a process of the node (contract.Process)."""

    def __init__(self, runtime: SandboxRuntime, pid: int) -> None:
        self.pid = pid
        self._runtime = runtime

    async def wait(self) -> Exit:
        """Return when it has ended; may be called by several tasks and cancelled without harm."""
        answer = await self._runtime._shared(("process", self.pid), {"op": "wait_process", "pid": self.pid})
        return Exit(**answer["exit"])

    async def signal(self, number: int) -> None:
        """Send a signal to it; nothing happens when it has ended."""
        await self._runtime._ask({"op": "signal_process", "pid": self.pid, "signal": int(number)})


class SandboxRuntime:
    """contract.Runtime for one node. Belongs to the event loop in which it is used first; close() it at the end."""

    def __init__(self, socket_path: str | Path) -> None:
        self._path = str(socket_path)
        self._connection: wire.Connection | None = None
        self._connecting: asyncio.Lock = asyncio.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closed = False
        self._number = 0
        self._answers: dict[int, asyncio.Future] = {}
        self._waits: dict[tuple, asyncio.Task] = {}

    async def close(self) -> None:
        """End the conversation; sandboxes and containers go on."""
        self._closed = True
        self._end("this client was closed")

    # The conversation

    async def _ask(self, request: dict, descriptors: Sequence[int] = ()) -> dict:
        """Send a request and return its answer; received descriptors are in its "descriptors"."""
        connection = await self._connected()
        self._number += 1
        number = self._number
        future = self._answers[number] = asyncio.get_running_loop().create_future()
        try:
            connection.send({**request, "n": number}, list(descriptors))
            self._follow()
        except wire.Disconnected as error:
            self._end(str(error))
        except ValueError as error:
            self._answers.pop(number, None)
            raise RuntimeRefused(str(error), reason="CreateContainerError") from error
        try:
            answer = await future
        finally:
            self._answers.pop(number, None)
        return _checked(answer)

    async def _connected(self) -> wire.Connection:
        async with self._connecting:
            if self._closed:
                raise _gone(self._path, "this client was closed")
            if self._connection is None:
                self._loop = asyncio.get_running_loop()
                self._connection = wire.Connection(_connect(self._path))
                self._loop.add_reader(self._connection.fileno(), self._readable)
            return self._connection

    def _readable(self) -> None:
        if self._connection is None:
            return
        try:
            for answer, descriptors in self._connection.receive():
                future = self._answers.get(answer.get("n", -1))
                if future is None or future.done():
                    for descriptor in descriptors:
                        os.close(descriptor)
                else:
                    future.set_result({**answer, "descriptors": descriptors})
        except wire.Disconnected as error:
            self._end(str(error))

    def _writable(self) -> None:
        if self._connection is None:
            return
        try:
            self._connection.flush()
        except wire.Disconnected as error:
            self._end(str(error))
        self._follow()

    def _follow(self) -> None:
        if self._connection is None or self._loop is None:
            return
        if self._connection.wants_write:
            self._loop.add_writer(self._connection.fileno(), self._writable)
        else:
            self._loop.remove_writer(self._connection.fileno())

    def _end(self, why: str) -> None:
        connection, self._connection = self._connection, None
        if connection is not None and self._loop is not None:
            self._loop.remove_reader(connection.fileno())
            self._loop.remove_writer(connection.fileno())
            connection.close()
        for future in self._answers.values():
            if not future.done():
                future.set_exception(_gone(self._path, why))

    async def _shared(self, key: tuple, request: dict) -> dict:
        """The answer to a request that many may wait for and that may take for ever; asked once."""
        task = self._waits.get(key)
        if task is None or task.done():
            task = self._waits[key] = asyncio.create_task(self._ask(request), name=f"wait {key}")

            def over(done: asyncio.Task) -> None:
                if self._waits.get(key) is done:
                    del self._waits[key]
                if not done.cancelled():
                    done.exception()  # seen here, should nobody wait any more

            task.add_done_callback(over)
        return await asyncio.shield(task)

    # contract.Runtime

    async def create_sandbox(self, spec: SandboxSpec) -> None:
        """Make a pod's namespaces and wire its network; idempotent for the same id."""
        await self._ask({"op": "create_sandbox", "spec": _plain(spec)})

    async def remove_sandbox(self, sandbox: str) -> None:
        """Kill what still runs in it and free its namespaces and address; unknown ids are fine."""
        await self._ask({"op": "remove_sandbox", "sandbox": sandbox})

    async def start_container(self, spec: ContainerSpec) -> ContainerState:
        """Start a container and return once its program is running (exec succeeded)."""
        answer = await self._ask({"op": "start_container", "spec": _plain(spec)})
        return _container(answer["container"])

    async def signal_container(self, container: str, number: int) -> None:
        """Send a signal to PID 1 of the container; SIGKILL ends every process of it."""
        await self._ask({"op": "signal_container", "container": container, "signal": int(number)})

    async def wait_container(self, container: str) -> Exit:
        """Return when the container has ended and its output is in its log."""
        request = {"op": "wait_container", "container": container}
        answer = await self._shared(("container", container), request)
        return Exit(**answer["exit"])

    async def remove_container(self, container: str) -> None:
        """Forget an ended container and remove its folder (not its log); kills it first if it runs."""
        await self._ask({"op": "remove_container", "container": container})

    async def execute(
        self,
        container: str,
        argv: Sequence[str],
        environment: Mapping[str, str],
        stdio: tuple[int, int, int],
        *,
        tty: bool = False,
    ) -> Process:
        """Start a command in a running container with three descriptors, which the caller still owns after."""
        request = {
            "op": "execute",
            "container": container,
            "argv": list(argv),
            "environment": dict(environment),
            "tty": tty,
        }
        answer = await self._ask(request, stdio)
        return SandboxProcess(self, answer["pid"])

    async def open_terminal(self, container: str) -> tuple[int, int]:
        """(master, slave) of a new terminal in the container's own /dev/pts, for `execute(tty=True)`."""
        for state in (await self.inventory()).containers:
            if state.id == container and state.exit is None:
                break
        else:
            raise RuntimeRefused(f"container {container} is not running")
        try:
            master, slave, _ = kernel.open_terminal(f"/proc/{state.pid}/root")
        except OSError as error:
            raise RuntimeRefused(f"container {container} gives no terminal: {error.strerror}") from error
        return master, slave

    async def attach(self, container: str, *, stdin: bool) -> tuple[socket.socket | None, socket.socket]:
        """Return (input, output) sockets of a running container."""
        answer = await self._ask({"op": "attach", "container": container, "stdin": stdin})
        output, *inputs = (socket.socket(fileno=descriptor) for descriptor in answer["descriptors"])
        return (inputs[0] if inputs else None), output

    async def resize(self, container: str, rows: int, columns: int) -> None:
        """Set the window size of a container with a tty."""
        await self._ask({"op": "resize", "container": container, "rows": rows, "columns": columns})

    async def reopen_log(self, container: str) -> None:
        """Close and open the log file again, after the agent has renamed it (rotation)."""
        await self._ask({"op": "reopen_log", "container": container})

    async def mount_memory(self, path: str, size: int, files: int = 0) -> None:
        """Mount a tmpfs of `size` bytes (and `files` files) at the folder `path`, unless that has been done."""
        await self._ask({"op": "mount_memory", "path": path, "size": size, "files": files})

    async def unmount(self, folder: str) -> None:
        """Unmount everything at or below `folder`."""
        await self._ask({"op": "unmount", "folder": folder})

    async def usage(self) -> Mapping[str, Usage]:
        """Usage of each running container, by id."""
        answer = await self._ask({"op": "list"})
        running = {state["id"]: state["mount_namespace"] for state in answer["containers"] if state["exit"] is None}
        return await asyncio.to_thread(_usage, running)

    async def inventory(self) -> Inventory:
        """Everything that the runtime holds, also from before this agent's start.

        RuntimeRefused if it is of a version of podlab with which this one cannot work.
        """
        answer = await self._ask({"op": "list"})
        _check_protocol(answer.get("protocol", 1))
        return Inventory(
            sandboxes=[SandboxState(**state) for state in answer["sandboxes"]],
            containers=[_container(state) for state in answer["containers"]],
            controllers=answer.get("controllers", ()),
        )

    def open_in_sandbox(self, sandbox: str, family: int, kind: int) -> socket.socket:
        """A new socket that belongs to the sandbox's network namespace."""
        request = {"op": "network_namespace", "sandbox": sandbox}
        (namespace,) = ask_once(self._path, request)["descriptors"]
        try:
            return kernel.socket_in(namespace, family, kind)
        except OSError as error:
            raise RuntimeRefused(f"no socket can be made in sandbox {sandbox}: {error}") from error
        finally:
            os.close(namespace)

    # For boxes of the grader

    async def kill_others(self, container: str) -> None:
        """Kill every process of a container with a PID namespace of its own but its first."""
        await self._ask({"op": "kill_others", "container": container})

    def ending(self, pid: int) -> socket.socket:
        """A socket that becomes readable when a command has ended, for callers outside the loop; they close it."""
        peer = _connect(self._path)
        wire.Connection(peer).send({"op": "wait_process", "pid": pid, "n": 1})
        return peer

    # For the supervisor

    async def spawn_agent(self, argv: Sequence[str], environment: Mapping[str, str], log_path: str | Path) -> Process:
        """Start a process in the node's own namespaces, its output appended to `log_path`."""
        request = {
            "op": "spawn",
            "argv": list(argv),
            "environment": dict(environment),
            "log": str(log_path),
            "working_directory": "/",
        }
        answer = await self._ask(request)
        return SandboxProcess(self, answer["pid"])


def _usage(running: dict[str, int]) -> dict[str, Usage]:
    pids = memory.processes()
    found = {}
    for name, inode in running.items():
        own = pids.get(inode, [])
        found[name] = Usage(memory.processor_time(own), memory.resident(own), len(own))
    return found


def _plain(spec: SandboxSpec | ContainerSpec) -> dict:
    """A spec as JSON-ready dicts and lists (dataclasses.asdict would deep-copy environments of a megabyte)."""

    def convert(value):
        if dataclasses.is_dataclass(value):
            return {field.name: convert(getattr(value, field.name)) for field in dataclasses.fields(value)}
        if isinstance(value, Mapping):
            return dict(value)
        if isinstance(value, (list, tuple)):
            return [convert(item) for item in value]
        return value

    return convert(spec)


def _container(state: dict) -> ContainerState:
    return ContainerState(
        id=state["id"],
        sandbox=state["sandbox"],
        pid=state["pid"],
        started_at=state["started_at"],
        exit=Exit(**state["exit"]) if state["exit"] else None,
        labels=state["labels"],
    )


def _gone(path: str, why: str) -> RuntimeRefused:
    return _Gone(
        f"The container runtime at {path} does not answer: {why}.",
        hint="The node has ended; its supervisor starts it again.",
    )


def _check_protocol(spoken: int) -> None:
    if not wire.OLDEST <= spoken <= wire.PROTOCOL:
        other = "an earlier" if spoken < wire.OLDEST else "a later"
        raise RuntimeRefused(
            f"The node's container runtime was started by {other} version of podlab: "
            f"it speaks protocol {spoken}, this version {wire.OLDEST} to {wire.PROTOCOL}.",
            hint="Its pods run on, but nobody looks after them. Start the cluster with this version: "
            "`podlab cluster stop`, then `podlab cluster start`; its objects and volumes stay.",
        )


def _checked(answer: dict) -> dict:
    if "error" in answer:
        raise RuntimeRefused(answer["error"], reason=answer.get("reason", "RunContainerError"))
    return answer


def _connect(path: str) -> socket.socket:
    peer = socket.socket(socket.AF_UNIX)
    try:
        peer.connect(path)
    except OSError as error:
        peer.close()
        raise _gone(path, error.strerror or str(error)) from error
    return peer


def ask_once(path: str, request: dict) -> dict:
    """One question on a connection of its own, waiting for the answer (for callers outside the loop)."""
    peer = _connect(path)
    connection = wire.Connection(peer)
    try:
        connection.send({**request, "n": 1})
        peer.settimeout(10)
        while True:
            for answer, descriptors in connection.receive():
                return _checked({**answer, "descriptors": descriptors})
    except (wire.Disconnected, TimeoutError) as error:
        raise _gone(path, str(error)) from error
    finally:
        connection.close()
