"""A folder whose files change all at once: readers see the old set or the new one, never a mixture.

The layout is the kubelet's (k8s.io/kubernetes/pkg/volume/util/atomic_writer.go), which programs rely on: files
are links to `..data/FILE`, `..data` is a link to a folder named after the time, and only that link is replaced.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path, PurePosixPath

DATA = "..data"

#: What a pod's fsGroup may do with the files of a volume that the pod cannot write, and with its folders.
GROUP_READS = stat.S_IRUSR | stat.S_IRGRP
GROUP_ENTERS = GROUP_READS | stat.S_IXUSR | stat.S_IXGRP | stat.S_ISGID


@dataclass(frozen=True, slots=True)
class File:
    """One file of a volume: content, permission bits, and its owner where that is not the node's root."""

    content: bytes
    mode: int = 0o644
    user: int | None = None


def checked(path: str) -> str:
    """`path` if it is relative and stays inside of its folder; ValueError otherwise."""
    parts = PurePosixPath(path).parts
    if not parts or path.startswith("/") or ".." in parts or parts[0].startswith(".."):
        raise ValueError(f"invalid path {path!r}: it must be relative and must not contain '..'")
    return str(PurePosixPath(path))


def write(folder: Path, files: Mapping[str, File], group: int | None = None) -> bool:
    """Make `folder` hold exactly `files` (relative path -> File); False if it did already.

    With `group` (a pod's fsGroup) everything belongs to that group, which may read it.
    """
    files = {checked(path): file for path, file in files.items()}
    if group is not None:
        files = {path: replace(file, mode=file.mode | GROUP_READS) for path, file in files.items()}
    current = folder / DATA
    if current.is_dir() and _same(current, files):
        return False
    prefix = datetime.now().strftime("..%Y_%m_%d_%H_%M_%S.")
    fresh = Path(tempfile.mkdtemp(prefix=prefix, dir=folder))
    fresh.chmod(0o755)
    for path, file in files.items():
        target = fresh / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(file.content)
        target.chmod(file.mode)
        own(target, file.user, group)
    if group is not None:
        for entered in (folder, fresh, *(path for path in fresh.rglob("*") if path.is_dir())):
            own(entered, None, group)
            entered.chmod(stat.S_IMODE(entered.stat().st_mode) | GROUP_ENTERS)
    before = current.readlink() if current.is_symlink() else None
    # The name of the new link must not exist: a crash may have left one behind.
    link = folder / "..data_tmp"
    link.unlink(missing_ok=True)
    link.symlink_to(fresh.name)
    link.rename(current)
    _link_names(folder, {PurePosixPath(path).parts[0] for path in files})
    if before is not None:
        shutil.rmtree(folder / before, ignore_errors=True)
    return True


def own(path: Path, user: int | None, group: int | None) -> None:
    """Give a file or folder to a user and a group; where such ids do not exist, the one id here owns it anyway."""
    if user is not None or group is not None:
        with contextlib.suppress(OSError):
            os.chown(path, -1 if user is None else user, -1 if group is None else group, follow_symlinks=False)


def can_own(folder: Path, group: int) -> bool:
    """Whether a file in `folder` can belong to that group: not where an ordinary user's one id owns everything."""
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            os.fchown(file.fileno(), -1, group)
    except OSError:
        return False
    return True


def _link_names(folder: Path, names: set[str]) -> None:
    for name in names:
        entry = folder / name
        if not entry.is_symlink():
            entry.symlink_to(f"{DATA}/{name}")
    for entry in folder.iterdir():
        if entry.name not in names and not entry.name.startswith("..") and entry.is_symlink():
            entry.unlink()


def _same(data: Path, files: Mapping[str, File]) -> bool:
    found = {str(path.relative_to(data.resolve())): path for path in data.resolve().rglob("*") if path.is_file()}
    if found.keys() != files.keys():
        return False
    return all(
        (path.stat().st_mode & 0o7777) == files[name].mode and path.read_bytes() == files[name].content
        for name, path in found.items()
    )
