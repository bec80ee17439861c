"""/var/log/containers of a node: a link to each container's log, by whose name log shippers know whose it is.

`host` is the folder that hostPath volumes see as `/`. Names and targets are the kubelet's: a link leads to where the
file is for whoever has mounted the node's /var/log, so from the machine itself it leads nowhere.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from podlab.node.runtime.sandbox.beneath import entered, make_below

messages = logging.getLogger(__name__)

#: Characters that a file's name may have; of a link's name the kubelet cuts what stands before `.log`.
LONGEST_NAME = 255
LONGEST = LONGEST_NAME - len(".log")
_FOLDER = ("var", "log", "containers")
_LOGS = Path("/var/log/pods")


def make(host: Path, pod: Mapping[str, Any], container: str, identity: str, log: Path) -> None:
    """Make the link of the log of container `identity`: POD_NAMESPACE_CONTAINER-ID.log.

    Where a pod has put something in its way there is none, as with a kubelet: the container runs all the same.
    """
    name = f"{_beginning(pod)}{container}-{identity}"[:LONGEST]
    host.mkdir(parents=True, exist_ok=True)
    try:
        make_below(host.resolve(), _FOLDER, 0o755)
        with entered(host.joinpath(*_FOLDER), host) as folder:
            link = Path(folder) / f"{name}.log"
            link.unlink(missing_ok=True)
            link.symlink_to("/" / log.relative_to(host))
    except OSError as error:
        messages.warning("no link to the log of %s: %s", identity, error)


def remove(host: Path, pod: Mapping[str, Any], log: Path) -> None:
    """Remove the links to a log of the pod, or to all its logs below the folder `log`."""
    target = "/" / log.relative_to(host)
    _remove(host, lambda found: found.is_relative_to(target), _beginning(pod)[:LONGEST])


def sweep(host: Path, known: Collection[str]) -> None:
    """Remove the links to logs of pods whose UID is not among `known`."""

    def orphaned(found: Path) -> bool:
        return _LOGS in found.parents and uid_of(found.relative_to(_LOGS).parts[0]) not in known

    _remove(host, orphaned)


def uid_of(folder: str) -> str:
    """The UID of the pod whose logs are in the folder of that name, NAMESPACE_NAME_UID."""
    return folder.rpartition("_")[2]


def _beginning(pod: Mapping[str, Any]) -> str:
    return f"{pod['metadata']['name']}_{pod['metadata']['namespace']}_"


def _remove(host: Path, chosen: Callable[[Path], bool], beginning: str = "") -> None:
    """Remove the links that lead to where they should not; of all those of the node only the ones named so are read."""
    with suppress(OSError), entered(host.joinpath(*_FOLDER), host) as folder:
        for link in Path(folder).iterdir():
            if link.name.startswith(beginning) and link.suffix == ".log":
                with suppress(OSError):  # a file that a pod has put there, or gone meanwhile
                    if chosen(link.readlink()):
                        link.unlink(missing_ok=True)
