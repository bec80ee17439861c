"""Enabling, disabling and looking at an add-on: a visible list of small steps on any cluster."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from podlab import paths
from podlab.addons import images
from podlab.addons.catalogue import LABEL, Addon, find
from podlab.addons.objects import WORKLOADS, Amounts, give, homeless, left, note, objects, versioned
from podlab.checks.api import Api, ApiError
from podlab.checks.pods import hindrance
from podlab.checks.world import PYTHON_IMAGE
from podlab.cluster import clusters
from podlab.cluster.embedded import binaries
from podlab.cluster.kind.provider import KindProvider
from podlab.cluster.progress import step
from podlab.cluster.provider import Progress, StepReport
from podlab.errors import AddonError, ClusterError
from podlab.waiting import until

Object = dict[str, Any]

MANAGER = "podlab-addon"
#: Phases of pods that have ended.
OVER = ("Succeeded", "Failed")
#: Seconds that what is taken away has to be gone.
PATIENCE = 180.0


@dataclass(frozen=True)
class Status:
    """An add-on in a cluster: `state` is disabled, starting, ready or stopping; `waiting` says for what it waits."""

    name: str
    state: str
    ready: int = 0
    wanted: int = 0
    waiting: Sequence[str] = ()


def silent(report: StepReport) -> None:
    """Say nothing."""


@contextmanager
def _rights() -> Iterator[None]:
    """AddonError, with what to do, where the user of the kubeconfig lacks a right."""
    try:
        yield
    except ApiError as error:
        if not error.lacks_right:
            raise
        raise AddonError(
            f"Your rights in this cluster are not enough for an add-on: {error.message}.",
            hint="An add-on makes a namespace, ClusterRoles and more, which takes cluster-admin. Let those who run the "
            "cluster enable it, or take one of your own: `podlab cluster up --name own`, `podlab cluster use own`.",
        ) from error


@_rights()
def enable(name: str, cluster: str = clusters.DEFAULT, *, progress: Progress = silent) -> None:
    """Bring an add-on into a cluster and return when it is ready. Twice does no harm and brings it up to date.

    Raises UsageError (no such add-on), ClusterError (no such cluster, or too small), BinaryError (a program cannot
    be had), AddonError (it cannot be there, or you may not bring it in), WaitTimeout (not ready in time: the message
    says what each pod waits for).
    """
    addon = find(name)
    api = Api.connect(clusters.get(cluster).kubeconfig)
    provider = clusters.provider_of(cluster)
    own = provider.name != "existing"
    named = "" if own else _named(addon, cluster)
    python = ""
    if isinstance(provider, KindProvider) and (addon.own_image or addon.packages):
        python = provider.python(cluster)  # its nodes cannot borrow this machine's packages
    wanted = objects(addon, own=own)
    with step("Room", progress) as say:
        _settled(api, addon)
        _unserved(api, addon, [*wanted, *addon.made()])
        say(_room(api, addon, wanted))
    if named:
        note(wanted, named)
    if own and addon.images:
        with step("Programs", progress) as say:
            names = [image.name for image in addon.images]
            programs = binaries.ensure(names, lambda report: say(report.detail or report.step))
        with step("Images", progress) as say:
            for image in addon.images:
                say(image.reference)
                images.make(image, programs)
                clusters.get(cluster).load_image(image.reference)
    if own and addon.own_image:
        with step("Images", progress) as say:
            name = addon.own_image(paths.committed(f"images/{addon.name}"), say, python)
            clusters.get(cluster).load_image(name)
            note(wanted, name)
            if addon.own_official:
                give(wanted, addon.own_official[0], name)
    if python and addon.packages:
        with step("Packages", progress) as say:
            say(" ".join(addon.packages))
            name = images.make_python(addon, python)
            clusters.get(cluster).load_image(name)
            give(wanted, PYTHON_IMAGE, name)
    lock = paths.private(paths.data() / "locks") / f"{addon.name}-{cluster}"
    with step("Objects", progress) as say, lock.open("a") as held:
        fcntl.flock(held, fcntl.LOCK_EX)  # two at once would each make a certificate
        # Pods hold the certificate with which they started: another one starts new pods, as any configuration does.
        for thing in versioned([*wanted, *addon.made(api.get)]):
            say(f"{thing['kind']} {thing['metadata']['name']}")
            api.apply(thing, addon.namespace, manager=MANAGER)
    with step("Ready", progress) as say:
        _wait(api, addon, wanted, say)


def _named(addon: Addon, cluster: str) -> str:
    """The image that the user has for a cluster to which podlab can give none; empty where there is an official one."""
    if not addon.own_named:
        return ""
    if image := os.environ.get(addon.own_named):
        return image
    raise AddonError(
        f"The image of {addon.name} is made on this machine, and podlab can give {cluster} no image.",
        hint=f"Build it from cluster/images/{addon.name}/Dockerfile.complete, push it to a registry that the cluster "
        f"pulls from, and name it: {addon.own_named}=IMAGE podlab addon enable {addon.name}. Or make a cluster here: "
        f"podlab cluster up --name here, podlab addon enable {addon.name} --name here",
    )


def disable(name: str, cluster: str = clusters.DEFAULT, *, progress: Progress = silent) -> None:
    """Take an add-on away with all its data, and return when it is gone.

    Without it there is nothing to do; a namespace of its name that is somebody else's stays.
    """
    addon = find(name)
    api = Api.connect(clusters.get(cluster).kubeconfig)
    if not _is_ours(api.get("Namespace", addon.namespace), addon):
        return
    things = [*objects(addon, own=True), *addon.made()]
    # Pods and claims first: a namespace that still has some is looked at again only after many seconds.
    with step("Pods", progress):
        _until(lambda: not _end_pods(api, addon.namespace), f"the end of the pods of {addon.name}")
    with step("Data", progress):
        for claim in api.list("PersistentVolumeClaim", addon.namespace):
            api.delete("PersistentVolumeClaim", claim["metadata"]["name"], addon.namespace)
        _until(lambda: not api.list("PersistentVolumeClaim", addon.namespace), f"the end of the data of {addon.name}")
    with step("Objects", progress):
        # In the reverse order: an APIService without its Service would block the namespace's end.
        for thing in reversed(things):
            if thing["metadata"].get("namespace") != addon.namespace:
                _delete(api, thing)
        _until(lambda: api.get("Namespace", addon.namespace) is None, f"the end of the namespace {addon.namespace}")


def status(name: str, cluster: str = clusters.DEFAULT) -> Status:
    """How an add-on is in a cluster."""
    addon = find(name)
    api = Api.connect(clusters.get(cluster).kubeconfig)
    namespace = api.get("Namespace", addon.namespace)
    if namespace is None or not _is_ours(namespace, addon):
        return Status(name, "disabled")
    if namespace["metadata"].get("deletionTimestamp"):
        return Status(name, "stopping")
    return _state(api, addon, [thing for thing in objects(addon, own=True) if thing["kind"] in WORKLOADS])


def _end_pods(api: Api, namespace: str) -> list[Object]:
    """Have all pods deleted, and all that makes them, whoever made it; returns the pods that have not ended yet."""
    for kind in (*WORKLOADS, "CronJob", "Job", "ReplicaSet", "Pod"):
        for thing in api.list(kind, namespace):
            if "deletionTimestamp" not in thing["metadata"]:
                api.delete(kind, thing["metadata"]["name"], namespace)
    return [pod for pod in api.list("Pod", namespace) if pod["status"].get("phase") not in OVER]


def _is_ours(namespace: Object | None, addon: Addon) -> bool:
    return namespace is not None and (namespace["metadata"].get("labels") or {}).get(LABEL) == addon.name


def _room(api: Api, addon: Addon, wanted: Sequence[Object]) -> str:
    """Say that there is room for the add-on; ClusterError if no node has so much left as one of its pods asks for."""
    if _is_ours(api.get("Namespace", addon.namespace), addon):
        return "enabled already: brought up to date"
    free = left(api.list("Node"), [pod for pod in api.list("Pod") if pod["status"].get("phase") not in OVER])
    had = {name: _shown(amounts) for name, amounts in free.items()}
    if found := homeless(wanted, free):
        thing, asked = found
        raise ClusterError(
            f"No node has room for all of the add-on {addon.name}: a pod of the {thing['kind']} "
            f"{thing['metadata']['name']} asks for {_shown(asked)}. Left on the {len(had)} nodes: "
            f"{'; '.join(f'{name} {amounts}' for name, amounts in had.items()) or 'nothing'}.",
            hint="Add a node, or disable another add-on: `podlab addon list`.",
        )
    return f"on {len(had)} nodes"


def _shown(amounts: Amounts) -> str:
    return f"{max(0.0, amounts['memory']) / 2**20:.0f} MiB of memory and {max(0.0, amounts['cpu']):.2f} CPU"


def _settled(api: Api, addon: Addon) -> None:
    """Wait for the end of an earlier one that is being taken away; AddonError if the namespace is somebody else's."""

    def free() -> bool:
        found = api.get("Namespace", addon.namespace)
        return found is None or "deletionTimestamp" not in found["metadata"]

    _until(free, f"the end of the earlier namespace {addon.namespace}")
    found = api.get("Namespace", addon.namespace)
    if found and not _is_ours(found, addon):
        raise AddonError(
            f"The cluster has a namespace {addon.namespace} already, which is not this add-on's.",
            hint=f"Rename or delete it first: kubectl get all --namespace {addon.namespace}",
        )


