"""Namespaces that were made for somebody who may not make any: lent to one room at a time, and given back empty.

While a room has a namespace there is a ConfigMap in it, the mark: whose room it is, and what was there before. Nothing
is taken that holds a workload without a mark, and what was there before stays: so nobody else's things are deleted.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Sequence
from contextlib import suppress

from podlab import paths
from podlab.checks import owners
from podlab.checks.api import Api, ApiAway, ApiError, Object
from podlab.errors import PodlabError, WaitTimeout
from podlab.waiting import until

#: The variable that names them, with commas between.
VARIABLE = "PODLAB_NAMESPACES"
#: The ConfigMap that stands for a room.
MARK = "podlab-in-use"
#: What rooms may hold, owners before what they own. All of it is within the right `edit`.
WORKLOADS = (
    "Deployment", "StatefulSet", "DaemonSet", "CronJob", "Job", "ReplicaSet", "ReplicationController", "Pod",
    "HorizontalPodAutoscaler", "PodDisruptionBudget", "Ingress", "Service", "PersistentVolumeClaim",
)  # fmt: skip
#: What a cluster's operators put into namespaces, too; it is noted in the mark and left alone.
SETTINGS = ("ConfigMap", "Secret", "NetworkPolicy")
#: Seconds in which what is on its way out must be gone.
_PATIENCE = 60
#: (API server, namespace) of the rooms of this process. A mark of ours elsewhere is of a taking or a giving back that
#: was broken off: it would be in our own way for as long as we live.
_held: set[tuple[str, str]] = set()


def named() -> tuple[str, ...]:
    """The namespaces that the variable names; none where labs make their own."""
    return tuple(filter(None, (one.strip() for one in os.environ.get(VARIABLE, "").split(","))))


def take(api: Api, names: Sequence[str]) -> str:
    """The first of the namespaces that is free, empty and marked; PodlabError says what is in the way of each."""
    refused = []
    for name in names:
        if why := _taken(api, name):
            refused.append(f"{name} {why}")
        else:
            _held.add(_where(api, name))
            return name
    raise PodlabError(
        f"No namespace is free: {'; '.join(refused)}.",
        hint=f"A lesson needs one and a check one to three, all empty: name them in {VARIABLE}, with commas between.",
    )


def give_back(api: Api, name: str) -> None:
    """Ask for the deletion of all that came in since it was taken, then of the mark. Does not wait.

    If it fails, the next `take` of this process does what is left of it.
    """
    _held.discard(_where(api, name))
    mark = api.get("ConfigMap", MARK, name)
    if mark is not None:
        _empty(api, name, mark)
        api.delete("ConfigMap", MARK, name)


def give_all_back(api: Api) -> list[str]:
    """Give back those of the named ones that this user's rooms have, whichever process took them; returns them."""
    marks = {name: api.get("ConfigMap", MARK, name) for name in named()}
    ours = [name for name, mark in marks.items() if mark and mark["data"]["home"] == paths.identity()]
    for name in ours:
        give_back(api, name)
    return ours


def _taken(api: Api, name: str) -> str:
    """Mark a namespace as ours; why that cannot be, "" if it is done."""
    path = f"/api/v1/namespaces/{name}/configmaps"
    found = api.get("ConfigMap", MARK, name)
    if found is not None and not _abandoned(found["data"], held=_where(api, name) in _held):
        return f"is in use by {found['data']['owner']} on {found['data']['host']} (ConfigMap {MARK})"
    things = [] if found else _things(api, name, WORKLOADS)
    if staying := [_word(thing) for thing in things if not _leaving(thing)]:
        return f"holds {', '.join(staying[:3])}, which no lab has made"
    kept = found["data"]["kept"] if found else json.dumps([_word(thing) for thing in _things(api, name, SETTINGS)])
    mine = {"owner": owners.own() or "", "host": socket.gethostname(), "home": paths.identity(), "kept": kept}
    mark: Object = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": MARK}, "data": mine}
    try:
        if found:
            mark["metadata"]["resourceVersion"] = found["metadata"]["resourceVersion"]
            api.request("PUT", f"{path}/{MARK}", body=mark)
            _empty(api, name, mark)
        else:
            api.request("POST", path, body=mark)
        until(lambda: not _things(api, name, WORKLOADS), f"{name} being empty", timeout=_PATIENCE, interval=0.2)
    except BaseException as error:
        if isinstance(error, ApiError) and error.status == 409:
            return "was taken by another notebook just now"
        with suppress(ApiAway, ApiError):  # what brought us here says more
            _unmark(api, name, mine, found)
        if not isinstance(error, WaitTimeout):
            raise
        return f"still holds {', '.join(_word(thing) for thing in _things(api, name, WORKLOADS)[:3])}"
    return ""


def _unmark(api: Api, name: str, mine: dict[str, str], found: Object | None) -> None:
    """Take our mark away if it is there, so that the next to come sees what we `found`."""
    there = api.get("ConfigMap", MARK, name)
    if there is None or there["data"] != mine:
        return
    if found is None:  # it may be somebody else's after all
        api.delete("ConfigMap", MARK, name)
    else:
        body = {**there, "data": found["data"]}
        api.request("PUT", f"/api/v1/namespaces/{name}/configmaps/{MARK}", body=body)


def _where(api: Api, name: str) -> tuple[str, str]:
    return api.client.configuration.host, name


def _abandoned(mark: dict[str, str], *, held: bool) -> bool:
    """Whether nobody has the room any more: its process has ended, this machine was started anew, or we let it go.

    `held`: whether the namespace is one of ours now.
    """
    if mark["owner"] == owners.own():
        return not held
    if owners.dead(mark["owner"]):
        return True
    here = (paths.identity(), socket.gethostname())
    return (mark["home"], mark["host"]) == here and not owners.of_this_machine(mark["owner"])


def _leaving(thing: Object) -> bool:
    """Whether an object goes by itself: it is being deleted, or may be what the garbage collector comes for."""
    return bool(thing["metadata"].get("deletionTimestamp") or thing["metadata"].get("ownerReferences"))


def _empty(api: Api, name: str, mark: Object) -> None:
    kept = {f"ConfigMap/{MARK}", *json.loads(mark["data"]["kept"])}
    for thing in _things(api, name, (*WORKLOADS, *SETTINGS)):
        if _word(thing) not in kept and not thing["metadata"].get("deletionTimestamp"):
            api.delete(thing["kind"], thing["metadata"]["name"], name)


def _things(api: Api, name: str, kinds: Sequence[str]) -> list[Object]:
    """The objects of these kinds, with their kind; none of a kind that we may not see, and so not make either."""
    found = []
    for kind in kinds:
        try:
            found += [{**item, "kind": kind} for item in api.list(kind, name)]
        except ApiError as error:
            if error.status != 403:
                raise
    return found


def _word(thing: Object) -> str:
    return f"{thing['kind']}/{thing['metadata']['name']}"
