"""The world in which an answer is checked: rooms (namespaces) of its own, two identities, faults, seed, deadlines.

A room is made by the checker. The learner's objects enter it as the user `podlab:learner`, who may edit this one
namespace and nothing else; everything that observes or breaks things acts as the administrator. For somebody who may
not make namespaces a room is one of those that were given, and everything is done as that user.
"""

from __future__ import annotations

import random
import re
import secrets
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from functools import partial
from typing import Any, TypeVar

from podlab.checks import calm, lent, owners
from podlab.checks.api import Api, ApiAway, ApiError, Object, documents
from podlab.checks.calls import Start, start_here
from podlab.checks.code import Code
from podlab.checks.contract import Inconclusive, Refused, Result, failed
from podlab.checks.faults import NodeFaults
from podlab.checks.traffic import Client, Prober, Reply, Silent, ask, client_objects, prober_objects
from podlab.errors import PodlabError, WaitTimeout
from podlab.waiting import pause, until

T = TypeVar("T")

LEARNER = "podlab:learner"
#: The role in each namespace of ours with what a learner may do there.
LEARNER_ROLE = "podlab-learner"
#: Label of everything that podlab puts into a room itself: it is never taken for the learner's.
OURS = "podlab.dev/ours"
#: Bytes on a node's disk that a container may take in one of these namespaces: with more its pod is evicted.
MOST_DISK = "512Mi"
#: What there may be in one of them at a time; no answer and no lesson needs a third of it. Pods are not bounded: where
#: they are, the API server refuses some by chance when several are made at once (a conflict over the count).
MOST_OBJECTS = {"persistentvolumeclaims": "10"}
#: Label of all namespaces that podlab makes; its value is the nonce of the world or lab that made them.
MADE_BY = "podlab.dev/world"
#: Image of programs that only need Python; any image with python3 will do.
PYTHON_IMAGE = "podlab/python:3"
#: The same for clusters that do not have ours: there that name would be whatever its owner at Docker Hub publishes.
OFFICIAL_IMAGE = "docker.io/library/python:3.14-slim"
_OUR_PYTHON = re.compile(r"(docker\.io/)?podlab/python(:.*)?")
#: The label of a podlab node that tells what runs its containers, and how such a runtime calls itself in a refusal.
PLAIN_RUNTIME = "the plain runtime"
#: Seconds from the creation of a small pod to Ready on an idle machine with two cores. Deadlines of checks are
#: written for such a machine. On a slower one they grow by a factor, up to MOST_STRETCH, and by some times what
#: a pod takes longer: the timers of probes do not slow down with the machine, the work around them does.
USUAL_START = 1.5
MOST_STRETCH = 2.0
EXTRA_STARTS = 4
#: Looks at its pods that a room remembers.
MOST_LOOKS = 400
#: How many times as long a deadline is if processes had to wait for a processor nearly all the time.
CROWDED_TIMES = 3
#: A machine on which a small pod takes longer than this says nothing about anybody's answer.
SLOWEST_START = 60.0


