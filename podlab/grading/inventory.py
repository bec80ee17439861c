"""The inventory of a cluster: every object that its API has, so that it can be proven to be as it was.

A cluster is used for another submission only when its inventory equals the one that was taken when it was new.
Namespaced and cluster-scoped objects count, of every group and kind that can be listed; what changes by itself
(status, versions, heartbeats, events) does not. An object that has the uid and the version that it had then is what it
was then: etcd counts a new version with every write.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from podlab.checks.api import Api
from podlab.errors import WaitTimeout
from podlab.waiting import until

#: Kinds that come and go by themselves and hold nothing that a submission could leave behind for the next.
PASSING = {"Event", "Lease", "ComponentStatus"}
#: Groups that show measurements, not objects.
MEASURED = ("metrics.k8s.io", "custom.metrics.k8s.io", "external.metrics.k8s.io")
#: Parts of an object that the cluster writes by itself.
VOLATILE = ("resourceVersion", "managedFields", "generation", "selfLink")
#: Asks for the metadata of a list's objects alone.
METADATA = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"


@dataclass(frozen=True)
class Inventory:
    """Every object of a cluster, by kind, namespace and name: its fingerprint, and the version that has it.

    `collections` says where they were found: path -> kind. There are no others as long as no CustomResourceDefinition
    and no APIService has come or changed, and these are objects of the inventory themselves.
    """

    collections: Mapping[str, str]
    objects: Mapping[str, str]
    versions: Mapping[str, str]


def is_settled(api: Api) -> bool:
    """Whether a new cluster's controllers have given every namespace what they give each: else it comes later."""
    namespaces = {one["metadata"]["name"] for one in api.list("Namespace")}
    given = (("ServiceAccount", "default"), ("ConfigMap", "kube-root-ca.crt"))
    return all(api.get(kind, name, namespace) for namespace in sorted(namespaces) for kind, name in given)


def inventory(api: Api, before: Inventory | None = None) -> Inventory:
    """What is there now. What has the uid and the version that it had `before` is what it was, and only told."""
    collections = before.collections if before else _collections(api)
    objects: dict[str, str] = {}
    versions: dict[str, str] = {}
    for path, kind in collections.items():
        told = {_place(kind, item): _version(item) for item in _items(api, path, accept=METADATA)} if before else {}
        if before and all(version and before.versions.get(place) == version for place, version in told.items()):
            objects |= {place: before.objects[place] for place in told}
            versions |= told
            continue
        for item in _items(api, path):
            objects[_place(kind, item)] = fingerprint(item)
            versions[_place(kind, item)] = _version(item)
    return Inventory(collections, objects, versions)


def _collections(api: Api) -> dict[str, str]:
    """The paths of all lists of objects, and of which kind these are."""
    return {
        f"{root}/{resource['name']}": resource["kind"]
        for root in _roots(api)
        for resource in api.request("GET", root).get("resources", [])
        if "/" not in resource["name"] and "list" in resource.get("verbs", ()) and resource["kind"] not in PASSING
    }


def _items(api: Api, path: str, **options: Any) -> list[dict[str, Any]]:
    return api.request("GET", path, timeout=30, **options).get("items") or []


def _place(kind: str, item: Mapping[str, Any]) -> str:
    meta = item["metadata"]
    return "/".join(filter(None, (kind, meta.get("namespace"), meta["name"])))


def _version(item: Mapping[str, Any]) -> str:
    """Changes with every change of the object, whatever it is; empty if nobody counts them."""
    meta = item["metadata"]
    return f"{meta.get('uid')} {meta['resourceVersion']}" if meta.get("resourceVersion") else ""


def _roots(api: Api) -> list[str]:
    """The paths of the core API and of the preferred version of every group."""
    groups = [group for group in api.request("GET", "/apis")["groups"] if group["name"] not in MEASURED]
    return ["/api/v1", *(f"/apis/{group['preferredVersion']['groupVersion']}" for group in groups)]


def fingerprint(item: Mapping[str, Any]) -> str:
    """What an object is, without what the cluster writes by itself; its uid counts: a new one is another object."""
    meta = {key: value for key, value in item.get("metadata", {}).items() if key not in VOLATILE}
    rest = {key: value for key, value in item.items() if key not in ("status", "metadata")}
    return hashlib.sha256(json.dumps([meta, rest], sort_keys=True).encode()).hexdigest()


def differences(before: Mapping[str, str], after: Mapping[str, str]) -> list[str]:
    """What has come, gone or changed, in words."""
    return [
        *(f"{name} is new" for name in sorted(after.keys() - before.keys())),
        *(f"{name} is gone" for name in sorted(before.keys() - after.keys())),
        *(f"{name} has changed" for name in sorted(before.keys() & after.keys()) if before[name] != after[name]),
    ]


def proven_clean(api: Api, before: Inventory, timeout: float = 90) -> list[str]:
    """What is not as it was after at most `timeout` seconds, in which the cluster may tidy up; nothing if all is."""
    last: list[str] = []

    def clean() -> bool:
        # A namespace takes seconds to go, with all that is in it; to read every object each time costs a core as long.
        namespaces = {f"Namespace/{one['metadata']['name']}" for one in api.list("Namespace")}
        come = [f"{name} is new" for name in sorted(namespaces - before.objects.keys())]
        last[:] = come or differences(before.objects, inventory(api, before).objects) + _unready(api)
        return not last

    try:
        until(clean, "the cluster being as it was", timeout=timeout, interval=1.0)
    except WaitTimeout:
        pass
    return last


def _unready(api: Api) -> list[str]:
    nodes = api.request("GET", "/api/v1/nodes")["items"]
    return [f"Node/{node['metadata']['name']} is not ready" for node in nodes if not _is_ready(node)]


def _is_ready(node: Mapping[str, Any]) -> bool:
    conditions = node.get("status", {}).get("conditions") or []
    return any(entry["type"] == "Ready" and entry["status"] == "True" for entry in conditions)
