"""Whose namespaces are whose: each carries the process that made it, so that those of dead kernels can be removed."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from podlab import paths
from podlab.checks.api import Api, ApiError
from podlab.cluster.folder import HOME_LABEL

#: Label of a namespace: the machine, the process and its start, as `own` gives them.
OWNER = "podlab.dev/owner"


def labels() -> dict[str, str]:
    """The labels by which a namespace is ours: of this process, and of this user's podlab."""
    return {OWNER: own() or "unknown", HOME_LABEL: paths.identity()}


def own(pid: int | None = None) -> str | None:
    """The label value of a process of this machine (None: this one), or None if there is no such process."""
    number = os.getpid() if pid is None else pid
    try:
        fields = Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    if fields[0] in ("Z", "X"):
        return None
    return f"{_machine()}-{number}-{fields[19]}"


def _machine() -> str:
    """This boot of this machine, as this PID namespace sees it: process numbers mean nothing elsewhere."""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return hashlib.sha256(f"{boot}/{Path('/proc/self/ns/pid').readlink()}".encode()).hexdigest()[:10]


def dead(label: str) -> bool:
    """Whether the label names a process of this machine that is gone. Others' processes are never called dead."""
    machine, _, rest = label.partition("-")
    number, _, _ = rest.partition("-")
    return machine == _machine() and number.isdigit() and own(int(number)) != label


def of_this_machine(label: str) -> bool:
    """Whether the label names a process of this machine since its last start, alive or not."""
    return label.partition("-")[0] == _machine()


def sweep(api: Api) -> list[str]:
    """Ask for the deletion of this user's namespaces whose makers are dead; returns their names.

    Those of others are theirs to remove, and on a machine of many their processes may not be seen.
    """
    swept = []
    for namespace in api.list("Namespace", labelSelector=f"{HOME_LABEL}={paths.identity()}"):
        meta = namespace["metadata"]
        if not meta.get("deletionTimestamp") and dead(meta["labels"].get(OWNER, "")):
            try:
                api.delete("Namespace", meta["name"])
            except ApiError:
                continue
            swept.append(meta["name"])
    return swept
