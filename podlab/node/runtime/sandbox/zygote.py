"""The zygote: first process of a node, parent of its sandboxes, containers and agent. Standard library only.

It serves the operations of podlab.node.runtime.contract on a Unix socket to any number of clients, and keeps
what an agent must not lose: namespaces, running containers, exit statuses. It does no slow work itself:
namespaces, mounts and deletions happen in forked children, output belongs to the keeper.

Requests are {"n": 7, "op": "start_container", ...}, answers {"n": 7, ...} or {"n": 7, "error", "reason"}.
"""

from __future__ import annotations

import gc
import os
import resource
import select
import signal
import socket
from collections.abc import Callable

from podlab.node.runtime.sandbox import container, fields, keeper, kernel, memory, memory_volumes, wire
from podlab.node.runtime.sandbox.cgroups import Groups
from podlab.node.runtime.sandbox.containers import Containers
from podlab.node.runtime.sandbox.loop import Children, Loop, Peer, say
from podlab.node.runtime.sandbox.processes import Processes
from podlab.node.runtime.sandbox.sandboxes import Refused, Reply, Sandboxes

#: The largest group id that net.ipv4.ping_group_range takes.
_LAST_GROUP = 2147483647


class Zygote:
    """The node's runtime: its parts, and the loop that serves them."""

    def __init__(self, name: str, folder: str, listener: socket.socket, life: int, groups: Groups) -> None:
        self._name = name
        self._groups = groups
        self._loop = Loop()
        self._children = Children(self._loop)
        self._asked = 0
        self._answers: dict[int, Callable[[dict], None]] = {}
        self._keeper = self._start_keeper()
        self._make_parts(folder)
        self._listener = listener
        self._loop.watch(listener.fileno(), select.EPOLLIN, self._accept)
        self._loop.watch(life, select.EPOLLIN, lambda _: os._exit(0))
        for number in (signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, lambda *_: os._exit(0))

    def _make_parts(self, folder: str) -> None:
        ids, last_group = known_ids(_read("/proc/self/uid_map"), _read("/proc/self/gid_map"))
        self._sandboxes = Sandboxes(self._name, self._loop, self._children, folder, last_group)
        self._containers = Containers(self._children, self._sandboxes, self._keep, ids, self._groups)
        self._processes = Processes(self._children, self._containers)

    def _watch(self) -> memory.Watch:
        """What tells the keeper how much memory each container uses."""
        return memory.Watch()

    def run(self) -> None:
        """Serve for ever; the process ends with its starter, with its keeper, or by a signal."""
        while True:
            try:
                self._loop.once(None)
            except Exception:
                import traceback  # 5 ms that a start need not pay

                # A fault of ours must cost one request, not every pod of the node.
                say(f"zygote of {self._name}: {traceback.format_exc()}")

    def _accept(self, _events: int) -> None:
        try:
            socket_, _ = self._listener.accept()
        except OSError:
            return
        peer: list[Peer] = []
        peer.append(
            Peer(
                self._loop,
                wire.Connection(socket_),
                lambda request, descriptors: self._request(peer[0], request, descriptors),
                lambda _why: None,
            )
        )

    def _request(self, peer: Peer, request: dict, descriptors: list[int]) -> None:
        number = request.get("n")

        def reply(answer: dict | None = None, passed: list[int] | tuple = ()) -> None:
            peer.send({**(answer or {}), "n": number}, passed)

        name = str(request.get("op"))
        try:
            if name not in _OPERATIONS:
                raise Refused(f"there is no operation {name!r}")
            getattr(self, name)(request, descriptors, reply)
        except Refused as refused:
            reply({"error": str(refused), "reason": refused.reason})
        except OSError as error:
            where = f"{os.fsdecode(error.filename)}: " if error.filename else ""
            reply({"error": f"{name}: {where}{error.strerror}", "reason": "RunContainerError"})
        except ValueError as error:
            reply({"error": f"{name}: {error}", "reason": "CreateContainerError"})
        except (KeyError, TypeError, AttributeError, OverflowError) as error:
            reply({"error": f"the request {name} is malformed: {error!r}", "reason": "CreateContainerError"})
        finally:
            for descriptor in descriptors:
                os.close(descriptor)

    # The keeper

    def _start_keeper(self) -> Peer:
        near, far = socket.socketpair()
        pid = os.fork()
        if pid == 0:
            try:
                container.fresh_child([far.fileno()])
                kernel.set_process_title(f"podlab-keeper {self._name}")
                keeper.Keeper(far, self._watch()).run()
            except BaseException as error:
                say(f"keeper of {self._name}: {error!r}")
            finally:
                os._exit(1)
        far.close()
        # Without the keeper every container would soon hang on its output: then the node is gone, visibly.
        self._children.on_exit(pid, lambda status: self._die(f"ended with status {status}"))
        return Peer(self._loop, wire.Connection(near), self._kept, self._die)

    def _die(self, why: str) -> None:
        say(f"zygote of {self._name}: the keeper is gone ({why})")
        os._exit(1)

    def _kept(self, message: dict, _descriptors: list[int]) -> None:
        if message.get("event") == "memory":
            self._containers.over_limit(message["container"])
        elif answered := self._answers.pop(message["n"], None):
            answered(message)

    def _keep(
        self, order: dict, descriptors: list[int] | tuple = (), answered: Callable[[dict], None] | None = None
    ) -> None:
        """Give the keeper an order; `answered` gets its answer."""
        if answered:
            self._asked += 1
            self._answers[self._asked] = answered
            order = {**order, "n": self._asked}
        self._keeper.send(order, descriptors)

    # The operations

    def create_sandbox(self, request: dict, _descriptors: list[int], reply: Reply) -> None:
        self._sandboxes.create(fields.check(request.get("spec"), fields.SANDBOX, "the sandbox"), reply)

    def remove_sandbox(self, request: dict, _descriptors: list[int], reply: Reply) -> None:
        sandbox = self._sandboxes.get(request["sandbox"])
        if sandbox is None:
            reply()
            return
        if sandbox.state == "starting":
            # Look again when it is there, or has failed.
            sandbox.waiting.append(lambda *_: self.remove_sandbox(request, [], reply))
            return
        sandbox.state = "removing"
        left = self._containers.living_in(sandbox.id)
        if not left:
            self._groups.leave_pod(sandbox.id)
            self._sandboxes.forget(sandbox)
            reply()
            return
        # One at a time is enough: all are killed at once, and the last to end finds nothing left.
        left[0].waiting.append(lambda *_: self.remove_sandbox(request, [], reply))
        for found in left:
            self._containers.signal(found.id, signal.SIGKILL)

    def start_container(self, request: dict, _descriptors: list[int], reply: Reply) -> None:
        self._containers.start(fields.check_container(request.get("spec")), reply)

    def signal_container(self, request: dict, _descriptors: list[int], reply: Reply) -> None:
        self._containers.signal(request["container"], request["signal"])
        reply()

    def wait_container(self, request: dict, _descriptors: list[int], reply: Reply) -> None:
        self._containers.wait(request["container"], reply)

    def remove_container(self, request: dict, _descriptors: list[int], reply: Reply) -> None:
        self._containers.remove(request["container"], reply)

    def kill_others(self, request: dict, _descriptors: list[int], reply: Reply) -> None:
        self._containers.kill_others(request["container"])
        reply()

    def execute(self, request: dict, descriptors: list[int], reply: Reply) -> None:
        self._processes.execute(fields.check(request, fields.EXECUTE, "the command"), descriptors, reply)

    def spawn(self, request: dict, _descriptors: list[int], reply: Reply) -> None:
        self._processes.spawn(fields.check(request, fields.SPAWN, "the process"), reply)

    def wait_process(self, request: dict, _descriptors: list[int], reply: Reply) -> None:
        self._processes.wait(request["pid"], reply)

    def signal_process(self, request: dict, _descriptors: list[int], reply: Reply) -> None:
        self._processes.signal(request["pid"], request["signal"])
        reply()

    def attach(self, request: dict, _descriptors: list[int], reply: Reply) -> None:
        self._containers.attach(request["container"], request["stdin"], reply)

    def resize(self, request: dict, _descriptors: list[int], reply: Reply) -> None:
        self._containers.running(request["container"])
        order = {key: request[key] for key in ("op", "container", "rows", "columns")}
        self._keep(order, (), lambda answer: reply(_answer(answer)))

    def reopen_log(self, request: dict, _descriptors: list[int], reply: Reply) -> None:
        order = {"op": "reopen", "container": request["container"]}
        self._keep(order, (), lambda answer: reply(_answer(answer)))

    def mount_memory(self, request: dict, _descriptors: list[int], reply: Reply) -> None:
        order = fields.check(request, fields.MEMORY, "the memory")
        memory_volumes.mount(order["path"], order["size"], order["files"])
        reply()

    def unmount(self, request: dict, _descriptors: list[int], reply: Reply) -> None:
        memory_volumes.unmount(request["folder"])
        reply()

    def network_namespace(self, request: dict, _descriptors: list[int], reply: Reply) -> None:
        sandbox = self._sandboxes.ready(request["sandbox"])
        descriptor = sandbox.namespaces.get("net", -1)
        own = kernel.open_namespace("net") if descriptor < 0 else -1
        reply({}, [own if descriptor < 0 else descriptor])
        if own >= 0:
            os.close(own)

    def list(self, _request: dict, _descriptors: list[int], reply: Reply) -> None:
        def settled(_: dict) -> None:
            reply(
                {
                    "protocol": wire.PROTOCOL,
                    "controllers": self._groups.controllers,
                    "sandboxes": [one.describe() for one in self._sandboxes.all() if one.state == "ready"],
                    "containers": [
                        one.describe() | {"exit": one.exit if one.state == "ended" else None}
                        for one in self._containers.all()
                        if one.state != "starting"
                    ],
                }
            )

        self._containers.when_settled(settled)


