"""One grader for a folder of results: a second one would sweep away the clusters of the first, whose names it shares.

The lock is the kernel's (flock), so that a grader that was killed holds it no longer.
"""

from __future__ import annotations

import errno
import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from podlab.errors import GradingError

#: The file in the folder whose lock is held; in it is who holds it.
NAME = "grading.lock"


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Hold `folder` for the block; GradingError with who has it, when another grader does."""
    with (folder / NAME).open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.seek(0)
            holder = file.read().strip() or "a process that has just begun"
            raise GradingError(
                f"Another grader is at work in {folder}: {holder}.",
                hint="Wait until it has ended, or end it there with Ctrl+C, and start the same command again: what is "
                "graded is kept. Other submissions can be graded into another folder (--out).",
            ) from error
        except OSError as error:
            if error.errno not in (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP):
                raise  # else a file system without locks: nobody can be kept out there
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}, since {datetime.now():%d %B, %H:%M}")
        file.flush()
        yield