class World(Code, AbstractContextManager["World"]):
    """One run's surroundings. Use as a context manager: leaving it deletes its rooms (without waiting)."""

    def __init__(
        self,
        api: Api,
        *,
        seed: int,
        label: str = "check",
        cluster: str = "default",
        nodes: NodeFaults | None = None,
        image: str = PYTHON_IMAGE,
        namespaces: Sequence[str] = (),
        start: Start = start_here,
        say: Callable[[str], None] = lambda _text: None,
        measured_in: str = "",
    ) -> None:
        self.api = api
        self.seed = seed
        self.random = random.Random(seed)
        self.nonce = secrets.token_hex(4)
        self.label = label
        self.cluster = cluster
        self.nodes = nodes
        self.image = image
        #: Those that were given (`lent`); none where we make our own.
        self.namespaces = namespaces
        self.start = start
        self.say = say
        #: The namespace of the small pods by which the machine is measured; empty: a room of their own.
        self.measured_in = measured_in
        self.stretch = 1.0
        self.baseline = 0.0
        self.rooms: dict[str, Room] = {}

    def __enter__(self) -> World:
        try:
            self.measure()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def close(self) -> None:
        """Delete the rooms; an API server that is away is no reason to fail here."""
        for namespace in {room.namespace for room in self.rooms.values()}:
            with suppress(ApiAway, ApiError):
                if self.namespaces:
                    lent.give_back(self.api, namespace)
                else:
                    self.api.delete("Namespace", namespace)
        self.rooms.clear()

    def room(self, name: str, objects: Sequence[Object] = ()) -> Room:
        """The room `name`, made with `objects` of ours in it if it is new."""
        if name not in self.rooms:
            room = Room(self, name, self._given() if self.namespaces else f"{self.label}-{self.nonce}-{name}")
            self.rooms[name] = room
            room.make(objects)
        return self.rooms[name]

    def _given(self) -> str:
        """A namespace of those that were given; the first room shares the baseline's, which is hardly used."""
        if list(self.rooms) == ["baseline"]:
            return self.rooms["baseline"].namespace
        return lent.take(self.api, self.namespaces)

    def fitting(self, item: Object) -> Object:
        """The object with this cluster's image in place of podlab/python."""
        return item if self.image == PYTHON_IMAGE else _with_image(item, self.image)

    def measure(self) -> float:
        """Measure how long a small pod takes to be Ready, set the stretch of deadlines from it, return seconds."""
        namespace = self.measured_in or self.room("baseline").namespace
        name = f"baseline-{secrets.token_hex(3)}"
        began = time.monotonic()
        self.api.apply(_idle_pod(name, self.image), namespace)
        try:
            until(
                lambda: is_ready(self.api.get("Pod", name, namespace) or {}),
                "a small pod of the checker being Ready",
                timeout=SLOWEST_START,
                interval=0.1,
                state=lambda: describe(self.api.get("Pod", name, namespace) or {}),
            )
        finally:
            self.api.delete("Pod", name, namespace, grace=0)
        self.baseline = time.monotonic() - began
        self.stretch = min(MOST_STRETCH, max(1.0, self.baseline / USUAL_START))
        return self.baseline

    def deadline(self, seconds: float) -> float:
        """`seconds` as meant for an idle machine, stretched to this one as measured."""
        return seconds * self.stretch + EXTRA_STARTS * max(0.0, self.baseline - USUAL_START)

    def steady(self) -> bool:
        """Whether the machine is about as quick as when the world was opened (measured again)."""
        before = max(self.baseline, USUAL_START)
        try:
            self.measure()
        except (PodlabError, WaitTimeout):
            return False
        return self.baseline <= 2 * before


