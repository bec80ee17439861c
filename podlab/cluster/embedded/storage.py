"""Dynamic provisioning: a folder of the chosen node for each claim of the StorageClass `standard`.

A node's folder is a folder of this host, so the supervisor makes and deletes them itself; at the API server it
has only the rights of a provisioner. Pods may write to that folder: no link in it is followed. A volume stays where it
was made: with its node it goes.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from podlab.cluster.embedded.identities import LOCAL_PROVISIONER
from podlab.node.api import AlreadyExists, ApiClient, ApiError, NotFound
from podlab.node.background import Background
from podlab.node.events import EventRecorder
from podlab.node.runtime.sandbox.beneath import entered, make_below
from podlab.trees import remove_tree
from podlab.waiting import pause_async

log = logging.getLogger(__name__)

Object = dict[str, Any]

PROVISIONER = "podlab.dev/local"
STANDARD = "standard"
#: Where volumes are in a node's own file system.
FOLDER = "/var/lib/podlab/volumes"
ACCESS_MODES = {"ReadWriteOnce", "ReadWriteOncePod"}
RULES = [
    {"apiGroups": [""], "resources": ["persistentvolumes"], "verbs": ["get", "list", "watch", "create", "delete"]},
    {"apiGroups": [""], "resources": ["persistentvolumeclaims"], "verbs": ["get", "list", "watch", "patch"]},
    {"apiGroups": ["storage.k8s.io"], "resources": ["storageclasses"], "verbs": ["get", "list", "watch"]},
    {"apiGroups": [""], "resources": ["events"], "verbs": ["create", "patch"]},
]
#: Pauses between tries: doubled from the first to the longest (seconds).
_RETRY_FIRST, _RETRY_LONGEST = 1.0, 30.0
_CLAIMS = "/api/v1/persistentvolumeclaims"
_VOLUMES = "/api/v1/persistentvolumes"
_CLASSES = "/apis/storage.k8s.io/v1/storageclasses"
#: Who is asked to provision a claim (and the annotation's older name), where, and who has provisioned a volume.
_ASKED = ("volume.kubernetes.io/storage-provisioner", "volume.beta.kubernetes.io/storage-provisioner")
_NODE = "volume.kubernetes.io/selected-node"
_MADE_BY = "pv.kubernetes.io/provisioned-by"
_HOST_NAME = "kubernetes.io/hostname"


def standard_class() -> Object:
    """The default StorageClass: a volume is made when, and where, the first pod that wants it is scheduled."""
    return {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {"name": STANDARD, "annotations": {"storageclass.kubernetes.io/is-default-class": "true"}},
        "provisioner": PROVISIONER,
        "reclaimPolicy": "Delete",
        "volumeBindingMode": "WaitForFirstConsumer",
    }


async def write_standard_class(administrator: ApiClient) -> None:
    """Create the default StorageClass, unless there is one of that name: it may have been changed."""
    try:
        await administrator.post(_CLASSES, standard_class())
    except AlreadyExists:
        pass


def wants_volume(claim: Object) -> bool:
    """Whether a claim waits for this provisioner."""
    metadata = claim["metadata"]
    annotations = metadata.get("annotations") or {}
    asked = any(annotations.get(name) == PROVISIONER for name in _ASKED)
    return asked and not claim["spec"].get("volumeName") and not metadata.get("deletionTimestamp")


def is_over(volume: Object) -> bool:
    """Whether a volume of this provisioner is to be deleted with its data."""
    annotations = volume["metadata"].get("annotations") or {}
    released = (volume.get("status") or {}).get("phase") == "Released"
    return (
        released
        and annotations.get(_MADE_BY) == PROVISIONER
        and volume["spec"].get("persistentVolumeReclaimPolicy") == "Delete"
    )


def refusal(claim: Object, storage_class: Object) -> str:
    """Why a claim cannot be met, empty if it can."""
    spec = claim["spec"]
    modes = sorted(set(spec.get("accessModes") or ()) - ACCESS_MODES)
    if modes:
        return f"access mode {', '.join(modes)} is not supported: a local volume is on one node"
    if spec.get("volumeMode") == "Block":
        return "volumeMode Block is not supported: there are no devices"
    if spec.get("dataSource") or spec.get("dataSourceRef"):
        return "a data source is not supported: volumes are made empty"
    if spec.get("selector"):
        return "a selector is not supported for volumes that are made on demand"
    if storage_class.get("parameters"):
        return f"StorageClass {storage_class['metadata']['name']}: this provisioner knows no parameters"
    if _NODE not in (claim["metadata"].get("annotations") or {}):
        return (
            f"no node was chosen: StorageClass {storage_class['metadata']['name']} needs "
            "volumeBindingMode: WaitForFirstConsumer"
        )
    return ""


def volume_for(claim: Object, storage_class: Object) -> Object:
    """The PersistentVolume for a claim that can be met."""
    metadata, spec = claim["metadata"], claim["spec"]
    name, node = f"pvc-{metadata['uid']}", metadata["annotations"][_NODE]
    expression = {"key": _HOST_NAME, "operator": "In", "values": [node]}
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": name, "annotations": {_MADE_BY: PROVISIONER}},
        "spec": {
            "accessModes": spec["accessModes"],
            "capacity": {"storage": spec["resources"]["requests"]["storage"]},
            "claimRef": {
                "apiVersion": "v1",
                "kind": "PersistentVolumeClaim",
                "namespace": metadata["namespace"],
                "name": metadata["name"],
                "uid": metadata["uid"],
                "resourceVersion": metadata["resourceVersion"],
            },
            "local": {"path": f"{FOLDER}/{name}"},
            "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [expression]}]}},
            "persistentVolumeReclaimPolicy": storage_class.get("reclaimPolicy") or "Delete",
            "storageClassName": storage_class["metadata"]["name"],
            "volumeMode": "Filesystem",
        },
    }


def nodes_of(volume: Object) -> Iterator[str]:
    """The names of the nodes that a volume's affinity names."""
    required = (volume["spec"].get("nodeAffinity") or {}).get("required") or {}
    for term in required.get("nodeSelectorTerms") or ():
        for expression in term.get("matchExpressions") or ():
            if expression["key"] == _HOST_NAME:
                yield from expression.get("values") or ()


