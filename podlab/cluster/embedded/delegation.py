"""Where the cgroups of a cluster's nodes may be: below one (of version 2) that is delegated to this user.

In it the user may make groups and hand controllers on to them, and nobody else does: so a program begins with
`systemd-run --user --scope -p Delegate=yes` (https://systemd.io/CGROUP_DELEGATION). A container without systemd has it
where its /sys/fs/cgroup can be written to. A group that hands controllers on has no processes of its own, so those that
are in it are moved into one below it.
"""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from podlab.errors import UsageError
from podlab.node.runtime.sandbox import cgroups

#: Names a delegated cgroup by its path, in place of the one that this process is in.
VARIABLE = "PODLAB_CGROUP"
#: The group for the processes that were in the delegated one.
REST = "podlab-rest"
CONTROLLERS = ("cpu", "memory", "pids")
#: systemd's mark on a cgroup that it has delegated, for who is not root and for root.
_MARKS = ("user.delegate", "trusted.delegate")
#: How often processes are moved that have come in the meantime.
_ATTEMPTS = 20


@dataclass(frozen=True)
class Offer:
    """A delegated cgroup and which of CONTROLLERS it has; or None, and why there is none."""

    path: Path | None
    controllers: tuple[str, ...] = ()
    why: str = ""


def offered(
    environment: Mapping[str, str] = os.environ,
    process: Path = Path("/proc/self"),
    systemd: Path = Path("/run/systemd/system"),
) -> Offer:
    """What this process could have; nothing is changed. UsageError if VARIABLE names what cannot be used."""
    given = environment.get(VARIABLE)
    path = Path(given) if given else own(process)
    if path is None:
        return Offer(None, why="this machine has no cgroups of version 2")
    if path.name == REST:
        path = path.parent
    why = _lacking(path)
    if given and why:
        raise UsageError(f"{VARIABLE} names {path}, but {why}.", hint=f"Unset {VARIABLE}, or name a delegated cgroup.")
    if not why and not given and systemd.exists() and not _marked(path):
        why = f"systemd has not delegated the cgroup {path}"
    return Offer(None, why=why) if why else Offer(path, _controllers(path))


def take(offer: Offer) -> None:
    """Have the cgroup hand its controllers on. OSError if the kernel refuses that."""
    if offer.path is None:
        return
    for _ in range(_ATTEMPTS):
        try:
            (offer.path / "cgroup.subtree_control").write_text(cgroups.switched_on(offer.controllers))
            return
        except OSError as error:
            if error.errno != errno.EBUSY:
                raise
        _move_all(offer.path)
    raise OSError(errno.EBUSY, os.strerror(errno.EBUSY), str(offer.path))


def of_node(cgroup: str, folder: Path, node: str) -> str:
    """The path of a node's group; `folder` is its cluster's."""
    return f"{cgroup}/{_prefix(folder)}{node}"


def clear(cgroup: str, folder: Path) -> None:
    """Remove the groups of a cluster's nodes when all has ended."""
    for group in Path(cgroup).glob(f"{_prefix(folder)}*"):
        cgroups.clear(str(group))


def _prefix(folder: Path) -> str:
    return f"podlab-{hashlib.sha256(bytes(folder)).hexdigest()[:8]}-"


def own(process: Path = Path("/proc/self")) -> Path | None:
    """The path of the cgroup of version 2 that a process is in."""
    try:
        inside = [line[3:] for line in (process / "cgroup").read_text().splitlines() if line.startswith("0::")]
        mounts = [line.split(" - ", 1) for line in (process / "mountinfo").read_text().splitlines()]
    except OSError:
        return None
    for place, kind in mounts:
        root, point = place.split()[3:5]
        if inside and kind.split()[0] == "cgroup2" and os.path.commonpath((root, inside[0])) == root:
            return Path(point) / os.path.relpath(inside[0], root)
    return None


def _lacking(path: Path) -> str:
    """Why the group cannot be used; empty if it can."""
    try:
        available = _controllers(path)
    except OSError as error:
        return f"it is no cgroup: {error.strerror}"
    if not available:
        return f"no controller is handed on to the cgroup {path}"
    for name in (".", "cgroup.procs", "cgroup.subtree_control"):
        if not os.access(path / name, os.W_OK):
            return f"the cgroup {path} is not delegated to this user"
    return ""


def _controllers(path: Path) -> tuple[str, ...]:
    known = (path / "cgroup.controllers").read_text().split()
    return tuple(name for name in CONTROLLERS if name in known)


def _marked(path: Path) -> bool:
    for mark in _MARKS:
        try:
            if os.getxattr(path, mark) == b"1":
                return True
        except OSError:
            continue
    return False


def _move_all(path: Path) -> None:
    rest = path / REST
    rest.mkdir(exist_ok=True)
    for pid in (path / "cgroup.procs").read_text().split():
        try:
            (rest / "cgroup.procs").write_text(pid)
        except ProcessLookupError:
            pass  # it has ended