class Room:
    """One namespace of a world, and what can be done and seen in it."""

    def __init__(self, world: World, name: str, namespace: str) -> None:
        self.world = world
        self.name = name
        self.namespace = namespace
        self.api = world.api
        self.learner = world.api if world.namespaces else world.api.as_user(LEARNER)
        #: What looks have seen, as far as it was new: (seconds since the epoch, pod or node, all that were there). A
        #: check that fails can show it (podlab/course/moments.py).
        self.looks: deque[tuple[float, str, list[Object]]] = deque(maxlen=MOST_LOOKS)
        #: Why a pod of the learner's proves nothing, or None: asked of each pod at each look.
        self.stranger: Callable[[Object], Result | None] = lambda _pod: None
        self._ours: set[tuple[str, str]] = set()

    def make(self, objects: Sequence[Object]) -> None:
        """Create the namespace, the learner's right to edit it, and `objects`."""
        if not self.world.namespaces:
            make_namespace(self.api, self.namespace, self.world.nonce)
        for item in objects:
            self.put(self.world.fitting(item))

    def put(self, item: Object) -> None:
        """Put an object of the checker's into the room; Refused if the learner has one of that kind and name."""
        kind, name = item["kind"], item["metadata"]["name"]
        if (kind, name) not in self._ours:
            there = self.api.get(kind, name, self.namespace)
            if there is not None and OURS not in (there["metadata"].get("labels") or {}):
                raise _not_the_learners(f"{kind} {name!r}", "has a name that the checker needs for its own")
            self._ours.add((kind, name))
        self.api.apply(item, self.namespace)

    def submit(self, text: str) -> list[Object]:
        """Apply the learner's YAML as the learner; Refused with the API's own words when it cannot be used.

        Refused, too, if it reaches for what is the checker's, before anything is applied: the learner may edit all that
        is in the room, and a program or a client of the checker's that was replaced would testify for the answer.
        """
        try:
            items = documents(text)
        except ValueError as error:
            raise Refused(
                failed(
                    "Kubernetes objects written as YAML",
                    f"{error}",
                    cause="An indentation or a quote is off, or a part of the text is missing.",
                    next_step="Read the line that is named; compare it with the manifest you started from.",
                )
            ) from error
        for item in items:
            name = f"{item['kind']} {item['metadata'].get('name', '')!r}"
            if (item["kind"], item["metadata"].get("name")) in self._ours:
                raise _not_the_learners(name, "is the checker's own")
            if word := _word_of_ours(item):
                raise _not_the_learners(name, f"uses {word}, by which the checker knows its own objects")
        applied = []
        for item in items:
            name = f"{item['kind']} {item['metadata'].get('name', '')!r}"
            try:
                applied.append(self.learner.apply(self.world.fitting(item), self.namespace, manager="learner"))
            except ApiError as error:
                if error.server:
                    raise
                raise Refused(
                    failed(
                        f"the API server accepts {name}",
                        f"it refused with status {error.status}: {error.message}",
                        cause=_why_refused(error),
                        next_step="Correct what the message names; `kubectl explain` shows the fields of a kind.",
                    )
                ) from error
        return applied

    def pods(self) -> list[Object]:
        """The learner's pods in this room: all that are not ours, those being deleted included.

        Refused if one of them is a stranger.
        """
        found = [
            pod for pod in self.api.list("Pod", self.namespace) if OURS not in (pod["metadata"].get("labels") or {})
        ]
        if next((pods for _, kind, pods in reversed(self.looks) if kind == "pod"), None) != found:
            self.looks.append((time.time(), "pod", found))
        for wrong in filter(None, map(self.stranger, found)):
            raise Refused(wrong)
        return found

    def slices(self, service: str) -> list[Object]:
        """The EndpointSlices of a Service."""
        return self.api.list("EndpointSlice", self.namespace, labelSelector=f"kubernetes.io/service-name={service}")

    def look_at_nodes(self) -> None:
        """Remember the cluster's nodes as they are now."""
        self.looks.append((time.time(), "node", self.api.list("Node")))

    def live(self) -> list[Object]:
        """The learner's pods that are not being deleted, by name."""
        pods = [pod for pod in self.pods() if not pod["metadata"].get("deletionTimestamp")]
        return sorted(pods, key=lambda pod: pod["metadata"]["name"])

    def ready(self) -> list[Object]:
        """The live pods that are Ready."""
        return [pod for pod in self.live() if is_ready(pod)]

    def pod(self, uid: str) -> Object | None:
        """The pod with this uid, if it still exists."""
        return next((pod for pod in self.pods() if pod["metadata"]["uid"] == uid), None)

    def states(self) -> str:
        """All of the learner's pods in words."""
        pods = self.pods()
        return "; ".join(describe(pod) for pod in pods) if pods else "there is no pod"

    def ask(self, pod: Object, path: str, *, method: str = "GET", timeout: float | None = None, **query: Any) -> Reply:
        """Ask one pod directly, through the API server; it has `timeout` seconds (5, stretched) to answer."""
        timeout = timeout or self.world.deadline(5)
        return ask(self.api, self.namespace, pod["metadata"]["name"], path, method=method, timeout=timeout, **query)

    def trouble(self, pod: Object, switch: str, **arguments: Any) -> Reply:
        """Throw a switch of the serving program in one pod; Inconclusive if the pod does not confirm it."""
        reply = self.ask(pod, f"/trouble/{switch}", method="POST", **arguments)
        if not reply.ok:
            raise Inconclusive(
                f"the switch {switch} could not be thrown in {pod['metadata']['name']}: "
                f"{reply.error or f'status {reply.status}'}"
            )
        return reply

    def eventually(
        self, condition: Callable[[], T | None], what: str, within: float, *, interval: float = 0.25
    ) -> T | None:
        """The first truthy value of `condition()` within the stretched deadline, or None.

        If the machine turns out to be crowded meanwhile, the deadline is CROWDED_TIMES as long. A look at which the
        API server or a program of ours is silent proves nothing; if the last one was such a look, its error is raised.
        """
        meter, silence = calm.Meter(), None

        def look() -> T | None:
            nonlocal silence
            try:
                found = condition()
            except (ApiAway, Silent) as error:
                silence = error
                return None
            silence = None
            return found

        seconds = self.world.deadline(within)
        for more in (seconds, (CROWDED_TIMES - 1) * seconds):
            with suppress(WaitTimeout):
                return until(look, what, timeout=more, interval=interval)
            if meter.share() <= calm.CROWDED:
                break
        if silence:
            raise silence
        return None

    def constantly(
        self, condition: Callable[[], bool], seconds: float, *, interval: float = 0.5, polls: int = 4
    ) -> bool:
        """Whether `condition()` holds at every look for `seconds`, and for at least `polls` looks."""
        end, looks = time.monotonic() + seconds, 0
        while time.monotonic() < end or looks < polls:
            if not condition():
                return False
            looks += 1
            pause(interval)
        return True

    def prober(
        self, target: str, *, rate: float = 10, patience: float = 2.0, name: str = "prober", node: str | None = None
    ) -> Prober:
        """Start a prober that asks `target` (a URL as seen inside the cluster) and return it once it is asking."""
        self._program(
            name, prober_objects(name, target, rate=rate, patience=patience, image=self.world.image, node=node)
        )
        return Prober(self, name)

    def client(self, name: str = "client", *, node: str | None = None) -> Client:
        """Start a client that does what it is told, and return it once it answers."""
        self._program(name, client_objects(name, image=self.world.image, node=node))
        return Client(self, name)

    def _program(self, name: str, objects: Sequence[Object]) -> None:
        for item in objects:
            self.put(item)
        try:
            until(
                lambda: is_ready(self.api.get("Pod", name, self.namespace) or {}),
                f"the {name} being Ready",
                timeout=self.world.deadline(60),
                interval=0.2,
                state=lambda: describe(self.api.get("Pod", name, self.namespace) or {}),
            )
        except WaitTimeout as error:
            raise Inconclusive(str(error)) from error


