"""The network policies of one node, in force: follows the objects, keeps the kernel's rules equal to them.

Pods and namespaces of the whole cluster are watched only while there is a policy: most clusters have none, and each
change of a pod would cost every node a look at it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from podlab.network import policies
from podlab.network.netfilter import Netfilter, NetfilterError
from podlab.network.nftables_messages import Message
from podlab.network.policies import PodFact
from podlab.network.policy_rules import table
from podlab.network.rulesets import Ruleset, change, creation
from podlab.network.watching import Api, Event
from podlab.waiting import pause_async

log = logging.getLogger(__name__)

Object = Mapping[str, Any]

POLICIES_PATH = "/apis/networking.k8s.io/v1/networkpolicies"
PODS_PATH = "/api/v1/pods"
NAMESPACES_PATH = "/api/v1/namespaces"

#: Seconds for which changes are gathered, and after which a refused change is tried again, from scratch.
DEBOUNCE, RETRY = 0.03, 2.0
#: Seconds that a new pod waits at most until the rules know it.
PATIENCE = 5.0


class PolicyGuard:
    """Knows policies, pods and namespaces as far as they are needed, and writes one nf_tables table."""

    def __init__(self, api: Api, node: str, *, netfilter: Callable[[], Netfilter] = Netfilter) -> None:
        self._api = api
        self._node = node
        self._open = netfilter
        self._policies: dict[str, Object] = {}
        self._namespaces: dict[str, Mapping[str, str]] = {}
        self._pods: dict[str, PodFact] = {}
        #: The addresses of this node's pods, known here before the API server knows them.
        self._placed: dict[str, str] = {}
        self._waiting = {POLICIES_PATH}
        self._wake = asyncio.Event()
        self._applied: Ruleset | None = None
        self.error = ""
        #: Set while the kernel has what the objects say.
        self.settled = asyncio.Event()

    async def run(self) -> None:
        """Follow for ever; NetfilterError if the packet filter cannot be used. Rules stay when cancelled."""
        try:
            opened = self._open()
        except NetfilterError as error:
            self.error = str(error)
            raise
        with opened as netfilter:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._follow(POLICIES_PATH), name="watch of network policies")
                group.create_task(self._keep(netfilter), name="network policies")

    def adopt(self, pod: Object, address: str) -> None:
        """Take in a pod of this node, which has been given `address`."""
        self._placed[pod["metadata"]["uid"]] = address
        self._take(PODS_PATH, "ADDED", pod)

    async def place(self, pod: Object, address: str) -> None:
        """Take in a pod of this node before anything of it runs; return when the rules that isolate it hold."""
        self.adopt(pod, address)
        if not self._policies and POLICIES_PATH not in self._waiting:
            return
        try:
            async with asyncio.timeout(PATIENCE):
                await self.settled.wait()
        except TimeoutError:
            log.warning("the pod %s starts before the network policies hold for it", pod["metadata"]["name"])

    def forget(self, uid: str) -> None:
        """A pod of this node has gone; its address may be another's next."""
        self._placed.pop(uid, None)
        if self._pods.pop(uid, None):
            self._changed()

    # What is known

    def apply(self, path: str, event: Event) -> None:
        """Take in one event of the watch of `path`."""
        if event.type == "SYNC":
            self._waiting.discard(path)
            self._changed()
        else:
            self._take(path, event.type, event.object)

    def _take(self, path: str, kind: str, found: Object) -> None:
        gone, metadata = kind == "DELETED", found["metadata"]
        known: dict[str, Any]
        value: Any
        try:
            if path == POLICIES_PATH:
                known, key = self._policies, metadata["uid"]
                value = None if gone else {"metadata": metadata, "spec": found.get("spec")}
            elif path == NAMESPACES_PATH:
                known, key, value = self._namespaces, metadata["name"], None if gone else metadata.get("labels") or {}
            else:
                known, key = self._pods, metadata["uid"]
                value = None if gone else policies.pod_fact(found, self._node, self._placed.get(key))
        except Exception:
            # One odd object must not cost the node its view of all the others.
            log.exception("a change of %s could not be taken in", metadata.get("name"))
            return
        if known.get(key) != value:
            if value is None:
                known.pop(key)
            else:
                known[key] = value
            self._changed()

    def _changed(self) -> None:
        self.settled.clear()
        self._wake.set()

    async def _follow(self, path: str) -> None:
        self._waiting.add(path)
        try:
            async for event in self._api.list_and_watch(path):
                self.apply(path, event)
        finally:
            self._waiting.discard(path)

    # What is in force

    async def _keep(self, netfilter: Netfilter) -> None:
        async with asyncio.TaskGroup() as group:
            watches: list[asyncio.Task[None]] = []
            while True:
                self._wake.clear()
                if self._policies and not watches:
                    watches = [group.create_task(self._follow(path)) for path in (PODS_PATH, NAMESPACES_PATH)]
                    self._waiting |= {PODS_PATH, NAMESPACES_PATH}
                elif watches and not self._policies:
                    for watch in watches:
                        watch.cancel()
                    watches = []
                    self._namespaces.clear()
                    self._pods = {uid: fact for uid, fact in self._pods.items() if uid in self._placed}
                await self._settle(netfilter)
                await self._wake.wait()
                await pause_async(DEBOUNCE)

    async def _settle(self, netfilter: Netfilter) -> None:
        """Bring the kernel up to date with what is known, unless that is only a part."""
        if self._waiting:
            return
        made = policies.restrictions(self._policies.values(), self._pods.values(), self._namespaces)
        new = table(made)
        batches: Sequence[Sequence[Message]]
        batches = creation(new) if self._applied is None else change(self._applied, new)
        try:
            if batches:
                await asyncio.to_thread(netfilter.commit_all, batches)
        except NetfilterError as error:
            self.error = str(error)
            log.error("the rules of network policies could not be changed: %s", error)
            self._applied = None
            self._wake.set()
            await pause_async(RETRY)
            return
        self._applied, self.error = new, ""
        if not self._wake.is_set():
            self.settled.set()
