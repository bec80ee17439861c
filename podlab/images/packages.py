"""Python packages in an image: for nodes that cannot borrow those of this machine's environment."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from podlab import paths
from podlab.errors import EnvironmentUnsuitable
from podlab.images import making

#: What wheels say of the libc that they are for, newest first: Debian 12 has all of these.
_LIBC = ("manylinux_2_28", "manylinux_2_27", "manylinux_2_17", "manylinux2014")


def wheels(name: str, requirements: Sequence[str], python: str) -> Path:
    """A folder of the cache with packages for a Python such as "3.13", in the versions that are here; `name` is its.

    EnvironmentUnsuitable if it has to be made and pip cannot do it.
    """
    here = {one.name: one.version for one in importlib.metadata.distributions() if one.name != "podlab"}
    pins = "\n".join(f"{package}=={version}" for package, version in sorted(here.items()))
    wanted = "\n".join([*requirements, pins])
    machine, digest = platform.machine(), hashlib.sha256(wanted.encode()).hexdigest()[:12]
    folder = making.folder()
    kept = folder / f"{name}-packages-{python}-{machine}-{digest}"
    if kept.exists():
        return kept
    arguments = ["install", "--quiet", "--disable-pip-version-check", "--no-compile", "--only-binary", ":all:"]
    arguments += ["--python-version", python]
    for libc in _LIBC:
        arguments += ["--platform", f"{libc}_{machine}"]
    with making.scratch("packages") as scratch:
        made, constraints = scratch / "packages", scratch / "constraints.txt"
        constraints.write_text(pins)
        command = [sys.executable, "-m", "pip", *arguments, "--target", str(made)]
        command += ["--constraint", str(constraints), *requirements]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            said = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
            raise EnvironmentUnsuitable(
                f"pip could not get the packages of {name} for Python {python} of the nodes: {said}",
                hint="It needs pip in this environment and, the first time, a network.",
            )
        with contextlib.suppress(OSError):  # another one was here first
            made.rename(kept)
    for older in folder.glob(f"{name}-packages-{python}-{machine}-*"):
        # What is young may be in use.
        if older != kept and older.stat().st_mtime < time.time() - 86_400:
            shutil.rmtree(older, ignore_errors=True)
    return kept


def copy(names: Sequence[str], folder: Path) -> None:
    """Put packages of this environment into a folder: such as fit any Python, which is the caller's to know.

    With what is said about them, which packages ask for; without their commands. EnvironmentUnsuitable for one that is
    not there.
    """
    for name in names:
        try:
            found = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError as error:
            raise EnvironmentUnsuitable(f"The package {name} is not installed.") from error
        for file in found.files or ():
            if ".." not in file.parts and "__pycache__" not in file.parts:
                target = folder / file
                target.parent.mkdir(parents=True, exist_ok=True)
                paths.link_or_copy(str(found.locate_file(file)), target)