def _unserved(api: Api, addon: Addon, wanted: Sequence[Object]) -> None:
    """AddonError if the add-on would take an API from somebody else who serves it."""
    for thing in wanted:
        if thing["kind"] != "APIService":
            continue
        try:
            found = api.request("GET", _path(api, thing))
        except ApiError as error:
            if error.status != 404:
                raise
            continue
        # Whose pods serve it; what `made` makes has no label.
        if ((found.get("spec") or {}).get("service") or {}).get("namespace") != addon.namespace:
            group = thing["spec"]["group"]
            raise AddonError(
                f"The cluster serves {group} already, which the add-on {addon.name} would take over.",
                hint=f"See who does: kubectl get apiservice {thing['metadata']['name']}. "
                "An embedded cluster serves metrics.k8s.io itself.",
            )


def _until(condition: Callable[[], bool], what: str) -> None:
    until(condition, what, timeout=PATIENCE, interval=0.3)


def _wait(api: Api, addon: Addon, wanted: Sequence[Object], say: Any) -> None:
    workloads = [thing for thing in wanted if thing["kind"] in WORKLOADS]
    last = Status(addon.name, "starting")

    def ready() -> bool:
        nonlocal last
        last = _state(api, addon, workloads)
        say(f"{last.ready} of {last.wanted} pods" + (f"; {last.waiting[0]}" if last.waiting else ""))
        if last.waiting:
            _end_stuck(api, addon)
        return last.state == "ready"

    until(
        ready,
        f"the add-on {addon.name} becoming ready",
        timeout=addon.patience,
        interval=0.3,
        state=lambda: f"{last.ready} of {last.wanted} pods are ready; " + "; ".join(last.waiting),
    )


