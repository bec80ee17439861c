"""What an installer adds to a bare control plane: the metrics API, and storage. Both are served by the supervisor."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

from podlab.cluster.embedded import storage
from podlab.cluster.embedded.identities import (
    FRONT_PROXY_CLIENT,
    LOAD_BALANCERS,
    LOCAL_PROVISIONER,
    METRICS_SERVER,
)
from podlab.network import addresses, load_balancers
from podlab.network.backbone import Backbone
from podlab.network.plain import PlainBackbone
from podlab.node import metrics_api
from podlab.node.api import ApiClient, NotFound

Object = dict[str, Any]

_RBAC = "/apis/rbac.authorization.k8s.io/v1"


#: What the metrics server may do: read nodes and pods, nothing else.
METRICS_RULES = [{"apiGroups": [""], "resources": ["nodes", "pods"], "verbs": ["get", "list"]}]


def rights(name: str, rules: list[Object]) -> list[tuple[str, Object]]:
    """Collection path and object of each part of a grant of `rules` to the user `name`."""
    head = {"apiVersion": "rbac.authorization.k8s.io/v1", "metadata": {"name": name}}
    group = "rbac.authorization.k8s.io"
    binding = {
        **head,
        "kind": "ClusterRoleBinding",
        "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": name},
        "subjects": [{"apiGroup": group, "kind": "User", "name": name}],
    }
    return [
        (f"{_RBAC}/clusterroles", {**head, "kind": "ClusterRole", "rules": rules}),
        (f"{_RBAC}/clusterrolebindings", binding),
    ]


async def register_metrics(administrator: ApiClient, pki: Path) -> None:
    """Give the metrics server its rights and register its API; the server should serve already."""
    registration = metrics_api.objects(addresses.BACKBONE, (pki / "ca.crt").read_bytes())
    for path, body in (*rights(METRICS_SERVER, METRICS_RULES), *registration):
        await apply(administrator, path, body)


async def serve_metrics(backbone: Backbone | PlainBackbone, pki: Path, api: ApiClient) -> metrics_api.MetricsApi:
    """Serve metrics.k8s.io in the backbone; `api` has the rights above. Stop what is returned in the end."""
    listening = backbone.socket(socket.AF_INET, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listening.bind((addresses.BACKBONE, metrics_api.PORT))
    certificates = metrics_api.Certificates(
        cluster_ca=str(pki / "ca.crt"),
        serving=str(pki / "metrics-server.crt"),
        serving_key=str(pki / "metrics-server.key"),
        client=str(pki / "kubelet-client.crt"),
        client_key=str(pki / "kubelet-client.key"),
        front_proxy_ca=str(pki / "front-proxy-ca.crt"),
        front_proxy_name=FRONT_PROXY_CLIENT,
    )
    served = metrics_api.MetricsApi(api, listening, backbone.socket, certificates)
    await served.start()
    return served


async def register_storage(administrator: ApiClient) -> None:
    """Give the provisioner its rights and make its StorageClass."""
    for path, body in rights(LOCAL_PROVISIONER, storage.RULES):
        await apply(administrator, path, body)
    await storage.write_standard_class(administrator)


async def register_load_balancers(administrator: ApiClient) -> None:
    """Give those who give load balancers their addresses the right to do so."""
    for path, body in rights(LOAD_BALANCERS, load_balancers.RULES):
        await apply(administrator, path, body)


async def apply(api: ApiClient, path: str, body: Object) -> None:
    """Bring the existing object of that name to the given state, or create it.

    In this order: a second creation of a Service with a fixed address is refused as invalid, not as existing.
    """
    try:
        await api.patch(f"{path}/{body['metadata']['name']}", body)
    except NotFound:
        await api.post(path, body)
