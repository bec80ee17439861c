"""The suite's Go programs, built from the module beside this file; the caches are Go's own."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import place

from podlab.cluster.embedded.binaries import Progress, Report, go
from podlab.cluster.embedded.binaries import build as builder

#: Program -> package. `e2e.test` is a test binary, the others are commands.
PACKAGES = {
    "e2e.test": "k8s.io/kubernetes/test/e2e",
    "ginkgo": "github.com/onsi/ginkgo/v2/ginkgo",
    "agnhost": "k8s.io/kubernetes/test/images/agnhost",
    "nonewprivs": "k8s.io/kubernetes/test/images/nonewprivs",
    "sample-apiserver": "k8s.io/sample-apiserver",
    "sh": "podlab/cluster/conformance/sh",
}
#: Small files of Kubernetes' own repository that images hold, relative to test/images.
UPSTREAM = ("agnhost/porter", "nautilus/html", "kitten/html")


def missing(folder: Path) -> list[str]:
    """The programs that are not there yet."""
    return [name for name in PACKAGES if not (folder / name).is_file()]


def build(folder: Path, progress: Progress) -> None:
    """Build what is missing into `folder`; BinaryError if Go fails. Five minutes and more with cold caches."""
    names = missing(folder)
    if not names:
        return
    toolchain = go.obtain(go.needed((place.HERE / "go.mod").read_text()), progress)
    environment = builder.go_environment(toolchain)
    for name in names:
        began, part = time.monotonic(), folder / f"{name}.part"
        lines = builder.run(_command(toolchain.path, name, part), place.HERE, environment, f"build {name}")
        for done, line in enumerate(lines, 1):
            progress(Report(f"build {name}", line, done, 0, "packages"))
        part.replace(folder / name)
        progress(Report(f"build {name}", f"{time.monotonic() - began:.0f} s", kind="done"))


def _command(go_path: Path, name: str, out: Path) -> list[str]:
    # Without vet, which would look at all 2,800 packages.
    verb = ["test", "-c", "-vet=off"] if name == "e2e.test" else ["build"]
    parallel = builder.jobs(len(os.sched_getaffinity(0)), builder.free_memory())
    flags = ["-p", str(parallel), "-v", "-trimpath", "-buildvcs=false", "-mod=readonly", "-tags", "grpcnotrace"]
    return [str(go_path), *verb, *flags, "-ldflags", builder.ldflags(), "-o", str(out), PACKAGES[name]]


def upstream(progress: Progress) -> Path:
    """The folder test/images of the Kubernetes module, fetched if need be (verified by go.sum)."""
    toolchain = go.obtain(go.needed((place.HERE / "go.mod").read_text()), progress)
    command = [str(toolchain.path), "mod", "download", "-json", f"k8s.io/kubernetes@{place.VERSION}"]
    text = "\n".join(builder.run(command, place.HERE, builder.go_environment(toolchain), "go mod download"))
    return Path(json.loads(text)["Dir"]) / "test" / "images"
