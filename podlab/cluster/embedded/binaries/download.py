"""Fetching the official release: resumable, verified against the release's own checksums.

The bases are https://dl.k8s.io and https://github.com; PODLAB_MIRROR=URL replaces both by one server that
serves the same paths. Proxies are those of HTTPS_PROXY, HTTP_PROXY and NO_PROXY.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import shutil
import tarfile
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from podlab import paths, waiting
from podlab.cluster.embedded.binaries import build, store
from podlab.cluster.embedded.binaries.programs import PROGRAMS
from podlab.cluster.embedded.binaries.progress import Progress, Report
from podlab.cluster.embedded.binaries.versions import architecture, version_of, wanted
from podlab.errors import BinaryError, EnvironmentUnsuitable, PodlabError, disk_errors

#: Seconds for the first small request: a network that is not there is found out soon.
PROBE_TIMEOUT = 6.0
#: Seconds without a single byte after which a transfer counts as cut.
READ_TIMEOUT = 30.0
#: Transfers in a row that may bring nothing new before the download is given up.
ATTEMPTS = 5
CHUNK = 1 << 18
#: Bytes that are to stay free on the disk beside a download.
MARGIN = 64 << 20

_SHA256 = re.compile(r"\b[0-9a-f]{64}\b")


class Unreachable(PodlabError):
    """The server cannot be reached or does not have the file; another source may."""


@dataclass(frozen=True)
class Release:
    """Where one binary is published: `member` is the file inside the archive, if it is one."""

    name: str
    url: str
    checksum_url: str
    member: str | None = None

    @property
    def file(self) -> str:
        """The name of the published file."""
        return self.url.rsplit("/", 1)[1]


def release(name: str, arch: str, mirror: str | None = None) -> Release | None:
    """Return where the binary `name` is published for the processor `arch`; None if it is not published at all."""
    program = PROGRAMS[name]
    if not program.published:
        return None
    base = program.host if mirror is None else mirror
    url, checksums = (f"{base}/{program.place(path, arch)}" for path in (program.published, program.checksums))
    return Release(name, url, checksums, program.place(program.member, arch) if program.member else None)


def checksum_in(text: str, file: str) -> str | None:
    """Return the SHA-256 of `file` in a checksum file: a bare sum, or lines of sum and name."""
    lines = [line.split() for line in text.splitlines() if line.strip()]
    for fields in lines:
        if len(fields) == 2 and fields[1].lstrip("*") == file and _SHA256.fullmatch(fields[0]):
            return fields[0]
    if len(lines) == 1 and len(lines[0]) == 1 and _SHA256.fullmatch(lines[0][0]):
        return lines[0][0]
    return None


def pinned(name: str, arch: str) -> str | None:
    """Return the checksum of the published file that the repository pins, if it pins one."""
    pins = json.loads((build.module() / "pins.json").read_text())
    return pins["sha256"].get(f"{name}/{wanted(name)}/linux-{arch}")


def mirror() -> str | None:
    """Return the base URL that replaces the official ones, without a slash at its end."""
    return os.environ.get("PODLAB_MIRROR", "").rstrip("/") or None


def fetch(names: Sequence[str], progress: Progress) -> list[str]:
    """Download what can be downloaded into the cache; return the names of the rest.

    BinaryError if a file does not match its checksum: then nothing else is tried.
    """
    left, dead = [], set()
    for name in names:
        what = release(name, architecture(), mirror())
        if what is None:
            left.append(name)
            continue
        host = urllib.parse.urlsplit(what.url).netloc
        if host in dead:
            left.append(name)
            continue
        try:
            _fetch_one(what, progress)
        except Unreachable as error:
            progress(Report("download", f"No download from {host}: {error.message}", kind="note"))
            dead.add(host)
            left.append(name)
    return left


def _fetch_one(what: Release, progress: Progress) -> None:
    arch = architecture()
    expected = checksum_in(_text(what.checksum_url), what.file)
    if expected is None:
        raise Unreachable(f"{what.checksum_url} has no SHA-256 of {what.file}.")
    if (pin := pinned(what.name, arch)) and pin != expected:
        raise BinaryError(
            f"The release says {expected} for {what.file}, but the pinned SHA-256 is {pin}: refused.",
            hint="Someone changed the published file, or the mirror serves another one.",
        )
    downloads = paths.private(store.base() / "downloads")
    part = downloads / f"{what.name}-{wanted(what.name)}-{arch}.part"
    _verified(what, part, expected, progress)
    whole = _member(what, part, downloads) if what.member else part
    whole.chmod(0o700)
    if (version := version_of(what.name, whole)) != wanted(what.name):
        whole.unlink()
        raise BinaryError(f"{what.url} is {version}, but {wanted(what.name)} is wanted: refused and removed.")
    store.install(what.name, whole, f"downloaded from {what.url}")
    part.unlink(missing_ok=True)
    progress(Report(f"download {what.name}", f"{wanted(what.name)}, SHA-256 verified", kind="done"))


def _verified(what: Release, part: Path, expected: str, progress: Progress) -> None:
    """Bring `part` to completeness and check it; a resumed one that does not match is fetched once more."""
    resumed = part.exists()
    if resumed and store.sha256(part) == expected:
        return
    _transfer(what, part, progress)
    found = store.sha256(part)
    if found != expected and resumed:
        progress(Report(f"download {what.name}", "The resumed file does not match; once more.", kind="note"))
        part.unlink()
        _transfer(what, part, progress)
        found = store.sha256(part)
    if found != expected:
        part.unlink()
        raise BinaryError(
            f"{what.url} is corrupted: its SHA-256 is {found}, but the release says {expected}. "
            "The file was refused and removed.",
            hint="Try again; if it stays so, the network or PODLAB_MIRROR changes files on the way.",
        )


def _transfer(what: Release, part: Path, progress: Progress) -> None:
    """Append to `part` until it is complete, taking up a cut transfer where it ended."""
    idle = 0
    while True:
        before = part.stat().st_size if part.exists() else 0
        try:
            if _stream(what, part, before, progress):
                return
            cause = "the connection was cut"
        except (OSError, http.client.HTTPException) as error:
            cause = str(error) or type(error).__name__
        now = part.stat().st_size if part.exists() else 0
        idle = 0 if now > before else idle + 1
        if idle >= ATTEMPTS:
            raise Unreachable(f"{what.url} broke off {ATTEMPTS} times ({cause}); {now} bytes are kept.")
        progress(Report(f"download {what.name}", f"{cause}; resuming at {now} bytes", kind="note"))
        waiting.pause(0.2 * idle)


def _stream(what: Release, part: Path, offset: int, progress: Progress) -> bool:
    """Make one request and write what comes; return whether the file is complete."""
    headers = {"Range": f"bytes={offset}-"} if offset else {}
    try:
        with _open(what.url, headers, READ_TIMEOUT) as response:
            begin, total = _extent(response, offset)
            with disk_errors(part):
                _need_space(part, total - begin)
                file = part.open("r+b" if begin else "wb")
            with file, disk_errors(part):
                file.seek(begin)
                file.truncate()
                done = begin
                while chunk := response.read(CHUNK):
                    file.write(chunk)
                    done += len(chunk)
                    progress(Report(f"download {what.name}", what.file, done, total))
            return done >= total > 0 or (total == 0 and done > 0)
    except _RangeRefused:
        part.unlink(missing_ok=True)
        return False


class _RangeRefused(Exception):
    """The server says that the part is not the beginning of its file."""


def _extent(response: http.client.HTTPResponse, offset: int) -> tuple[int, int]:
    """Return where the body begins in the file and how long the file is (0 if not said)."""
    length = int(response.headers.get("Content-Length") or 0)
    if response.status == 206:
        found = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", ""))
        if not found or int(found[1]) != offset:
            raise _RangeRefused
        return offset, int(found[2]) if found[2] != "*" else offset + length
    return 0, length


def _need_space(part: Path, needed: int) -> None:
    free = shutil.disk_usage(part.parent).free
    if needed + MARGIN > free:
        raise EnvironmentUnsuitable(
            f"{part.parent} has {free >> 20} MiB free, but the download needs {(needed + MARGIN) >> 20} MiB.",
            hint="Free some space, or set PODLAB_HOME to a folder on another disk.",
        )


def _text(url: str) -> str:
    try:
        with _open(url, {}, PROBE_TIMEOUT) as response:
            return response.read(1 << 20).decode("ascii", errors="replace")
    except (OSError, http.client.HTTPException) as error:
        raise Unreachable(f"{url} cannot be read: {error or type(error).__name__}.") from error


@contextlib.contextmanager
def _open(url: str, headers: dict[str, str], timeout: float) -> Iterator[http.client.HTTPResponse]:
    """Open `url`; Unreachable if the server is not there or refuses."""
    request = urllib.request.Request(url, headers={"User-Agent": "podlab", **headers})
    try:
        response = urllib.request.build_opener().open(request, timeout=timeout)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == 416:
            raise _RangeRefused from error
        raise Unreachable(f"{url} answered with status {error.code}.") from error
    except urllib.error.URLError as error:
        if isinstance(error.reason, ConnectionResetError | BrokenPipeError):
            raise error.reason from error
        raise Unreachable(f"{url} cannot be reached: {_reason(error.reason)}.") from error
    except ValueError as error:
        raise Unreachable(f"{url} is no usable address: {error}.") from error
    with response:
        yield response


def _reason(reason: object) -> str:
    return (reason.strerror or str(reason)) if isinstance(reason, OSError) else str(reason)


def _member(what: Release, archive: Path, into: Path) -> Path:
    """Unpack the one wanted file of a verified archive beside it."""
    out = into / f"{what.name}.unpacked"
    try:
        with tarfile.open(archive, "r:gz") as tar, disk_errors(out):
            source = tar.extractfile(what.member or "")
            if source is None:
                raise KeyError(what.member)
            with source, out.open("wb") as target:
                shutil.copyfileobj(source, target, CHUNK)
    except (tarfile.TarError, KeyError, EOFError) as error:
        archive.unlink()
        raise BinaryError(f"{what.url} has no {what.member}: {error}. It was removed.") from error
    return out