def make_namespace(api: Api, name: str, nonce: str) -> None:
    """Create a namespace in which `podlab:learner` may edit, and in which no pod may reach for the node or its disk.

    The number of claims is bounded, too (MOST_OBJECTS).
    """
    labels = {MADE_BY: nonce, **owners.labels(), "pod-security.kubernetes.io/enforce": "baseline"}
    api.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}, name)
    disk = {"ephemeral-storage": MOST_DISK}
    bounds = {"type": "Container", "default": disk, "defaultRequest": {"ephemeral-storage": "0"}, "max": disk}
    limits = {"apiVersion": "v1", "kind": "LimitRange", "metadata": {"name": "podlab-disk"}}
    api.apply({**limits, "spec": {"limits": [bounds]}}, name)
    quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "podlab-number"}}
    api.apply({**quota, "spec": {"hard": MOST_OBJECTS}}, name)
    role = {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": LEARNER_ROLE}}
    api.apply({**role, "rules": learner_rules(api)}, name)
    api.apply(
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "RoleBinding",
            "metadata": {"name": "podlab-learner"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": LEARNER_ROLE},
            "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": LEARNER}],
        },
        name,
    )
    # Both follow within a second or two; pods made before them are refused.
    for kind, awaited in (("ServiceAccount", "default"), ("ResourceQuota", "podlab-number")):
        until(partial(_is_there, api, kind, awaited, name), f"{kind} {awaited} of {name}", timeout=30, interval=0.1)


def _is_there(api: Api, kind: str, name: str, namespace: str) -> bool:
    """Whether the cluster has made an object, and has counted all that it bounds if it is a ResourceQuota."""
    item = api.get(kind, name, namespace)
    bounds = (item or {}).get("spec", {}).get("hard") or {}
    return item is not None and bounds.keys() <= (item.get("status", {}).get("used") or {}).keys()


def learner_rules(api: Api) -> list[Object]:
    """What a learner may do in a namespace: what Kubernetes' role `edit` allows, but for writing Events.

    Checks read Events as the cluster's own testimony.
    """

    def aggregated() -> list[Object] | None:
        return (api.get("ClusterRole", "edit") or {}).get("rules")

    found = []
    for rule in until(aggregated, "the rules of the role edit", timeout=30, interval=0.1):
        resources = rule.get("resources") or []
        if "events" in resources and not set(rule["verbs"]) <= {"get", "list", "watch"}:
            resources = [each for each in resources if each != "events"]
        if resources:
            found.append({**rule, "resources": resources})
    return found


