"""Exercise 00.2: foresee how many pods there are after what people do to a Deployment; a real one is the judge."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from podlab.checks.api import Object
from podlab.checks.contract import Answer, Exercise, HandIn, Hint, Inconclusive
from podlab.checks.world import Room, World
from podlab.course.plain import Problem, judged, short, values
from podlab.course.scenes import once
from podlab.course.start_here import LESSON

NAME = "pods_after"
#: What may be done; a number is a new wish.
DELETE_POD, DELETE_ALL = "delete a pod", "delete the Deployment"
Deed = str | int
#: Seconds in which a cluster has done what is wished, and seconds for which it must stay so.
WITHIN, HOLD = 20, 1.5


def deployment(wish: int) -> Object:
    """A Deployment of small pods that do nothing."""
    labels = {"app": "copies"}
    program = "import os, signal; signal.signal(signal.SIGTERM, lambda *_: os._exit(0)); signal.pause()"
    container = {"name": "copy", "image": "podlab/python:3", "imagePullPolicy": "IfNotPresent"}
    pod = {
        "terminationGracePeriodSeconds": 1,
        "containers": [{**container, "command": ["python3", "-S", "-c", program]}],
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "copies"},
        "spec": {
            "replicas": wish,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": pod},
        },
    }


def do(room: Room, deed: Deed, chance: World) -> None:
    """Do one thing to the Deployment, for real."""
    if deed == DELETE_POD:
        victim = chance.random.choice(room.live())["metadata"]["name"]
        room.api.delete("Pod", victim, room.namespace)
    elif deed == DELETE_ALL:
        room.api.delete("Deployment", "copies", room.namespace)
    elif isinstance(deed, int):
        room.api.apply(room.world.fitting(deployment(deed)), room.namespace)


def calm(room: Room, gone: Sequence[str]) -> int:
    """The number of pods once the cluster is calm; none of those in `gone` (uids) is among them.

    Calm: as many pods as the Deployment wishes for, all of them Ready, and so for a while. A cluster that does not
    come to that is in trouble, and judges nobody.
    """

    def quiet() -> bool:
        item = room.api.get("Deployment", "copies", room.namespace)
        wish = item["spec"]["replicas"] if item else 0
        there = {pod["metadata"]["uid"] for pod in room.live()}
        return len(there) == len(room.ready()) == wish and not there & set(gone)

    if not room.eventually(quiet, "as many pods as wished for", WITHIN) or not room.constantly(quiet, HOLD):
        raise Inconclusive(f"the cluster did not become calm: {room.states()}")
    return len(room.live())


def lived(room: Room, wish: int, deeds: Sequence[Deed], world: World) -> list[int]:
    """How many pods a real Deployment has at first, and after each deed."""
    room.api.apply(room.world.fitting(deployment(wish)), room.namespace)
    counts, gone = [calm(room, [])], list[str]()
    for deed in deeds:
        before = {pod["metadata"]["uid"] for pod in room.live()}
        do(room, deed, world)
        if deed == DELETE_POD:
            left = {pod["metadata"]["uid"] for pod in room.live()}
            gone += before - left
            if not before - left:
                raise Inconclusive("the pod that was deleted is still there")
        counts.append(calm(room, gone))
    return counts


@dataclass
class Scene:
    """The function, and a story that a real Deployment goes through."""

    room: Room
    source: str
    wish: int
    deeds: list[Deed]
    counts: list[int] = field(default_factory=list)


def stage(answer: Answer, world: World) -> Scene:
    """Invent the story. It is lived when the first check asks for it."""
    chance = world.random
    wish = chance.randint(2, 3)
    more = wish + chance.randint(1, 2)
    deeds: list[Deed] = [DELETE_POD, more, DELETE_POD, 1, DELETE_ALL]
    return Scene(world.room("wishes"), answer[NAME], wish, deeds)


EXERCISE = Exercise(
    id="00.2",
    title="Foresee what a cluster does",
    points=6,
    handed_in=(HandIn(NAME, "function"),),
    stage=stage,
    lesson=f"{LESSON}#A-first-prediction",
    hints=(
        Hint(
            "You deleted one of three pods in the lesson. How many were there five seconds later?",
            lambda situation: situation.failed("comes-back"),
        ),
        Hint(
            "A wish of 5 after a wish of 3: are these eight copies, or five?",
            lambda situation: situation.failed("wish"),
        ),
        Hint("Who puts a new pod in the place of a deleted one, and what if that is gone as well?"),
        Hint("Which of all the deeds change the wish? Do the others matter once all is calm?"),
    ),
    debrief=(
        "What was done to the pods has no place in the answer: only the last wish counts. That is what people mean by "
        "declarative: you say what shall be, and controllers compare it with what is, again and again. In chapter 24 "
        "you write such a loop yourself. Another way: look at the deeds from the end, for the first that is a wish."
    ),
)


@once
def play(scene: Scene) -> None:
    """The story, deed by deed."""
    scene.counts = lived(scene.room, scene.wish, scene.deeds, scene.room.world)


def foreseen(
    source: str, world: World, wish: int, deeds: Sequence[Deed], count: Callable[[], int], cause: str, step: str
) -> str | Problem:
    """The function's number for a story beside the number of pods that `count` counts, once there is one to compare."""
    (told,) = values(world, source, NAME, [[wish, list(deeds)]])
    counted = count()
    shown = f"{NAME}({wish}, {list(deeds)})"
    if told == counted and not isinstance(told, bool):
        return f"{shown} is {told}, and so many pods were counted"
    return Problem(f"{shown} is {short(told)}; {counted} pods were counted", cause, step)


def part(scene: Scene, world: World, deeds: int, cause: str, step: str) -> str | Problem:
    """The same for the first deeds of the story."""

    def count() -> int:
        play(scene)
        return scene.counts[deeds]

    return foreseen(scene.source, world, scene.wish, scene.deeds[:deeds], count, cause, step)


@EXERCISE.check("nothing", "Nothing is done", weight=1)
@judged("without any deed there are as many pods as were wished for")
def nothing(scene: Scene, world: World) -> str | Problem:
    """The empty list of deeds."""
    return part(scene, world, 0, "An empty list of deeds was not thought of.", f"Call {NAME}(3, []).")


@EXERCISE.check("comes-back", "A pod is deleted", weight=2)
@judged("after a pod was deleted and all is calm, the number is the one that a real cluster has")
def comes_back(scene: Scene, world: World) -> str | Problem:
    """The first deed."""
    cause = "The deleted pod is taken for lost. Another one took its place."
    return part(scene, world, 1, cause, 'lab.delete("pod", ...), lab.pause(5), and then lab.pods().')


@EXERCISE.check("wish", "The wish is changed", weight=2)
@judged("after a new wish, and pods that were deleted before and after it, the number is that of a real cluster")
def wish(scene: Scene, world: World) -> str | Problem:
    """Up to the third deed, and up to the fourth."""
    cause = "A new wish takes the place of the old one; it is neither added to it nor counted down."
    step = 'lab.scale("hello", 5), and then lab.pods().'
    first = part(scene, world, 3, cause, step)
    return first if isinstance(first, Problem) else part(scene, world, 4, cause, step)


@EXERCISE.check("owner", "The Deployment is deleted", weight=2)
@judged("after the Deployment itself was deleted, the number is that of a real cluster")
def owner(scene: Scene, world: World) -> str | Problem:
    """The whole story."""
    cause = "The wish goes with the Deployment: nobody wishes for pods any more."
    return part(scene, world, 5, cause, 'lab.delete("deployment", "hello"), lab.pause(5), and then lab.pods().')
