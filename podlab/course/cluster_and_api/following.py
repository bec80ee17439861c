"""Exercise 14.2: follow the changes of a kind and miss none, whatever becomes of the connection.

The learner's class never speaks to the API itself: it says what to ask next, and is given the real answers. So the
checker decides where a connection breaks, and nothing depends on luck.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from podlab.checks.api import ApiError, Object
from podlab.checks.contract import Answer, Exercise, HandIn, Hint, Inconclusive, Json
from podlab.checks.talks import Talk, TalkEnded
from podlab.checks.world import OURS, Room, World
from podlab.course.cluster_and_api import LESSON
from podlab.course.moments import Story
from podlab.course.plain import Problem, judged
from podlab.course.scenes import once

NAME = "Mirror"
KIND = "ConfigMap"
LABEL = {OURS: "mirrored"}
#: Requests that the class may make in one phase before it must have caught up.
MOST_REQUESTS = 5
#: How long a watch lasts; and one that shall end with a bookmark, which the API sends two seconds before the end.
WATCH_SECONDS, WITH_BOOKMARK = 2, 4
#: Watches in which a bookmark is waited for.
MOST_WATCHES = 5


@dataclass
class Phase:
    """What the mirror held at the end of a phase, what the API had, and what was asked in between."""

    held: Any
    real: Mapping[str, str]
    asked: list[Any] = field(default_factory=list)
    moment: Mapping[str, Json] = field(default_factory=dict)

    @property
    def right(self) -> bool:
        """Whether the mirror holds what the API has."""
        return self.held == self.real

    def wrong(self) -> dict[str, list[str]]:
        """What is wrong in what the mirror holds, and the names of the objects of which it is so."""
        if not isinstance(self.held, dict):
            return {}
        missing = sorted(set(self.real) - set(self.held))
        ghosts = sorted(set(self.held) - set(self.real))
        old = sorted(name for name in set(self.real) & set(self.held) if self.real[name] != self.held[name])
        every = {"missing": missing, "gone, and still held": ghosts, "out of date": old}
        return {what: names for what, names in every.items() if names}

    def told(self) -> str:
        """The difference in words."""
        if not isinstance(self.held, dict):
            return f"held() is {str(self.held)[:100]!r}, not a dictionary of names and words"
        words = [f"{what}: {', '.join(names)}" for what, names in self.wrong().items()]
        asked = ", ".join(_short(each) for each in self.asked)
        return f"{'; '.join(words) or f'all {len(self.real)} objects as they are'} (it asked: {asked or 'nothing'})"


def _short(asked: Any) -> str:
    if isinstance(asked, dict) and "watch" in asked:
        return f"watch from {asked['watch']!r}"
    return "list" if asked == {"list": True} else repr(asked)[:60]


@dataclass
class Scene:
    """A room with objects that change, and what the mirror made of it in each phase."""

    room: Room
    world: World
    source: str
    phases: dict[str, Phase] = field(default_factory=dict)
    bookmark: int = 0
    after_bookmark: Any = None


def stage(answer: Answer, world: World) -> Scene:
    """A room of its own."""
    return Scene(world.room("mirror"), world, answer[NAME])


class Keeper:
    """Changes objects in the room, and answers what the mirror asks with what the API really says."""

    def __init__(self, scene: Scene, talk: Talk) -> None:
        self.scene, self.talk, self.room = scene, talk, scene.room
        self.path = f"/api/v1/namespaces/{self.room.namespace}/configmaps"
        self.query = {"labelSelector": f"{OURS}=mirrored"}
        self.asked: list[Any] = []
        #: A row for each object, as the API has it, and one for the mirror.
        self.story = Story()

    def write(self, name: str) -> None:
        """Create or change an object: it gets a new word."""
        word = secrets.token_hex(3)
        item = {
            "apiVersion": "v1",
            "kind": KIND,
            "metadata": {"name": name, "labels": LABEL},
            "data": {"word": word},
        }
        self.room.api.apply(item, self.room.namespace)
        self.story.state(name, word)

    def remove(self, name: str) -> None:
        """Delete an object."""
        self.room.api.delete(KIND, name, self.room.namespace)
        self.story.state(name, "")

    def real(self) -> dict[str, str]:
        """What the API has: words by name."""
        found = self.room.api.list(KIND, self.room.namespace, **self.query)
        return {item["metadata"]["name"]: item["data"]["word"] for item in found}

    def next(self) -> Any:
        """What the mirror wants to ask."""
        asked = self.talk.ask("it.request")
        self.asked.append(asked)
        self.story.event("the mirror", f"asks: {_short(asked)}")
        return asked

    def list(self) -> None:
        """Answer a list."""
        answer = self.room.api.request("GET", self.path, query=self.query)
        items = [_plain(item) for item in answer["items"]]
        self.story.event("the mirror", f"is given: {', '.join(item['metadata']['name'] for item in items)}")
        self.talk.ask("it.listed", {"metadata": answer["metadata"], "items": items})

    def watch(self, version: Any) -> None:
        """Answer a watch with what the API sends until it ends."""
        for event in self.events(version):
            self.tell(event)

    def tell(self, event: Object) -> None:
        """Give the mirror an event."""
        name = event["object"].get("metadata", {}).get("name", "")
        self.story.event("the mirror", f"is told: {event['type']} {name}".strip())
        self.talk.ask("it.event", {**event, "object": _plain(event["object"])})

    def other(self, number: int) -> None:
        """Make an object that is none of the mirror's."""
        item = {"apiVersion": "v1", "kind": KIND, "metadata": {"name": f"other-{number}", "labels": {OURS: "other"}}}
        self.room.api.apply(item, self.room.namespace)

    def events(
        self, version: Any, seconds: int = WATCH_SECONDS, begun: Callable[[], None] = lambda: None
    ) -> Sequence[Object]:
        """The events after a version, until the watch ends; a refusal (410) as the event that the API makes of it.

        `begun` is called when the first event has come.
        """
        found, first = [], True
        try:
            for event in self.room.api.watch(KIND, self.room.namespace, str(version), seconds):
                if first:
                    first = False
                    begun()
                labels = event["object"].get("metadata", {}).get("labels") or {}
                if event["type"] in ("BOOKMARK", "ERROR") or labels.get(OURS) == "mirrored":
                    found.append(event)
        except ApiError as error:
            return [_refusal(error.status, error.reason, error.message)]
        return found

    def catch_up(self, phase: str) -> None:
        """Let the mirror ask until a watch has brought nothing new, or it has asked too often."""
        self.asked = []
        for _ in range(MOST_REQUESTS):
            asked = self.next()
            if asked == {"list": True}:
                self.list()
            elif isinstance(asked, dict) and isinstance(asked.get("watch"), str) and asked["watch"]:
                self.watch(asked["watch"])
                if self.talk.ask("it.held") == self.real():
                    break
            else:
                break
        self.end(phase)

    def end(self, name: str) -> None:
        """A phase is over: what does the mirror hold?"""
        phase = Phase(self.talk.ask("it.held"), self.real(), list(self.asked))
        for what, names in phase.wrong().items():
            for each in names:
                self.story.event(each, f"{what} in the mirror")
        phase.moment = self.story.moment()
        self.scene.phases[name] = phase


