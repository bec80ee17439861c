"""Rotation of container logs: a log that has grown too large is set aside, old ones are removed."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

from podlab.errors import RuntimeRefused
from podlab.node.runtime.contract import Runtime
from podlab.node.runtime.sandbox.beneath import entered
from podlab.node.view import PodView
from podlab.waiting import pause_async

log = logging.getLogger(__name__)

#: Bytes of a log before it is set aside, and files per container (the kubelet's defaults).
LARGEST, FILES = 10 << 20, 5
#: Seconds between two looks. In the kubelet's ten a program can write 5 GB, into each of its files.
PERIOD = 1.0


async def rotate(runtime: Runtime, container_id: str, path: Path) -> None:
    """Set the log at `path` aside and have the runtime begin a new one; the oldest go first: never more than FILES."""
    stamp = time.strftime("%Y%m%d-%H%M%S", time.gmtime())
    path.rename(path.with_name(f"{path.name}.{stamp}"))
    aside = sorted(path.parent.glob(f"{path.name}.*"))
    for old in aside[: max(0, len(aside) - (FILES - 1))]:
        old.unlink(missing_ok=True)
    await runtime.reopen_log(container_id)


async def keep_rotating(runtime: Runtime, pods: Iterable[PodView], top: Path | None = None) -> None:
    """One look at all logs of running containers. Below `top` pods may write: no link is followed there."""
    for pod in list(pods):
        for container in pod.containers.values():
            if not (container.running and container.container_id and container.log_path):
                continue
            path = Path(container.log_path)
            with suppress(OSError):
                # Only a look: the careful way, each second for each container, would cost a node more than its probes.
                if os.lstat(path).st_size <= LARGEST:
                    continue
            try:
                with entered(path.parent, top) as folder:
                    path = Path(folder) / path.name
                    if not os.path.lexists(path):
                        # It was set aside and never begun anew: the disk was full, or the agent ended in between.
                        await runtime.reopen_log(container.container_id)
                    elif path.lstat().st_size > LARGEST:
                        await rotate(runtime, container.container_id, path)
            except (OSError, RuntimeRefused) as error:
                log.debug("log of %s: %s", container.container_id, error)


async def run(runtime: Runtime, pods: Callable[[], Iterable[PodView]], top: Path) -> None:
    """Look for ever. `pods()` gives the node's pods, whose logs are below `top`."""
    while True:
        await pause_async(PERIOD)
        await keep_rotating(runtime, pods(), top)
