"""Paths within a file tree that is not ours: links are followed as if the tree's folder were "/"."""

from __future__ import annotations

import stat
from collections.abc import Callable
from pathlib import Path

from podlab.errors import ImageError

#: Most symbolic links followed while one name is resolved, as in the kernel.
MOST_LINKS = 40


def resolve(root: Path, path: str, *, shown: str = "the image") -> str:
    """Where `path` is in the tree at `root`, links followed as if `root` were "/": relative, no link left in it.

    Parts that do not exist are kept as they are. Raises ImageError on a loop of links or a file amid the path.
    """
    return resolve_by(lambda place: look(root / place), path, shown=shown)


def look(path: Path) -> str | None:
    """What is at `path`: "folder", "file", the target of a link after "link:", or None."""
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return None
    if stat.S_ISLNK(mode):
        return f"link:{path.readlink()}"
    return "folder" if stat.S_ISDIR(mode) else "file"


def resolve_by(kind_of: Callable[[str], str | None], path: str, *, shown: str) -> str:
    """`resolve` for any tree: `kind_of` answers, for a relative path, as `look` does."""
    waiting = [part for part in path.split("/") if part][::-1]
    found: list[str] = []
    links = 0
    while waiting:
        part = waiting.pop()
        if part == ".":
            continue
        if part == "..":
            found[-1:] = []
            continue
        place = "/".join([*found, part])
        kind = kind_of(place)
        if kind is not None and kind.startswith("link:"):
            links += 1
            if links > MOST_LINKS:
                raise ImageError(f"Symbolic links go in a circle at {path!r} in {shown}.")
            to = kind.removeprefix("link:")
            if to.startswith("/"):
                found.clear()
            waiting.extend([step for step in to.split("/") if step][::-1])
        elif kind == "file" and waiting:
            raise ImageError(f"{place!r} is no folder in {shown}, but {path!r} needs one.")
        else:
            found.append(part)
    return "/".join(found)
