"""Volumes in memory: tmpfs in the node's mount namespace, where every container can have them bound.

They outlive the agent, which need not know about them: the kernel's list of mounts is the only record.
"""

from __future__ import annotations

import os

from podlab.node.runtime.sandbox import kernel


def mount(path: str, size: int, files: int = 0) -> None:
    """Mount a tmpfs of at most `size` bytes and `files` files (0: the kernel's own limit) at the folder `path`.

    It is open to everybody. Nothing happens where there is one.
    """
    if path in mounted():
        return
    limits = f"mode=1777,size={size}" + (f",nr_inodes={files}" if files else "")
    kernel.mount("tmpfs", path, "tmpfs", kernel.MS_NOSUID | kernel.MS_NODEV, limits)


def unmount(folder: str) -> None:
    """Unmount every tmpfs at or below `folder`."""
    folder = folder.rstrip("/")
    for path in mounted():
        if path == folder or path.startswith(folder + "/"):
            kernel.unmount(path)


def mounted() -> list[str]:
    """Where a tmpfs is mounted in this mount namespace."""
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        return tmpfs_points(file.read())


def tmpfs_points(mountinfo: str) -> list[str]:
    """The mount points of type tmpfs in a text as of proc(5), mountinfo; blanks in paths are written \\040."""
    points = []
    for line in mountinfo.splitlines():
        before, _, after = line.partition(" - ")
        if after.startswith("tmpfs "):
            points.append(_unescaped(before.split(" ")[4]))
    return points


def _unescaped(text: str) -> str:
    for code, character in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        text = text.replace(code, character)
    return text


def used(path: str) -> int:
    """Bytes that a tmpfs mounted at `path`, or the files of a folder, take now; 0 if there is nothing."""
    try:
        if os.path.ismount(path):
            space = os.statvfs(path)
            return (space.f_blocks - space.f_bfree) * space.f_frsize
        return sum(entry.stat(follow_symlinks=False).st_blocks * 512 for entry in os.scandir(path))
    except OSError:
        return 0