def _word_of_ours(part: Any) -> str:
    """A label of ours in an object, wherever it stands: in metadata, in a template, in a selector; '' if none does."""
    if isinstance(part, dict):
        return next((key for key in part if key in (OURS, MADE_BY)), "") or _word_of_ours(list(part.values()))
    if isinstance(part, list):
        return next(filter(None, map(_word_of_ours, part)), "")
    return part if part in (OURS, MADE_BY) else ""


def _not_the_learners(name: str, why: str) -> Refused:
    return Refused(
        failed(
            "your objects stand beside the checker's, and do not take their place",
            f"{name} {why}",
            cause="The checker's programs, settings and clients are in the same namespace, and stay as they are.",
            next_step="Take the object, or the label, out of your manifest, or give it a name of its own.",
        )
    )


def _with_image(part: Any, image: str) -> Any:
    if isinstance(part, list):
        return [_with_image(each, image) for each in part]
    if not isinstance(part, dict):
        return part
    return {
        key: image if key == "image" and _OUR_PYTHON.fullmatch(str(value)) else _with_image(value, image)
        for key, value in part.items()
    }


def is_ready(pod: Mapping[str, Any]) -> bool:
    """Whether the pod's Ready condition is True."""
    conditions = pod.get("status", {}).get("conditions") or []
    return any(entry["type"] == "Ready" and entry["status"] == "True" for entry in conditions)


def container(pod: Mapping[str, Any], index: int = 0) -> Mapping[str, Any]:
    """Status of the pod's container number `index`; empty while there is none."""
    statuses = pod.get("status", {}).get("containerStatuses") or []
    return statuses[index] if index < len(statuses) else {}


def restarts(pod: Mapping[str, Any]) -> int:
    """How often the containers of the pod were restarted, added up."""
    return sum(entry.get("restartCount", 0) for entry in pod.get("status", {}).get("containerStatuses") or [])


def describe(pod: Mapping[str, Any]) -> str:
    """One pod in words: name, node, phase, readiness, restarts, and why it waits or ended."""
    if not pod:
        return "there is no such pod"
    meta, status = pod["metadata"], pod.get("status", {})
    words = [status.get("phase", "Unknown"), "ready" if is_ready(pod) else "not ready"]
    if count := restarts(pod):
        words.append(f"{count} restart{'s' if count > 1 else ''}")
    state = container(pod).get("state") or {}
    for kind in ("waiting", "terminated"):
        if kind in state:
            detail = state[kind]
            words.append(": ".join(filter(None, (detail.get("reason"), (detail.get("message") or "")[:160]))))
    for entry in status.get("conditions") or []:
        if entry["type"] == "PodScheduled" and entry["status"] == "False":
            words.append(f"not scheduled: {(entry.get('message') or '')[:240]}")
    if meta.get("deletionTimestamp"):
        words.append("being deleted")
    node = pod.get("spec", {}).get("nodeName")
    return f"{meta['name']}{f' on {node}' if node else ''} ({', '.join(filter(None, words))})"


def _why_refused(error: ApiError) -> str:
    text = error.message.lower()
    if "unknown field" in text or "strict decoding" in text or "not declared in schema" in text:
        return "A field is misspelt or stands at the wrong place (indentation)."
    if error.status == 403:
        return "You may only write into the namespace of this exercise, and only what its rules allow."
    if "no kind" in text or error.status == 404:
        return "kind and apiVersion do not belong together, or one of them is misspelt."
    return "A field has a value that the API does not allow."


def _idle_pod(name: str, image: str) -> Object:
    program = "import os, signal; signal.signal(signal.SIGTERM, lambda *_: os._exit(0)); signal.pause()"
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {OURS: "baseline"}},
        "spec": {
            "terminationGracePeriodSeconds": 1,
            "automountServiceAccountToken": False,
            "containers": [
                {
                    "name": "idle",
                    "image": image,
                    "imagePullPolicy": "IfNotPresent",
                    "command": ["python3", "-S", "-c", program],
                }
            ],
        },
    }
