"""Who is who in a cluster: each certificate's subject, use and names, as a table. Nothing here makes keys."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from podlab.network import addresses

#: Common name that the API server shows to a node's own API; the agents check for it.
KUBELET_CLIENT = "kube-apiserver-kubelet-client"
#: Name under which the metrics server asks the API server, and the one under which it is asked.
METRICS_SERVER = "podlab:metrics-server"
#: Name under which volumes are provisioned.
LOCAL_PROVISIONER = "podlab:local-provisioner"
#: Name under which load balancers get their addresses.
LOAD_BALANCERS = "podlab:load-balancers"
FRONT_PROXY_CLIENT = "front-proxy-client"
API_SERVER_NAMES = (
    "localhost",
    "kubernetes",
    "kubernetes.default",
    "kubernetes.default.svc",
    f"kubernetes.default.svc.{addresses.CLUSTER_DOMAIN}",
    "127.0.0.1",
    addresses.API_SERVICE,
    addresses.BACKBONE,
)


@dataclass(frozen=True)
class Request:
    """What a certificate is to say: subject, use and names (DNS names or addresses)."""

    common_name: str
    organization: str | None = None
    server: bool = False
    client: bool = False
    names: tuple[str, ...] = ()
    #: Which authority signs it: "ca" or "front-proxy-ca".
    authority: str = "ca"


#: File name (without ending) -> what it is to say. Nodes are added by `requests`.
CONTROL_PLANE: Mapping[str, Request] = {
    "apiserver": Request("kube-apiserver", server=True, names=API_SERVER_NAMES),
    "components": Request("localhost", server=True, names=("localhost", "127.0.0.1")),
    "admin": Request("podlab-admin", "system:masters", client=True),
    "controller-manager": Request("system:kube-controller-manager", client=True),
    "scheduler": Request("system:kube-scheduler", client=True),
    "kube-proxy": Request("system:kube-proxy", client=True),
    "kubelet-client": Request(KUBELET_CLIENT, client=True),
    "metrics-server": Request(METRICS_SERVER, client=True, server=True, names=("metrics-server.kube-system.svc",)),
    "local-provisioner": Request(LOCAL_PROVISIONER, client=True),
    "load-balancers": Request(LOAD_BALANCERS, client=True),
    "front-proxy": Request(FRONT_PROXY_CLIENT, client=True, authority="front-proxy-ca"),
}


def node_name(index: int) -> str:
    """Name of node `index` (from 1)."""
    return f"node-{index}"


def node_requests(index: int) -> dict[str, Request]:
    """The certificates of one node: its client identity and the serving one of its own API."""
    name, address = node_name(index), addresses.node_address(index)
    return {
        f"{name}-client": Request(f"system:node:{name}", "system:nodes", client=True),
        f"{name}-serving": Request(f"system:node:{name}", "system:nodes", server=True, names=(name, address)),
    }
