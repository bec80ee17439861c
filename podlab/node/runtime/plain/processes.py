"""Which processes belong together where no namespace tells: by their parents, and by a word in their environment."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable


def parents() -> dict[int, int]:
    """The parent of every process that is visible here."""
    found: dict[int, int] = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open(f"/proc/{name}/stat", "rb") as file:
                    found[int(name)] = int(file.read().rpartition(b")")[2].split()[1])
            except (OSError, IndexError):
                continue  # it has ended
    return found


def below(root: int, known: dict[int, int] | None = None) -> list[int]:
    """Every process below `root`, parents first."""
    children: dict[int, list[int]] = {}
    for pid, parent in (parents() if known is None else known).items():
        children.setdefault(parent, []).append(pid)
    found = list(children.get(root, ()))
    for one in found:
        found.extend(children.get(one, ()))
    return found


class Families:
    """A look at all processes: `get(root)` are those below `root` (as podlab.node.runtime.sandbox.memory asks)."""

    def __init__(self) -> None:
        self._parents = parents()

    def get(self, root: int, _default: list[int]) -> list[int]:
        """The processes below `root`."""
        return below(root, self._parents)


def kill_below(root: int) -> None:
    """Kill every process below this one, also those that fork meanwhile, and return when all are reaped.

    Called by the subreaper itself, so that each orphan becomes its child and none is lost.
    """
    while True:
        left = below(root)
        if not left:
            return
        for pid in left:
            _kill(pid)
        try:
            while os.waitpid(-1, 0)[0] and below(root):
                pass
        except ChildProcessError:
            pass


def marked(word: str) -> list[int]:
    """This user's processes that were started with `word` (NAME=value) in their environment."""
    wanted = os.fsencode(word)
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit() and int(name) != os.getpid():
            try:
                with open(f"/proc/{name}/environ", "rb") as file:
                    if wanted in file.read().split(b"\0"):
                        found.append(int(name))
            except OSError:
                continue  # it has ended, or is somebody else's
    return found


def kill_marked(words: Iterable[str], spare: str = "") -> list[int]:
    """Kill the processes that `marked` finds for one of `words`, without those called `spare`; returns all found."""
    found = [pid for word in words for pid in marked(word)]
    for pid in found:
        if not (spare and is_called(pid, spare)):
            _kill(pid)
    return found


def is_called(pid: int, name: str) -> bool:
    """Whether a process has given itself that name (kernel.set_process_title)."""
    try:
        with open(f"/proc/{pid}/comm", encoding="utf-8", errors="replace") as file:
            return file.read().strip() == name
    except OSError:
        return False


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
