"""The node's heartbeat: a Lease that is renewed, and the news whether it could be."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from podlab.node.api import ApiClient, ApiError, NotFound, Object
from podlab.node.clock import micro_timestamp
from podlab.node.configuration import NodeConfiguration
from podlab.waiting import pause_async

log = logging.getLogger(__name__)

PATH = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"


class Heartbeat:
    """Renews the node's Lease every `lease_period` seconds. `recovered()` is called after a failed renewal."""

    def __init__(
        self,
        api: ApiClient,
        configuration: NodeConfiguration,
        node_uid: Callable[[], str],
        recovered: Callable[[], None],
    ) -> None:
        self._api = api
        self._configuration = configuration
        self._node_uid = node_uid
        self._recovered = recovered
        #: A renewal that comes before the lease is over still counts, however late it is.
        self._timeout = max(1.0, min(10.0, configuration.lease_duration - configuration.lease_period))

    async def run(self) -> None:
        """Renew until cancelled. Failures are tried again quickly and never end the heartbeat."""
        failing = False
        period = self._configuration.lease_period
        while True:
            begun = time.monotonic()
            try:
                await self._renew()
                if failing:
                    log.info("the lease is renewed again")
                    self._recovered()
                failing = False
            except ApiError as error:
                if not failing:
                    log.warning("the lease could not be renewed: %s", error)
                failing = True
            wait = min(1.0, period) if failing else period
            await pause_async(max(0.05, wait - (time.monotonic() - begun)))

    async def _renew(self) -> None:
        name = self._configuration.name
        spec: Object = {
            "holderIdentity": name,
            "leaseDurationSeconds": self._configuration.lease_duration,
            "renewTime": micro_timestamp(time.time()),
        }
        try:
            await self._api.patch(f"{PATH}/{name}", {"spec": spec}, timeout=self._timeout, urgent=True)
        except NotFound:
            owner = {"apiVersion": "v1", "kind": "Node", "name": name, "uid": self._node_uid()}
            metadata = {"name": name, "ownerReferences": [owner]}
            body = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": metadata, "spec": spec}
            await self._api.post(PATH, body, timeout=self._timeout, urgent=True)
