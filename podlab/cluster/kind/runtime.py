"""The container runtime under kind: which one is there, whether it answers, and what to do when it does not."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from podlab.errors import ClusterError, EnvironmentUnsuitable, UsageError

#: In the order in which they are looked for.
RUNTIMES = ("docker", "podman", "nerdctl")
#: Says which one to use; the same variable that kind reads.
VARIABLE = "KIND_EXPERIMENTAL_PROVIDER"
#: Label that kind gives to every container of a cluster.
LABEL = "io.x-k8s.kind.cluster"
ROLE_LABEL = "io.x-k8s.kind.role"

#: What a runtime says when it does not work, what that means, and the cure. The first that fits counts.
AILMENTS = (
    (
        "permission denied",
        "you may not talk to it",
        "Add yourself to its group and log in again: `sudo usermod -aG docker $USER`.",
    ),
    (
        "cannot connect to the docker daemon",
        "it does not run",
        "Start Docker Desktop, or the service: `sudo systemctl start docker`. "
        "In WSL 2, turn on the integration of your distribution in Docker Desktop's settings.",
    ),
    (
        "cannot connect to podman",
        "it does not run",
        "Start it: `podman machine start` or `systemctl --user start podman`.",
    ),
    ("no space left on device", "its disk is full", "Make room: `docker system df` shows what is large."),
)


@dataclass(frozen=True)
class Node:
    """A container that is a node. `running` and `paused` as the runtime says."""

    name: str
    id: str
    role: str
    running: bool
    paused: bool
    pid: int


@dataclass(frozen=True)
class Runtime:
    """A container runtime that answered."""

    name: str
    path: str

    @property
    def environment(self) -> dict[str, str]:
        """The environment in which kind uses this runtime."""
        return {**os.environ, VARIABLE: self.name}

    def run(self, *arguments: str, data: bytes | None = None, timeout: float = 120.0) -> str:
        """Run the runtime's command and return what it prints; ClusterError or EnvironmentUnsuitable otherwise."""
        try:
            done = subprocess.run([self.path, *arguments], input=data, capture_output=True, timeout=timeout)
        except subprocess.TimeoutExpired as error:
            raise ClusterError(
                f"`{self.name} {arguments[0]}` gave no answer in {timeout:.0f} seconds.",
                hint=f"Look whether {self.name} is well: `{self.name} info`.",
            ) from error
        if done.returncode:
            raise failure(self.name, arguments[0], done.stderr.decode(errors="replace"))
        return done.stdout.decode(errors="replace")

    def nodes(self, cluster: str) -> list[Node]:
        """The nodes of a kind cluster, the control plane first."""
        ids = self.run("ps", "-aq", "--filter", f"label={LABEL}={cluster}").split()
        if not ids:
            return []
        found = [_node(one) for one in json.loads(self.run("inspect", *ids))]
        return sorted(found, key=lambda node: (node.role != "control-plane", node.name))


def _node(inspected: Mapping[str, Any]) -> Node:
    state = inspected["State"]
    labels = inspected["Config"]["Labels"]
    return Node(
        inspected["Name"].lstrip("/"),
        inspected["Id"],
        labels.get(ROLE_LABEL, ""),
        bool(state.get("Running")),
        bool(state.get("Paused")),
        int(state.get("Pid") or 0),
    )


def find() -> Runtime:
    """The runtime to use: the one that is asked for, or the first that answers.

    EnvironmentUnsuitable says of each that was found what it lacks, and the cure.
    """
    asked = os.environ.get(VARIABLE)
    if asked and asked not in RUNTIMES:
        raise UsageError(f"{VARIABLE} is {asked}.", hint=f"It may be {', '.join(RUNTIMES)}.")
    problems = []
    for name in [asked] if asked else RUNTIMES:
        path = shutil.which(name)
        if path is None:
            continue
        runtime = Runtime(name, path)
        try:
            runtime.run("info", timeout=30.0)
        except (ClusterError, EnvironmentUnsuitable) as error:
            problems.append(error)
            continue
        return runtime
    if problems:
        raise problems[0]
    raise EnvironmentUnsuitable(
        f"kind needs {' or '.join([asked] if asked else RUNTIMES)}, and none is installed.",
        hint="Install Docker (https://docs.docker.com/engine/install/), "
        "or use the embedded cluster, which needs none: `podlab cluster up`.",
    )


def failure(runtime: str, verb: str, said: str) -> ClusterError | EnvironmentUnsuitable:
    """What to raise when a command of the runtime failed and said this on stderr."""
    lowered = said.lower()
    for pattern, meaning, cure in AILMENTS:
        if pattern in lowered:
            return EnvironmentUnsuitable(f"{runtime} cannot be used: {meaning}.", hint=cure)
    lines = [line for line in said.strip().splitlines() if line.strip()]
    return ClusterError(f"`{runtime} {verb}` failed: {lines[-1] if lines else 'it said nothing'}.")


def ailments(information: Mapping[str, Any], instances: int) -> Iterator[str]:
    """What in the runtime's own report (`docker info`) and in the inotify limit will make kind fail or crawl."""
    memory = int(information.get("MemTotal") or 0)
    if memory and memory < 3 << 30:
        yield f"The runtime has {memory >> 20} MiB of memory; three nodes need about 2 GiB and your pods the rest."
    if str(information.get("CgroupVersion") or "2") == "1":
        yield "The machine uses cgroup v1, which Kubernetes is about to give up; kind says so, too."
    if 0 < instances < 128:
        yield f"fs.inotify.max_user_instances is {instances}; set it to 512, or nodes fail with `too many open files`."


def inotify_instances() -> int:
    """The kernel's limit of inotify instances per user; 0 if it does not say."""
    try:
        return int(Path("/proc/sys/fs/inotify/max_user_instances").read_text())
    except (OSError, ValueError):
        return 0
