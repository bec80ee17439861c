"""What the node's own API (server.py) sees of the agent: a read-only view of its pods, which the agent gives."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from podlab.node.runtime.contract import Runtime


@dataclass(frozen=True)
class ContainerView:
    """One container of a pod (also init and ephemeral ones), in its newest attempt.

    `container_id` is the runtime's name for it, None while none was started. `log_path` is the log of the
    newest attempt that was started (running or ended), `previous_log_path` that of the attempt before; each
    is None if there is none. A rotated log lies beside it: `log_path` + "." + anything. `environment` is
    complete, as given to the runtime; commands run by exec inherit it.
    """

    container_id: str | None
    name: str
    attempt: int
    running: bool
    #: The container's entry in the pod's spec.
    spec: Mapping[str, Any]
    log_path: str | None
    previous_log_path: str | None = None
    environment: Mapping[str, str] = field(default_factory=dict)


class Later(Mapping[str, Any]):
    """A mapping that is computed when it is first looked into: most who look at a pod never ask for its status."""

    def __init__(self, compute: Callable[[], Mapping[str, Any]]) -> None:
        self._compute = compute

    @functools.cached_property
    def _content(self) -> Mapping[str, Any]:
        return self._compute()

    def __getitem__(self, key: str) -> Any:
        return self._content[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._content)

    def __len__(self) -> int:
        return len(self._content)


@dataclass(frozen=True)
class PodView:
    """A pod of this node. `metadata` and `spec` are those of the API object, the resources those that were admitted.

    `sandbox_id` is None before the sandbox exists. `status` is the newest PodStatus that the agent knows, as it
    is, or will be, written to the API server.
    """

    namespace: str
    name: str
    uid: str
    sandbox_id: str | None
    metadata: Mapping[str, Any]
    spec: Mapping[str, Any]
    status: Mapping[str, Any]
    #: Every container of the spec by name: init containers, containers, ephemeral containers.
    containers: Mapping[str, ContainerView]


class NodeView(Protocol):
    """The agent as its API server sees it. All methods run in the agent's event loop and must not block."""

    @property
    def runtime(self) -> Runtime:
        """Return the node's container runtime."""

    def find(self, namespace: str, name: str) -> PodView | None:
        """Return the pod of that name, also a terminated one whose logs are still here; None if unknown."""

    def pods(self) -> Iterable[PodView]:
        """Return all pods that are bound to this node."""
