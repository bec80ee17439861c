"""Find the cluster that a lab works on, or say in plain words that there is none and how to get one."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from podlab.checks import faults
from podlab.checks.api import Api
from podlab.checks.faults import NodeFaults
from podlab.errors import PodlabError


@dataclass(frozen=True)
class Connection:
    """A reachable cluster. `nodes` breaks and mends its nodes, where that can be done."""

    name: str
    api: Api
    nodes: NodeFaults | None
    version: str


class LabError(PodlabError):
    """Something in a lab did not go; shown as a message, without a traceback."""


def chosen() -> str:
    """The name of the cluster that labs use: PODLAB_CLUSTER, what `podlab cluster use` chose, or "default"."""
    from podlab import cluster

    return cluster.current()


def connect(name: str | None = None) -> Connection:
    """Connect to a cluster: by PODLAB_KUBECONFIG if set, else the podlab cluster `name`.

    Raises PodlabError, with the command that helps, when there is no cluster or it does not answer.
    """
    given = os.environ.get("PODLAB_KUBECONFIG")
    name = name or chosen()
    kubeconfig = Path(given) if given else _kubeconfig(name)
    api = Api.connect(kubeconfig)
    version = api.request("GET", "/version").get("gitVersion", "")
    # A kubeconfig from elsewhere may be any cluster; its nodes are ours to break only if the cluster is named.
    ours = not given or "PODLAB_CLUSTER" in os.environ
    return Connection(name, api, faults.of_cluster(name) if ours else None, version)


def _kubeconfig(name: str) -> Path:
    from podlab import cluster

    return Path(cluster.get(name).kubeconfig)


def bring_up(name: str | None = None) -> None:
    """Start the podlab cluster `name`, or create it; raises PodlabError with the step that failed."""
    from podlab import cluster

    cluster.ensure(name or chosen())
