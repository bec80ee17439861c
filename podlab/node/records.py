"""What an agent knows of a pod's containers and of the pod as a whole: plain records, no behaviour with I/O."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from podlab.node.backoff import Backoff

Kind = Literal["init", "sidecar", "main", "ephemeral"]

#: Where each kind of container stands in the pod's spec and in its status.
SPEC_FIELDS = {"initContainers": "init", "containers": "main", "ephemeralContainers": "ephemeral"}


@dataclass(frozen=True, slots=True)
class Waiting:
    """A container that does not run yet. `later`, from `later_at` on, replaces reason and message."""

    reason: str
    message: str = ""
    later: tuple[str, str] | None = None
    later_at: float = 0.0


@dataclass(frozen=True, slots=True)
class Running:
    """A container that runs since `started_at`."""

    started_at: float


@dataclass(frozen=True, slots=True)
class Terminated:
    """A container that has ended. Times are None where nobody knows them."""

    exit_code: int
    reason: str
    message: str = ""
    started_at: float | None = None
    finished_at: float | None = None
    container_id: str | None = None


@dataclass(slots=True)
class Container:
    """One container of a pod, in its newest attempt; `last` is how the attempt before ended.

    `spec` is its newest definition, but with the resources that the pod was admitted with: none are changed in place.
    `attempt` counts starts from 0 and is -1 before the first one. `busy` is true while a start or a stop is
    under way. `started` and `ready` are what the probes say (true where there is no probe). `condemned` is why
    a running container is to be killed and then dealt with by its restart policy.
    """

    name: str
    kind: Kind
    spec: Mapping[str, Any]
    state: Waiting | Running | Terminated | None = None
    last: Terminated | None = None
    attempt: int = -1
    container_id: str | None = None
    image_id: str = ""
    busy: bool = False
    started: bool = False
    ready: bool = False
    condemned: str | None = None
    #: A new definition replaces it: nothing is told until its successor runs, or cannot be started.
    replacing: bool = False
    #: Of its restarts, and of its image: who has waited for an image long is not said to have crashed so often.
    backoff: Backoff = field(default_factory=Backoff)
    pull_backoff: Backoff = field(default_factory=Backoff)
    #: When it could not be started, and when that is tried again.
    failed_at: float = 0.0
    retry_at: float = 0.0
    failures: int = 0
    environment: Mapping[str, str] = field(default_factory=dict)
    log_path: str | None = None
    previous_log_path: str | None = None

    @property
    def running(self) -> bool:
        return isinstance(self.state, Running)

    @property
    def ended(self) -> Terminated | None:
        return self.state if isinstance(self.state, Terminated) else None

    @property
    def ever_ran(self) -> bool:
        return self.running or self.ended is not None or self.last is not None


#: Reason with which a node ends a pod whose resources it needs.
EVICTED = "Evicted"


@dataclass(slots=True)
class Pod:
    """The pod as a whole: `object` is its newest form at the API server; `failure` a verdict of the node's own."""

    object: dict[str, Any]
    containers: dict[str, Container]
    host_address: str
    address: str | None = None
    sandbox: str | None = None
    sandbox_ready: bool = False
    volumes_ready: bool = False
    started_at: float | None = None
    #: Event reason -> why the sandbox or the volumes cannot be made just now.
    hindrances: dict[str, str] = field(default_factory=dict)
    #: (reason, message) with which the node ended the pod: DeadlineExceeded, OutOfcpu, Evicted ...
    failure: tuple[str, str] | None = None
    #: The node did not take it: nothing of it ever runs.
    rejected: bool = False
    #: Containers are being stopped for good; nothing is started any more.
    terminating: bool = False
    #: Every container has ended for good.
    stopped: bool = False
    #: Whether the runtime keeps read-only mounts from being written to, with what is mounted below them.
    read_only_mounts: bool = True

    @property
    def evicted(self) -> bool:
        """Whether the node has ended it to have its resources back."""
        return self.failure is not None and self.failure[0] == EVICTED and not self.rejected

    @property
    def uid(self) -> str:
        return self.object["metadata"]["uid"]

    @property
    def namespace(self) -> str:
        return self.object["metadata"]["namespace"]

    @property
    def name(self) -> str:
        return self.object["metadata"]["name"]

    @property
    def spec(self) -> Mapping[str, Any]:
        return self.object["spec"]

    @property
    def admitted(self) -> dict[str, Any]:
        """The object with the resources that its containers have, which `object` has not after a refused resize."""
        given = {
            key: [self.containers[container["name"]].spec for container in self.spec[key]]
            for key in SPEC_FIELDS
            if self.spec.get(key)
        }
        return {**self.object, "spec": {**self.spec, **given}}

    @property
    def deleted(self) -> bool:
        return bool(self.object["metadata"].get("deletionTimestamp"))

    @property
    def full_name(self) -> str:
        """The pod as the kubelet's messages name it: name_namespace(uid)."""
        return f"{self.name}_{self.namespace}({self.uid})"

    def of(self, *kinds: Kind) -> list[Container]:
        """The containers of the given kinds, in the order of the spec."""
        return [container for container in self.containers.values() if container.kind in kinds]


def declared(spec: Mapping[str, Any]) -> Iterator[tuple[Kind, Mapping[str, Any]]]:
    """Every container of a pod's spec with its kind: init containers and sidecars, containers, ephemeral ones."""
    for key, kind in SPEC_FIELDS.items():
        for container in spec.get(key) or ():
            sidecar = kind == "init" and container.get("restartPolicy") == "Always"
            yield ("sidecar" if sidecar else kind), container  # type: ignore[misc]


def new_containers(spec: Mapping[str, Any]) -> dict[str, Container]:
    """A fresh record for every container of a pod's spec, by name."""
    return {entry["name"]: Container(entry["name"], kind, entry) for kind, entry in declared(spec)}
