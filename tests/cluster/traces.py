"""What a cluster leaves on a machine: processes, sockets, namespaces, folders."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from podlab.cluster import Cluster


def processes(cluster: Cluster) -> set[int]:
    """Every process of a running cluster, from its supervisor down."""
    supervisor = next(one.pid for one in cluster.status.components if one.name == "supervisor")
    assert supervisor
    return below(supervisor)


def below(pid: int) -> set[int]:
    """A process and all its descendants that are no zombies."""
    parents: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and (fields := _stat(int(entry.name))):
            parents.setdefault(int(fields[1]), []).append(int(entry.name))
    found = [pid]
    for one in found:
        found.extend(parents.get(one, ()))
    return {one for one in found if alive(one)}


def alive(pid: int) -> bool:
    """Whether a process is there and is no zombie."""
    fields = _stat(pid)
    return bool(fields) and fields[0] not in "ZX"


_KINDS = ("pid", "user", "net")


@contextlib.contextmanager
def namespaces(pids: set[int]) -> Iterator[set[str]]:
    """The namespaces of some processes, without our own; held open, so that their numbers are not given anew."""
    own = _namespaces("self")
    held: dict[str, int] = {}
    try:
        for pid in pids:
            for kind in _KINDS:
                with contextlib.suppress(OSError):
                    descriptor = os.open(f"/proc/{pid}/ns/{kind}", os.O_RDONLY)
                    identity = str(Path(f"/proc/self/fd/{descriptor}").readlink())
                    if identity in own or identity in held:
                        os.close(descriptor)
                    else:
                        held[identity] = descriptor
        yield set(held)
    finally:
        for descriptor in held.values():
            os.close(descriptor)


def in_use() -> set[str]:
    """The namespaces of every process on this machine; zombies only wait for this machine's init."""
    found: set[str] = set()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and alive(int(entry.name)):
            found |= _namespaces(entry.name)
    return found


def _namespaces(pid: str) -> set[str]:
    found = set()
    for kind in _KINDS:
        with contextlib.suppress(OSError):
            found.add(str(Path(f"/proc/{pid}/ns/{kind}").readlink()))
    return found


def listeners(folder: Path) -> list[str]:
    """Unix sockets below `folder` that somebody listens on."""
    lines = Path("/proc/net/unix").read_text().splitlines()[1:]
    return [line.split()[7] for line in lines if len(line.split()) > 7 and line.split()[7].startswith(str(folder))]


def _stat(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []
