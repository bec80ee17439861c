"""What the workers of one node share."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

from podlab.images.pull import FetchNeeded, RunnableImage
from podlab.images.users import Identity
from podlab.network.addresses import pod_addresses
from podlab.node import log_links
from podlab.node.api import ApiClient
from podlab.node.backoff import BackoffPolicy
from podlab.node.configuration import NodeConfiguration
from podlab.node.events import EventRecorder
from podlab.node.fields import Place
from podlab.node.objects import ObjectReader
from podlab.node.runtime.contract import Runtime


class ImageSource(Protocol):
    """The part of podlab.images.pull.Images that is used here."""

    def resolve(self, reference: str, policy: str = ...) -> RunnableImage:
        """The image that `reference` means, unpacked; FetchNeeded or another ImagePullError otherwise."""

    def fetch(self, reference: str, policy: str = ...) -> RunnableImage:
        """The same, from its registry; ImagePullError says why not."""


class PodNetwork(Protocol):
    """The part of podlab.network.node.NodeNetwork that is used here."""

    def adopt(self, pod: Mapping[str, Any], address: str) -> None:
        """Take in a pod that was found running."""

    async def pod_up(self, pod: Mapping[str, Any], address: str) -> None:
        """Return when the pod may start; NetfilterError if it has to wait."""

    async def pod_down(self, uid: str) -> None:
        """Forget a pod, whose address will be another's."""


class Addresses:
    """The pod addresses of a node. A freed one is given again as late as possible."""

    def __init__(self, index: int) -> None:
        self._free = deque(pod_addresses(index))

    def take(self) -> str | None:
        """An address that no pod has, None if all are taken."""
        return self._free.popleft() if self._free else None

    def claim(self, address: str) -> None:
        """Mark `address` as taken by a pod that was found running."""
        if address in self._free:
            self._free.remove(address)

    def free(self, address: str) -> None:
        """Give `address` back."""
        if address not in self._free:
            self._free.append(address)


@dataclass
class NodeContext:
    """Configuration and services of the node; `services(namespace, links)` gives the service variables."""

    configuration: NodeConfiguration
    api: ApiClient
    runtime: Runtime
    images: ImageSource
    recorder: EventRecorder
    objects: ObjectReader
    services: Callable[[str, bool], Mapping[str, str]]
    addresses: Addresses
    allocatable: Mapping[str, str]
    network: PodNetwork
    policy: BackoffPolicy = field(default_factory=BackoffPolicy)
    #: Who a user of an image is: (image id, runAsUser) -> identity, since it takes reading the image's files.
    identities: dict[tuple[str, int | None], Identity] = field(default_factory=dict)

    #: Held while an image is fetched: one at a time, as the kubelet does, so that threads are left for others.
    fetching: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def image(self, reference: str, policy: str, on_fetch: Callable[[], None]) -> tuple[RunnableImage, float]:
        """The image for a pod, and the seconds that fetching it took (0: it was there); calls `on_fetch` before."""
        try:
            return await asyncio.to_thread(self.images.resolve, reference, policy), 0.0
        except FetchNeeded:
            on_fetch()
        began = time.monotonic()
        async with self.fetching:
            image = await asyncio.to_thread(self.images.fetch, reference, policy)
        return image, time.monotonic() - began

    def place(self, address: str | None) -> Place:
        """Where a pod with `address` is, for the downward API."""
        return Place(self.configuration.name, self.configuration.address, address, self.allocatable)

    def identity(self, image: RunnableImage, user: int | None) -> Identity:
        """Who `user` (None: the image's own) is in `image`; ImagePullError if the image does not know its user."""
        key = (image.id, user)
        if key not in self.identities:
            self.identities[key] = image.identity(user)
        return self.identities[key]

    def pod_folder(self, uid: str) -> Path:
        """The private folder of a pod."""
        return Path(self.configuration.folder, "pods", uid)

    @cached_property
    def host_paths(self) -> Path:
        """The folder that hostPath volumes see as `/`."""
        return self.configuration.host_paths

    @cached_property
    def logs(self) -> Path:
        """/var/log/pods of the node, where a log shipper looks by way of a hostPath volume."""
        return self.host_paths / "var" / "log" / "pods"

    def log_folder(self, pod: Mapping[str, Any]) -> Path:
        """The folder of a pod's logs, named as the kubelet names it; below it CONTAINER/ATTEMPT.log.

        A name that would be too long for a file loses its end, not the UID by which log shippers tell pods.
        """
        namespace, name, uid = (pod["metadata"][key] for key in ("namespace", "name", "uid"))
        room = log_links.LONGEST_NAME - len(namespace) - len(uid) - 2
        return self.logs / f"{namespace}_{name[:room]}_{uid}"

    def pod_path(self, pod: Mapping[str, Any]) -> str:
        """The API path of a pod."""
        metadata = pod["metadata"]
        return f"/api/v1/namespaces/{metadata['namespace']}/pods/{metadata['name']}"
