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

    One from elsewhere is called by its context and file: no verb that takes a cluster's name means another by it.

    Raises PodlabError, with the command that helps, when there is no cluster or it does not answer, and for one that
    looks like one in production until PODLAB_CONFIRM is the full name of its context.
    """
    from podlab.cluster import clusters

    given = os.environ.get("PODLAB_KUBECONFIG")
    # A kubeconfig from elsewhere may be any cluster; its nodes are ours to break only if the cluster is named.
    ours = not given or "PODLAB_CLUSTER" in os.environ
    name = name or chosen()
    if given:
        kubeconfig = Path(given)
        context = _confirmed(kubeconfig)
        name = name if ours else clusters.of_kubeconfig(kubeconfig) or f"{context} of {given}"
    else:
        kubeconfig = clusters.get(name).kubeconfig
    api = Api.connect(kubeconfig)
    readiness.need_credentials(api.client, kubeconfig)
    try:
        version = api.request("GET", "/version").get("gitVersion", "")
    except ApiError as error:
        if error.status == 401:
            raise LabError(readiness.unauthorized(kubeconfig), hint=_NEW if given else readiness.FRESH) from error
        raise
    nodes = faults.of_cluster(name) if ours else None
    if _is_ours(kubeconfig):  # what is set for the cluster of a class may still be set at home
        return Connection(name, api, nodes, version)
    image = os.environ.get("PODLAB_LAB_IMAGE") or OFFICIAL_IMAGE
    return Connection(name, api, nodes, version, image, lent.named())


def _confirmed(kubeconfig: Path) -> str:
    """The name of its current context, once nothing is in the way of using it."""
    from podlab.cluster import existing

    try:
        context, parts = existing.pick(existing.read(kubeconfig), "", kubeconfig)
    except UsageError as error:
        raise LabError(f"PODLAB_KUBECONFIG: {error.message}", hint=_NEW) from error
    if existing.looks_like_production(context, parts) and os.environ.get("PODLAB_CONFIRM") != context:
        raise LabError(existing.question(context, parts, kubeconfig), hint=f"Say so with PODLAB_CONFIRM={context}")
    return context


def _is_ours(kubeconfig: Path) -> bool:
    """Whether it is the kubeconfig of a cluster that podlab runs."""
    from podlab.cluster import clusters

    name = clusters.of_kubeconfig(kubeconfig)
    return bool(name) and clusters.provider_of(name).name != "existing"


def bring_up(name: str | None = None) -> None:
    """Start the podlab cluster `name`, or create it; raises PodlabError with the step that failed."""
    from podlab import cluster

    cluster.ensure(name or chosen())
