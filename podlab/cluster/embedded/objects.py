"""The objects that bring-up writes into a new cluster, as plain dicts; written so that a repetition is harmless."""

from __future__ import annotations

import contextlib
from datetime import datetime
from typing import Any

from podlab.cluster.embedded.addons import apply
from podlab.network import addresses
from podlab.network.node import RULES as NETWORK_RULES
from podlab.node.api import ApiClient, Invalid, NotFound

Object = dict[str, Any]

_DEFAULT = "/api/v1/namespaces/default"
_SLICES = "/apis/discovery.k8s.io/v1/namespaces/{}/endpointslices"
_SYSTEM_SERVICES = "/api/v1/namespaces/kube-system/services"
_LEASES = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"
_RBAC = "/apis/rbac.authorization.k8s.io/v1"
_PORT = {"name": "https", "port": addresses.API_PORT, "protocol": "TCP"}


def api_endpoint_slice() -> Object:
    """Where the Service default/kubernetes leads: the API server's door in the backbone.

    kube-apiserver would write its own address, which pods cannot reach (--endpoint-reconciler-type=none).
    """
    return _backbone_slice("kubernetes", "default", _PORT)


def _backbone_slice(service: str, namespace: str, port: Object) -> Object:
    """The EndpointSlice of a Service that leads to a door in the backbone."""
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": service,
            "namespace": namespace,
            "labels": {"kubernetes.io/service-name": service},
        },
        "addressType": "IPv4",
        "endpoints": [{"addresses": [addresses.BACKBONE], "conditions": {"ready": True}}],
        "ports": [port],
    }


def api_endpoints() -> Object:
    """The same in the older form, marked so that it is not mirrored into a second slice."""
    return {
        "apiVersion": "v1",
        "kind": "Endpoints",
        "metadata": {
            "name": "kubernetes",
            "namespace": "default",
            "labels": {"endpointslice.kubernetes.io/skip-mirror": "true"},
        },
        "subsets": [{"addresses": [{"ip": addresses.BACKBONE}], "ports": [_PORT]}],
    }


def dns_service() -> Object:
    """The Service of the cluster's DNS, which keeps its address from being given to another.

    It has no endpoints: every node answers at this address itself.
    """
    ports = [{"name": f"dns-{p.lower()}", "port": 53, "targetPort": 53, "protocol": p} for p in ("UDP", "TCP")]
    labels = {"k8s-app": "kube-dns"}
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "kube-dns", "namespace": "kube-system", "labels": labels},
        "spec": {"clusterIP": addresses.DNS_SERVICE, "ports": ports},
    }


def control_plane_services() -> list[tuple[str, Object]]:
    """Collection path and object of what leads to the other doors: whoever monitors the cluster discovers them."""
    found: list[tuple[str, Object]] = []
    for name, number in addresses.DOORS.items():
        if name == "kube-apiserver":  # default/kubernetes
            continue
        port = {"name": "https", "port": number, "protocol": "TCP"}
        service = {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": name, "namespace": "kube-system", "labels": {"k8s-app": name}},
            "spec": {"clusterIP": "None", "ports": [port]},
        }
        found += [
            (_SYSTEM_SERVICES, service),
            (_SLICES.format("kube-system"), _backbone_slice(name, "kube-system", port)),
        ]
    return found


def node_network_rights() -> list[tuple[str, Object]]:
    """Collection path and object of what the nodes' network part may read beside what every kube-proxy may."""
    group, name = "rbac.authorization.k8s.io", "podlab:node-network"
    head = {"apiVersion": f"{group}/v1", "metadata": {"name": name}}
    role = {**head, "kind": "ClusterRole", "rules": NETWORK_RULES}
    binding = {
        **head,
        "kind": "ClusterRoleBinding",
        "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": name},
        "subjects": [{"apiGroup": group, "kind": "User", "name": "system:kube-proxy"}],
    }
    return [(f"{_RBAC}/clusterroles", role), (f"{_RBAC}/clusterrolebindings", binding)]


async def write(api: ApiClient) -> None:
    """Write all of them with the administrator's rights."""
    for path, body in node_network_rights():
        await apply(api, path, body)
    for path, body in control_plane_services():
        # Somebody's own Service of that name may have an address, which it cannot lose. Only monitoring needs these.
        with contextlib.suppress(Invalid):
            await apply(api, path, body)
    await apply(api, _SLICES.format("default"), api_endpoint_slice())
    await apply(api, f"{_DEFAULT}/endpoints", api_endpoints())
    await apply(api, _SYSTEM_SERVICES, dns_service())


async def default_account_exists(api: ApiClient) -> bool:
    """Whether pods of the namespace default can be created: its service account is there."""
    try:
        await api.get(f"{_DEFAULT}/serviceaccounts/default")
    except NotFound:
        return False
    return True


async def nodes_not_ready(api: ApiClient, names: list[str], since: float) -> dict[str, str]:
    """Why a pod could not yet run on each of the named nodes; empty when it could on all.

    A node must have given a sign of life after `since` (seconds since the epoch): in a cluster that was
    stopped and started again, the word of an earlier life is still written there.
    """
    found = {node["metadata"]["name"]: node for node in (await api.get("/api/v1/nodes"))["items"]}
    leases = {lease["metadata"]["name"]: lease for lease in (await api.get(_LEASES))["items"]}
    reasons = {name: why_not(found.get(name), leases.get(name), since) for name in names}
    return {name: why for name, why in reasons.items() if why}


def why_not(node: Object | None, lease: Object | None, since: float) -> str:
    """Why a pod could not run on a node, from its Node and Lease; empty if it could."""
    if node is None:
        return "not registered"
    renewed = ((lease or {}).get("spec") or {}).get("renewTime")
    if not renewed or datetime.fromisoformat(renewed).timestamp() < since:
        return "no sign of life from its agent"
    conditions = {c["type"]: c for c in node.get("status", {}).get("conditions", [])}
    ready = conditions.get("Ready", {})
    if ready.get("status") != "True":
        return f"not Ready: {ready.get('message') or ready.get('reason') or 'no condition yet'}"
    taints = [t["key"] for t in node["spec"].get("taints", []) if t["key"].startswith("node.kubernetes.io/")]
    return f"tainted with {', '.join(taints)}" if taints else ""
