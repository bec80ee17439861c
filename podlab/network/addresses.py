"""The addresses of an embedded cluster. Its network is its own namespace, so that fixed ones never clash.

172.18.0.1            the backbone: doors to the control plane (DOORS), next hop between nodes
172.18.0.(10 + i)     node i, i from 1
10.244.i.0/24         the pods of node i; .1 is not used
10.96.0.0/16          Services; 10.96.0.1 the API server, 10.96.0.10 the cluster's DNS
169.254.1.1           the next hop that a pod sees (answered by its veth's permanent neighbour entry)
"""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import IPv4Network

BACKBONE = "172.18.0.1"
API_PORT = 6443
#: Ports of the backbone behind which the cluster reaches components of the control plane; upstream's own numbers.
#: Each of them authenticates and authorizes by itself. etcd does not, so that there is no door to it.
DOORS: Mapping[str, int] = {
    "kube-apiserver": API_PORT,
    "kube-controller-manager": 10257,
    "kube-scheduler": 10259,
}
NODES = IPv4Network("172.18.0.0/16")
PODS = IPv4Network("10.244.0.0/16")
SERVICES = IPv4Network("10.96.0.0/16")
API_SERVICE = "10.96.0.1"
DNS_SERVICE = "10.96.0.10"
POD_GATEWAY = "169.254.1.1"
CLUSTER_DOMAIN = "cluster.local"
#: Nodes that fit into PODS with a /24 each (i from 1 to 240, since node addresses end in 10 + i).
MAX_NODES = 240


def node_address(index: int) -> str:
    """Address of node `index` (from 1)."""
    _check(index)
    return f"172.18.0.{10 + index}"


def pod_cidr(index: int) -> str:
    """The /24 from which node `index` gives addresses to its pods."""
    _check(index)
    return f"10.244.{index}.0/24"


def pod_addresses(index: int) -> list[str]:
    """The 253 addresses that node `index` may give to pods, lowest first."""
    return [str(address) for address in IPv4Network(pod_cidr(index)).hosts()][1:]


def _check(index: int) -> None:
    if not 1 <= index <= MAX_NODES:
        raise ValueError(f"node index {index} is not in 1..{MAX_NODES}")
