"""/var/log/containers of a node: a link to each container's log, by whose name log shippers know whose it is.

`host` is the folder that hostPath volumes see as `/`. Names and targets are the kubelet's: a link leads to where the
file is for whoever has mounted the node's /var/log, so from the machine itself it leads nowhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

#: Characters that a file's name may have; of a link's name the kubelet cuts what stands before `.log`.
LONGEST_NAME = 255
LONGEST = LONGEST_NAME - len(".log")


def make(host: Path, pod: Mapping[str, Any], container: str, identity: str, log: Path) -> None:
    """Make the link of the log of container `identity`: POD_NAMESPACE_CONTAINER-ID.log."""
    metadata = pod["metadata"]
    name = f"{metadata['name']}_{metadata['namespace']}_{container}-{identity}"[:LONGEST]
    link = _folder(host) / f"{name}.log"
    link.parent.mkdir(parents=True, exist_ok=True)
    link.unlink(missing_ok=True)
    link.symlink_to("/" / log.relative_to(host))


def remove(host: Path, log: Path) -> None:
    """Remove the links to a log, or to all logs below the folder `log`."""
    target = "/" / log.relative_to(host)
    for link in _folder(host).glob("*.log"):
        try:
            found = link.readlink()
        except OSError:  # a file that a pod has put there, or gone meanwhile
            continue
        if found == target or target in found.parents:
            link.unlink(missing_ok=True)


def _folder(host: Path) -> Path:
    return host / "var" / "log" / "containers"
