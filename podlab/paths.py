"""Where podlab keeps things: XDG folders, or everything under PODLAB_HOME. All folders are private (0700)."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from podlab.errors import EnvironmentUnsuitable

#: A Unix socket's path must be shorter than this many bytes (sizeof sun_path on Linux).
UNIX_PATH_MAX = 108


def _base(xdg: str, default: str, home_part: str) -> Path:
    if home := os.environ.get("PODLAB_HOME"):
        return Path(home) / home_part
    root = os.environ.get(xdg)
    return (Path(root) if root else Path.home() / default) / "podlab"


def private(folder: Path) -> Path:
    """Make `folder` with mode 0700 if it is missing and return it."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise EnvironmentUnsuitable(
            f"The folder {folder} cannot be made: {error.strerror}.",
            hint="Choose a folder that you can write to; PODLAB_HOME moves podlab's own.",
        ) from error
    return folder


def committed(name: str) -> Path:
    """Return the file or folder cluster/`name` of the checkout, or of the installed package."""
    checkout = Path(__file__).resolve().parents[1] / "cluster" / name
    if checkout.exists():
        return checkout
    import importlib.metadata  # half a mebibyte that the processes of a cluster need not hold

    wanted = Path("share/podlab", name)
    for file in importlib.metadata.files("podlab") or ():
        installed = Path(str(file.locate())).resolve()
        for found in (installed, *installed.parents):
            if found.parts[-len(wanted.parts) :] == wanted.parts:
                return found
    raise EnvironmentUnsuitable(
        f"cluster/{name} is neither in a checkout nor in the installed package.", hint="Install podlab again."
    )


def cache() -> Path:
    """Binaries, image blobs, build caches: may be deleted at any time (`~/.cache/podlab`)."""
    return private(_base("XDG_CACHE_HOME", ".cache", "cache"))


def data() -> Path:
    """Clusters, progress of the learner, the choice of cluster (`~/.local/share/podlab`)."""
    return private(_base("XDG_DATA_HOME", ".local/share", "data"))


def clusters() -> Path:
    """One folder per cluster, named after it."""
    return private(data() / "clusters")


def identity() -> str:
    """A word that stands for these folders (16 hexadecimal digits): it marks what is ours where others work, too."""
    with (data() / "identity").open("a+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # two processes that are the first must have one word
        file.seek(0)
        word = file.read() or secrets.token_hex(8)
        if not file.tell():
            file.write(word)
        return word


def sockets(folder: Path, longest: int = 24) -> Path:
    """A private folder for Unix sockets that belong to `folder`: `folder/run` where its path is short enough.

    `longest` is the length of the longest socket name in it. Otherwise a new folder under XDG_RUNTIME_DIR or
    the temporary folder, which its owner removes (`folder/run` then links to it, so that it is found again).
    """
    own = folder / "run"
    if own.is_symlink():
        if own.exists():
            return own.resolve()
        own.unlink()
    if len(os.fsencode(own.absolute())) + 1 + longest < UNIX_PATH_MAX:
        return private(own)
    base = os.environ.get("XDG_RUNTIME_DIR")
    short = Path(tempfile.mkdtemp(prefix="podlab-", dir=base if base and os.access(base, os.W_OK) else None))
    private(folder)
    own.symlink_to(short)
    return short


@contextlib.contextmanager
def whole_file(path: Path, mode: str = "w", folder: Path | None = None, **options: Any) -> Iterator[IO[Any]]:
    """A file to write that appears under `path` (0600, on disk) when the block ends, and not at all if it fails.

    A reader sees the old contents or the new, never half. `folder` is where the draft lies meanwhile: the same
    file system as `path`, by default the same folder. `mode` and `options` are those of `open`. An OSError of a place
    that cannot be written to, or is full, names `path`.
    """
    draft = None
    try:
        descriptor, draft = tempfile.mkstemp(prefix=f".{path.name}-"[:64], dir=folder or path.absolute().parent)
        with os.fdopen(descriptor, mode, **options) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        Path(draft).replace(path)
    except OSError as error:
        if draft is None or (error.filename is None and error.errno in (errno.ENOSPC, errno.EDQUOT)):
            error.filename = str(path)
        raise
    finally:
        if draft is not None:
            Path(draft).unlink(missing_ok=True)


def link_or_copy(source: Path | str, target: Path | str) -> None:
    """Give a file a second name; a copy where the name is on another file system."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy(source, target)
