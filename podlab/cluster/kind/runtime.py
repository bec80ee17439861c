"""The container runtime under kind: which one is there, whether it answers, and what to do when it does not."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import IPv4Network
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
#: Folder of a mount that says whose a node is: kind takes no labels for its containers, but it takes mounts.
MARKS = "/podlab"

#: What a runtime says when it does not work (a regular expression), what that means, and the cure. The first that fits
#: counts.
AILMENTS = (
    (
        "could not be found in this wsl 2 distro",
        "Docker Desktop does not run, or not for this distribution",
        "Start Docker Desktop in Windows and turn on this distribution: Settings, Resources, WSL integration.",
    ),
    (
        "permission denied",
        "you may not talk to it",
        "Add yourself to its group and log in again: `sudo usermod -aG docker $USER`.",
    ),
    (
        "(cannot|failed to) connect to the docker (daemon|api)",
        "it does not run",
        "Start Docker Desktop, or the service: `sudo systemctl start docker`.",
    ),
    (
        "cannot connect to podman",
        "it does not run",
        "Start it: `podman machine start` or `systemctl --user start podman`.",
    ),
    ("no space left on device", "its disk is full", "Make room: `docker system df` shows what is large."),
    (
        "exec format error",
        "the image is for another kind of processor",
        "Delete it (`docker image rm`), so that the right one is fetched, or let PODLAB_KIND_IMAGE name one for this.",
    ),
    (
        "non-overlapping ipv4 address pool",
        "other networks, a VPN perhaps, have all addresses that it may use",
        "Disconnect the VPN while the cluster is made, or `docker network prune`.",
    ),
    (
        "port is already allocated|address already in use",
        "another program has a port of this machine that a node needs",
        "End what has the port (`ss -ltnp` shows it) and try again; or delete the cluster (`podlab cluster down`) and "
        "make it anew, which leaves the port out.",
    ),
)
#: Lines that are no reason for a failure: what Docker says of cgroups, for example.
_WARNING = re.compile(r"warn|.*level=warn", re.IGNORECASE)
#: What kind's nodes need of the kernel, by its name under fs.inotify: the values that kind's own pages recommend.
INOTIFY = {"max_user_instances": 512, "max_user_watches": 524288}
#: kind's addresses of pods and Services, which are known inside of the nodes only.
INSIDE = (IPv4Network("10.244.0.0/16"), IPv4Network("10.96.0.0/16"))
#: Interfaces of container runtimes, whose routes are no conflict: they lead to the nodes.
BRIDGES = ("docker", "br-", "podman", "cni", "nerdctl", "lo")
_WSL = (
    "In WSL 2: Docker Desktop has to run in Windows, with the integration of this distribution turned on in its "
    "settings; memory and the kernel's options are in `.wslconfig`, and count after `wsl --shutdown`."
)
_VERSION = Path("/proc/version")


@dataclass(frozen=True)
class Node:
    """A container that is a node. `running` and `paused` as the runtime says; `mark`: what `up` wrote, or ""."""

    name: str
    id: str
    role: str
    running: bool
    paused: bool
    pid: int
    mark: str = ""
    volumes: tuple[str, ...] = ()


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
            raise failure(self.name, arguments[0], (done.stderr.strip() or done.stdout).decode(errors="replace"))
        return done.stdout.decode(errors="replace")

    def check(self) -> None:
        """Raise its ailment (EnvironmentUnsuitable, or ClusterError if it is not a known one) if it does not answer."""
        self.run("info", timeout=30.0)

    def check_again(self) -> None:
        """Raise its ailment if it has a known one by now. What else it answers explains no failure of others."""
        with suppress(ClusterError):
            self.check()

    def nodes(self, cluster: str) -> list[Node]:
        """The nodes of a kind cluster, the control plane first."""
        ids = self.run("ps", "-aq", "--filter", f"label={LABEL}={cluster}").split()
        if not ids:
            return []
        found = [_node(one) for one in json.loads(self.run("inspect", *ids))]
        return sorted(found, key=lambda node: (node.role != "control-plane", node.name))

    def delete(self, nodes: Iterable[Node]) -> None:
        """Delete nodes with their volumes. Podman's outlive the containers, so these are looked for by name."""
        doomed = list(nodes)
        if doomed:
            self.run("rm", "--force", "--volumes", *(node.id for node in doomed), timeout=300.0)
            volumes = {volume for node in doomed for volume in node.volumes}
            if left := volumes & set(self.run("volume", "ls", "--quiet").split()):
                self.run("volume", "rm", *sorted(left))


def _node(inspected: Mapping[str, Any]) -> Node:
    state = inspected["State"]
    labels = inspected["Config"]["Labels"]
    mounts = inspected.get("Mounts") or ()
    marks = [one["Destination"] for one in mounts if one["Destination"].startswith(f"{MARKS}/")]
    return Node(
        inspected["Name"].lstrip("/"),
        inspected["Id"],
        labels.get(ROLE_LABEL, ""),
        bool(state.get("Running")),
        bool(state.get("Paused")),
        int(state.get("Pid") or 0),
        marks[0].removeprefix(f"{MARKS}/") if marks else "",
        tuple(one["Name"] for one in mounts if one.get("Type") == "volume" and one.get("Name")),
    )


