"""Exercise 14.4: a tiny controller.

The learner's function is told what is wanted and what is there, and says what to do; the checker does it, with the
real API, and asks again.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from podlab.checks.api import ApiError, Object
from podlab.checks.contract import Answer, Exercise, HandIn, Hint, Inconclusive, Json
from podlab.checks.talks import Talk
from podlab.checks.world import PYTHON_IMAGE, Room, World, is_ready
from podlab.course.cluster_and_api import LESSON
from podlab.course.moments import cluster_map, opened_at
from podlab.course.plain import Problem, judged
from podlab.course.scenes import once

NAME = "reconcile"
COUNT = 2
#: Rounds that a phase may take: each of them asks the function once and does what it says.
MOST_ROUNDS = 14
#: Actions that a phase may take: no sensible function needs as many.
MOST_ACTIONS = 40
#: Rounds after which it is not asked again while members are still ending.
ASKED_ENOUGH = 4

#: A member's program: told to stop, it takes two seconds to end.
MEMBER = """
import os, signal, threading
signal.signal(signal.SIGTERM, lambda *_: threading.Timer(2, os._exit, [0]).start())
while True:
    signal.pause()
"""


@dataclass
class Phase:
    """What was there at the end of a phase, and how it came about."""

    wanted: Mapping[str, Any]
    live: list[str] = field(default_factory=list)
    versions: Counter[str] = field(default_factory=Counter)
    actions: list[Any] = field(default_factory=list)
    #: When it was first asked (seconds since the epoch), what it did, and which pods were on their way out then.
    began: float = 0.0
    first: list[Any] = field(default_factory=list)
    ending: set[str] = field(default_factory=set)
    quiet: bool = False
    fewest: int = 99
    trouble: str = ""
    moment: Mapping[str, Json] = field(default_factory=dict)

    def told(self) -> str:
        """The phase in words."""
        done = ", ".join(_short(each) for each in self.actions[:8]) or "nothing"
        more = f" and {len(self.actions) - 8} more" if len(self.actions) > 8 else ""
        versions = ", ".join(f"{number} of {version}" for version, number in sorted(self.versions.items()))
        told = f"wanted {self.wanted['count']} of {self.wanted['version']}; in the end {versions or 'none'}"
        return f"{told}; it did: {done}{more}{'; ' + self.trouble if self.trouble else ''}"


def _short(action: Any) -> str:
    if isinstance(action, dict) and len(action) == 1:
        verb, what = next(iter(action.items()))
        return f"{verb} {what}"
    return repr(action)[:60]


@dataclass
class Scene:
    """A group of pods that the learner's function keeps, with a stranger beside them."""

    room: Room
    world: World
    source: str
    phases: dict[str, Phase] = field(default_factory=dict)
    stranger: str = ""
    replaced: str = ""


