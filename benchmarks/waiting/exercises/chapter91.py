"""One exercise whose check waits ten seconds whatever the machine: a pod has to stay ready that long."""

from __future__ import annotations

from podlab.checks.contract import Answer, Exercise, HandIn, Result, failed, passed
from podlab.checks.world import Room, World

STAYS = 10.0


def stage(answer: Answer, world: World) -> Room:
    """Apply the manifest and wait for its pod."""
    room = world.room("waiting")
    room.submit(answer["manifest_91_1"])
    room.eventually(room.ready, "the pod being ready", 30)
    return room


WAITING = Exercise("91.1", "A pod that stays", 10, (HandIn("manifest_91_1"),), stage)


@WAITING.check("ready", "The pod gets ready", weight=1)
def _ready(room: Room, _world: World) -> Result:
    if room.ready():
        return passed("a pod that is ready", room.states())
    return failed("a pod that is ready", room.states(), cause="It does not start.", next_step="Describe it.")


@WAITING.check("stays", "It stays ready for ten seconds", weight=1, needs=("ready",))
def _stays(room: Room, _world: World) -> Result:
    if room.constantly(lambda: bool(room.ready()), STAYS):
        return passed("ready all the time", room.states())
    return failed("ready all the time", room.states(), cause="Its program ends.", next_step="Read its log.")


EXERCISES = [WAITING]