def find(made_with: str = "") -> Runtime:
    """The runtime to use: the one with which a cluster was made, the one that is asked for, or the first that answers.

    EnvironmentUnsuitable says of each that was found what it lacks, and the cure.
    """
    asked = made_with or os.environ.get(VARIABLE)
    if asked and asked not in RUNTIMES:
        raise UsageError(f"{VARIABLE} is {asked}.", hint=f"It may be {', '.join(RUNTIMES)}.")
    problems = []
    for name in [asked] if asked else RUNTIMES:
        path = shutil.which(name)
        if path is None:
            continue
        runtime = Runtime(name, path)
        try:
            runtime.check()
        except (ClusterError, EnvironmentUnsuitable) as error:
            problems.append(error)
            continue
        return runtime
    if problems:
        raise problems[0]
    if made_with:
        raise EnvironmentUnsuitable(
            f"The cluster was made with {made_with}, which is not on the PATH.",
            hint=_cure(f"Install {made_with} again."),
        )
    if asked:
        raise EnvironmentUnsuitable(
            f"{VARIABLE} asks for {asked}, which is not on the PATH.",
            hint=_cure(f"Install {asked}, or unset {VARIABLE}, so that the first of {', '.join(RUNTIMES)} is taken."),
        )
    raise EnvironmentUnsuitable(
        f"kind needs {' or '.join(RUNTIMES)}, and none is installed.",
        hint=_cure(
            "Install Docker (https://docs.docker.com/engine/install/), "
            "or use the embedded cluster, which needs none: `podlab cluster up`."
        ),
    )


def failure(runtime: str, verb: str, said: str) -> ClusterError | EnvironmentUnsuitable:
    """What to raise when a command of the runtime failed and said this on stderr."""
    for pattern, meaning, cure in AILMENTS:
        if found := re.search(f".*({pattern}).*", said, re.IGNORECASE):
            return EnvironmentUnsuitable(
                f"{runtime} cannot be used: {meaning}. It said: {found[0].strip().rstrip('.')}.",
                hint=_cure(cure.replace("`docker ", f"`{runtime} ")),
            )
    return ClusterError(f"`{runtime} {verb}` failed: {reason(said)}.")


def reason(said: str) -> str:
    """Why a program failed that said this: from its last line that begins with "error" on, else its last line."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    lines = [line for line in lines if not _WARNING.match(line)] or lines
    errors = [number for number, line in enumerate(lines) if line.lower().startswith("error")]
    return " ".join(lines[errors[-1] if errors else -1 :]) or "it said nothing"


def _cure(text: str) -> str:
    """A cure, with what is to be known of it in WSL 2."""
    try:
        in_wsl = "microsoft" in _VERSION.read_text().lower()
    except OSError:
        in_wsl = False
    return f"{text} {_WSL}" if in_wsl else text


def notes(found: Runtime) -> list[tuple[str, str]]:
    """What on this machine will make kind fail or crawl, each with its cure."""
    information = json.loads(found.run("info", "--format", "{{json .}}", timeout=30.0))
    try:
        network = found.run("network", "inspect", "kind", timeout=30.0)
    except ClusterError:
        network = ""  # kind makes it with the first cluster
    own = {IPv4Network(one, strict=False) for one in re.findall(r'"(\d+(?:\.\d+){3}/\d+)"', network)}
    try:
        routes = Path("/proc/net/route").read_text()
    except OSError:
        routes = ""
    return [*ailments(information, inotify_limits()), *overlaps(routes, [*own, *INSIDE])]


def ailments(information: Mapping[str, Any], limits: Mapping[str, int]) -> Iterator[tuple[str, str]]:
    """What in the runtime's own report (`docker info`) and in the limits of inotify is too little, and the cure."""
    host = information.get("host") or {}  # where Podman says the same
    memory = int(information.get("MemTotal") or host.get("memTotal") or 0)
    if memory and memory < 3 << 30:
        yield (
            f"The runtime has {memory >> 20} MiB of memory; three nodes need about 2 GiB and your pods the rest.",
            _cure(
                "Give it more (Docker Desktop: Settings, Resources; Podman: `podman machine set --memory 6144`), "
                "or take one node: `podlab cluster up --provider kind --nodes 1`."
            ),
        )
    if str(information.get("CgroupVersion") or host.get("cgroupVersion") or "2").removeprefix("v") == "1":
        yield (
            "The machine uses cgroup v1, which Kubernetes is about to give up; kind says so, too.",
            _cure("It works for now. A newer distribution has v2, or the kernel's systemd.unified_cgroup_hierarchy=1."),
        )
    for name, least in INOTIFY.items():
        if 0 < limits.get(name, 0) < least:
            yield (
                f"fs.inotify.{name} is {limits[name]}: nodes may fail with `too many open files`.",
                f"`sudo sysctl fs.inotify.{name}={least}`",
            )


def inotify_limits() -> dict[str, int]:
    """The kernel's limits of inotify per user, by name; 0 if it does not say."""
    found = dict.fromkeys(INOTIFY, 0)
    for name in INOTIFY:
        try:
            found[name] = int(Path("/proc/sys/fs/inotify", name).read_text())
        except (OSError, ValueError):
            continue
    return found


def overlaps(routes: str, networks: Iterable[IPv4Network]) -> Iterator[tuple[str, str]]:
    """Routes of this machine (as /proc/net/route shows them) to addresses that kind's networks have, and the cure.

    The halves of the default route, by which a VPN takes everything, give way to the runtime's own routes.
    """
    wanted = list(networks)
    for fields in map(str.split, routes.splitlines()[1:]):
        device = fields[0]
        # The kernel prints an address as the number that its bytes are in memory.
        address, mask = (int.from_bytes(bytes.fromhex(fields[at])[::-1]) for at in (1, 7))
        route = IPv4Network((address, mask.bit_count()))
        if route.prefixlen < 8 or device.startswith(BRIDGES):
            continue
        for network in wanted:
            if route.overlaps(network):
                yield (
                    f"{route} is reached through {device}, a VPN perhaps, and kind uses {network}: the one hides the "
                    "other.",
                    "Disconnect it while you use kind, if pods or nodes cannot be reached or cannot reach it.",
                )
