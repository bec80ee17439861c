"""The inventory of a cluster: every object that its API has, so that it can be proven to be as it was.

A cluster is used for another submission only when its inventory equals the one that was taken when it was new.
Namespaced and cluster-scoped objects count, of every group and kind that can be listed; what changes by itself
(status, versions, heartbeats, events) does not.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
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

Inventory = Mapping[str, str]


def is_settled(api: Api) -> bool:
    """Whether a new cluster's controllers have given every namespace what they give each: else it comes later."""
    namespaces = {one["metadata"]["name"] for one in api.list("Namespace")}
    given = (("ServiceAccount", "default"), ("ConfigMap", "kube-root-ca.crt"))
    return all(api.get(kind, name, namespace) for namespace in sorted(namespaces) for kind, name in given)


def inventory(api: Api) -> dict[str, str]:
    """A fingerprint of every object, by kind, namespace and name."""
    found: dict[str, str] = {}
    for root in _roots(api):
        for resource in api.request("GET", root).get("resources", []):
            if "/" in resource["name"] or "list" not in resource.get("verbs", ()) or resource["kind"] in PASSING:
                continue
            for item in api.request("GET", f"{root}/{resource['name']}", timeout=30).get("items") or []:
                meta = item["metadata"]
                place = "/".join(filter(None, (resource["kind"], meta.get("namespace"), meta["name"])))
                found[place] = fingerprint(item)
    return found


def _roots(api: Api) -> list[str]:
    """The paths of the core API and of the preferred version of every group."""
    groups = [group for group in api.request("GET", "/apis")["groups"] if group["name"] not in MEASURED]
    return ["/api/v1", *(f"/apis/{group['preferredVersion']['groupVersion']}" for group in groups)]


def fingerprint(item: Mapping[str, Any]) -> str:
    """What an object is, without what the cluster writes by itself; its uid counts: a new one is another object."""
    meta = {key: value for key, value in item.get("metadata", {}).items() if key not in VOLATILE}
    rest = {key: value for key, value in item.items() if key not in ("status", "metadata")}
    return hashlib.sha256(json.dumps([meta, rest], sort_keys=True).encode()).hexdigest()


def differences(before: Inventory, after: Inventory) -> list[str]:
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
        last[:] = differences(before, inventory(api)) + _unready(api)
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
