"""The one contract behind which every cluster stands: embedded, kind, or any existing one.

A provider is stateless: everything it knows of a cluster is on disk in the cluster's folder
(`podlab.paths.clusters() / NAME`, mode 0700) and in the running system.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Literal, Protocol

from podlab.errors import UsageError

State = Literal["absent", "stopped", "starting", "running", "degraded", "stopping"]


@dataclass(frozen=True)
class ClusterSpec:
    """What a cluster is to be. `profile` names the timers: "upstream", or "lab" (short ones, shown as such).

    `runtime` is what embedded nodes run containers with: "auto" takes the sandbox where this machine can have it.
    A `guarded` embedded cluster is for programs that nobody trusts: a container that asks for no seccomp profile is
    under that of RuntimeDefault, and no Service opens a port on this machine.
    The last three are for a cluster that is there already: its kubeconfig (default: the user's own), the context in
    it (default: the current one), and that context's full name once more, by which its owner agrees.
    """

    name: str = "default"
    nodes: int = 3
    profile: Literal["upstream", "lab"] = "lab"
    runtime: Literal["auto", "sandbox", "plain"] = "auto"
    guarded: bool = False
    kubeconfig: str = ""
    context: str = ""
    confirmed: str = ""

    def only(self, provider: str, *known: str) -> None:
        """Raise UsageError if a field was given that means nothing to the provider: all but the name and `known`."""
        for one in fields(self):
            if one.name not in ("name", *known) and getattr(self, one.name) != one.default:
                option = "confirm" if one.name == "confirmed" else one.name
                raise UsageError(
                    f"--{option} {getattr(self, one.name)} means nothing to the provider {provider}.",
                    hint="Leave it out, or is another --provider meant? `podlab cluster up --help` says whose it is.",
                )


@dataclass(frozen=True)
class StepReport:
    """Progress of one named step of bring-up or shut-down; `seconds` since the step began."""

    name: str
    state: Literal["running", "done", "failed"]
    seconds: float
    detail: str = ""


@dataclass(frozen=True)
class ComponentStatus:
    """One process of a cluster: `state` is running, restarting or stopped; `rss` in bytes, `cpu` in seconds."""

    name: str
    state: str
    pid: int | None = None
    restarts: int = 0
    since: float = 0.0
    rss: int = 0
    cpu: float = 0.0
    message: str = ""


@dataclass(frozen=True)
class ClusterStatus:
    """What `podlab cluster status` shows."""

    name: str
    provider: str
    state: State
    version: str = ""
    server: str = ""
    components: Sequence[ComponentStatus] = ()
    notes: Sequence[str] = ()
    details: dict[str, str] = field(default_factory=dict)


Progress = Callable[[StepReport], None]


class Provider(Protocol):
    """Eight verbs. Each is idempotent where that makes sense and raises a subclass of PodlabError otherwise."""

    name: str

    def up(self, spec: ClusterSpec, progress: Progress) -> None:
        """Create the cluster and return when a pod could run; ClusterExists if the name is taken.

        On failure nothing is left behind and StepFailed names the step, the process and its last log lines.
        """

    def down(self, name: str, progress: Progress) -> None:
        """End every process of the cluster and delete its folder. Works on a cluster that is half up."""

    def stop(self, name: str, progress: Progress) -> None:
        """End every process, keep all objects and volumes."""

    def start(self, name: str, progress: Progress) -> None:
        """Start a stopped cluster again with its objects; a running one is left as it is."""

    def status(self, name: str) -> ClusterStatus:
        """The cluster as it is now; ClusterNotFound if there is none."""

    def kubeconfig(self, name: str) -> Path:
        """Path of a kubeconfig (0600) whose current context is this cluster with full rights."""

    def load_image(self, name: str, *references: str) -> None:
        """Make images of the local store available to all nodes (the embedded one shares the store)."""

    def logs(self, name: str, component: str) -> Path:
        """Path of the log file of a component; UsageError lists the components if it is unknown."""
