"""The verbs that learners know from kubectl, and waiting for what they lead to."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

from podlab.checks.api import AGAIN, Object, documents
from podlab.checks.world import is_ready, restarts
from podlab.errors import PodlabError
from podlab.lab.connection import LabError
from podlab.lab.place import FRESH, Place
from podlab.lab.show import COLUMNS, OTHERWISE, Listing, Note, event_time
from podlab.waiting import pause, until

T = TypeVar("T")


class KubectlVerbs(Place):
    """apply, get, events, logs, delete, scale, rollout; and waiting and measuring."""

    def apply(self, text: str) -> Listing:
        """Apply YAML text in the lab's namespace, like `kubectl apply`; shows the objects."""
        try:
            items = documents(text)
        except ValueError as error:
            raise LabError(f"This cannot be applied: {error}.", hint="Compare it with the manifest above.") from None
        fitting = self.room.world.fitting
        applied = [self._say(partial(self.api.apply, fitting(item), self.namespace, manager="lab")) for item in items]
        return Listing(
            applied, (("KIND", lambda item: item["kind"]), ("NAME", lambda item: item["metadata"]["name"])), "objects"
        )

    def get(self, kind: str, name: str | None = None) -> Any:
        """The objects of a kind in the namespace, like `kubectl get`; with `name` one object as a dictionary."""
        resource = self._say(lambda: self.api.resource(kind))
        if name is not None:
            found = self.api.get(kind, name, self.namespace)
            if found is None:
                raise LabError(
                    f"There is no {resource.kind} {name!r} in {self.namespace}.",
                    hint=f'See lab.get("{kind}").{f" {FRESH}" if resource.namespaced else ""}',
                )
            return found
        items = self._say(lambda: self.api.list(kind, self.namespace if resource.namespaced else None))
        return Listing(items, COLUMNS.get(resource.kind, OTHERWISE), resource.plural)

    def pods(self) -> Listing:
        """Your pods: those in the namespace that the lab did not put there itself."""
        return Listing(self.room.pods(), COLUMNS["Pod"], "pods")

    def nodes(self) -> Listing:
        """The nodes of the cluster."""
        return self.get("nodes")

    def events(self, about: str = "", limit: int = 12) -> Listing:
        """The newest events of the namespace, oldest first; `about` is part of an object's name or a reason."""
        items = [
            item
            for item in self._say(lambda: self.api.list("Event", self.namespace))
            if about.lower() in f"{item['involvedObject'].get('name', '')} {item.get('reason', '')}".lower()
        ]
        return Listing(sorted(items, key=event_time)[-limit:], COLUMNS["Event"], "events")

    def logs(self, pod: str, *, previous: bool = False, tail: int = 20) -> Note:
        """The last lines that a pod's container wrote; `previous` asks for the container before this one."""
        query = {"tailLines": tail, **({"previous": "true"} if previous else {})}
        path = f"/api/v1/namespaces/{self.namespace}/pods/{pod}/log"
        response = self.api.raw("GET", path, query=query, again=AGAIN)
        text = response.data.decode("utf-8", "replace")
        if response.status >= 400:
            try:
                said = str(json.loads(text)["message"])
            except (ValueError, KeyError, TypeError):
                said = text[:200]
            raise LabError(f"No log of {pod}: {said}.")
        return Note(text.rstrip() or "(the log is empty)")

    def delete(self, kind: str, name: str) -> Note:
        """Ask for an object's deletion, like `kubectl delete --wait=false`."""
        found = self._say(lambda: self.api.delete(kind, name, self.namespace))
        return Note(f"{kind} {name} is being deleted." if found else f"There is no {kind} {name}.")

    def scale(self, deployment: str, replicas: int) -> Note:
        """Change the number of replicas, like `kubectl scale`."""
        path = f"/apis/apps/v1/namespaces/{self.namespace}/deployments/{deployment}/scale"
        body = {"spec": {"replicas": replicas}}
        self._say(lambda: self.api.request("PATCH", path, body=body, content_type="application/merge-patch+json"))
        return Note(f"{deployment} is to have {replicas} replicas.")

    def wait(self, condition: Callable[[], T | None], what: str, within: float = 60.0) -> T:
        """The first truthy value of `condition()`; an error with the pods' states after `within` seconds."""
        try:
            return until(condition, what, timeout=within, interval=0.2, state=self.room.states)
        except PodlabError as error:
            raise LabError(error.message, hint=self._harmed_by_another() or error.hint) from None

    def wait_ready(self, count: int, within: float = 60.0) -> Listing:
        """Wait until exactly `count` of your pods exist and all are Ready; shows them."""

        def ready() -> bool:
            pods = self.room.pods()
            return len(pods) == count == len(self.room.ready())

        self.wait(ready, f"{count} pods being Ready", within)
        return self.pods()

    def rollout(self, deployment: str, within: float = 90.0) -> Listing:
        """Wait until a Deployment's newest version is all that runs, and all of it Ready; shows the pods."""

        def done() -> bool:
            item = self.api.get("Deployment", deployment, self.namespace) or {}
            status, wanted = item.get("status", {}), item.get("spec", {}).get("replicas", 1)
            current = status.get("observedGeneration") == item.get("metadata", {}).get("generation")
            counts = [status.get(key, 0) for key in ("replicas", "updatedReplicas", "readyReplicas")]
            return current and counts == [wanted] * 3 and self.settled()

        self.wait(done, f"the rollout of {deployment}", within)
        return self.pods()

    def settled(self) -> bool:
        """Whether every pod of yours is Ready and none is on its way out."""
        pods = self.room.pods()
        return bool(pods) and all(is_ready(pod) and not pod["metadata"].get("deletionTimestamp") for pod in pods)

    def now(self, pod: Object) -> Object:
        """The same pod (by uid) as it is now; an empty dictionary when it is gone."""
        return self.room.pod(pod["metadata"]["uid"]) or {}

    def ready(self, thing: Object | str) -> bool:
        """Whether a pod (by uid), or the node of that name, is Ready now."""
        if isinstance(thing, str):
            return is_ready(self.api.get("Node", thing) or {})
        return is_ready(self.now(thing))

    def restarts(self, pod: Object) -> int:
        """How often the pod's containers have been restarted by now."""
        return restarts(self.now(pod))

    def measure(self, condition: Callable[[], Any], what: str, within: float = 120.0) -> float:
        """The seconds until `condition()` is true, looking ten times a second."""
        began = time.monotonic()
        try:
            until(condition, what, timeout=within, interval=0.1, state=self.room.states)
        except PodlabError as error:
            raise LabError(error.message, hint=self._harmed_by_another() or error.hint) from None
        return round(time.monotonic() - began, 1)

    def pause(self, seconds: float) -> None:
        """Let some seconds pass, where time itself is the subject."""
        pause(seconds)
