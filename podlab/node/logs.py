"""Rotation of container logs: a log that has grown too large is set aside, old ones are removed."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable
from pathlib import Path

from podlab.errors import RuntimeRefused
from podlab.node.runtime.contract import Runtime
from podlab.node.view import PodView
from podlab.waiting import pause_async

log = logging.getLogger(__name__)

#: Bytes of a log before it is set aside, files per container, and seconds between two looks (kubelet's defaults).
LARGEST, FILES, PERIOD = 10 << 20, 5, 10.0


async def rotate(runtime: Runtime, container_id: str, path: Path) -> None:
    """Set the log at `path` aside, have the runtime begin a new one, and remove the oldest beyond FILES."""
    stamp = time.strftime("%Y%m%d-%H%M%S", time.gmtime())
    path.rename(path.with_name(f"{path.name}.{stamp}"))
    await runtime.reopen_log(container_id)
    aside = sorted(path.parent.glob(f"{path.name}.*"))
    for old in aside[: max(0, len(aside) - (FILES - 1))]:
        old.unlink(missing_ok=True)


async def keep_rotating(runtime: Runtime, pods: Iterable[PodView]) -> None:
    """One look at all logs of running containers."""
    for pod in list(pods):
        for container in pod.containers.values():
            if not (container.running and container.container_id and container.log_path):
                continue
            path = Path(container.log_path)
            try:
                if not path.exists():
                    # It was set aside and never begun anew: the disk was full, or the agent ended in between.
                    await runtime.reopen_log(container.container_id)
                elif path.stat().st_size > LARGEST:
                    await rotate(runtime, container.container_id, path)
            except (OSError, RuntimeRefused) as error:
                log.debug("log of %s: %s", container.container_id, error)


async def run(runtime: Runtime, pods: object) -> None:
    """Look for ever. `pods()` gives the node's pods."""
    while True:
        await pause_async(PERIOD)
        await keep_rotating(runtime, pods())  # type: ignore[operator]
