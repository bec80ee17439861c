"""The containers of a node, held by the zygote. Standard library only."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import time
from collections import deque

from podlab.node.runtime.sandbox import cgroups, container, kernel, memory
from podlab.node.runtime.sandbox.loop import Children, Said
from podlab.node.runtime.sandbox.sandboxes import Refused, Reply, Sandbox, Sandboxes

#: Linux release from which kernel.pid_max belongs to a PID namespace (before, writing it changes the host).
_PID_MAX_PER_NAMESPACE = (6, 14)
#: Processes of a node among which the first one of a container may be long in ending.
_MANY = 500
#: Containers that are being started at the same time.
_AT_ONCE = 4 + 2 * (os.cpu_count() or 1)


class Container:
    """A container from the moment of its fork until it is removed."""

    def __init__(self, spec: dict) -> None:
        self.id: str = spec["id"]
        self.spec = spec
        self.pid = 0
        self.mount_namespace = 0
        self.state = "starting"  # starting, running, ending (its output is being drained), ended
        self.started_at = 0.0
        self.exit: dict | None = None
        self.out_of_memory = False
        self.killed = False
        self.waiting: list[Reply] = []

    @property
    def own_pids(self) -> bool:
        """Whether it has a PID namespace of its own, whose end is the end of all its processes."""
        return not (self.spec["share_processes"] or self.spec["host_processes"] or self.spec["processes_of"])

    @property
    def refusal(self) -> str:
        """The reason if it cannot start; one that waits for another container to run is to be tried again."""
        return "CreateContainerConfigError" if self.spec["processes_of"] else "RunContainerError"

    def describe(self) -> dict:
        """The container for `list` and for the answer to its start."""
        return {
            "id": self.id,
            "sandbox": self.spec["sandbox"],
            "pid": self.pid,
            "started_at": self.started_at,
            "exit": self.exit,
            "labels": self.spec["labels"],
            "mount_namespace": self.mount_namespace,
        }

    def answer(self, message: dict) -> None:
        """Answer everybody who waits."""
        waiting, self.waiting = self.waiting, []
        for reply in waiting:
            reply(message)


def exit_of(status: int) -> dict:
    """contract.Exit as a dict, from a wait status, at this moment."""
    code = os.waitstatus_to_exitcode(status)
    number = -code if code < 0 else None
    return {
        "status": 128 + number if number else code,
        "signal": number,
        "finished_at": time.time(),
        "out_of_memory": False,
    }


class Containers:
    """All containers of the node. `keep(order, descriptors, answered)` speaks to the keeper."""

    def __init__(self, children: Children, sandboxes: Sandboxes, keep, ids: str, groups: cgroups.Groups) -> None:
        self._children = children
        self._sandboxes = sandboxes
        self._keep = keep
        self._ids = ids
        self.groups = groups
        self._own_pid_namespace = kernel.open_namespace("pid")
        self._by_id: dict[str, Container] = {}
        self._queue: deque[tuple[Container, Reply]] = deque()
        self._under_way = 0
        self._after_starts: list[Reply] = []
        release = os.uname().release.split("-")[0].split(".")
        self._process_limit = tuple(int(part) for part in release[:2]) >= _PID_MAX_PER_NAMESPACE

    # Starting and ending

    def start(self, spec: dict, reply: Reply) -> None:
        """Fork a container; answered when its program runs or is known not to.

        In a burst only a few are under way at a time: so the first ones run early, and all no later.
        """
        if spec["id"] in self._by_id:
            raise Refused(f"container {spec['id']} exists already", "CreateContainerError")
        self._sandboxes.ready(spec["sandbox"])
        found = self._by_id[spec["id"]] = Container(spec)
        self._queue.append((found, reply))
        self._start_next()

    def _start_next(self) -> None:
        while self._queue and self._under_way < _AT_ONCE:
            found, reply = self._queue.popleft()
            self._under_way += 1
            try:
                if found.killed:
                    raise Refused(f"container {found.id} was killed before its program ran")
                self._fork(found, reply)
            except Refused as refused:
                self._not_started(found, {"error": str(refused), "reason": refused.reason}, reply)

    def _fork(self, found: Container, reply: Reply) -> None:
        spec = found.spec
        sandbox = self._sandboxes.ready(spec["sandbox"])
        namespaces = list(sandbox.namespaces.values())
        if spec["processes_of"]:
            self.running(spec["processes_of"], found.refusal)  # or it is refused before anything is opened
        more = {"shared_memory": sandbox.shared_memory, "nested": self.nested(spec)}
        inside, outside = pipes(spec)
        try:
            self.groups.make(spec)
            with self.groups.door(spec) as group, self._pid_namespace(found, sandbox):
                order = self.order(found, group) | more
                found.pid = self._children.fork(
                    lambda channel: container.run_container(order, inside, sandbox.namespaces, channel),
                    [*inside, *namespaces, group],
                    lambda said: self._started(found, said, outside, reply),
                )
        except OSError as error:
            for descriptor in outside:
                os.close(descriptor)
            raise Refused(f"no process can be made: {error}", found.refusal) from error
        finally:
            for descriptor in inside:
                os.close(descriptor)
        self._children.on_exit(found.pid, lambda status: self._ended(found, status))

    def order(self, found: Container, group: int) -> dict:
        """What a child that enters a container must know; `group` is as of cgroups.Groups.door."""
        limit = self._process_limit and not found.spec["host_processes"]
        return {"spec": found.spec, "ids": self._ids, "nested": False, "process_limit": limit, "group": group}

    def nested(self, spec: dict) -> bool:
        """Whether a container needs a user namespace of its own for its user and group."""
        return self._ids == "one" and bool(spec["user"] or spec["group"])

    @contextlib.contextmanager
    def _pid_namespace(self, found: Container, sandbox: Sandbox):
        """Let the next fork's child be in the container's PID namespace."""
        if target := found.spec["processes_of"]:
            joined = kernel.open_namespace("pid", self.running(target).pid)
            try:
                kernel.setns(joined, kernel.CLONE_NEWPID)
            finally:
                os.close(joined)
        elif found.spec["host_processes"]:
            yield
            return
        elif found.spec["share_processes"]:
            kernel.setns(self._sandboxes.pause_namespace(sandbox), kernel.CLONE_NEWPID)
        else:
            kernel.unshare(kernel.CLONE_NEWPID)
        try:
            yield
        finally:
            kernel.setns(self._own_pid_namespace, kernel.CLONE_NEWPID)

    def _started(self, found: Container, said: Said, outside: list[int], reply: Reply) -> None:
        messages = {key: value for message, _ in said for key, value in message.items()}
        masters = [descriptor for _, descriptors in said for descriptor in descriptors]
        if "exec" in messages and "error" not in messages:
            found.state = "running"
            found.started_at = time.time()
            found.mount_namespace = messages["exec"]
            self._hand_to_keeper(found, masters or outside, reply)
            self._one_settled()
        else:
            text = messages.get("error", "it was killed before its program ran")
            reason = messages.get("reason", found.refusal)
            self._not_started(found, {"error": text, "reason": reason}, reply)
        for descriptor in (*outside, *masters):
            os.close(descriptor)

    def _not_started(self, found: Container, why: dict, reply: Reply) -> None:
        """Forget a container of which nothing ran, then answer."""
        self._by_id.pop(found.id, None)
        found.state = "ended"
        found.answer({**why, "error": f"container {found.id} did not start: {why['error']}"})
        self.groups.leave(found.spec)
        self._children.sweep(found.spec["folder"], lambda: reply(why))
        self._one_settled()

    def _one_settled(self) -> None:
        self._under_way -= 1
        self._start_next()
        if not self.starting():
            waiting, self._after_starts = self._after_starts, []
            for one in waiting:
                one({})

    def _hand_to_keeper(self, found: Container, descriptors: list[int], reply: Reply) -> None:
        """Let the keeper have its streams; the start is answered when its log file is there.

        A container whose output nobody reads would hang as soon as its pipes are full: it has not started.
        """
        spec = found.spec

        def kept(answer: dict) -> None:
            if "error" in answer:
                why = f"container {found.id} did not start: its output is not read: {answer['error']}"
                self.remove(found.id, lambda: reply({"error": why, "reason": "RunContainerError"}))
            else:
                reply({"container": found.describe() | {"exit": None}})

        order = {
            "op": "add",
            "container": found.id,
            "log": spec["log_path"],
            "log_within": spec["log_within"],
            "tty": spec["tty"],
            "stdin": spec["stdin"],
            "stdin_once": spec["stdin_once"],
        }
        self._keep(order, descriptors, kept)
        if (spec["memory_limit"] or spec["pod_memory_limit"]) and "memory" not in self.groups:
            self._keep(
                {
                    "op": "limit",
                    "container": found.id,
                    "mount_namespace": found.mount_namespace,
                    "bytes": spec["memory_limit"],
                    "pod": spec["sandbox"],
                    "pod_bytes": spec["pod_memory_limit"],
                }
            )

    def _ended(self, found: Container, status: int) -> None:
        if found.state != "running":
            return  # it never ran
        found.state = "ending"
        killed = found.out_of_memory or self.groups.out_of_memory(found.spec)
        found.exit = exit_of(status) | {"out_of_memory": killed}
        if not found.own_pids:
            self._kill_rest(found)

        def drained(_answer: dict) -> None:
            found.state = "ended"
            found.answer({"exit": found.exit})

        # Its exit is told when its last words are in the log file.
        self._keep({"op": "flush", "container": found.id}, (), drained)

    def _kill_rest(self, found: Container) -> None:
        """Kill the processes of a container but its first, until none is left: they may fork meanwhile."""
        for _ in range(100):
            left = [pid for pid in memory.processes().get(found.mount_namespace, []) if pid != found.pid]
            if not left:
                return
            for pid in left:
                kill(pid, signal.SIGKILL)

    def kill_others(self, name: str) -> None:
        """Kill every process of a container but its first, which takes them along if it has ended."""
        found = self._by_id.get(name)
        if found is None or found.state != "running":
            return
        if not found.own_pids:
            raise Refused(f"container {name} shares its processes with others")
        self._kill_rest(found)

    def _kill(self, found: Container) -> None:
        """Kill a container's first process; and all others at once where there are many.

        The kernel kills them when the first one ends. But among thousands that fork it may be held up for minutes
        before it does, and so long they go on.
        """
        kill(found.pid, signal.SIGKILL)
        killed = {found.pid}
        while len(os.listdir("/proc")) > _MANY:
            new = set(memory.processes().get(found.mount_namespace, [])) - killed
            if not new:
                return
            for pid in new:
                kill(pid, signal.SIGKILL)
            killed |= new

    def over_limit(self, name: str) -> None:
        """Kill a container that uses more memory than it may."""
        found = self._by_id.get(name)
        if found is not None and found.state == "running":
            found.out_of_memory = True
            self._kill(found)

    # Questions and orders

    def starting(self) -> bool:
        """Whether some container is neither running nor refused yet."""
        return any(found.state == "starting" for found in self._by_id.values())

    def when_settled(self, reply: Reply) -> None:
        """Answer when no container is starting."""
        if self.starting():
            self._after_starts.append(reply)
        else:
            reply({})

    def all(self) -> list[Container]:
        """Every container."""
        return list(self._by_id.values())

    def living_in(self, sandbox: str) -> list[Container]:
        """The containers of a sandbox whose end has not been told."""
        return [found for found in self._by_id.values() if found.spec["sandbox"] == sandbox and found.state != "ended"]

    def running(self, name: str, reason: str = "RunContainerError") -> Container:
        """The running container of that id; Refused, for `reason`, if it is not there or has ended."""
        found = self._by_id.get(name)
        if found is None:
            raise Refused(f"container {name} does not exist", reason)
        if found.state != "running":
            raise Refused(f"container {name} is not running", reason)
        return found

    def signal(self, name: str, number: int) -> None:
        """Send a signal to the container's main process."""
        found = self._by_id.get(name)
        if found is None:
            return
        if found.state == "starting" and number == signal.SIGKILL:
            found.killed = True
        if found.pid and found.state in ("starting", "running"):
            if number == signal.SIGKILL:
                self._kill(found)
            else:
                kill(found.pid, number)

    def wait(self, name: str, reply: Reply) -> None:
        """Answer with the exit when it has been told."""
        found = self._by_id.get(name)
        if found is None:
            raise Refused(f"container {name} does not exist")
        if found.state == "ended":
            reply({"exit": found.exit})
        else:
            found.waiting.append(reply)

    def remove(self, name: str, reply: Reply) -> None:
        """Kill it if it runs, forget it, delete its folder; then answer."""
        found = self._by_id.get(name)
        if found is None:
            reply()
            return
        if found.state != "ended":
            found.waiting.append(lambda *_: self.remove(name, reply))
            self.signal(name, signal.SIGKILL)
            return
        del self._by_id[name]
        self.groups.leave(found.spec)
        self._keep({"op": "remove", "container": name})
        self._children.sweep(found.spec["folder"], reply)

    def attach(self, name: str, stdin: bool, reply: Reply) -> None:
        """Answer with sockets: output, and input if asked for and there is one."""
        found = self.running(name)
        pairs = [socket.socketpair() for _ in range(2 if stdin and found.spec["stdin"] else 1)]

        def answered(answer: dict) -> None:
            if "error" in answer:
                reply({**answer, "reason": "RunContainerError"})
            else:
                reply({}, [near.fileno() for near, _ in pairs])
            for near, _ in pairs:
                near.close()

        order = {"op": "attach", "container": name}
        self._keep(order, [far.fileno() for _, far in pairs], answered)
        for _, far in pairs:
            far.close()


def kill(pid: int, number: int) -> None:
    """Send a signal to a process that may have ended."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass


def pipes(spec: dict) -> tuple[list[int], list[int]]:
    """(the container's three descriptors, the keeper's: stdout, stderr and, if it has stdin, its input)."""
    if spec["tty"]:
        return [], []
    reading, writing = zip(os.pipe(), os.pipe(), strict=True)
    if spec["stdin"]:
        source, sink = os.pipe()
        return [source, *writing], [*reading, sink]
    return [os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC), *writing], list(reading)
