"""A cluster is as it was only when no object has come, gone or changed."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
from little_api import LittleApi

from podlab.checks.api import Api
from podlab.grading.inventory import differences, fingerprint, inventory, is_settled, proven_clean

ITEM: dict[str, Any] = {
    "metadata": {"name": "a", "uid": "1", "resourceVersion": "7", "labels": {"x": "y"}, "managedFields": [1]},
    "spec": {"replicas": 1},
    "status": {"ready": 1},
}


def changed(**parts: Any) -> dict[str, Any]:
    item = copy.deepcopy(ITEM)
    for key, value in parts.items():
        item[key] = {**item.get(key, {}), **value}
    return item


@pytest.mark.parametrize("parts", [{"status": {"ready": 9}}, {"metadata": {"resourceVersion": "8", "generation": 4}}])
def test_what_changes_by_itself_does_not_count(parts: Any) -> None:
    assert fingerprint(changed(**parts)) == fingerprint(ITEM)


@pytest.mark.parametrize(
    "parts",
    [
        {"metadata": {"uid": "2"}},
        {"metadata": {"labels": {"x": "z"}}},
        {"metadata": {"finalizers": ["f"]}},
        {"spec": {"taints": [1]}},
        {"data": {"k": "v"}},
        {"rules": {}},
    ],
)
def test_everything_else_does(parts: Any) -> None:
    assert fingerprint(changed(**parts)) != fingerprint(ITEM)


def test_differences_are_said_by_name() -> None:
    before = {"Node/n1": "a", "ClusterRole/x": "b", "ConfigMap/kube-system/c": "c"}
    after = {"Node/n1": "a", "ConfigMap/kube-system/c": "d", "ClusterRole/y": "e"}
    assert differences(before, before) == []
    assert differences(before, after) == [
        "ClusterRole/y is new",
        "ClusterRole/x is gone",
        "ConfigMap/kube-system/c has changed",
    ]


def test_a_cluster_is_new_until_every_namespace_has_what_each_is_given(tmp_path: Path) -> None:
    """What came after the inventory was taken for the submission's, and the cluster was thrown away."""
    with LittleApi() as little:
        api = Api.connect(little.kubeconfig(tmp_path / "little"))
        for namespace in ("default", "kube-public"):
            little.add(f"/api/v1/namespaces/{namespace}", "Namespace")
            little.add(f"/api/v1/namespaces/{namespace}/serviceaccounts/default", "ServiceAccount")
        little.add("/api/v1/namespaces/default/configmaps/kube-root-ca.crt", "ConfigMap")
        assert not is_settled(api)
        little.add("/api/v1/namespaces/kube-public/configmaps/kube-root-ca.crt", "ConfigMap")
        assert is_settled(api)


def test_while_a_namespace_goes_the_rest_is_not_read(tmp_path: Path) -> None:
    """Every object was read again and again until the last namespace was gone: most of what a submission cost."""
    with LittleApi() as little:
        api = Api.connect(little.kubeconfig(tmp_path / "little"))
        node = {
            "kind": "Node",
            "metadata": {"name": "n"},
            "status": {"conditions": [{"type": "Ready", "status": "True"}]},
        }
        little.objects["/api/v1/nodes/n"] = node
        before = inventory(api)
        assert proven_clean(api, before, timeout=0) == []
        node["spec"] = {"unschedulable": True}
        little.add("/api/v1/namespaces/going", "Namespace")
        assert proven_clean(api, before, timeout=0) == ["Namespace/going is new"]
        del little.objects["/api/v1/namespaces/going"]
        assert proven_clean(api, before, timeout=0) == ["Node/n has changed"]


def test_what_has_the_version_that_it_had_is_not_read_again(tmp_path: Path) -> None:
    """To read and to compare every object again was a part of what each submission cost."""
    with LittleApi() as little:
        api = Api.connect(little.kubeconfig(tmp_path / "little"))
        ready = {"conditions": [{"type": "Ready", "status": "True"}]}
        node: dict[str, Any] = {"metadata": {"name": "n", "uid": "1", "resourceVersion": "1"}, "status": ready}
        little.objects["/api/v1/nodes/n"] = node
        little.add("/api/v1/namespaces/default", "Namespace", uid="2", resourceVersion="2")
        little.add("/api/v1/services/kubernetes", "Service", namespace="default", uid="3", resourceVersion="3")
        before = inventory(api)
        little.whole.clear()
        assert proven_clean(api, before, timeout=0) == []
        assert little.whole == ["/api/v1/namespaces", "/api/v1/nodes"], "only to see who is there, and who is ready"
        node["metadata"]["resourceVersion"], node["status"] = "4", {**ready, "images": []}
        assert proven_clean(api, before, timeout=0) == [], "its status alone has changed"
        node["metadata"]["resourceVersion"], node["spec"] = "5", {"unschedulable": True}
        del little.objects["/api/v1/services/kubernetes"]
        little.add("/api/v1/services/another", "Service", namespace="default", uid="6", resourceVersion="6")
        assert proven_clean(api, before, timeout=0) == [
            "Service/default/another is new",
            "Service/default/kubernetes is gone",
            "Node/n has changed",
        ]
