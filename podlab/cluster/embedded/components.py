"""The control plane as a table: each component's program, arguments and readiness.

Everything is unmodified upstream; what differs from a production cluster is said beside the flag.
Arguments are a pure function of a `Context`; the supervisor runs them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from podlab.cluster.embedded.folder import write_private
from podlab.network import addresses

ISSUER = f"https://kubernetes.default.svc.{addresses.CLUSTER_DOMAIN}"


@dataclass(frozen=True)
class Timers:
    """Times in seconds. `lease_period` belongs to the nodes, the others to the control plane.

    Grace must be at least four lease periods: with less, nodes under load were seen to flap.
    """

    lease_period: float
    lease_duration: int
    monitor_period: int
    monitor_grace: int
    toleration: int
    status_period: float = 10.0


#: "upstream" are the defaults of Kubernetes; "lab" lets a lesson show the loss of a node in half a minute.
PROFILES: Mapping[str, Timers] = {
    "upstream": Timers(10.0, 40, 5, 50, 300),
    "lab": Timers(2.0, 8, 1, 8, 20),
}


@dataclass(frozen=True)
class Context:
    """What arguments depend on: folders, the loopback ports by component, timers and the egress socket."""

    pki: Path
    data: Path
    run: Path
    ports: Mapping[str, int]
    timers: Timers

    def certificate(self, name: str) -> str:
        """Path of a certificate."""
        return str(self.pki / f"{name}.crt")

    def key(self, name: str) -> str:
        """Path of a private key."""
        return str(self.pki / f"{name}.key")

    def kubeconfig(self, component: str) -> str:
        """Path of a component's own kubeconfig."""
        return str(self.pki / f"{component}.kubeconfig")

    @property
    def etcd_socket(self) -> Path:
        """etcd's client socket."""
        return self.run / "etcd.sock"

    @property
    def egress_socket(self) -> Path:
        """Where the API server asks for connections into the cluster's network (HTTP CONNECT)."""
        return self.run / "egress.sock"

    @property
    def egress_configuration(self) -> Path:
        """The API server's egress selector file."""
        return self.pki / "egress.json"

    @property
    def authentication_configuration(self) -> Path:
        """The API server's authentication file."""
        return self.pki / "authentication.json"


@dataclass(frozen=True)
class Probe:
    """How readiness is asked: GET `path` over HTTP on a Unix socket or over TLS on a loopback port."""

    path: str
    socket: Path | None = None
    port: int | None = None


@dataclass(frozen=True)
class Component:
    """One line of the table. `port`: whether it listens on a loopback port of its own; `environment`: what it alone
    is told by variables.
    """

    name: str
    arguments: Callable[[Context], list[str]]
    probe: Callable[[Context], Probe]
    port: bool = True
    environment: Mapping[str, str] = field(default_factory=dict)


def _etcd(c: Context) -> list[str]:
    peers = "unix://etcd-peer.sock:0"
    clients = f"unix://{c.etcd_socket}"
    return [
        "--name=podlab",
        f"--data-dir={c.data}",
        f"--listen-client-urls={clients}",
        f"--advertise-client-urls={clients}",
        f"--listen-peer-urls={peers}",
        f"--initial-advertise-peer-urls={peers}",
        f"--initial-cluster=podlab={peers}",
        "--log-level=warn",
    ]


def _api_server(c: Context) -> list[str]:
    return [
        f"--etcd-servers=unix://{c.etcd_socket}",
        "--bind-address=127.0.0.1",
        f"--secure-port={c.ports['kube-apiserver']}",
        # The supervisor holds the port (bound, not listening), so that nothing else can take it in between.
        "--permit-port-sharing=true",
        # Pods and nodes reach the API server at the backbone; we write that EndpointSlice ourselves.
        f"--advertise-address={addresses.BACKBONE}",
        "--endpoint-reconciler-type=none",
        f"--service-cluster-ip-range={addresses.SERVICES}",
        "--authorization-mode=Node,RBAC",
        "--enable-admission-plugins=NodeRestriction",
        "--allow-privileged=true",
        f"--authentication-config={c.authentication_configuration}",
        f"--client-ca-file={c.certificate('ca')}",
        f"--tls-cert-file={c.certificate('apiserver')}",
        f"--tls-private-key-file={c.key('apiserver')}",
        f"--service-account-issuer={ISSUER}",
        # Without it the keys would be at an address that only this host reaches.
        f"--service-account-jwks-uri={ISSUER}/openid/v1/jwks",
        f"--service-account-key-file={c.pki / 'service-account.pub'}",
        f"--service-account-signing-key-file={c.key('service-account')}",
        f"--kubelet-client-certificate={c.certificate('kubelet-client')}",
        f"--kubelet-client-key={c.key('kubelet-client')}",
        f"--kubelet-certificate-authority={c.certificate('ca')}",
        "--kubelet-preferred-address-types=InternalIP",
        f"--requestheader-client-ca-file={c.certificate('front-proxy-ca')}",
        "--requestheader-allowed-names=front-proxy-client",
        "--requestheader-extra-headers-prefix=X-Remote-Extra-",
        "--requestheader-group-headers=X-Remote-Group",
        "--requestheader-username-headers=X-Remote-User",
        f"--proxy-client-cert-file={c.certificate('front-proxy')}",
        f"--proxy-client-key-file={c.key('front-proxy')}",
        "--enable-aggregator-routing=true",
        f"--egress-selector-config-file={c.egress_configuration}",
        f"--default-not-ready-toleration-seconds={c.timers.toleration}",
        f"--default-unreachable-toleration-seconds={c.timers.toleration}",
        # Open watches are ended at a stop; without this the server would wait a minute for them.
        "--shutdown-watch-termination-grace-period=1s",
        "--profiling=false",
    ]


