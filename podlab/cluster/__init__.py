"""Clusters: `from podlab import cluster`, then `cluster.up()`, `cluster.get().nodes.kill("node-2")`, ...

A cluster belongs to a provider (podlab.cluster.provider), which is remembered with it; so every verb but `up`
needs a name only.
"""

from __future__ import annotations

from podlab.cluster.clusters import (
    Cluster,
    current,
    down,
    ensure,
    forget,
    get,
    list_clusters,
    merge_kubeconfig,
    start,
    status,
    stop,
    up,
    use,
)

__all__ = [
    "Cluster",
    "current",
    "down",
    "ensure",
    "forget",
    "get",
    "list_clusters",
    "merge_kubeconfig",
    "start",
    "status",
    "stop",
    "up",
    "use",
]
