"""Folders that pods or images have filled, whatever is in them: looked through, and deleted.

No link is followed, and depth does no harm: `os.walk` and `shutil.rmtree` fail at a thousand folders in folders, by
Python's recursion or the length of a path. Standard library only, without pathlib: the zygote has it, too.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
#: A file of this many bytes takes the file system a while to delete.
_LARGE = 16 << 20


class _Level:
    """A folder on the way down: its name in the one above, and which it is (device, inode)."""

    def __init__(self, name: str, which: tuple[int, int]) -> None:
        self.name, self.which = name, which
        #: The folders in it that are still to be entered; None before anybody has looked.
        self.waiting: list[str] | None = None


def walk(path: str | os.PathLike[str]) -> Iterator[tuple[int, os.DirEntry[str]]]:
    """Every entry below a folder, with a descriptor of the folder that it is in; both are good until the next one.

    A folder comes before what is in it. Those that cannot be entered, are on another file system, or are moved or
    deleted meanwhile are passed over. OSError if the folder itself cannot be entered.
    """
    top, which = _enter(path, None)
    here, way = os.dup(top), [_Level("", which)]
    try:
        while True:
            level = way[-1]
            if level.waiting is None:
                level.waiting = []
                with os.scandir(here) as entries:
                    for entry in entries:
                        yield here, entry
                        if entry.is_dir(follow_symlinks=False):
                            level.waiting.append(entry.name)
            if level.waiting:
                name = level.waiting.pop()
                try:
                    there, found = _enter(name, here)
                except OSError:
                    continue
                if found[0] != which[0]:
                    os.close(there)
                    continue
                way.append(_Level(name, found))
            elif len(way) > 1:
                way.pop()
                there = _above(here, top, way)
            else:
                return
            os.close(here)
            here = there
    finally:
        os.close(here)
        os.close(top)


def _enter(
    name: str | os.PathLike[str], folder: int | None, wanted: tuple[int, int] | None = None
) -> tuple[int, tuple[int, int]]:
    """A descriptor of a folder that can be listed and entered, and which it is; OSError if it is not the `wanted`."""
    there = os.open(name, _FOLDER, dir_fd=folder)
    try:
        found = os.stat(".", dir_fd=there)
        which = found.st_dev, found.st_ino
        if wanted not in (None, which):
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE), name)
    except OSError:
        os.close(there)
        raise
    return there, which


def _above(here: int, top: int, way: list[_Level]) -> int:
    """A descriptor of the folder above `here`, the last of `way`.

    Where folders were moved or deleted meanwhile it is the lowest one that can be found; `way` loses those below.
    """
    try:
        return _enter("..", here, way[-1].which)[0]
    except OSError:
        there = os.dup(top)
    for number, level in enumerate(way[1:], start=1):
        try:
            inner, _ = _enter(level.name, there, level.which)
        except OSError:
            del way[number:]
            break
        os.close(there)
        there = inner
    return there


class _Enough(Exception):
    """More work than was allowed for."""


def remove_tree(path: str | os.PathLike[str], most: int | None = None) -> bool:
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
        _open_up(name, top)
        inner = os.open(name, _FOLDER, dir_fd=top)
        try:
            for entry in os.listdir(inner):
                if delete(inner, entry):
                    continue
                moved += 1
                _open_up(entry, inner)  # moving a folder rewrites its `..`
                free = _free_name(top, moved)
                os.rename(entry, free, src_dir_fd=inner, dst_dir_fd=top)
                waiting.append(free)
        finally:
            os.close(inner)
        os.rmdir(name, dir_fd=top)


def _open_up(name: str, folder: int) -> None:
    """Let a folder be entered; a link that somebody puts in its place at this moment is not followed."""
    found = os.open(name, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
    try:
        os.chmod(f"/proc/self/fd/{found}", 0o700)
    finally:
        os.close(found)


def _free_name(top: int, number: int) -> str:
    """A name that nothing has; an earlier sweep may have been cut short, a container may know this one."""
    while True:
        name = f".swept-{os.getpid()}-{number}"
        try:
            os.stat(name, dir_fd=top, follow_symlinks=False)
        except FileNotFoundError:
            return name
        number += 1000003
