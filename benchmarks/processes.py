"""What processes use and hold, read from /proc: memory, CPU, namespaces, sockets."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_PAGE = os.sysconf("SC_PAGE_SIZE")
_TICK = os.sysconf("SC_CLK_TCK")
#: _IOR(0xb7, 13, __u64) of linux/nsfs.h: a namespace's number, unique since the machine's start.
_NS_GET_ID = 2 << 30 | 8 << 16 | 0xB7 << 8 | 13
#: Kinds of namespaces (files of /proc/PID/ns) of which a cluster makes its own.
NAMESPACES = ("cgroup", "ipc", "mnt", "net", "pid", "user", "uts")

#: Which part of a cluster a process is, by a word of its arguments; programs of the control plane by their name.
MODULES = (
    ("supervisor", "podlab.cluster.embedded.supervisor"),
    ("agents", "podlab.node.agent"),
    ("machines", "podlab-zygote"),
    ("machines", "podlab-keeper"),
    ("machines", "podlab.node.runtime.sandbox"),
)
CONTROL_PLANE = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler")
AGENT_SIDE = ("agents", "machines", "supervisor")


@dataclass(frozen=True)
class Used:
    """Resident and proportional memory in bytes, CPU in seconds (with that of ended children), processes."""

    resident: int = 0
    proportional: int = 0
    cpu: float = 0.0
    processes: int = 0

    def __add__(self, other: Used) -> Used:
        return Used(
            self.resident + other.resident,
            self.proportional + other.proportional,
            self.cpu + other.cpu,
            self.processes + other.processes,
        )

    def since(self, earlier: Used) -> float:
        """CPU seconds between two looks."""
        return self.cpu - earlier.cpu


#: Ends with whoever has started it, however that ends.
_BURNER = "import os\nparent = os.getppid()\nwhile os.getppid() == parent: pass"


@contextmanager
def burning(cores: int) -> Iterator[list[int]]:
    """So many cores have something to compute meanwhile; yields the PIDs of what does so."""
    burners = [subprocess.Popen([sys.executable, "-S", "-c", _BURNER]) for _ in range(cores)]
    try:
        yield [burner.pid for burner in burners]
    finally:
        for burner in burners:
            burner.kill()
            burner.wait()


def alive() -> list[int]:
    """Every process."""
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]


def stat(pid: int) -> list[str]:
    """Fields of /proc/PID/stat from the state (the third) on; empty if it has ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return []


def descendants(first: int) -> list[int]:
    """`first` and every process below it."""
    children: dict[int, list[int]] = {}
    for pid in alive():
        if fields := stat(pid):
            children.setdefault(int(fields[1]), []).append(pid)
    found = [first]
    for pid in found:
        found.extend(children.get(pid, ()))
    return found


def ended(pid: int) -> bool:
    """Whether no thread of it runs any more: its parent may still have to take notice, and its namespaces show."""
    fields = stat(pid)
    return not fields or (fields[0] in "ZX" and int(fields[17]) <= 1)


def identity(pid: int) -> tuple[int, int] | None:
    """A process's number and start time (clock ticks since boot), which no later process has; None if ended."""
    fields = stat(pid)
    return (pid, int(fields[19])) if fields and not ended(pid) else None


def used(pid: int) -> Used:
    """What one process uses now."""
    fields = stat(pid)
    if not fields:
        return Used()
    proportional = 0
    try:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                proportional = int(line.split()[1]) * 1024
    except OSError:
        pass
    ticks = sum(int(fields[number]) for number in (11, 12, 13, 14))
    return Used(int(fields[21]) * _PAGE, proportional, ticks / _TICK, 1)


def part(pid: int) -> str:
    """Which part of a cluster a process is; "pods" if none of its own."""
    try:
        arguments = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
    except OSError:
        return "pods"
    program = Path(arguments[0]).name
    if program in CONTROL_PLANE:
        return program
    return next((name for name, word in MODULES if any(word in one for one in arguments)), "pods")


def parts(supervisor: int) -> dict[str, Used]:
    """What each part of a running cluster uses."""
    found: dict[str, Used] = {}
    for pid in descendants(supervisor):
        name = part(pid)
        found[name] = found.get(name, Used()) + used(pid)
    return found


def total(found: dict[str, Used], names: Iterable[str]) -> Used:
    """Several parts together."""
    return sum((found.get(name, Used()) for name in names), Used())


def namespaces(pids: Iterable[int]) -> set[str]:
    """The namespaces that some processes are in or hold open, unless they have ended.

    `net:#1234` by the kernel's own number, which no later namespace gets (Linux 6.18); elsewhere
    `net:[4026531840]`, which the next one may get at once.
    """
    found: set[str] = set()
    for pid in pids:
        if ended(pid):
            continue
        paths = [f"/proc/{pid}/ns/{kind}" for kind in NAMESPACES]
        paths += (f"{thread}/ns/{kind}" for thread in _entries(f"/proc/{pid}/task") for kind in ("net", "mnt"))
        paths += _entries(f"/proc/{pid}/fd")
        found.update(_namespace(path) for path in paths)
    return found - {""}


def is_unique(namespace: str) -> bool:
    """Whether a name given by `namespaces` is never used again."""
    return "#" in namespace


def _entries(folder: str) -> list[str]:
    try:
        return [str(entry) for entry in Path(folder).iterdir()]
    except OSError:
        return []


def _namespace(path: str) -> str:
    """The name of the namespace that a link of /proc leads to; empty if it leads to something else."""
    name = _link(path)
    kind, bracket, _ = name.partition(":[")
    if not bracket or kind not in NAMESPACES:
        return ""
    number = bytearray(8)
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return name
    try:
        fcntl.ioctl(descriptor, _NS_GET_ID, number)
    except OSError:
        return name
    finally:
        os.close(descriptor)
    return f"{kind}:#{int.from_bytes(number, sys.byteorder)}"


def ancestors(pid: int) -> list[int]:
    """The parent of a process, its parent, and so on."""
    found: list[int] = []
    while (fields := stat(pid)) and (pid := int(fields[1])) > 0:
        found.append(pid)
    return found


def strangers(known: set[tuple[int, int]]) -> set[int]:
    """Processes that are not ours: in `known` (identities of all processes before) or started by one of those.

    The kernel gives the number of a namespace that has gone to the next one at once, so a number seen in a
    stranger says nothing about us. Our own process and its ancestors are never counted as strangers.
    """
    mine = {os.getpid(), *ancestors(os.getpid())}
    old = {pid for pid, began in known if pid not in mine and identity(pid) == (pid, began)}
    return {pid for pid in alive() if old & {pid, *ancestors(pid)}} - mine


def unix_sockets() -> set[str]:
    """Paths of all Unix sockets of this network namespace."""
    lines = Path("/proc/net/unix").read_text().splitlines()[1:]
    return {fields[7] for line in lines if len(fields := line.split(maxsplit=7)) == 8}


def listening_ports() -> set[int]:
    """TCP ports of this network namespace that somebody listens on."""
    found = set()
    for table in ("tcp", "tcp6"):
        try:
            lines = Path(f"/proc/net/{table}").read_text().splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            fields = line.split()
            if fields[3] == "0A":
                found.add(int(fields[1].rpartition(":")[2], 16))
    return found


def interfaces() -> set[str]:
    """Network interfaces of this network namespace."""
    return {entry.name for entry in Path("/sys/class/net").iterdir()}


def _link(path: str) -> str:
    try:
        return str(Path(path).readlink())
    except OSError:
        return ""
