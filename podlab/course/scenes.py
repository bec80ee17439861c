"""What exercises on a cluster have in common: bringing the answer up, telling processes apart, playing once."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any, TypeVar

from podlab.checks.api import Object
from podlab.checks.contract import Inconclusive, NotGradable, Refused, Situation, failed
from podlab.checks.world import PLAIN_RUNTIME, Room, World, container, describe, is_ready, restarts
from podlab.course import workload

S = TypeVar("S")


@dataclass(frozen=True)
class Life:
    """One container as it was at a moment: a new id is a new container, whatever its pod is called."""

    pod: str
    uid: str
    container: str
    restarts: int

    @classmethod
    def of(cls, pod: Mapping[str, Any]) -> Life:
        """The life of the pod's first container."""
        meta = pod["metadata"]
        return cls(meta["name"], meta["uid"], container(pod).get("containerID", ""), restarts(pod))


def lives(pods: Sequence[Object]) -> dict[str, Life]:
    """The lives of pods by uid."""
    return {pod["metadata"]["uid"]: Life.of(pod) for pod in pods}


def still(room: Room, life: Life) -> bool:
    """Whether the very same container is running in the very same pod."""
    pod = room.pod(life.uid)
    if pod is None or pod["metadata"].get("deletionTimestamp"):
        return False
    return Life.of(pod) == life and "running" in container(pod).get("state", {})


def what_became(room: Room, life: Life) -> str:
    """In words, what happened to a container since."""
    pod = room.pod(life.uid)
    if pod is None:
        return f"the pod {life.pod} is gone"
    return f"{describe(pod)}; before: {life.restarts} restarts, container {short(life.container)}"


def short(container_id: str) -> str:
    """A container's id as one can read it."""
    return container_id.rsplit("/", 1)[-1][:12] or "none"


def once(play: Callable[[S], None]) -> Callable[[S], None]:
    """Decorator for the episode of a scene: every check asks for it, one plays it, all get the same end.

    An episode that is inconclusive, not gradable or refused is that for every check that needs it.
    """

    @functools.wraps(play)
    def played(scene: S) -> None:
        outcomes = vars(scene).setdefault("_outcomes", {})
        if play.__name__ not in outcomes:
            try:
                play(scene)
            except (Inconclusive, NotGradable, Refused) as end:
                outcomes[play.__name__] = end
            else:
                outcomes[play.__name__] = None
        if outcomes[play.__name__] is not None:
            raise outcomes[play.__name__]

    return played


def bring_up(
    text: str,
    world: World,
    name: str,
    *,
    wanted: int,
    objects: Sequence[Object] | None = None,
    given: workload.Given | None = None,
    slack: float = 0,
) -> Room:
    """A room with the answer in it and `wanted` pods Ready; Refused, with their states, if they do not come.

    `objects` are ours that the answer finds there (the serving program, if nothing is said); `given` is what its pods
    must run, if that is not the learner's; `slack` is added to the 25 seconds that the pods have.
    """
    room = submit(text, world, name, objects=objects, given=given)
    within = 25 + slack
    if not room.eventually(lambda: len(room.ready()) >= wanted and settled(room), "replicas Ready", within):
        if why := not_runnable_here(room):
            raise NotGradable(f"the nodes of this cluster cannot run a container of the answer: {why}")
        raise Refused(
            failed(
                f"{wanted} replicas become Ready",
                f"after {world.deadline(within):.0f} s: {room.states()}",
                cause=why_not_ready(room),
                next_step="lab.apply(...) your manifest, then lab.get('pods') and lab.events().",
            )
        )
    return room


def submit(
    text: str,
    world: World,
    name: str,
    *,
    objects: Sequence[Object] | None = None,
    given: workload.Given | None = None,
) -> Room:
    """A room with the answer applied; it must hold a Deployment (or another owner of pods) that makes pods.

    With `given` the answer is Refused as soon as one of its pods, now or later, runs something else.
    """
    room = world.room(name, workload.objects() if objects is None else objects)
    # In given namespaces others may put more into pods, and nobody is graded there.
    if given and not world.namespaces:
        room.stranger = partial(given.stranger, world=world)
    room.submit(text)
    if not room.eventually(lambda: room.pods(), "pods being made", 15):
        raise Refused(
            failed(
                "the manifest makes pods",
                "no pod was made",
                cause="There is no Deployment in it, or it asks for 0 replicas.",
                next_step="Check kind and replicas of your manifest.",
            )
        )
    return room


