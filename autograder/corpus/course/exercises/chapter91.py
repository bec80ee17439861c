"""The exercises that the hostile corpus attacks in a cluster: what the API server says of a pod decides one of them."""

from __future__ import annotations

from typing import Any

from podlab.checks.contract import Answer, Exercise, HandIn, Result, failed, passed
from podlab.checks.world import Room, World, is_ready


def stage(answer: Answer, world: World) -> Room:
    """Apply the manifest and give its pod time."""
    room = world.room("web")
    room.submit(answer["manifest_91_1"])
    room.eventually(lambda: ready(room), "the pod web being ready", 20)
    return room


def ready(room: Room) -> bool:
    """Whether the API server calls the pod `web` ready: who can write its status can forge that."""
    return any(pod["metadata"]["name"] == "web" and is_ready(pod) for pod in room.live())


WEB = Exercise("91.1", "A pod that gets ready", 10, (HandIn("manifest_91_1"),), stage)


@WEB.check("ready", "The pod gets ready", weight=1)
def _ready(room: Room, _world: World) -> Result:
    if ready(room):
        return passed("the pod web is ready", room.states())
    return failed("the pod web is ready", room.states(), cause="It does not start.", next_step="Describe it.")


@WEB.check("told", "The node tells of it", weight=1)
def _told(room: Room, _world: World) -> Result:
    events = [event for event in room.api.list("Event", room.namespace) if event["involvedObject"]["name"] == "web"]
    found = sorted({event["reason"] for event in events})
    words, seen = "an Event Started of the pod web", ", ".join(found) or "none"
    if "Started" in found:
        return passed(words, seen)
    return failed(words, seen, cause="It does not start.", next_step="Describe it.")


VALUE = Exercise("91.2", "A value", 10, (HandIn("value_91_2", "prediction"),), lambda answer, _: answer["value_91_2"])


@VALUE.check("right", "It is right", weight=1)
def _right(value: Any, _world: World) -> Result:
    if value == 42:
        return passed("the right number", "42")
    return failed("the right number", f"{value}", cause="It was not looked up.", next_step="Look it up.")


EXERCISES = [WEB, VALUE]
