"""Deleting a folder that a container has filled, whatever is in it. Standard library only."""

from __future__ import annotations

import os
import stat

#: A file of this many bytes takes the file system a while to delete.
_LARGE = 16 << 20


class _Enough(Exception):
    """More work than was allowed for."""


def remove_tree(path: str, most: int | None = None) -> bool:
    """Delete a folder and everything in it; return True when nothing is left of it (also if it was not there).

    With `most` at most that many entries are deleted, and no large file: False when there is more to do.
    Never follows links, and needs no deep paths: a folder found inside is first moved to the top, so that a
    thousand nested ones are deleted like a thousand flat ones.
    """
    try:
        top = os.open(path, _FOLDER)
    except FileNotFoundError:
        return True
    try:
        _empty(top, most)
    except _Enough:
        return False
    finally:
        os.close(top)
    os.rmdir(path)
    return True


_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def _empty(top: int, most: int | None) -> None:
    left = most
    moved = 0

    def delete(folder: int, name: str) -> bool:
        """Delete what is not a folder; whether it was that."""
        nonlocal left
        kind = os.stat(name, dir_fd=folder, follow_symlinks=False)
        if left is not None:
            left -= 1
            if left < 0 or kind.st_size > _LARGE:
                raise _Enough
        if stat.S_ISDIR(kind.st_mode):
            return False
        os.unlink(name, dir_fd=folder)
        return True

    os.fchmod(top, 0o700)
    waiting = [name for name in os.listdir(top) if not delete(top, name)]
    while waiting:
        name = waiting.pop()
        os.chmod(name, 0o700, dir_fd=top)
        inner = os.open(name, _FOLDER, dir_fd=top)
        try:
            for entry in os.listdir(inner):
                if delete(inner, entry):
                    continue
                moved += 1
                os.chmod(entry, 0o700, dir_fd=inner)  # moving a folder rewrites its `..`
                free = _free_name(top, moved)
                os.rename(entry, free, src_dir_fd=inner, dst_dir_fd=top)
                waiting.append(free)
        finally:
            os.close(inner)
        os.rmdir(name, dir_fd=top)


def _free_name(top: int, number: int) -> str:
    """A name that nothing has; an earlier sweep may have been cut short, a container may know this one."""
    while True:
        name = f".swept-{os.getpid()}-{number}"
        try:
            os.stat(name, dir_fd=top, follow_symlinks=False)
        except FileNotFoundError:
            return name
        number += 1000003
