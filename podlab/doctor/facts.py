"""What the doctor found out about this machine. The probes at the edge: they look, they do not judge."""

from __future__ import annotations

import os
import platform
import shutil
import socket
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

from podlab import paths
from podlab.cluster.embedded import delegation
from podlab.cluster.kind import runtime as kind_runtime
from podlab.errors import PodlabError
from podlab.node.runtime.choice import refused_processes, try_kernel

#: Settings that forbid user namespaces to ordinary users, on the distributions that have them.
SETTINGS = (
    "user/max_user_namespaces",
    "kernel/unprivileged_userns_clone",
    "kernel/apparmor_restrict_unprivileged_userns",
)


@dataclass(frozen=True)
class Facts:
    """Sizes are in bytes; `trials` maps each trial of the kernel to what was refused, or None."""

    python: tuple[int, ...]
    kernel: str
    commands: dict[str, str | None]
    root: bool
    container: bool
    memory: int
    cache: str
    cache_free: int
    data: str
    data_free: int
    folder_error: str | None
    trials: dict[str, str | None]
    settings: dict[str, int]
    binaries: dict[str, tuple[str, str] | None]
    binaries_error: str | None
    go: str | None
    proxies: dict[str, str]
    loopback: str | None
    course: list[str] = field(default_factory=list)
    #: Why no process can be held by a descriptor, or None.
    refused_processes: str | None = None
    #: The container runtime that kind would use ("" if none is installed or asked for), why it cannot, and what will
    #: fail or be slow: both with the cure.
    container_runtime: str = ""
    container_trouble: tuple[str, str] | None = None
    container_notes: list[tuple[str, str]] = field(default_factory=list)
    #: The controllers of the cgroup that nodes could have, and why there is none.
    controllers: tuple[str, ...] = ()
    cgroup_trouble: str = ""


def collect() -> Facts:
    """Look at this machine. Changes nothing and uses no network but loopback."""
    cache, cache_free, cache_error = _folder(paths.cache)
    data, data_free, data_error = _folder(paths.data)
    located, binaries_error = _binaries()
    runtime, trouble, notes = try_container_runtime()
    controllers, cgroup_trouble = try_cgroup()
    return Facts(
        python=sys.version_info[:3],
        kernel=platform.release(),
        commands={name: shutil.which(name) for name in ("make", "git")},
        root=os.geteuid() == 0,
        container=in_container(),
        memory=available_memory(),
        cache=cache,
        cache_free=cache_free,
        data=data,
        data_free=data_free,
        folder_error=cache_error or data_error,
        trials=try_kernel(data) if data else {},
        settings=_settings(),
        binaries=located,
        binaries_error=binaries_error,
        go=_go(),
        proxies=_proxies(),
        loopback=try_loopback(),
        course=[name for name in ("jupyterlab", "nbgrader", "papermill") if find_spec(name) is None],
        refused_processes=refused_processes(),
        container_runtime=runtime,
        container_trouble=trouble,
        container_notes=notes,
        controllers=controllers,
        cgroup_trouble=cgroup_trouble,
    )


def try_cgroup() -> tuple[tuple[str, ...], str]:
    """The controllers that nodes could have for their pods, and why there are none."""
    try:
        offer = delegation.offered()
    except PodlabError as error:
        return (), error.message.rstrip(".")
    return offer.controllers, offer.why


def try_container_runtime() -> tuple[str, tuple[str, str] | None, list[tuple[str, str]]]:
    """The container runtime that kind would use, (what is wrong with it, the cure), and the same of what will fail."""
    asked = os.environ.get(kind_runtime.VARIABLE)
    meant = [asked] if asked else [name for name in kind_runtime.RUNTIMES if shutil.which(name)]
    try:
        found = kind_runtime.find()
        return found.name, None, kind_runtime.notes(found)
    except PodlabError as error:
        return meant[0] if meant else "", (error.message, error.hint or ""), []
    except ValueError:
        return found.name, None, []


def _folder(where: Callable[[], Path]) -> tuple[str, int, str | None]:
    try:
        path = where()
        if not os.access(path, os.W_OK):
            return "", 0, f"{path} cannot be written."
        return str(path), shutil.disk_usage(path).free, None
    except (PodlabError, OSError, RuntimeError) as error:
        return "", 0, str(error)


def in_container() -> bool:
    """Whether this is a container, as far as one can tell from inside."""
    marks = (Path("/.dockerenv"), Path("/run/.containerenv"))
    return "container" in os.environ or any(mark.exists() for mark in marks)


def available_memory(cgroup: Path = Path("/sys/fs/cgroup")) -> int:
    """Return the bytes that new processes may use: of the machine, or of the cgroup if that is less.

    Files that a cgroup has read and nobody uses count as free: the kernel drops them first.
    """
    import psutil

    available = psutil.virtual_memory().available
    for folder, limit, usage, cached in (
        (cgroup, "memory.max", "memory.current", "inactive_file"),
        (cgroup / "memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    ):
        try:
            used = int((folder / usage).read_text()) - _cached(folder / "memory.stat", cached)
            available = min(available, int((folder / limit).read_text()) - used)
        except (OSError, ValueError):
            continue
    return max(0, available)


def _cached(statistics: Path, name: str) -> int:
    """One number of a cgroup's statistics; 0 where there are none."""
    lines = statistics.read_text().splitlines() if statistics.exists() else []
    return next((int(line.split()[1]) for line in lines if line.startswith(f"{name} ")), 0)


def _settings() -> dict[str, int]:
    found = {}
    for name in SETTINGS:
        try:
            found[name] = int(Path("/proc/sys", name).read_text())
        except (OSError, ValueError):
            continue
    return found


def _binaries() -> tuple[dict[str, tuple[str, str] | None], str | None]:
    from podlab.cluster.embedded import binaries

    try:
        located = binaries.locate()
    except (PodlabError, OSError) as error:
        return dict.fromkeys(binaries.ALL), str(error)
    return {name: (one.version, one.source) if one else None for name, one in located.items()}, None


def _go() -> str | None:
    from podlab.cluster.embedded.binaries import build, go, silent

    try:
        found = go.find(go.needed((build.module() / "go.mod").read_text()), silent)
    except (PodlabError, OSError):
        return None
    return f"{found.version} ({found.path})" if found else None


def _proxies() -> dict[str, str]:
    names = ("https_proxy", "http_proxy", "all_proxy", "no_proxy")
    return {name: value for name in names if (value := os.environ.get(name) or os.environ.get(name.upper()))}


def try_loopback() -> str | None:
    """Return what goes wrong with a connection over 127.0.0.1, or None."""
    try:
        with socket.create_server(("127.0.0.1", 0)) as server:
            server.settimeout(5)
            with socket.create_connection(server.getsockname(), timeout=5) as client:
                accepted, _ = server.accept()
                with accepted:
                    client.sendall(b"x")
                    accepted.settimeout(5)
                    return None if accepted.recv(1) == b"x" else "nothing arrived"
    except OSError as error:
        return error.strerror or str(error)
