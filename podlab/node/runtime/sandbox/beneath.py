"""Files below a folder that pods may write to: no link on the way is followed. Standard library only.

A pod that mounts a folder of its node can put a link in the place of any folder or file there, at any moment. So the
way is walked from a folder that no pod can replace, and what is done at its end goes by the descriptor of the folder
found there. Without openat2(2), which the plain runtime's kernels may lack.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat

_FOLDER = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC


def make_below(top, parts, mode: int, *, file: bool = False) -> None:
    """Make the folders that are missing on a way below `top`, with `mode`; no link is followed.

    With `file` the last part is an empty file.
    """
    flags = _FOLDER | os.O_NOFOLLOW
    here = os.open(top, flags)
    try:
        for number, part in enumerate(parts, start=1):
            last = number == len(parts)
            if last and file:
                os.close(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644, dir_fd=here))
                return
            made = True
            try:
                os.mkdir(part, dir_fd=here)
            except FileExistsError:
                if last:
                    return  # it may well be a file
                made = False
            here, before = os.open(part, flags, dir_fd=here), here
            os.close(before)
            if made:
                os.chmod(f"/proc/self/fd/{here}", mode)  # not by its name: a link may be there by now
    finally:
        os.close(here)


@contextlib.contextmanager
def entered(folder, top=None):
    """A path (text) of `folder` that leads there for as long as this lasts, whatever is put in its place.

    With `top`, a folder above it, no link between them is followed: OSError (not a directory) if there is one.
    """
    here = os.open(folder if top is None else top, _FOLDER)
    try:
        for part in () if top is None else os.path.relpath(folder, top).split("/"):
            here, before = os.open(part, _FOLDER | os.O_NOFOLLOW, dir_fd=here), here
            os.close(before)
        yield f"/proc/self/fd/{here}"
    finally:
        os.close(here)


def open_file(path, flags: int, mode: int = 0o777, top=None) -> int:
    """A descriptor of the file `path`; with `top`, a folder above it, no link from there on is followed.

    Never waits: for a pipe without a reader in its place it is an OSError, as for a folder.
    """
    flags |= os.O_NONBLOCK | os.O_CLOEXEC
    if top is None:
        return os.open(path, flags, mode)
    with entered(os.path.dirname(path), top) as folder:
        found = os.open(f"{folder}/{os.path.basename(path)}", flags | os.O_NOFOLLOW, mode)
    if stat.S_ISDIR(os.fstat(found).st_mode):
        os.close(found)
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
    return found
