"""Exercises for a grader in trouble: a check in whose middle something happens to its cluster, and a function."""

from __future__ import annotations

from podlab.checks.contract import Answer, Exercise, HandIn, Result, failed, passed
from podlab.checks.world import Room, World


def disturb(_world: World) -> None:
    """What happens in the middle of a check: nothing; tests put something else here."""


def stage(answer: Answer, world: World) -> Room:
    """Apply the manifest and wait for its pod."""
    room = world.room("disturbed")
    room.submit(answer["manifest_92_1"])
    room.eventually(room.ready, "the pod being ready", 60)
    return room


STAYS = Exercise("92.1", "A pod that stays", 10, (HandIn("manifest_92_1"),), stage)


@STAYS.check("ready", "The pod gets ready", weight=1)
def _ready(room: Room, _world: World) -> Result:
    if room.ready():
        return passed("a pod that is ready", room.states())
    return failed("a pod that is ready", room.states(), cause="It does not start.", next_step="Describe it.")


@STAYS.check("stays", "It stays ready", weight=1, needs=("ready",))
def _stays(room: Room, world: World) -> Result:
    disturb(world)
    if room.constantly(lambda: bool(room.ready()), 1.0):
        return passed("ready all the time", room.states())
    return failed("ready all the time", room.states(), cause="Its program ends.", next_step="Read its log.")


CALLED = Exercise("92.2", "A function", 10, (HandIn("where", "function"),), lambda answer, _world: answer["where"])


@CALLED.check("value", "It returns something", weight=1)
def _value(source: str, world: World) -> Result:
    called = world.call(source, "where", seconds=30)
    if called.ok:
        return passed("a value", repr(called.value))
    return called.trouble("a value", "where()")


EXERCISES = [STAYS, CALLED]
