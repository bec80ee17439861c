"""The first process of a house (see house.py): makes the machine in which boxes run, and ends with its grader.

Runs as PID 1 of the namespaces of `machine.launch_supervisor`, with the standard library only. The grader holds a
lock on `FOLDER/alive`; when the lock is free the grader is gone, and with this process the kernel ends every box.
"""

from __future__ import annotations

import fcntl
import os
import select
import sys
import threading
from pathlib import Path

from podlab.node.runtime.sandbox.machine import start_machine


def main(folder: Path, sockets: Path) -> None:
    """Start the machine, say so, and stay until the grader or the machine has ended."""
    machine = start_machine("house", folder / "machine", sockets / "house", folder / "machine.log")
    gone, told = os.pipe()
    threading.Thread(target=_wait_for_lock, args=(folder / "alive", told), daemon=True).start()
    (folder / "ready").touch()
    select.select([machine.fileno(), gone], [], [])
    machine.kill()
    machine.wait(10)


def _wait_for_lock(path: Path, told: int) -> None:
    descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    os.write(told, b"x")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
