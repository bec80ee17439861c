"""Find the cluster that a lab works on, or say in plain words that there is none and how to get one."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from podlab.checks import faults, lent
from podlab.checks.api import Api, ApiError
from podlab.checks.faults import NodeFaults
from podlab.checks.world import OFFICIAL_IMAGE, PYTHON_IMAGE
from podlab.cluster import readiness
from podlab.errors import PodlabError, UsageError

_NEW = (
    "Set PODLAB_KUBECONFIG to a kubeconfig whose current context leads to the cluster and whose credentials it takes "
    "(in a cloud: log in again); without it labs use your podlab cluster."
)


@dataclass(frozen=True)
class Connection:
    """A reachable cluster. `nodes` breaks and mends its nodes, where that can be done.

    `image` is what podlab/python is there, `namespaces` those that were given to somebody who may not make any.
    """

    name: str
    api: Api
    nodes: NodeFaults | None
    version: str
    image: str = PYTHON_IMAGE
    namespaces: tuple[str, ...] = ()

    @property
    def surroundings(self) -> dict[str, Any]:
        """What a World has to know of it, besides the connection itself."""
        return {"cluster": self.name, "nodes": self.nodes, "image": self.image, "namespaces": self.namespaces}


class LabError(PodlabError):
    """Something in a lab did not go; shown as a message, without a traceback."""


def chosen() -> str:
    """The name of the cluster that labs use: PODLAB_CLUSTER, what `podlab cluster use` chose, or "default"."""
    from podlab import cluster

    return cluster.current()


def connect(name: str | None = None) -> Connection:
    """Connect to a cluster: by PODLAB_KUBECONFIG if set, else the podlab cluster `name`.

    Raises PodlabError, with the command that helps, when there is no cluster or it does not answer, and for one that
    looks like one in production until PODLAB_CONFIRM is the full name of its context.
    """
    given = os.environ.get("PODLAB_KUBECONFIG")
    name = name or chosen()
    kubeconfig = _confirmed(Path(given)) if given else _kubeconfig(name)
    api = Api.connect(kubeconfig)
    try:
        version = api.request("GET", "/version").get("gitVersion", "")
    except ApiError as error:
        if error.status == 401:
            raise LabError(readiness.unauthorized(kubeconfig), hint=_NEW if given else readiness.FRESH) from error
        raise
    # A kubeconfig from elsewhere may be any cluster; its nodes are ours to break only if the cluster is named.
    ours = not given or "PODLAB_CLUSTER" in os.environ
    nodes = faults.of_cluster(name) if ours else None
    named = filter(None, (one.strip() for one in os.environ.get(lent.VARIABLE, "").split(",")))
    return Connection(name, api, nodes, version, _image(kubeconfig), tuple(named))


def _confirmed(kubeconfig: Path) -> Path:
    from podlab.cluster import existing

    try:
        context, parts = existing.pick(existing.read(kubeconfig), "", kubeconfig)
    except UsageError as error:
        raise LabError(f"PODLAB_KUBECONFIG: {error.message}", hint=_NEW) from error
    if existing.looks_like_production(context, parts) and os.environ.get("PODLAB_CONFIRM") != context:
        raise LabError(existing.question(context, parts, kubeconfig), hint=f"Say so with PODLAB_CONFIRM={context}")
    return kubeconfig


def _image(kubeconfig: Path) -> str:
    """What stands for podlab/python: PODLAB_LAB_IMAGE; else an official image where it is not we who run the nodes."""
    from podlab.cluster import clusters

    if named := os.environ.get("PODLAB_LAB_IMAGE"):
        return named
    name = clusters.of_kubeconfig(kubeconfig)
    ours = name and clusters.provider_of(name).name != "existing"
    return PYTHON_IMAGE if ours else OFFICIAL_IMAGE


def _kubeconfig(name: str) -> Path:
    from podlab import cluster

    return Path(cluster.get(name).kubeconfig)


def bring_up(name: str | None = None) -> None:
    """Start the podlab cluster `name`, or create it; raises PodlabError with the step that failed."""
    from podlab import cluster

    cluster.ensure(name or chosen())
