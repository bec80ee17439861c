"""A cluster on disk: its folder, and the record (`cluster.json`) of what it is and who runs it."""

from __future__ import annotations

import dataclasses
import fcntl
import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from podlab import paths
from podlab.cluster.provider import ClusterSpec
from podlab.errors import ClusterError, ClusterExists, ClusterNotFound, UsageError

#: Label of what labs and checks make in a cluster; its value is `paths.identity` of whoever's they are.
HOME_LABEL = "podlab.dev/home"
_NAME = re.compile(r"[a-z0-9]([-a-z0-9]{0,38}[a-z0-9])?")


def check_name(name: str) -> str:
    """Return `name` if a cluster may be called so; UsageError otherwise."""
    if not _NAME.fullmatch(name):
        raise UsageError(
            f"{name!r} cannot be the name of a cluster.",
            hint="Use 1 to 40 lower-case letters, digits and hyphens, with a letter or digit at both ends.",
        )
    return name


def context_name(cluster: str) -> str:
    """The name of the cluster, the user and the context in a kubeconfig."""
    return f"podlab-{cluster}"


@dataclass
class Record:
    """What is written to `cluster.json`. `ports`: loopback ports by component, chosen at the first start."""

    name: str
    provider: str
    nodes: list[int]
    profile: str
    ports: dict[str, int] = field(default_factory=dict)
    #: Kubeconfig files of the user into which this cluster was merged on request.
    merged: list[str] = field(default_factory=list)
    version: str = ""
    #: What else the provider has to remember.
    details: dict[str, str] = field(default_factory=dict)
    #: Into how many shares the machine is divided: the number of nodes at the cluster's creation.
    shares: int = 0
    #: What its nodes run containers with: sandbox or plain; and why.
    runtime: str = "sandbox"
    why: str = ""
    #: Whether it is for programs that nobody trusts (see ClusterSpec).
    guarded: bool = False

    @classmethod
    def of(cls, spec: ClusterSpec, provider: str) -> Record:
        """The record of a new cluster."""
        nodes = list(range(1, spec.nodes + 1))
        return cls(spec.name, provider, nodes, spec.profile, shares=spec.nodes, guarded=spec.guarded)


@dataclass(frozen=True)
class ClusterFolder:
    """The paths of one cluster. Nothing here looks at the disk except the methods that say so."""

    path: Path

    @property
    def name(self) -> str:
        """The cluster's name."""
        return self.path.name

    @property
    def logs(self) -> Path:
        """One log file per component, machine and agent."""
        return self.path / "logs"

    @property
    def kubeconfig(self) -> Path:
        """The administrator's kubeconfig."""
        return self.path / "kubeconfig"

    @property
    def lock(self) -> Path:
        """Locked (flock) by the supervisor for as long as it lives."""
        return self.path / "lock"

    @property
    def record_file(self) -> Path:
        """The record."""
        return self.path / "cluster.json"

    def log(self, component: str) -> Path:
        """The log file of a component, a machine (`node-1-machine`) or an agent (`node-1-agent`)."""
        return self.logs / f"{component}.log"

    def exists(self) -> bool:
        """Whether the folder holds a cluster."""
        return self.record_file.exists()

    def read(self) -> Record:
        """Read the record; ClusterNotFound if there is none, ClusterError if it is damaged."""
        try:
            return Record(**json.loads(self.record_file.read_text()))
        except (FileNotFoundError, NotADirectoryError) as error:
            raise ClusterNotFound(
                f"There is no cluster named {self.name}.",
                hint=f"`podlab cluster list` shows all, `podlab cluster up --name {self.name}` makes one.",
            ) from error
        except (ValueError, TypeError) as error:
            raise ClusterError(
                f"The record of cluster {self.name} is damaged ({self.record_file}: {error}).",
                hint=f"`podlab cluster down --name {self.name}` removes the cluster.",
            ) from error

    def write(self, record: Record) -> None:
        """Replace the record atomically."""
        write_private(self.record_file, json.dumps(dataclasses.asdict(record), indent=1) + "\n")

    def create(self, record: Record) -> None:
        """Make the folder of a new cluster; ClusterExists if the name is taken. One of two rivals wins."""
        try:
            self.path.mkdir(mode=0o700)
        except FileExistsError as error:
            raise ClusterExists(
                f"A cluster named {self.name} exists already ({self.path}).",
                hint=f"Start it with `podlab cluster start --name {self.name}`, "
                f"remove it with `podlab cluster down --name {self.name}`, or choose another --name.",
            ) from error
        try:
            self.logs.mkdir(mode=0o700)
            self.write(record)
        except BaseException:
            shutil.rmtree(self.path, ignore_errors=True)  # the name is free again
            raise

    @contextmanager
    def locked(self) -> Iterator[bool]:
        """Hold the cluster's lock if it is free; yields whether it was."""
        descriptor = os.open(self.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
                return
            yield True
        finally:
            os.close(descriptor)

    def remove(self) -> None:
        """Delete the folder and everything in it. The record goes first, so that a half-deleted one is not listed."""
        self.record_file.unlink(missing_ok=True)
        shutil.rmtree(self.path)


def write_private(path: Path, text: str) -> None:
    """Write `text` to `path` (0600) atomically: a reader sees the old contents or the new, never half."""
    with paths.whole_file(path) as file:
        file.write(text)
