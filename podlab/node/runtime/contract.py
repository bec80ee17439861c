"""What a container runtime offers to a node's agent. One contract; runtimes behind it (sandbox, plain).

The runtime outlives the agent: sandboxes, containers, exit statuses and logs stay when an agent is restarted,
and `inventory` tells the new one about them. Identifiers are chosen by the agent and are unique on the node:
a sandbox is named by the pod's UID and attempt, a container by sandbox, name and attempt.
"""

from __future__ import annotations

import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from podlab.images.root import RootFileSystem as RootFileSystem


@dataclass(frozen=True)
class SandboxSpec:
    """A pod's shared namespaces: network, UTS, IPC. `labels` are given back by `inventory` untouched."""

    id: str
    hostname: str
    #: The pod's address; None with host_network (the node's own network namespace).
    address: str | None
    host_network: bool = False
    sysctls: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Mount:
    """One entry of a container's file tree: a bind mount of `source` (a file or folder) at `target`.

    With `within`, a folder that containers may write to, `source` is below it and no link on the way there is
    followed: it could have been put there to lead out.
    """

    source: str
    target: str
    read_only: bool = False
    within: str | None = None


@dataclass(frozen=True)
class ContainerSpec:
    """One container of a sandbox.

    `environment` is complete (nothing is inherited). `log_path` is a file in the CRI format
    (`2026-01-02T03:04:05.000000000Z stdout F line`), appended to by the runtime, never by the agent;
    with `log_within`, a folder that containers may write to, it is below it and no link on the way there is followed.
    `folder` is the container's private folder (writable layer); the runtime removes it with the container.
    """

    id: str
    sandbox: str
    argv: Sequence[str]
    environment: Mapping[str, str]
    root: RootFileSystem
    log_path: str
    folder: str
    log_within: str | None = None
    working_directory: str = "/"
    mounts: Sequence[Mount] = ()
    files: Mapping[str, str] = field(default_factory=dict)
    tty: bool = False
    stdin: bool = False
    stdin_once: bool = False
    #: Numeric user and group; None means the image's default, 0 inside the namespace.
    user: int | None = None
    group: int | None = None
    supplemental_groups: Sequence[int] = ()
    no_new_privileges: bool = False
    #: What its root may do (`chown`, `net_raw`, ...: names of capabilities(7) in lower case without `cap_`); None:
    #: the usual set. Everything that this node can give where it is `privileged`.
    capabilities: Sequence[str] | None = None
    privileged: bool = False
    #: Under the seccomp filter of the profile RuntimeDefault.
    seccomp: bool = False
    #: Without the usual masks over /proc.
    unmasked_proc: bool = False
    #: Share one PID namespace with the other containers of the sandbox, or use the node's.
    share_processes: bool = False
    host_processes: bool = False
    #: The container of the sandbox whose PID namespace it joins, to look at its processes; it ends with it.
    processes_of: str | None = None
    #: Bytes of memory that it may use, and that the containers of its sandbox may use together.
    memory_limit: int | None = None
    pod_memory_limit: int | None = None
    #: Thousandths of a processor that it is to have where others want it too, and the most that it gets; and those of
    #: its sandbox. Only cgroups can do that (Inventory.controllers).
    cpu_request: int = 0
    cpu_limit: int | None = None
    pod_cpu_request: int = 0
    pod_cpu_limit: int | None = None
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Exit:
    """How a process ended: `status` is 0..255, 128 + n after signal n; times in seconds since the epoch."""

    status: int
    finished_at: float
    signal: int | None = None
    out_of_memory: bool = False


@dataclass(frozen=True)
class ContainerState:
    """A container as the runtime knows it: running while `exit` is None. `pid` is the node's number for it."""

    id: str
    sandbox: str
    pid: int
    started_at: float
    exit: Exit | None
    labels: Mapping[str, str]


@dataclass(frozen=True)
class SandboxState:
    """A sandbox as the runtime knows it."""

    id: str
    address: str | None
    labels: Mapping[str, str]


@dataclass(frozen=True)
class Inventory:
    """Everything that the runtime holds."""

    sandboxes: Sequence[SandboxState]
    containers: Sequence[ContainerState]
    #: The controllers of the cgroups that its containers are in; none without cgroups.
    controllers: Sequence[str] = ()


@dataclass(frozen=True)
class Usage:
    """What a container has used: CPU seconds since its start, resident bytes now, number of processes."""

    cpu: float
    memory: int
    processes: int


class Process(Protocol):
    """A command started by `execute`."""

    pid: int

    async def wait(self) -> Exit:
        """Return when it has ended; may be called by several tasks and cancelled without harm."""

    async def signal(self, number: int) -> None:
        """Send a signal to it; nothing happens when it has ended."""


class Runtime(Protocol):
    """Every method raises podlab.errors.RuntimeRefused, with a Kubernetes reason, when it cannot do its work."""

    async def create_sandbox(self, spec: SandboxSpec) -> None:
        """Make a pod's namespaces and wire its network; idempotent for the same id."""

    async def remove_sandbox(self, sandbox: str) -> None:
        """Kill what still runs in it and free its namespaces and address; unknown ids are fine."""

    async def start_container(self, spec: ContainerSpec) -> ContainerState:
        """Start a container and return once its program is running (exec succeeded)."""

    async def signal_container(self, container: str, number: int) -> None:
        """Send a signal to PID 1 of the container; SIGKILL ends every process of it. Unknown ids are fine."""

    async def wait_container(self, container: str) -> Exit:
        """Return when the container has ended (at once if it has); cancelling one waiter harms no other."""

    async def remove_container(self, container: str) -> None:
        """Forget an ended container and remove its folder (not its log); kills it first if it runs."""

    async def execute(
        self,
        container: str,
        argv: Sequence[str],
        environment: Mapping[str, str],
        stdio: tuple[int, int, int],
        *,
        tty: bool = False,
    ) -> Process:
        """Start a command in a running container with three descriptors, which the caller still owns after.

        With `tty` they are three times the slave of `open_terminal`.
        """

    async def open_terminal(self, container: str) -> tuple[int, int]:
        """(master, slave) descriptors of a new terminal in the container's own /dev/pts; the caller closes both."""

    async def attach(self, container: str, *, stdin: bool) -> tuple[socket.socket | None, socket.socket]:
        """Return (input, output) sockets of a running container.

        Output is a stream of frames `>BI` (1 stdout, 2 stderr; length) + bytes, ended by end of stream.
        Input, if asked for and the container has stdin, is raw bytes; for a tty its window is set by `resize`.
        """

    async def resize(self, container: str, rows: int, columns: int) -> None:
        """Set the window size of a container with a tty."""

    async def reopen_log(self, container: str) -> None:
        """Close and open the log file again, after the agent has renamed it (rotation)."""

    async def mount_memory(self, path: str, size: int, files: int = 0) -> None:
        """Mount a file system in memory (tmpfs) of `size` bytes at the folder `path`, unless that has been done.

        It holds at most so many `files`; as many as the kernel allows where none are given.
        """

    async def unmount(self, folder: str) -> None:
        """Unmount everything that `mount_memory` has mounted at or below `folder`; nothing there is fine."""

    async def usage(self) -> Mapping[str, Usage]:
        """Usage of each running container, by id."""

    async def inventory(self) -> Inventory:
        """Everything that the runtime holds, also from before this agent's start."""

    def open_in_sandbox(self, sandbox: str, family: int, kind: int) -> socket.socket:
        """A new socket that belongs to the sandbox's network namespace (port-forward dials localhost there)."""
