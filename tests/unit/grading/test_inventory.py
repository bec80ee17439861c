"""A cluster is as it was only when no object has come, gone or changed."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from podlab.grading.inventory import differences, fingerprint

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
