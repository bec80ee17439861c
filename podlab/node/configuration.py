"""What a node's agent is told at its start: one private JSON file, written by bring-up, read by the agent."""

from __future__ import annotations

import dataclasses
import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class NodeConfiguration:
    """All paths are absolute. Times are in seconds. `server` is reached through the node's own network."""

    name: str
    index: int
    address: str
    pod_cidr: str
    server: str
    cluster_ca: str
    #: Certificate and key of `system:node:NAME`, for pods, node status, lease, events, tokens.
    certificate: str
    key: str
    #: Certificate and key of `system:kube-proxy`, for services and endpoint slices.
    proxy_certificate: str
    proxy_key: str
    #: Serving certificate and key of the node's own API (logs, exec, ...), signed by the cluster's CA.
    serving_certificate: str
    serving_key: str
    #: Common name that a client of the node's own API must show (the API server's kubelet client).
    api_client_name: str
    #: Unix socket of the container runtime (the zygote of this node).
    runtime_socket: str
    #: The node's private folder: pods/UID/..., removed with the cluster.
    folder: str
    #: Folder of the image store (an OCI layout and unpacked roots).
    image_store: str
    #: Unix socket of the proxy to the world outside, for pulling images; and the registries that may be asked.
    outside: str = ""
    registries: list[str] = field(default_factory=list)
    #: Address and port of the resolver for names that are not the cluster's, asked through `outside`; empty: none.
    resolver: list[Any] = field(default_factory=list)
    dns_service: str = "10.96.0.10"
    cluster_domain: str = "cluster.local"
    kubelet_port: int = 10250
    lease_duration: int = 40
    lease_period: float = 10.0
    status_period: float = 10.0
    #: First and longest pause of the crash back-off, and the time of running that resets it.
    backoff_first: float = 10.0
    backoff_longest: float = 300.0
    backoff_reset: float = 600.0
    #: What the node has and what of it pods may ask for; what is missing is the machine's.
    capacity: dict[str, str] = field(default_factory=dict)
    allocatable: dict[str, str] = field(default_factory=dict)
    #: Bytes of memory that the node keeps free by evicting pods (0: never), and how long it shows the pressure.
    eviction_memory: int = 0
    #: Bytes and inodes that its file system keeps free likewise.
    eviction_disk: int = 0
    eviction_inodes: int = 0
    pressure_transition: float = 300.0
    labels: dict[str, str] = field(default_factory=dict)
    #: Whether a container that asks for no seccomp profile gets RuntimeDefault, as with kubelet's --seccomp-default.
    seccomp_default: bool = False
    #: What the plain runtime is told of the node (podlab.cluster.embedded.nodes); empty: the node has namespaces.
    plain: dict[str, Any] = field(default_factory=dict)
    kubernetes_version: str = "v1.37.2"

    @property
    def host_paths(self) -> Path:
        """The folder that hostPath volumes see as `/`."""
        return Path(self.folder) / "host"

    def write(self, path: Path) -> None:
        """Write to `path`, readable by its owner only."""
        text = json.dumps(dataclasses.asdict(self), indent=1)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(text)

    @classmethod
    def read(cls, path: Path) -> NodeConfiguration:
        """Read what `write` wrote."""
        return cls(**json.loads(path.read_text()))