def _refusal(code: int, reason: str, message: str) -> Object:
    """The event with which a watch ends that cannot go on."""
    status = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure"}
    return {"type": "ERROR", "object": {**status, "code": code, "reason": reason, "message": message}}


def _plain(item: Object) -> Object:
    """An object without what is long and of no use here."""
    meta = {key: value for key, value in item.get("metadata", {}).items() if key != "managedFields"}
    return {**item, "metadata": meta} if meta else item


@once
def play(scene: Scene) -> None:
    """The episode: list, a change in between, a broken connection, a version that is too old."""
    with scene.world.talk(scene.source, seconds=10) as talk:
        made = talk.make(NAME)
        if not made.ok:
            raise TalkEnded(made, f"{NAME}()")
        keeper = Keeper(scene, talk)
        for name in ("anna", "bert", "cleo"):
            keeper.write(name)
        first = keeper.next()
        if first == {"list": True}:
            keeper.list()
        keeper.end("list")
        # Between the list and the watch: one comes, one changes, one goes.
        keeper.write("dora")
        keeper.write("bert")
        keeper.remove("anna")
        keeper.catch_up("gap")
        _bookmark(scene, keeper)
        # While the connection is broken, again.
        keeper.next()
        keeper.remove("cleo")
        keeper.write("emil")
        keeper.catch_up("broken")
        _expire(scene, keeper)


def _bookmark(scene: Scene, keeper: Keeper) -> None:
    """Others' writes move the version on; only a bookmark tells. What does the mirror ask for after it?"""
    asked = keeper.next()
    if not isinstance(asked, dict) or not str(asked.get("watch", "")).isdigit():
        return
    keeper.other(0)
    # The API promises no bookmark. It tries to send one in the last two seconds of a watch, with the version of the
    # newest write, if that came after the watch had begun; and a busy one may be late. The same watch again brings the
    # same events.
    for turn in range(1, MOST_WATCHES + 1):
        events = keeper.events(asked["watch"], WITH_BOOKMARK, partial(keeper.other, turn))
        marks = [int(each["object"]["metadata"]["resourceVersion"]) for each in events if each["type"] == "BOOKMARK"]
        if marks:
            break
    else:
        raise Inconclusive(f"the API server sent no bookmark before the end of {MOST_WATCHES} watches")
    for event in events:
        keeper.tell(event)
    scene.bookmark = max(marks)
    scene.after_bookmark = keeper.talk.ask("it.request")


