"""Layers to a root folder, without root: one folder per chain of layers, shared read-only by all containers.

A chain's folder is its parent chain's tree (hard links, so that common layers take their space once) with one
more layer applied: whiteouts removed, modes kept, links kept. Nothing is ever written through a symbolic link
that leads out of the folder; names with `..` are refused. Devices are skipped. Owners are set where the kernel
allows it; the others, and what was skipped, are recorded in `roots/HEX.json`.
"""

from __future__ import annotations

import errno
import gzip
import json
import os
import shutil
import stat
import tarfile
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, cast

from podlab.errors import ImageError
from podlab.images.image import Image, chain_ids
from podlab.images.layout import CHUNK, Descriptor, ImageLayout, VerifiedFile
from podlab.images.rooted import look, resolve
from podlab.images.streams import HashedReader, decompressed
from podlab.trees import remove_tree

WHITEOUT = ".wh."
OPAQUE = ".wh..wh..opq"

_REFUSED_OWNER = (errno.EPERM, errno.EINVAL)


@dataclass
class Recorded:
    """What a folder cannot hold: owners by path (uid, gid), and the entries that were skipped with the reason."""

    owners: dict[str, tuple[int, int]] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)

    def write(self) -> bytes:
        return json.dumps({"owners": self.owners, "skipped": self.skipped}, sort_keys=True).encode()

    @classmethod
    def read(cls, path: Path) -> Recorded:
        document = json.loads(path.read_bytes())
        owners = {name: (uid, gid) for name, (uid, gid) in document["owners"].items()}
        return cls(owners, document["skipped"])

    def forget(self, path: str) -> None:
        """Drop a path that a higher layer removes or replaces, with everything below it."""
        below = path + "/"
        for table in (self.owners, self.skipped):
            for name in [name for name in table if name == path or name.startswith(below)]:
                del table[name]


def root_folder(layout: ImageLayout, image: Image, *, shown: str) -> Path:
    """The unpacked root of an image, unpacked now if that was not done before; safe to call concurrently."""
    final = layout.roots / image.chain
    if _complete(final):
        return final
    with layout.lock("unpack.lock"):
        parent: Path | None = None
        for number, chain in enumerate(chain_ids(image.diff_ids) or [image.chain]):
            target = layout.roots / chain
            if not _complete(target):
                layer = image.layers[number] if image.layers else None
                _unpack_chain(layout, parent, layer, image.diff_ids[number] if layer else "", target, shown)
            parent = target
    return final


def recorded(root: Path) -> Recorded:
    """Owners and skipped entries of an unpacked root."""
    return Recorded.read(_record_path(root))


def _record_path(root: Path) -> Path:
    return root.with_name(root.name + ".json")


def _complete(root: Path) -> bool:
    return root.is_dir() and _record_path(root).exists()


def _unpack_chain(
    layout: ImageLayout, parent: Path | None, layer: Descriptor | None, diff_id: str, target: Path, shown: str
) -> None:
    """Make `target` from its parent chain and one layer. Its record is written last and says: complete."""
    work = layout.temporary_folder()
    try:
        _record_path(target).unlink(missing_ok=True)
        remove_tree(target)
        unpacking = Unpacking(work, recorded(parent) if parent else Recorded(), shown)
        if parent:
            unpacking.copy_tree(parent)
        if layer:
            with layout.open_blob(layer.digest) as blob:
                apply_layer(unpacking, blob, diff_id)
        root_mode = unpacking.finish()
        work.replace(target)
        target.chmod(root_mode)
        layout.write_file(_record_path(target), unpacking.record.write())
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        raise ImageError(
            f"The image {shown} cannot be unpacked: {error.strerror}: {error.filename or work}.",
            hint="Free some space (`podlab image prune`), then try again." if full else None,
        ) from error
    finally:
        remove_tree(work)


