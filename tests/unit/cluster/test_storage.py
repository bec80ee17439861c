"""What the provisioner decides: which claims it meets and with what, which volumes it deletes."""

from __future__ import annotations

from typing import Any

import pytest

from podlab.cluster.embedded import storage
from podlab.cluster.embedded.storage import PROVISIONER

ASKED = {"volume.kubernetes.io/storage-provisioner": PROVISIONER, "volume.kubernetes.io/selected-node": "node-2"}


def claim(annotations: dict[str, str] | None = None, **spec: Any) -> dict[str, Any]:
    metadata = {"name": "c", "namespace": "n", "uid": "u", "resourceVersion": "7"}
    asked = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}, **spec}
    return {"metadata": {**metadata, "annotations": ASKED if annotations is None else annotations}, "spec": asked}


def test_a_claim_is_wanted_from_us_while_it_has_no_volume() -> None:
    assert storage.wants_volume(claim())
    assert not storage.wants_volume(claim(volumeName="v"))
    assert not storage.wants_volume(claim({"volume.kubernetes.io/storage-provisioner": "other"}))


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"accessModes": ["ReadWriteOnce", "ReadOnlyMany"]}, "ReadOnlyMany"),
        ({"volumeMode": "Block"}, "Block"),
        ({"dataSource": {"kind": "VolumeSnapshot", "name": "s"}}, "data source"),
        ({"selector": {"matchLabels": {}, "x": 1}}, "selector"),
        ({"annotations": {}}, "WaitForFirstConsumer"),
    ],
)
def test_what_cannot_be_met_is_named(changes: dict[str, Any], text: str) -> None:
    assert text in storage.refusal(claim(**changes), storage.standard_class())


def test_parameters_are_not_ignored() -> None:
    assert "parameters" in storage.refusal(claim(), {**storage.standard_class(), "parameters": {"type": "ssd"}})


def test_the_volume_belongs_to_its_claim_and_stays_on_its_node() -> None:
    assert storage.refusal(claim(), storage.standard_class()) == ""
    volume = storage.volume_for(claim(), storage.standard_class())
    assert volume["spec"]["claimRef"]["uid"] == "u"
    assert list(storage.nodes_of(volume)) == ["node-2"]
    assert volume["spec"]["capacity"] == {"storage": "1Gi"}
    assert volume["spec"]["persistentVolumeReclaimPolicy"] == "Delete"


def test_only_released_volumes_of_ours_that_are_to_be_deleted_are_over() -> None:
    volume = storage.volume_for(claim(), storage.standard_class())
    assert not storage.is_over(volume)
    volume["status"] = {"phase": "Released"}
    assert storage.is_over(volume)
    assert not storage.is_over({**volume, "spec": {**volume["spec"], "persistentVolumeReclaimPolicy": "Retain"}})
    assert not storage.is_over({**volume, "metadata": {"name": "v"}})