def _client(c: Context, component: str) -> list[str]:
    """Flags that the controller manager and the scheduler share."""
    config = c.kubeconfig(component)
    return [
        f"--kubeconfig={config}",
        f"--authentication-kubeconfig={config}",
        f"--authorization-kubeconfig={config}",
        "--bind-address=127.0.0.1",
        f"--secure-port={c.ports[component]}",
        "--permit-port-sharing=true",
        f"--tls-cert-file={c.certificate('components')}",
        f"--tls-private-key-file={c.key('components')}",
        "--leader-elect=false",
        # With the defaults (20 and 30) the first service account takes 6 s instead of 1.5 s to appear.
        "--kube-api-qps=500",
        "--kube-api-burst=1000",
        "--profiling=false",
    ]


def _controller_manager(c: Context) -> list[str]:
    return [
        *_client(c, "kube-controller-manager"),
        "--use-service-account-credentials=true",
        f"--service-account-private-key-file={c.key('service-account')}",
        f"--root-ca-file={c.certificate('ca')}",
        f"--cluster-signing-cert-file={c.certificate('ca')}",
        f"--cluster-signing-key-file={c.key('ca')}",
        # Each node has a fixed range, which its agent writes into the Node.
        "--allocate-node-cidrs=false",
        f"--service-cluster-ip-range={addresses.SERVICES}",
        f"--node-monitor-period={c.timers.monitor_period}s",
        f"--node-monitor-grace-period={c.timers.monitor_grace}s",
    ]


def _scheduler(c: Context) -> list[str]:
    return _client(c, "kube-scheduler")


#: The API server has half of the control plane's memory. Go collects its garbage when the heap has grown by 60 % rather
#: than by 100 %: 35 MiB less of it, at the price of collecting more often.
_THRIFTY = {"GOGC": "60"}
#: In the order of their start. kube-controller-manager and kube-scheduler wait for the API server's roles.
TABLE: tuple[Component, ...] = (
    Component("etcd", _etcd, lambda c: Probe("/health", socket=c.etcd_socket), port=False),
    Component(
        "kube-apiserver",
        _api_server,
        lambda c: Probe("/readyz", port=c.ports["kube-apiserver"]),
        environment=_THRIFTY,
    ),
    Component(
        "kube-controller-manager",
        _controller_manager,
        lambda c: Probe("/healthz", port=c.ports["kube-controller-manager"]),
    ),
    Component("kube-scheduler", _scheduler, lambda c: Probe("/healthz", port=c.ports["kube-scheduler"])),
)
BY_NAME: Mapping[str, Component] = {component.name: component for component in TABLE}
#: Components with a kubeconfig of their own, and the certificate that they show.
CLIENTS: Mapping[str, str] = {
    "kube-controller-manager": "controller-manager",
    "kube-scheduler": "scheduler",
}


def egress_configuration(c: Context) -> dict[str, Any]:
    """Connections to nodes, pods and Services go through our socket; the rest goes directly.

    An entry for etcd, even a direct one, would make the API server dial its Unix socket as if it were TCP.
    """
    proxy = {"proxyProtocol": "HTTPConnect", "transport": {"uds": {"udsName": str(c.egress_socket)}}}
    return {
        "apiVersion": "apiserver.k8s.io/v1beta1",
        "kind": "EgressSelectorConfiguration",
        "egressSelections": [{"name": "cluster", "connection": proxy}],
    }


def authentication_configuration() -> dict[str, Any]:
    """Anonymous requests are let in only where health and version are asked for."""
    paths = ("/livez", "/readyz", "/healthz", "/version")
    return {
        "apiVersion": "apiserver.config.k8s.io/v1",
        "kind": "AuthenticationConfiguration",
        "anonymous": {"enabled": True, "conditions": [{"path": path} for path in paths]},
    }


def write_configuration(c: Context) -> None:
    """Write the files that the API server's arguments name (0600)."""
    for path, content in (
        (c.egress_configuration, egress_configuration(c)),
        (c.authentication_configuration, authentication_configuration()),
    ):
        write_private(path, json.dumps(content, indent=1))
