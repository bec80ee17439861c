"""The one process that owns a cluster: `python -m podlab.cluster.embedded.supervisor FOLDER BINARIES`.

It is PID 1 of its own PID namespace (podlab.node.runtime.sandbox.machine.launch_supervisor), so that by the
kernel's guarantee nothing outlives it (with the plain runtime warden.py sees to that). It takes the cluster's lock,
listens on the control socket, brings the cluster up, restarts what dies, and serves the requests of control.py.

Only what is needed to start etcd is imported at first: the rest is loaded while etcd and the API server start.
"""

from __future__ import annotations

import asyncio
import fcntl
import importlib
import json
import logging
import os
import signal
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from podlab.cluster.embedded import control, warden
from podlab.cluster.embedded.control_plane import ControlPlane
from podlab.cluster.embedded.folder import ClusterFolder
from podlab.cluster.embedded.processes import Reaper, cap_log
from podlab.waiting import pause_async

if TYPE_CHECKING:
    from podlab.cluster.embedded.nursery import Nursery

log = logging.getLogger("podlab.supervisor")

#: Exit status when another supervisor has the lock.
LOCKED = 17
#: Seconds between two looks at the sizes of the logs.
LOG_PERIOD = 15.0


def load(plane: ControlPlane, reaper: Reaper) -> Nursery | None:
    """Load everything while etcd starts and certificates are made; returns a nursery, if there are nodes."""
    for module in ("ssl", "aiohttp", "podlab.cluster.embedded.requests"):
        importlib.import_module(module)
        plane.look()
    if not plane.record.nodes:
        return None
    return importlib.import_module("podlab.cluster.embedded.nursery").begin("podlab-nursery", reaper)


async def supervise(plane: ControlPlane, reaper: Reaper, nursery: Nursery | None, listening: socket.socket) -> int:
    """Run one cluster until it is stopped; returns the exit status."""
    plane.adopt()
    reaper.install()
    from podlab.cluster.embedded.requests import Requests
    from podlab.cluster.embedded.system import System

    requests = Requests(System(plane, nursery))
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, requests.over.set)
    server = await control.serve(listening, requests.handle)
    requests.begin()
    tending = asyncio.create_task(_tend_logs(plane.folder), name="logs")
    await requests.over.wait()
    tending.cancel()
    server.close()
    return requests.exit_status


async def _tend_logs(folder: ClusterFolder) -> None:
    while True:
        await pause_async(LOG_PERIOD)
        for file in folder.logs.glob("*.log"):
            try:
                if cap_log(file):
                    log.info("%s was cut", file)
            except OSError as error:
                log.warning("%s was not cut: %s", file, error)


def main(argv: list[str]) -> int:
    """Take the lock and the socket first: from then on the cluster is known to be alive."""
    folder = ClusterFolder(Path(argv[1]))
    os.umask(0o077)
    lock = os.open(folder.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return LOCKED
    listening = control.bind(folder.control)
    record = folder.read()
    if record.runtime == "plain":
        warden.begin(folder, record)
    binaries = {name: Path(path) for name, path in json.loads(argv[2]).items()}
    reaper = Reaper()
    plane = ControlPlane(folder, record, binaries, reaper)
    plane.head_start()
    nursery = load(plane, reaper)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    status = asyncio.run(supervise(plane, reaper, nursery, listening))
    log.info("the supervisor ends with status %d", status)
    folder.control.unlink(missing_ok=True)
    return status


if __name__ == "__main__":
    # Not sys.exit: threads and finalizers have nothing to add, the kernel ends what is left.
    code = main(sys.argv)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