#: What may be asked for: a name of a client's choice never reaches anything else.
_OPERATIONS = frozenset(
    (
        *("create_sandbox", "remove_sandbox", "start_container", "signal_container", "wait_container"),
        *("remove_container", "execute", "spawn", "wait_process", "signal_process", "attach", "resize", "reopen_log"),
        *("kill_others", "mount_memory", "unmount", "network_namespace", "list"),
    )
)


def _answer(answer: dict) -> dict:
    """A keeper's answer without its number, with a reason if it is an error."""
    rest = {key: value for key, value in answer.items() if key != "n"}
    return rest | {"reason": "RunContainerError"} if "error" in rest else rest


def _read(path: str) -> str:
    with open(path) as file:
        return file.read()


def known_ids(user_map: str, group_map: str) -> tuple[str, int]:
    """("all" or "one", the largest known group): which ids exist, from the two maps of a user namespace."""

    def ranges(text: str) -> list[tuple[int, int]]:
        return [(int(line.split()[0]), int(line.split()[2])) for line in text.splitlines() if line.strip()]

    count = sum(length for _, length in ranges(user_map))
    last = max((start + length - 1 for start, length in ranges(group_map)), default=0)
    return ("all" if count > 1 else "one"), min(last, _LAST_GROUP)


def main(make: Callable[[socket.socket], Zygote], name: str, socket_path: str, ready: Callable[[], None]) -> None:
    """Be the zygote that `make(listening socket)` makes; `ready()` is called when the socket listens."""
    kernel.set_process_title(f"podlab-zygote {name}")
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    os.umask(0o077)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(socket_path)
    listener.listen(64)
    listener.setblocking(False)
    made = make(listener)
    # What exists now is never garbage: leaving it alone keeps its pages shared with every child.
    gc.collect()
    gc.freeze()
    ready()
    made.run()