def settled(room: Room) -> bool:
    """Whether every live pod is Ready and none is on its way out."""
    pods = room.pods()
    return bool(pods) and all(is_ready(pod) and not pod["metadata"].get("deletionTimestamp") for pod in pods)


def not_runnable_here(room: Room) -> str:
    """Why the plain runtime refuses a container of the answer, in its own words; '' if it refuses none."""
    states = (container(pod).get("state", {}).get("waiting", {}) for pod in room.pods())
    return next((said for state in states if PLAIN_RUNTIME in (said := state.get("message", ""))), "")


def why_not_ready(room: Room) -> str:
    """The likely cause, from what the pods show."""
    pods = room.pods()
    if any(restarts(pod) for pod in pods):
        return "Containers are being restarted: a liveness or startup probe fails, or the program ends by itself."
    waiting = [container(pod).get("state", {}).get("waiting", {}).get("reason", "") for pod in pods]
    if any(reason.startswith(("ErrImage", "ImagePull")) for reason in waiting):
        return "The image cannot be had: its name is misspelt."
    if any("CreateContainer" in reason for reason in waiting):
        return "The container cannot be made: a ConfigMap or a mount that it names does not exist."
    if any(pod.get("status", {}).get("phase") == "Running" and not is_ready(pod) for pod in pods):
        return "The containers run, but their readiness probe does not succeed: look at its path and port."
    return "The pods do not get a place, or do not start."


def unhealthy(room: Room, uid: str, probe: str = "") -> int:
    """How often probes of a pod ("Liveness": only those) have failed, as the cluster's Events say."""
    found = _events(room, uid, "Unhealthy")
    return sum(event.get("count") or 1 for event in found if f"{probe} probe failed" in event["message"])


def killing(room: Room, uid: str) -> bool:
    """Whether a node has begun to end a pod, as the cluster's Events say."""
    return bool(_events(room, uid, "Killing"))


def _events(room: Room, uid: str, reason: str) -> list[Object]:
    return room.api.list("Event", room.namespace, fieldSelector=f"involvedObject.uid={uid},reason={reason}")


def time_to_ready(pod: Mapping[str, Any]) -> float | None:
    """Seconds from the start of the container to Ready, to the second; None unless it is Ready and never restarted."""
    if not is_ready(pod) or restarts(pod):
        return None
    started = ((container(pod).get("state") or {}).get("running") or {}).get("startedAt")
    changed = next(entry.get("lastTransitionTime") for entry in pod["status"]["conditions"] if entry["type"] == "Ready")
    if not started or not changed:
        raise Inconclusive(f"times are missing in {describe(pod)}")
    return (datetime.fromisoformat(changed) - datetime.fromisoformat(started)).total_seconds()


def quiet(room: Room, before: Mapping[str, Life], seconds: float) -> str:
    """Watch for `seconds` without touching anything; '' if no container changed, else what happened."""
    if room.constantly(lambda: all(still(room, life) for life in before.values()), seconds):
        return ""
    changed = [life for life in before.values() if not still(room, life)]
    return "; ".join(what_became(room, life) for life in changed) or room.states()


def wedge(room: Room, pod: Object) -> float:
    """Wedge the program in a pod, prove that it hangs while its process lives, return the moment."""
    moment = time.monotonic()
    before = room.ask(pod, "/trouble")
    room.trouble(pod, "wedge")
    silent = room.ask(pod, "/healthz", timeout=2)
    alive = room.ask(pod, "/trouble")
    if silent.status != 0 and alive.body.get("instance") == before.body.get("instance"):
        raise Inconclusive(f"{pod['metadata']['name']} still answered after it had been wedged")
    return moment


def mentions(name: str, *words: str, without: str = "") -> Callable[[Situation], bool]:
    """A hint's condition: the answer's text holds all `words`, and not `without`."""

    def when(situation: Situation) -> bool:
        text = situation.text(name)
        return all(word in text for word in words) and not (without and without in text)

    return when
