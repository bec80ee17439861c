"""The control groups (version 2) of a node: limits that the kernel keeps. Standard library only.

A node has one group, below it is one for each pod and below that one for each container. Who finds the place for it:
podlab.cluster.embedded.delegation. Numbers are the kubelet's and runc's: the kernel's documentation is
https://docs.kernel.org/admin-guide/cgroup-v2.html.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator

#: Microseconds in which a container with a CPU limit gets its part, and the least part of them (the kubelet's).
PERIOD, LEAST_QUOTA = 100_000, 1_000
#: Shares of a processor, in thousandths of 1024, between which weights lie.
_LEAST_SHARES, _MOST_SHARES = 2, 262_144
#: Processes and threads of a pod: what the kernel counts per PID namespace from 6.14 on, here on every kernel.
_TASKS = 4096
_FLAGS = os.O_CLOEXEC
NONE = -1


def quota(limit: int) -> str:
    """cpu.max of a limit in thousandths of a processor."""
    return f"{max(LEAST_QUOTA, limit * PERIOD // 1000)} {PERIOD}"


def weight(request: int) -> int:
    """cpu.weight of a request in thousandths of a processor."""
    shares = min(max(_LEAST_SHARES, request * 1024 // 1000), _MOST_SHARES)
    return 1 + (shares - _LEAST_SHARES) * 9999 // (_MOST_SHARES - _LEAST_SHARES)


def switched_on(controllers: Iterable[str]) -> str:
    """What is written to cgroup.subtree_control to hand controllers on."""
    return " ".join(f"+{name}" for name in controllers)


def clear(path: str) -> None:
    """Remove a group and those below it; one in which processes are still ending stays."""
    try:
        with os.scandir(path) as entries:
            below = [entry.path for entry in entries if entry.is_dir(follow_symlinks=False)]
        for one in below:
            clear(one)
        os.rmdir(path)
    except OSError:
        pass


class Groups:
    """The groups of a node's pods and containers; with no `path` there are none, and every verb does nothing."""

    def __init__(self, path: str | None) -> None:
        """`path` is the node's own group: made anew, with the controllers that the one above hands on."""
        self.controllers: tuple[str, ...] = ()
        self._top = NONE
        self._leaving: list[str] = []
        if path is None:
            return
        clear(path)
        os.makedirs(path, exist_ok=True)
        # By descriptor: the node will have a /sys of its own.
        self._top = os.open(path, os.O_PATH | os.O_DIRECTORY | _FLAGS)
        self.controllers = tuple(self._read("cgroup.controllers").split())
        self._hand_on(".")

    def __bool__(self) -> bool:
        return self._top != NONE

    def __contains__(self, controller: str) -> bool:
        return controller in self.controllers

    def make(self, spec: dict) -> None:
        """Make the group of a container, and that of its pod if this is the first one."""
        if self._top == NONE:
            return
        pod, own = self._names(spec)
        if self._make(pod):
            self._hand_on(pod)
            if "pids" in self:
                self._write(f"{pod}/pids.max", str(_TASKS))
            self._limit(pod, spec["pod_cpu_request"], spec["pod_cpu_limit"], spec["pod_memory_limit"])
        self._make(own)
        self._limit(own, spec["cpu_request"], spec["cpu_limit"], spec["memory_limit"])
        if "memory" in self:
            self._write(f"{own}/memory.oom.group", "1")

    @contextlib.contextmanager
    def door(self, spec: dict) -> Iterator[int]:
        """A descriptor of the group of a container, for as long as the block lasts; NONE where there are none.

        A process that writes "0" to it is in the group, with all that it forks from then on.
        """
        if self._top == NONE:
            yield NONE
            return
        descriptor = os.open(f"{self._names(spec)[1]}/cgroup.procs", os.O_WRONLY | _FLAGS, dir_fd=self._top)
        try:
            yield descriptor
        finally:
            os.close(descriptor)

    def out_of_memory(self, spec: dict) -> bool:
        """Whether the kernel has killed a process of a container because it, or its pod, was at its limit."""
        if "memory" not in self:
            return False
        events = dict(line.split() for line in self._read(f"{self._names(spec)[1]}/memory.events").splitlines())
        return int(events.get("oom_kill", 0)) > 0

    def leave(self, spec: dict) -> None:
        """Remove the group of a container that has ended."""
        self._remove(self._names(spec)[1])

    def leave_pod(self, sandbox: str) -> None:
        """Remove the group of a pod whose containers have ended."""
        self._remove(_name(sandbox))

    def _remove(self, group: str) -> None:
        """Remove a group, and those in which processes were still ending when it was their turn."""
        if self._top == NONE:
            return
        left = []
        for one in (*self._leaving, group):
            try:
                os.rmdir(one, dir_fd=self._top)
            except FileNotFoundError:
                pass
            except OSError:
                left.append(one)
        self._leaving = left

    @staticmethod
    def _names(spec: dict) -> tuple[str, str]:
        """The groups of a container's pod and of itself, seen from the node's."""
        pod = _name(spec["sandbox"])
        return pod, f"{pod}/{_name(spec['id'])}"

    def _make(self, group: str) -> bool:
        """Make a group; whether it was not there."""
        if group in self._leaving:
            self._leaving.remove(group)
        try:
            os.mkdir(group, dir_fd=self._top)
        except FileExistsError:
            return False
        return True

    def _limit(self, group: str, request: int, cpu: int | None, memory: int | None) -> None:
        if "cpu" in self:
            self._write(f"{group}/cpu.weight", str(weight(request)))
            self._write(f"{group}/cpu.max", f"max {PERIOD}" if cpu is None else quota(cpu))
        if "memory" in self:
            self._write(f"{group}/memory.max", "max" if memory is None else str(memory))
            if memory is not None:
                try:
                    self._write(f"{group}/memory.swap.max", "0")
                except FileNotFoundError:
                    pass  # a kernel that does not count swap

    def _hand_on(self, group: str) -> None:
        if self.controllers:
            self._write(f"{group}/cgroup.subtree_control", switched_on(self.controllers))

    def _read(self, name: str) -> str:
        descriptor = os.open(name, os.O_RDONLY | _FLAGS, dir_fd=self._top)
        try:
            return os.read(descriptor, 1 << 16).decode()
        finally:
            os.close(descriptor)

    def _write(self, name: str, text: str) -> None:
        descriptor = os.open(name, os.O_WRONLY | _FLAGS, dir_fd=self._top)
        try:
            os.write(descriptor, text.encode())
        except OSError as error:
            error.filename = name
            raise
        finally:
            os.close(descriptor)


def _name(identifier: str) -> str:
    """An identifier of the agent's as the name of a folder."""
    return identifier.replace("/", "_")
