"""Exercise 14.1: say what you want once; whatever of it is deleted comes back as something new."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from podlab.checks.api import ApiError, Object
from podlab.checks.contract import Answer, Exercise, HandIn, Hint
from podlab.checks.world import Room, World, is_ready
from podlab.course import workload
from podlab.course.cluster_and_api import LESSON
from podlab.course.moments import cluster_map
from podlab.course.plain import Problem, judged, short
from podlab.course.scenes import mentions, once, submit

NAME, OWNERS = "manifest_14_1", "owners"
COUNT = 2


@dataclass
class Scene:
    """What the manifest has made, and what the deletion of its children led to."""

    room: Room
    world: World
    answer: Answer
    answering: list[Object]
    gone: str = ""
    successors: list[Object] = field(default_factory=list)


def stage(answer: Answer, world: World) -> Scene:
    """Apply the manifest and wait for its pods to answer."""
    room = submit(answer[NAME], world, "returning", objects=workload.objects())
    seen: list[list[Object]] = []

    def enough() -> bool:
        seen.append(_answering(room))
        return len(seen[-1]) >= COUNT

    room.eventually(enough, "the pods answering", 15)
    return Scene(room, world, answer, seen[-1])


def _answering(room: Room) -> list[Object]:
    return [pod for pod in room.ready() if room.ask(pod, workload.PAGE, timeout=3).ok]


@once
def play(scene: Scene) -> None:
    """The episode: one pod is deleted."""
    room, victim = scene.room, scene.world.random.choice(scene.answering)
    before = {pod["metadata"]["uid"] for pod in room.live()}
    scene.gone = victim["metadata"]["name"]
    room.api.delete("Pod", scene.gone, room.namespace)

    def back() -> bool:
        fresh = [pod for pod in room.live() if pod["metadata"]["uid"] not in before]
        scene.successors = [pod for pod in fresh if is_ready(pod)]
        return bool(scene.successors) and len(room.live()) == len(before)

    room.eventually(back, "a successor", 15)


def owner(item: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The controller that owns an object, as its ownerReferences say."""
    return next((each for each in item["metadata"].get("ownerReferences") or [] if each.get("controller")), None)


def chain(room: Room) -> dict[str, str]:
    """Kind by kind, which kind owns it, from a pod upwards."""
    found: dict[str, str] = {}
    item: Object | None = next(iter(room.live()), None)
    while item is not None and (above := owner(item)) is not None:
        found[item.get("kind") or "Pod"] = above["kind"]
        item = room.api.get(above["kind"], above["name"], room.namespace)
    return found


EXERCISE = Exercise(
    id="14.1",
    title="Whatever is deleted comes back",
    points=10,
    handed_in=(HandIn(NAME), HandIn(OWNERS, "value")),
    stage=stage,
    lesson=f"{LESSON}#Who-brings-it-back",
    hints=(
        Hint(
            "Who would notice that your pod is gone? A pod that nobody owns is missed by nobody.",
            lambda situation: situation.failed("comes-back") and mentions(NAME, "kind: Pod")(situation),
        ),
        Hint(
            "Your pods come back, and the object that owns them does not. Which kind owns that kind?",
            lambda situation: situation.failed("middle"),
        ),
        Hint("How do you see who owns whom? lab.get('pods')[0]['metadata']['ownerReferences']."),
        Hint(
            "Which of the kinds Pod, ReplicaSet and Deployment do people write, and which are written by controllers?"
        ),
    ),
    debrief=(
        "Each controller keeps one promise: the ReplicaSet's that there are so many pods, the Deployment's that there "
        "is a ReplicaSet of the newest version. Nobody repairs the pod that you deleted; another one is made, with a "
        "new uid, because a count did not fit. And when the top goes, everything below goes, because an owner that is "
        "gone is reason enough for the garbage collector. Another way to the same: any controller of your own, as in "
        "the last exercise."
    ),
)


@EXERCISE.check("comes-back", "A deleted pod comes back as another one", weight=3)
@judged(f"{COUNT} pods answer; one is deleted, and soon another pod, with another uid, takes its place")
def comes_back(scene: Scene, world: World) -> str | Problem:
    """Delete a pod and see a new one."""
    if len(scene.answering) < COUNT:
        return Problem(
            f"{len(scene.answering)} pods answer; {scene.room.states()}",
            "Too few pods are asked for, or they do not run the program.",
            f"The site wants {COUNT} replicas. lab.apply(...), then lab.pods() and lab.events().",
        )
    play(scene)
    if scene.successors:
        made = scene.successors[0]["metadata"]
        return f"{scene.gone} was deleted; {made['name']} is there, with uid {made['uid']}"
    return Problem(
        f"{scene.gone} was deleted; {scene.room.states()}",
        "Nobody owns the pod, so nobody misses it.",
        "Let a controller make the pods: which kind has replicas and a template?",
        cluster_map(scene.room),
    )


@EXERCISE.check("middle", "The owner of the pods comes back too", weight=3, needs=["comes-back"])
@judged("the object that owns the pods is deleted, and another one of its kind takes its place, with its pods")
def middle(scene: Scene, world: World) -> str | Problem:
    """Delete the pods' owner; a new one must come, and as many pods."""
    room = scene.room
    above = owner(room.live()[0])
    if above is None:
        return Problem("the pods have no owner", "They were written by hand.", "Let a controller make them.")
    room.api.delete(above["kind"], above["name"], room.namespace)

    def back() -> bool:
        owners = {(owner(pod) or {}).get("uid") for pod in room.live()}
        kinds = {(owner(pod) or {}).get("kind") for pod in room.live()}
        well = len(room.ready()) == len(room.live()) >= COUNT
        return well and kinds == {above["kind"]} and above["uid"] not in owners

    told = f"{above['kind']} {above['name']} was deleted"
    if room.eventually(back, "another owner with its pods", 20):
        now = owner(room.live()[0]) or {}
        return f"{told}; {now['kind']} {now['name']} is there, with uid {now['uid']}, and {len(room.ready())} pods"
    return Problem(
        f"{told}; {room.states()}",
        f"The {above['kind']} is what you wrote yourself. Nobody owns it, so nobody misses it.",
        "Which kind makes and owns objects of that kind?",
        cluster_map(room),
    )


@EXERCISE.check("owners", "Who owns what", weight=2, needs=["middle"])
@judged("`owners` says for each kind which kind owns it, as the objects themselves do")
def owners(scene: Scene, world: World) -> str | Problem:
    """The learner's table against the ownerReferences of the objects that are there."""
    real, told = chain(scene.room), scene.answer[OWNERS]
    if told == real:
        return ", ".join(f"{below} by {above}" for below, above in real.items())
    cause = (
        "It is the other way round: the key is what is owned."
        if isinstance(told, dict) and told == {above: below for below, above in real.items()}
        else "It does not fit the ownerReferences of the objects."
    )
    return Problem(short(told), cause, "lab.get('pods')[0]['metadata']['ownerReferences'], and so on upwards.")


def top_of(room: Room) -> tuple[str, str] | None:
    """Kind and name of the object at the top of the chain."""
    item: Object | None = next(iter(room.live()), None)
    found = None
    while item is not None and (above := owner(item)) is not None:
        found = (above["kind"], above["name"])
        try:
            item = room.api.get(above["kind"], above["name"], room.namespace)
        except ApiError:
            return found
    return found
