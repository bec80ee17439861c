"""What the provisioner decides: which claims it meets and with what, which volumes it deletes."""

from __future__ import annotations

from pathlib import Path
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


class Api:
    """Stands for the API server: what it was asked to change."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    async def get(self, _: str) -> dict[str, Any]:
        return storage.standard_class()

    async def post(self, path: str, _: dict[str, Any]) -> None:
        self.asked.append(f"create {path}")

    async def delete(self, path: str) -> None:
        self.asked.append(f"delete {path}")


async def test_a_volume_is_made_open_for_all_and_goes_with_what_is_in_it(tmp_path: Path) -> None:
    api = Api()
    provisioner = storage.Provisioner(api, lambda _: tmp_path / "host")  # type: ignore[arg-type]
    await provisioner._provision(claim())
    folder = tmp_path / "host/var/lib/podlab/volumes/pvc-u"
    assert [path.stat().st_mode & 0o777 for path in (folder, folder.parent)] == [0o777, 0o755]
    (folder / "a/b").mkdir(parents=True)
    volume = storage.volume_for(claim(), storage.standard_class())
    for _ in range(2):
        await provisioner._delete(volume)
        assert list(folder.parent.iterdir()) == []
    assert api.asked[:2] == ["create /api/v1/persistentvolumes", "delete /api/v1/persistentvolumes/pvc-u"]


@pytest.mark.parametrize("link", ["var", "var/lib/podlab", "var/lib/podlab/volumes/pvc-u"])
async def test_a_link_that_a_pod_puts_among_volumes_leads_nowhere(tmp_path: Path, link: str) -> None:
    """Pods may write to the node's folder and name a volume as they like; this process may be the machine's root."""
    host, outside, api = tmp_path / "host", tmp_path / "outside", Api()
    kept = outside / "var/lib/podlab/volumes/pvc-u".removeprefix(link).lstrip("/") / "kept"
    kept.mkdir(parents=True, mode=0o700)
    (host / link).parent.mkdir(parents=True)
    (host / link).symlink_to(outside)
    provisioner = storage.Provisioner(api, lambda _: host)  # type: ignore[arg-type]
    before = kept.parent.stat().st_mode
    with pytest.raises(OSError, match="Not a directory"):
        await provisioner._provision(claim())
    with pytest.raises(OSError, match="Not a directory"):
        await provisioner._delete(storage.volume_for(claim(), storage.standard_class()))
    assert kept.is_dir() and kept.parent.stat().st_mode == before and api.asked == []