def apply_layer(unpacking: Unpacking, blob: VerifiedFile, diff_id: str) -> None:
    """Apply one layer's tar to the folder; checks the blob's digest and the layer's diff ID."""
    try:
        plain = HashedReader(decompressed(blob, unpacking.shown))
        with tarfile.open(fileobj=cast(IO[bytes], plain), mode="r|", bufsize=CHUNK) as archive:
            for member in archive:
                unpacking.apply(archive, member)
        plain.drain()
    except (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile) as error:
        blob.verify()
        raise ImageError(f"A layer of {unpacking.shown} is no readable tar archive: {error}.") from error
    blob.verify()
    if plain.digest() != diff_id:
        raise ImageError(
            f"A layer of {unpacking.shown} unpacks to {plain.digest()}, but its configuration says {diff_id}."
        )


class Unpacking:
    """A root folder that is being made; `record` collects what the folder itself cannot hold."""

    def __init__(self, root: Path, record: Recorded, shown: str) -> None:
        self.root, self.record, self.shown = root, record, shown
        #: Final mode of each folder, by path in the image; set at the end, so that all can be written until then.
        self._modes: dict[str, int] = {"": 0o755}
        self._times: dict[str, int] = {}
        self._made: set[str] = set()

    def copy_tree(self, parent: Path) -> None:
        """Begin with the parent chain's tree: folders anew, everything else as hard links."""
        waiting = [""]
        while waiting:
            folder = waiting.pop()
            with os.scandir(parent / folder) as entries:
                for entry in entries:
                    name = f"{folder}/{entry.name}".lstrip("/")
                    if entry.is_dir(follow_symlinks=False):
                        self._copy_folder(name, entry.stat(follow_symlinks=False))
                        waiting.append(name)
                    else:
                        _link_or_copy(parent / name, self.root / name)
        self._modes[""] = stat.S_IMODE(parent.stat().st_mode)

    def _copy_folder(self, name: str, status: os.stat_result) -> None:
        (self.root / name).mkdir(mode=0o700)
        if os.geteuid() == 0 and (status.st_uid, status.st_gid) != (0, 0):
            os.chown(self.root / name, status.st_uid, status.st_gid)
        self._modes[name] = stat.S_IMODE(status.st_mode)
        self._times[name] = status.st_mtime_ns

    def apply(self, archive: tarfile.TarFile, member: tarfile.TarInfo) -> None:
        """Apply one entry of a layer."""
        folder, name = self._place(member.name)
        if name.startswith(WHITEOUT):
            self._white_out(folder, name)
            return
        path = f"{folder}/{name}".lstrip("/")
        target = self.root / path
        if path:
            self._clear(path, keep_folder=member.isdir())
        self._made.add(path)
        if member.isdir():
            if path:
                target.mkdir(mode=0o700, exist_ok=True)
            self._modes[path] = stat.S_IMODE(member.mode) | 0o500
            self._times[path] = _nanoseconds(member)
        elif member.isreg():
            self._write_file(archive, member, target)
        elif member.issym():
            target.symlink_to(member.linkname)
        elif member.islnk():
            self._link(member, target)
            return
        elif member.isfifo():
            os.mkfifo(target, 0o600)
        else:
            self.record.skipped[path] = "device" if member.isdev() else f"entry of type {member.type!r}"
            return
        self._own(path, member)
        if not member.isdir() and not member.issym():
            target.chmod(stat.S_IMODE(member.mode))
            os.utime(target, ns=(_nanoseconds(member),) * 2)

    def finish(self) -> int:
        """Give folders their final modes and times; returns the mode for the root itself, set after renaming."""
        for path in sorted(self._modes, key=len, reverse=True):
            if path in self._times:
                os.utime(self.root / path, ns=(self._times[path],) * 2)
            if path:
                (self.root / path).chmod(self._modes[path])
        return self._modes[""]

    def _place(self, name: str) -> tuple[str, str]:
        """The folder (in the image, links resolved) and the last part of an entry's name."""
        parts = [part for part in name.split("/") if part not in ("", ".")]
        if ".." in parts or "\0" in name:
            raise ImageError(
                f"A layer of {self.shown} has an entry that leads out of the image: {name!r:.200}.",
                hint="The image was not unpacked. Do not use it.",
            )
        if not parts:
            return "", ""
        folder = resolve(self.root, "/".join(parts[:-1]), shown=self.shown)
        if any(part.startswith(WHITEOUT) for part in folder.split("/")):
            raise ImageError(f"A layer of {self.shown} has a malformed whiteout: {name!r:.200}.")
        self._make_folders(folder)
        return folder, parts[-1]

    def _make_folders(self, folder: str) -> None:
        """Make the parents that no entry named."""
        path = ""
        for part in folder.split("/") if folder else ():
            path = f"{path}/{part}".lstrip("/")
            if not (self.root / path).is_dir():
                self._clear(path, keep_folder=True)
                (self.root / path).mkdir(mode=0o700)
                self._modes[path] = 0o755

    def _clear(self, path: str, *, keep_folder: bool) -> None:
        """Remove what a lower layer has at `path` (a folder stays if a folder comes)."""
        target = self.root / path
        try:
            status = target.lstat()
        except FileNotFoundError:
            return
        if stat.S_ISDIR(status.st_mode):
            if keep_folder:
                return
            remove_tree(target)
            for table in (self._modes, self._times):
                for name in [name for name in table if name == path or name.startswith(path + "/")]:
                    del table[name]
        else:
            target.unlink()
        self.record.forget(path)

    def _white_out(self, folder: str, name: str) -> None:
        if name == OPAQUE:
            if (self.root / folder).is_dir():
                for entry in list((self.root / folder).iterdir()):
                    self._remove_lower(f"{folder}/{entry.name}".lstrip("/"))
        elif not name.startswith(WHITEOUT + WHITEOUT):
            removed = name.removeprefix(WHITEOUT)
            if removed in ("", ".", ".."):
                raise ImageError(f"A layer of {self.shown} has a malformed whiteout: {name!r}.")
            self._remove_lower(f"{folder}/{removed}".lstrip("/"))

    def _remove_lower(self, path: str) -> None:
        """Remove what lower layers have at or below `path`; what this layer made stays."""
        waiting = [path]
        while waiting:
            path = waiting.pop()
            below = path + "/"
            if not any(made == path or made.startswith(below) for made in self._made):
                self._clear(path, keep_folder=False)
            elif (self.root / path).is_dir() and not (self.root / path).is_symlink():
                waiting += [f"{path}/{entry.name}" for entry in (self.root / path).iterdir()]

    def _write_file(self, archive: tarfile.TarFile, member: tarfile.TarInfo, target: Path) -> None:
        source = archive.extractfile(member)
        assert source is not None
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        with os.fdopen(os.open(target, flags, 0o600), "wb") as file:
            shutil.copyfileobj(source, file, CHUNK)

    def _link(self, member: tarfile.TarInfo, target: Path) -> None:
        folder, name = self._place(member.linkname)
        source = self.root / folder / name
        if not name or look(source) in (None, "folder"):
            raise ImageError(
                f"A layer of {self.shown} links {member.name!r} to {member.linkname!r}, which is no file in it."
            )
        _link_or_copy(source, target)
        if owner := self.record.owners.get(f"{folder}/{name}".lstrip("/")):
            self.record.owners[str(target.relative_to(self.root))] = owner

    def _own(self, path: str, member: tarfile.TarInfo) -> None:
        """Set the owner as root may; otherwise record it unless it is 0:0, which is who we are inside."""
        self.record.owners.pop(path, None)
        if os.geteuid() == 0:
            try:
                os.chown(self.root / path, member.uid, member.gid, follow_symlinks=False)
                return
            except OSError as error:
                if error.errno not in _REFUSED_OWNER:
                    raise
        if (member.uid, member.gid) != (0, 0):
            self.record.owners[path] = (member.uid, member.gid)


def _link_or_copy(source: Path, target: Path) -> None:
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError as error:
        if error.errno not in (errno.EMLINK, errno.EPERM, errno.EXDEV):
            raise
        shutil.copy2(source, target, follow_symlinks=False)


def _nanoseconds(member: tarfile.TarInfo) -> int:
    return int(min(max(member.mtime, 0), 2**33) * 1_000_000_000)