def _expire(scene: Scene, keeper: Keeper) -> None:
    """The mirror is told that its version is gone (410).

    A real API server forgets a version only after minutes, so this event is ours, in the form that the API documents;
    what was deleted meanwhile, and the list that must follow, are real.
    """
    asked = keeper.next()
    keeper.remove("dora")
    keeper.write("fritz")
    if isinstance(asked, dict) and "watch" in asked:
        keeper.tell(_refusal(410, "Expired", f"too old resource version: {asked['watch']}"))
    keeper.catch_up("expired")


EXERCISE = Exercise(
    id="14.2",
    title="Follow, and miss nothing",
    points=10,
    handed_in=(HandIn(NAME, "program"),),
    stage=stage,
    lesson=f"{LESSON}#Everybody-watches",
    hints=(
        Hint(
            "Your mirror holds something that is long gone. After a new list, what of the old must go?",
            lambda situation: situation.failed("expired"),
        ),
        Hint(
            "An object was deleted between your list and your watch. From which version must you watch so that you "
            "are told?",
            lambda situation: situation.failed("gap"),
        ),
        Hint("An answer to a list has a metadata of its own. What is its resourceVersion the version of?"),
        Hint("Which events carry a version that you have seen everything up to? (All but one kind.)"),
        Hint("What is the code of an ERROR event, and what does the API want you to do then?"),
    ),
    debrief=(
        "List, then watch from the list's version: so nothing falls between the two. Remember the version of every "
        "event, bookmarks too, and a broken connection costs nothing. When the version is too old (410), list again, "
        "and let the new list replace what you have: what is not in it is gone. Every controller, every node and the "
        "pictures of this course follow the API in this way; client libraries call it an informer. Another way: a "
        "watch that sends the initial list itself (sendInitialEvents), which ends with a bookmark."
    ),
)


def _phase(scene: Scene, name: str, cause: str, next_step: str) -> str | Problem:
    play(scene)
    phase = scene.phases[name]
    return phase.told() if phase.right else Problem(phase.told(), cause, next_step, phase.moment)


@EXERCISE.check("list", "It begins with a list", weight=1)
@judged("at first it asks for a list, and then holds what was in it")
def lists(scene: Scene, world: World) -> str | Problem:
    """Three objects are there."""
    return _phase(
        scene,
        "list",
        'The first request is not {"list": True}, or listed() does not keep the words of the items.',
        'Each item has its name in item["metadata"]["name"] and its word in item["data"]["word"].',
    )


@EXERCISE.check("gap", "Nothing is missed between the list and the watch", weight=3, needs=["list"])
@judged("what came, changed and went between the list and the watch is known after the watch")
def gap(scene: Scene, world: World) -> str | Problem:
    """The watch must go on from where the list ended."""
    play(scene)
    phase = scene.phases["gap"]
    if not any(isinstance(each, dict) and "watch" in each for each in phase.asked):
        return Problem(
            phase.told(),
            "It lists again and again: each time the whole of it, and nothing is known in between.",
            'After a list, request() should be {"watch": version}.',
            phase.moment,
        )
    return _phase(
        scene,
        "gap",
        "The watch does not begin at the version of the list, or an event of some type is not taken in.",
        'Watch from answer["metadata"]["resourceVersion"]; there are ADDED, MODIFIED and DELETED.',
    )


@EXERCISE.check("broken", "A broken connection costs nothing", weight=2, needs=["gap"])
@judged("after a connection that broke, what came and went meanwhile is known")
def broken(scene: Scene, world: World) -> str | Problem:
    """A watch brings nothing; the next must go on from the same place, or a list must come."""
    return _phase(
        scene,
        "broken",
        "After the break it does not go on from the last version that it has seen.",
        "Which version had the last event? request() must name it again, as often as it is asked.",
    )


@EXERCISE.check("expired", "A version that is too old", weight=3, needs=["gap"])
@judged("after an ERROR event with code 410 it lists again, and nothing that is gone is held")
def expired(scene: Scene, world: World) -> str | Problem:
    """410: the API has forgotten that version."""
    phase = scene.phases.get("expired")
    if phase is None:
        play(scene)
        phase = scene.phases["expired"]
    if {"list": True} not in phase.asked:
        return Problem(
            phase.told(),
            "It goes on to watch from a version that the API does not have any more.",
            'After an event of type ERROR, request() should be {"list": True} again.',
            phase.moment,
        )
    if phase.right:
        return phase.told()
    return Problem(
        phase.told(),
        "The new list was added to what was there: what went meanwhile is still held.",
        "A list replaces everything. What is not in it does not exist.",
        phase.moment,
    )