def _pod(name: str, group: str, version: str) -> Object:
    """A pod of the group; it takes a moment to end, as programs do."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"group": group, "version": version}},
        "spec": {
            "terminationGracePeriodSeconds": 4,
            "automountServiceAccountToken": False,
            "containers": [
                {
                    "name": "member",
                    "image": PYTHON_IMAGE,
                    "imagePullPolicy": "IfNotPresent",
                    "command": ["python3", "-S", "-c", MEMBER],
                }
            ],
        },
    }


def _leaving(pod: Object) -> bool:
    return bool(pod["metadata"].get("deletionTimestamp"))


def stage(answer: Answer, world: World) -> Scene:
    """A room with a pod in it that belongs to somebody else."""
    room = world.room("reconcile")
    made = room.learner.request(
        "POST", f"/api/v1/namespaces/{room.namespace}/pods", body=world.fitting(_pod("stranger", "others", "v1"))
    )
    return Scene(room, world, answer[NAME], stranger=made["metadata"]["uid"])


class Driver:
    """Asks the function, does what it says, and waits until the API shows it."""

    def __init__(self, scene: Scene, talk: Talk) -> None:
        self.scene, self.talk, self.room = scene, talk, scene.room
        self.wanted: dict[str, Any] = {"group": "shards", "count": COUNT, "version": "v1"}

    def members(self) -> list[Object]:
        """The live pods of the group."""
        return [pod for pod in self.room.live() if pod["metadata"]["labels"].get("group") == self.wanted["group"]]

    def run(self, name: str, **wanted: Any) -> Phase:
        """One phase: rounds until the function says twice that there is nothing to do, or has had enough rounds."""
        self.wanted |= wanted
        phase = self.scene.phases[name] = Phase(dict(self.wanted))
        idle = 0
        for number in range(MOST_ROUNDS):
            before = self.room.pods()
            phase.began = phase.began or time.time()
            actions = self.talk.ask(NAME, dict(self.wanted), [_plain(pod) for pod in before])
            if not isinstance(actions, list):
                phase.trouble = f"it returned {str(actions)[:100]!r}, not a list"
                break
            phase.actions += actions
            if number == 0:
                phase.first = actions
                phase.ending = {each["metadata"]["uid"] for each in before if each["metadata"].get("deletionTimestamp")}
            done = False
            for action in actions[:MOST_ACTIONS]:
                done = self._do(phase, action) or done
                if phase.trouble:
                    break
            if phase.trouble or len(phase.actions) > MOST_ACTIONS:
                break
            leaving = any(map(_leaving, self.room.pods()))
            idle = idle + 1 if not actions and not leaving else 0
            if idle == 2:
                phase.quiet = True
                break
            # A controller is asked again when something has changed. While pods end, it is asked all the same.
            if not done:
                self.room.constantly(lambda: True, 0.3, polls=1)
                if number >= ASKED_ENOUGH:
                    # It has been asked often enough while they end, which takes long on a slow machine.
                    self.room.eventually(lambda: not any(map(_leaving, self.room.pods())), "the end of some", 30)
            self.room.eventually(self._started, "the members running", 15)
            phase.fewest = min(phase.fewest, len(self.members()))
        members = self.members()
        phase.live = [pod["metadata"]["uid"] for pod in members]
        phase.versions = Counter(pod["metadata"]["labels"]["version"] for pod in members)
        phase.moment = cluster_map(self.room)
        return phase

    def _started(self) -> bool:
        return all(is_ready(pod) for pod in self.members())

    def _do(self, phase: Phase, action: Any) -> bool:
        """Do one action, as the learner's user; what cannot be done is the phase's trouble."""
        path = f"/api/v1/namespaces/{self.room.namespace}/pods"
        try:
            match action:
                case {"create": str() as name}:
                    body = self.scene.world.fitting(_pod(name, self.wanted["group"], self.wanted["version"]))
                    self.room.learner.request("POST", path, body=body)
                case {"delete": str() as name}:
                    self.room.learner.request("DELETE", f"{path}/{name}")
                case _:
                    phase.trouble = f'{action!r} is neither {{"create": name}} nor {{"delete": name}}'
                    return False
        except ApiError as error:
            if error.server:
                raise
            phase.trouble = f"{_short(action)} was refused: {error.status} {error.reason}: {error.message}"
            return False
        phase.fewest = min(phase.fewest, len(self.members()))
        return True


def _plain(pod: Object) -> Object:
    """A pod with what a controller looks at."""
    kept = ("name", "uid", "labels", "creationTimestamp", "deletionTimestamp")
    meta = {key: pod["metadata"][key] for key in kept if key in pod["metadata"]}
    return {"metadata": meta, "status": {"phase": pod.get("status", {}).get("phase", "Pending")}}


@once
def play(scene: Scene) -> None:
    """The episode: from nothing, after a loss, to fewer, to another version."""
    with scene.world.talk(scene.source, seconds=10) as talk:
        driver = Driver(scene, talk)
        first = driver.run("made")
        if len(first.live) != COUNT or first.trouble:
            return
        victim = scene.world.random.choice(driver.members())
        scene.replaced = victim["metadata"]["uid"]
        scene.room.api.delete("Pod", victim["metadata"]["name"], scene.room.namespace)
        driver.run("healed")
        driver.run("shrunk", count=COUNT - 1)
        driver.run("grown", count=COUNT)
        driver.run("renewed", version="v2")


EXERCISE = Exercise(
    id="14.4",
    title="A tiny controller",
    points=10,
    handed_in=(HandIn(NAME, "function"),),
    stage=stage,
    lesson=f"{LESSON}#A-loop-that-never-ends",
    hints=(
        Hint(
            "Your function is asked again before the last action has come true. What does a pod that is being deleted "
            "have in its metadata?",
            lambda situation: situation.failed("heals"),
        ),
        Hint(
            "Which pods are yours? The list holds all of the namespace.",
            lambda situation: situation.failed("makes", "strangers"),
        ),
        Hint(
            "Names must be free: a pod that is still ending has its name. How does a ReplicaSet name its pods?",
            lambda situation: situation.failed("heals", "renews"),
        ),
        Hint("What is the difference between what is wanted and what is there? Which of the two may you change?"),
        Hint("Does your function need to remember anything between two calls? What happens when it is restarted?"),
    ),
    debrief=(
        "The function looks at a state and not at an event: it does not know why a pod is missing, and need not. Asked "
        "twice, it does nothing twice; started anew, it goes on where the last one was. That is what level-triggered "
        "means, and why controllers survive lost messages, restarts and each other. What is being deleted counts as "
        "gone; what is not yours is not there. Chapter 24 puts such a loop into the cluster. Another way to name "
        "members: numbers, as a StatefulSet does, which then has to wait until a name is free."
    ),
)


def reached(scene: Scene, name: str) -> Phase | Problem:
    """A phase that was reached and in which everything could be done."""
    play(scene)
    phase = scene.phases.get(name)
    if phase is None:
        last = list(scene.phases.values())[-1]
        cause = "It was not reached: an earlier phase ended otherwise."
        return Problem(last.told(), cause, "First see to that.", last.moment)
    if phase.trouble:
        return Problem(
            phase.told(),
            "The API refuses what the function asks for: a name that is taken, or a pod that is gone.",
            "Look at the names of all pods, those that are ending too, before you make one up.",
            phase.moment,
        )
    return phase


@EXERCISE.check("makes", "From nothing to what is wanted", weight=2)
@judged(f"with no member there, {COUNT} are made, and then there is nothing more to do")
def makes(scene: Scene, world: World) -> str | Problem:
    """The group comes into being, and the function comes to rest."""
    phase = reached(scene, "made")
    if isinstance(phase, Problem):
        return phase
    if len(phase.live) == COUNT and phase.quiet:
        return phase.told()
    return Problem(
        phase.told(),
        "It makes too few, too many, or never comes to rest.",
        "How many members are there, and how many are wanted? Return that many actions, and [] when it fits.",
        phase.moment,
    )


@EXERCISE.check("heals", "A member that is lost is replaced", weight=3, needs=["makes"])
@judged("after a member was deleted, another takes its place while the old one still ends, and then all is quiet")
def heals(scene: Scene, world: World) -> str | Problem:
    """The deleted member takes two seconds to end; it must not be counted, and not be deleted again."""
    phase = reached(scene, "healed")
    if isinstance(phase, Problem):
        return phase
    if scene.replaced not in phase.ending:
        raise Inconclusive("the deleted member was gone before the function could be asked")
    at_once = [each for each in phase.first if isinstance(each, dict) and "create" in each]
    again = [each for each in phase.actions if isinstance(each, dict) and "delete" in each]
    if len(phase.live) == COUNT and scene.replaced not in phase.live and phase.quiet and at_once and not again:
        return phase.told()
    return Problem(
        phase.told(),
        "A pod that is being deleted (it has a deletionTimestamp) was counted as a member, or deleted again.",
        "Count only pods that are yours and not on their way out.",
        opened_at(phase.moment, phase.began),
    )


@EXERCISE.check("shrinks", "Fewer and more, as wanted", weight=2, needs=["makes"])
@judged("when fewer are wanted just so many go, and when more are wanted just so many come")
def shrinks(scene: Scene, world: World) -> str | Problem:
    """One less, then one more."""
    for name, count in (("shrunk", COUNT - 1), ("grown", COUNT)):
        phase = reached(scene, name)
        if isinstance(phase, Problem):
            return phase
        if len(phase.live) != count or not phase.quiet or len(phase.actions) != 1:
            return Problem(
                phase.told(),
                "The surplus stays, too many go, or it goes on and on.",
                "The difference of the two numbers is the number of actions, in either direction.",
                phase.moment,
            )
    return f"{scene.phases['shrunk'].told()}; then {scene.phases['grown'].told()}"


@EXERCISE.check("strangers", "What belongs to others is left alone", weight=1, needs=["makes"])
@judged("a pod of another group is neither counted nor touched")
def strangers(scene: Scene, world: World) -> str | Problem:
    """The stranger is the same pod in the end."""
    play(scene)
    pod = scene.room.pod(scene.stranger)
    touched = [phase for phase in scene.phases.values() if {"delete": "stranger"} in phase.actions]
    if pod is not None and not touched:
        return "the pod of the others runs on"
    return Problem(
        "the pod of the others was deleted",
        "It was taken for a member: the label group says whose a pod is.",
        'Look at pod["metadata"]["labels"].get("group").',
        touched[0].moment if touched else cluster_map(scene.room),
    )
