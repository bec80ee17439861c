"""Exercise 15.3: a program that takes long to start survives its start, and is guarded afterwards."""

from __future__ import annotations

import time
from dataclasses import dataclass

from podlab.checks.api import Object
from podlab.checks.contract import Answer, Exercise, HandIn, Hint, Result, failed, passed
from podlab.checks.world import Room, World, container, is_ready, restarts
from podlab.course import workload
from podlab.course.moments import staircase
from podlab.course.scenes import (
    Life,
    mentions,
    still,
    submit,
    wedge,
    what_became,
)

LESSON = "notebooks/15-self-healing.ipynb"
NAME = "manifest_15_3"
#: The longest start that the task promises, and when a start counts as failed (seconds).
LONGEST_START = 20
HOPELESS_AFTER = 45
#: A wedged replica is restarted within this time (seconds on an idle machine); said in the task.
NOTICED_WITHIN = 15
#: For how long it is watched at least once it is up (seconds on an idle machine).
WATCHED = 7


@dataclass
class Scene:
    """The same manifest in three rooms: a slow start, a quick start, and one that never ends."""

    world: World
    slow: Room
    quick: Room
    never: Room
    start_seconds: int
    began: float
    up: Object | None = None


def stage(answer: Answer, world: World) -> Scene:
    """Apply the manifest in three rooms that differ only in how long the model takes to load."""
    seconds = world.random.randint(12, 16)

    def started(name: str, start_seconds: float) -> Room:
        objects = workload.objects(start_seconds=start_seconds)
        return submit(answer[NAME], world, name, objects=objects, given=workload.Given())

    slow, quick, never = started("slow", seconds), started("quick", 1), started("never", 3600)
    return Scene(world, slow, quick, never, seconds, time.monotonic())


EXERCISE = Exercise(
    id="15.3",
    title="A slow start",
    points=10,
    handed_in=(HandIn(NAME),),
    stage=stage,
    lesson=f"{LESSON}#A-slow-start",
    hints=(
        Hint(
            "You gave the liveness probe more patience. For how long does a replica that hangs later now "
            "stay as it is?",
            lambda situation: situation.failed("still-guarded"),
        ),
        Hint(
            "Your replica came up, but only because a fixed pause was long enough. What if the model loads in one "
            "second tomorrow, or in twenty?",
            mentions(NAME, "initialDelaySeconds"),
        ),
        Hint("What does lab.events() say about why the container is ended again and again?"),
        Hint(
            "Which of the three probes runs only until it has succeeded once, and holds the other two back until then?"
        ),
        Hint("periodSeconds × failureThreshold of that probe is the time that a start may take. What is it in yours?"),
    ),
    debrief=(
        "The startup probe separates two questions: has it started, and does it still work? Patience at the start "
        "costs nothing later, and a quick start is not delayed, since the probe ends with its first success. Before "
        "startup probes people wrote a long initialDelaySeconds: a guess that is too short on a bad day, and on a "
        "good day leaves the program unguarded. Another way: load the model in an init container, and let the program "
        "start with the model already there."
    ),
)


@EXERCISE.check("comes-up", "A start of more than ten seconds is survived", weight=3)
def comes_up(scene: Scene, world: World) -> Result:
    """The pod of the slow room becomes Ready without a restart."""
    room = scene.slow
    expected = f"a replica whose model takes {scene.start_seconds} s to load becomes Ready without a restart"

    def done() -> bool:
        pods = room.live()
        return bool(pods) and (any(restarts(pod) for pod in pods) or all(is_ready(pod) for pod in pods))

    room.eventually(done, "the slow start's end", LONGEST_START + 15)
    pods = room.live()
    if pods and all(is_ready(pod) and restarts(pod) == 0 for pod in pods):
        scene.up = pods[0]
        return passed(expected, room.states(), start_seconds=scene.start_seconds)
    restarted = any(restarts(pod) for pod in pods)
    return failed(
        expected,
        f"after {time.monotonic() - scene.began:.0f} s: {room.states()}",
        cause=(
            "The liveness probe ended the container while it was still loading: it will never get through."
            if restarted
            else "The replica is up, but nobody has noticed: a probe waits for a fixed time or asks rarely."
        ),
        next_step="Give the container a startupProbe that allows for the longest start.",
        **staircase(room),
    )


@EXERCISE.check("stays-up", "It stays up and answers", weight=1, needs=["comes-up"])
def stays_up(scene: Scene, world: World) -> Result:
    """Ready, the same container, and answering, at every look for a while."""
    assert scene.up is not None
    room, life = scene.slow, Life.of(scene.up)
    expected = "once up, it stays Ready and answers at every look"

    def well() -> bool:
        pod = room.pod(life.uid) or {}
        return still(room, life) and is_ready(pod) and room.ask(pod, "/recommend/123").ok

    if room.constantly(well, world.deadline(max(WATCHED, _patience(scene.up) + 3))):
        return passed(expected, room.states())
    return failed(
        expected,
        what_became(room, life),
        cause="A probe fails after the start as well.",
        next_step="lab.events() names the probe that failed, and what it got: is it asked for the right page and port?",
        **staircase(room),
    )


def _patience(pod: Object) -> int:
    """Seconds after which a liveness probe that always fails ends the container; 0 if that cannot look like guarding.

    A container that is ended only after the replica was wedged, but not because of that, would pass for a guarded one.
    """
    probe = pod["spec"]["containers"][0].get("livenessProbe") or {}
    seconds = int(probe.get("periodSeconds", 10)) * int(probe.get("failureThreshold", 3))
    return seconds if seconds <= 2 * NOTICED_WITHIN else 0


@EXERCISE.check("still-guarded", "After its start it is guarded as closely as before", weight=3, needs=["stays-up"])
def still_guarded(scene: Scene, world: World) -> Result:
    """The replica is wedged right after its start and must be restarted soon."""
    assert scene.up is not None
    room, life = scene.slow, Life.of(scene.up)
    expected = f"a replica that hangs after its start is restarted within {NOTICED_WITHIN} s (on an idle machine)"
    moment = wedge(room, scene.up)

    def restarted() -> bool:
        now = container(room.pod(life.uid) or {})
        return now.get("restartCount", 0) > life.restarts

    if room.eventually(restarted, "the hanging container being restarted", NOTICED_WITHIN):
        return passed(expected, f"{life.pod} was restarted {time.monotonic() - moment:.1f} s after it hung")
    return failed(
        expected,
        f"{life.pod} hung for {time.monotonic() - moment:.0f} s: {what_became(room, life)}",
        cause="The patience that the start needs was given to the liveness probe, for the whole life.",
        next_step="Leave the liveness probe as it was, and put the patience into a startupProbe.",
        **staircase(room),
    )
