"""The user cache of binaries: installed by atomic rename, guarded by a lock, remembered with checksums."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from podlab import paths, waiting
from podlab.cluster.embedded.binaries.progress import Progress, Report
from podlab.cluster.embedded.binaries.versions import VERSION, architecture, wanted
from podlab.errors import BinaryError, disk_errors

_RECORD = "checksums.json"
#: Seconds for which a second set-up waits for the first (a cold build on a slow machine takes long).
LOCK_TIMEOUT = 2 * 3600.0


def base() -> Path:
    """The folder of all versions of binaries, made if it is missing."""
    return paths.private(paths.cache() / "binaries")


def folder() -> Path:
    """The folder of this version and processor; it need not exist."""
    return base() / f"{VERSION}-linux-{architecture()}"


def _record() -> dict[str, dict]:
    try:
        content = json.loads((folder() / _RECORD).read_text())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def cached(name: str, *, verify: bool = False) -> Path | None:
    """Return the cached binary, or None if there is none of the wanted version.

    Its size and modification time must be as they were when it was installed; if the time differs, or with
    `verify`, its checksum is computed too. A damaged file raises BinaryError that names both checksums.
    """
    path = folder() / name
    known = _record().get(name)
    if not known or known.get("version") != wanted(name) or not path.is_file():
        return None
    status = path.stat()
    if not verify and status.st_size == known["size"] and status.st_mtime_ns == known["mtime_ns"]:
        return path
    found = sha256(path)
    if found != known["sha256"]:
        raise BinaryError(
            f"{path} is damaged: its SHA-256 is {found}, but it was installed with {known['sha256']}.",
            hint="It is fetched anew by `podlab binaries ensure`.",
        )
    return path


def source_of(name: str) -> str:
    """Say where the cached binary came from, e.g. "built with go1.26.8"."""
    return str(_record().get(name, {}).get("source", ""))


def install(name: str, built: Path, source: str) -> Path:
    """Move the complete file `built` (same file system) into the cache and return its place."""
    target = folder() / name
    with disk_errors(target):
        paths.private(target.parent)
        built.chmod(0o700)
        with built.open("rb+") as file:
            os.fsync(file.fileno())
        checksum = sha256(built)
        built.replace(target)
        status = target.stat()
        record = _record()
        record[name] = {
            "version": wanted(name),
            "sha256": checksum,
            "size": status.st_size,
            "mtime_ns": status.st_mtime_ns,
            "source": source,
        }
        _write(folder() / _RECORD, json.dumps(record, indent=1, sort_keys=True))
    return target


def forget(names: Iterable[str]) -> None:
    """Delete cached binaries, if they are there. The caller holds the lock."""
    for name in names:
        with disk_errors(folder() / name):
            (folder() / name).unlink(missing_ok=True)


def _write(path: Path, text: str) -> None:
    """Write a small private file by atomic rename; the caller holds the lock."""
    with paths.whole_file(path) as file:
        file.write(text)


@contextlib.contextmanager
def locked(progress: Progress, timeout: float = LOCK_TIMEOUT) -> Iterator[None]:
    """Hold the lock of the cache; say so once if another process has it. The kernel frees it at any death."""
    path = base() / "lock"
    with disk_errors(path):
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        if not _try_lock(descriptor):
            owner = os.pread(descriptor, 32, 0).decode(errors="replace").strip() or "unknown"
            said = f"Another set-up (process {owner}) is at work; waiting for it."
            progress(Report("wait", said, kind="note"))
            waiting.until(
                lambda: _try_lock(descriptor),
                f"the end of the other set-up (process {owner})",
                timeout=timeout,
                interval=0.2,
            )
        with contextlib.suppress(OSError):
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, str(os.getpid()).encode(), 0)
        yield
    finally:
        os.close(descriptor)


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def healthy(name: str, progress: Progress) -> Path | None:
    """Like `cached`, but a damaged file is reported and taken as missing."""
    try:
        return cached(name)
    except BinaryError as error:
        progress(Report("cache", error.message, kind="note"))
        return None