class Provisioner:
    """Serves the claims of one cluster. `root(node)` is the folder that a node sees as `/`, None if unknown."""

    def __init__(self, api: ApiClient, root: Callable[[str], Path | None]) -> None:
        self._api = api
        self._root = root
        self._recorder = EventRecorder(api, LOCAL_PROVISIONER, component=PROVISIONER)
        self._tasks = Background()
        self._seen: dict[str, Object] = {}
        self._busy: set[str] = set()

    def start(self) -> None:
        """Begin to serve."""
        self._tasks.start(self._recorder.run(), "events of the provisioner")
        self._tasks.start(self._follow(_CLAIMS, wants_volume, self._provision), "claims")
        self._tasks.start(self._follow(_VOLUMES, is_over, self._delete), "volumes")

    async def stop(self) -> None:
        """End; what is under way is taken up again by the next start."""
        await self._tasks.cancel()
        await self._api.close()

    async def _follow(
        self, path: str, due: Callable[[Object], bool], work: Callable[[Object], Awaitable[None]]
    ) -> None:
        async for event in self._api.list_and_watch(path):
            if event.type == "SYNC":
                continue
            uid = event.object["metadata"]["uid"]
            if event.type == "DELETED":
                self._seen.pop(uid, None)
            elif due(event.object):
                self._seen[uid] = event.object
                if uid not in self._busy:
                    self._busy.add(uid)
                    self._tasks.start(self._work(uid, work), f"storage {event.object['metadata']['name']}")
            else:
                self._seen.pop(uid, None)

    async def _work(self, uid: str, work: Callable[[Object], Awaitable[None]]) -> None:
        """Do the work on the newest form of an object; again with a pause while it fails and is still due."""
        pause = _RETRY_FIRST
        try:
            while wanted := self._seen.get(uid):
                try:
                    await work(wanted)
                    return
                except (ApiError, OSError) as error:
                    self._tell(wanted, "Warning", "ProvisioningFailed", str(error))
                await pause_async(pause)
                pause = min(pause * 2, _RETRY_LONGEST)
        finally:
            self._busy.discard(uid)

    async def _provision(self, claim: Object) -> None:
        name = claim["spec"].get("storageClassName") or ""
        storage_class = await self._api.get(f"{_CLASSES}/{name}")
        if why := refusal(claim, storage_class):
            self._tell(claim, "Warning", "ProvisioningFailed", why)
            return
        volume = volume_for(claim, storage_class)
        node = claim["metadata"]["annotations"][_NODE]
        root = self._root(node)
        if root is None:
            self._tell(claim, "Warning", "ProvisioningFailed", f"node {node} is gone; another one may be chosen")
            metadata = claim["metadata"]
            path = f"/api/v1/namespaces/{metadata['namespace']}/persistentvolumeclaims/{metadata['name']}"
            await self._api.patch(path, {"metadata": {"annotations": {_NODE: None}}})
            return
        folder = _below(root, volume)
        root.mkdir(parents=True, exist_ok=True)
        make_below(root, folder.relative_to(root).parts, 0o755)
        with entered(folder, root) as inside:
            Path(inside).chmod(0o777)
        try:
            await self._api.post(_VOLUMES, volume)
        except AlreadyExists:
            return
        message = f"Successfully provisioned volume {volume['metadata']['name']}"
        self._tell(claim, "Normal", "ProvisioningSucceeded", message)

    async def _delete(self, volume: Object) -> None:
        for node in nodes_of(volume):
            if root := self._root(node):
                folder = _below(root, volume)
                with contextlib.suppress(FileNotFoundError), entered(folder.parent, root) as inside:
                    await asyncio.to_thread(remove_tree, f"{inside}/{folder.name}")
        try:
            await self._api.delete(f"{_VOLUMES}/{volume['metadata']['name']}")
        except NotFound:
            pass

    def _tell(self, about: Mapping[str, Any], kind: str, reason: str, message: str) -> None:
        metadata = about["metadata"]
        involved = {"kind": about.get("kind", "PersistentVolumeClaim"), "apiVersion": "v1"}
        involved |= {key: metadata[key] for key in ("namespace", "name", "uid") if key in metadata}
        self._recorder.record(involved, kind, reason, message)


def _below(root: Path, volume: Object) -> Path:
    return root / f"{FOLDER}/{volume['metadata']['name']}".lstrip("/")
