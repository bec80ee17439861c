"""What processes use, read from /proc; and which processes belong together."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

_PAGE = os.sysconf("SC_PAGE_SIZE")
_TICK = os.sysconf("SC_CLK_TCK")


def usage(pids: Iterable[int], proc: Path = Path("/proc")) -> tuple[int, float]:
    """Resident bytes and CPU seconds of some processes together; those that have ended count nothing."""
    resident, cpu = 0, 0.0
    for pid in pids:
        try:
            fields = (proc / str(pid) / "stat").read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        cpu += (int(fields[11]) + int(fields[12])) / _TICK
        resident += int(fields[21]) * _PAGE
    return resident, cpu


def all_pids(proc: Path = Path("/proc")) -> list[int]:
    """Every process that is visible here."""
    return [int(name) for name in os.listdir(proc) if name.isdigit()]  # noqa: PTH208  (names, not paths)


def descendants(pid: int) -> list[int]:
    """`pid` and every process below it, parents first; those that have ended are left out."""
    children: dict[int, list[int]] = {}
    for other in all_pids():
        try:
            parent = int(Path(f"/proc/{other}/stat").read_text().rpartition(")")[2].split()[1])
        except (FileNotFoundError, ProcessLookupError):
            continue
        children.setdefault(parent, []).append(other)
    found = [pid]
    for one in found:
        found.extend(children.get(one, ()))
    return found


def children(pid: int) -> list[int]:
    """The processes that `pid` has started and that have not ended."""
    try:
        text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    except OSError:
        return []
    return [int(number) for number in text.split()]


def namespace(pid: int, kind: str = "pid") -> str | None:
    """The identity of a process's namespace, or None if it has ended or may not be looked at."""
    try:
        return str(Path(f"/proc/{pid}/ns/{kind}").readlink())
    except OSError:
        return None


def in_namespace(identity: str) -> Iterator[int]:
    """The processes whose PID namespace is `identity`."""
    return (pid for pid in all_pids() if namespace(pid) == identity)


def numbers(pid: int) -> list[int]:
    """The numbers of a process in each PID namespace, from ours inwards; empty if it has ended."""
    try:
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("NSpid:"):
                return [int(number) for number in line.split()[1:]]
    except (FileNotFoundError, ProcessLookupError):
        pass
    return []


def outer_numbers(first: int) -> dict[int, int]:
    """For the processes of the PID namespace that `first` (its PID 1) began: their number there -> ours."""
    depth = len(numbers(first)) - 1
    found = {}
    for pid in descendants(first):
        known = numbers(pid)
        if len(known) > depth:
            found[known[depth]] = known[0]
    return found