def _end_stuck(api: Api, addon: Addon) -> None:
    """End the pods of earlier versions that are not ready: a StatefulSet replaces none until they are, for ever.

    https://kubernetes.io/docs/concepts/workloads/controllers/statefulset/#forced-rollback
    """
    pods = api.list("Pod", addon.namespace)
    for thing in api.list("StatefulSet", addon.namespace):
        metadata, status = thing["metadata"], thing.get("status") or {}
        if status.get("observedGeneration", 0) < metadata["generation"]:
            continue  # which version is the newest is not known yet
        for pod in pods:
            its = pod["metadata"]
            if (
                metadata["uid"] in {one["uid"] for one in its.get("ownerReferences") or ()}
                and its["labels"]["controller-revision-hash"] != status["updateRevision"]
                and "deletionTimestamp" not in its
                and _why(pod)
            ):
                api.delete("Pod", its["name"], addon.namespace)


def _state(api: Api, addon: Addon, workloads: Sequence[Object]) -> Status:
    ready, wanted, missing = 0, 0, []
    for thing in workloads:
        kind, name = thing["kind"], thing["metadata"]["name"]
        found = api.get(kind, name, addon.namespace)
        if found is None:
            missing.append(f"{kind} {name} is not there")
            wanted += 1
            continue
        now, then, fresh = _counts(found)
        ready, wanted = ready + min(now, then), wanted + then
        if not fresh and now >= then:
            missing.append(f"{kind} {name} is being changed")
    waiting = [*missing, *(why for pod in api.list("Pod", addon.namespace) if (why := _why(pod)))]
    state = "ready" if ready == wanted and not missing else "starting"
    return Status(addon.name, state, ready, wanted, waiting)


def _counts(thing: Object) -> tuple[int, int, bool]:
    """Ready pods, wanted pods, and whether those that are there are of the newest version, and no others."""
    status = thing.get("status") or {}
    seen = status.get("observedGeneration", 0) >= thing["metadata"].get("generation", 0)
    if thing["kind"] == "DaemonSet":
        wanted = status.get("desiredNumberScheduled", 0)
        new = status.get("updatedNumberScheduled", 0) >= wanted > 0
        return status.get("numberReady", 0), wanted, seen and new
    wanted = thing["spec"].get("replicas", 1)
    new = status.get("updatedReplicas", 0) >= wanted >= status.get("replicas", 0)
    return status.get("readyReplicas", 0), wanted, seen and new


def _why(pod: Object) -> str | None:
    """Why a pod is not ready, in the words of its status; None if it is, or has done what it was for."""
    status = pod.get("status") or {}
    conditions = status.get("conditions") or ()
    if status.get("phase") == "Succeeded" or any(
        one["type"] == "Ready" and one["status"] == "True" for one in conditions
    ):
        return None
    return f"pod {pod['metadata']['name']} {hindrance(pod) or 'is not ready yet'}"


def _path(api: Api, thing: Object) -> str:
    metadata = thing["metadata"]
    return api.resource(thing["kind"], thing["apiVersion"]).path(metadata.get("namespace"), metadata["name"])


def _delete(api: Api, thing: Object) -> None:
    body = {"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": "Background"}
    try:
        api.request("DELETE", _path(api, thing), body=body)
    except ApiError as error:
        if error.status != 404:
            raise
