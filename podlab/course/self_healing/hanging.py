"""Exercise 15.1: a process that hangs is restarted; slow and briefly pausing ones are not."""

from __future__ import annotations

import time
from dataclasses import dataclass

from podlab.checks.api import Object
from podlab.checks.contract import (
    Answer,
    Exercise,
    HandIn,
    Hint,
    Inconclusive,
    Result,
    failed,
    passed,
)
from podlab.checks.world import Room, World, container, is_ready, restarts
from podlab.course import workload
from podlab.course.moments import staircase
from podlab.course.scenes import (
    Life,
    bring_up,
    lives,
    mentions,
    once,
    quiet,
    short,
    still,
    wedge,
    what_became,
)

LESSON = "notebooks/15-self-healing.ipynb"
NAME = "manifest_15_1"
REPLICAS = 3
#: A hanging replica answers again within this time (seconds on an idle machine); said in the task.
HEALED_WITHIN = 30
#: For how long replicas are watched to which nothing is done.
WATCHED = 6
#: How late a healthy answer may be (seconds); said in the task.
SLOW = 1.5


@dataclass
class Scene:
    """Three replicas: one is wedged, one is made slow, one is left alone. The episode is played once."""

    room: Room
    world: World
    before: dict[str, Life]
    sick: Object
    slow: Object
    well: Object
    restless: str
    healed_after: float | None = None
    took_slow: float = 0.0
    sick_ready_then: bool = True

    def life(self, pod: Object) -> Life:
        """The pod's container as it was before anything was done."""
        return self.before[pod["metadata"]["uid"]]


def stage(answer: Answer, world: World) -> Scene:
    """Bring three replicas up and watch them for a while without touching them."""
    room = bring_up(answer[NAME], world, "hanging", wanted=REPLICAS, given=workload.Given())
    pods = room.live()
    if len(pods) < REPLICAS:
        raise Inconclusive(f"a replica that was Ready has gone: {room.states()}")
    before = lives(pods)
    # On a slow machine an eager probe may have struck already.
    struck = any(restarts(pod) and not is_ready(pod) for pod in pods)
    restless = room.states() if struck else quiet(room, before, world.deadline(WATCHED))
    world.random.shuffle(pods)
    return Scene(room, world, before, pods[0], pods[1], pods[2], restless)


@once
def play(scene: Scene) -> None:
    """The episode: one replica hangs, another answers late; wait for the first to be replaced."""
    if scene.restless:
        return
    room = scene.room
    try:
        moment = _harm(scene)
    except Inconclusive:
        # A probe that ends the healthy may have ended one just now.
        if all(still(room, scene.life(pod)) for pod in (scene.sick, scene.slow, scene.well)):
            raise
        scene.restless = _restless(scene)
        if scene.restless:
            return
        raise
    uid, before = scene.sick["metadata"]["uid"], scene.life(scene.sick)

    def restarted() -> bool:
        pod = room.pod(uid) or {}
        scene.sick_ready_then = is_ready(pod)
        now = container(pod)
        fresh = now.get("containerID", "") not in ("", before.container)
        return fresh and "running" in now.get("state", {}) and now.get("restartCount", 0) > before.restarts

    if room.eventually(restarted, "the hanging container being restarted", HEALED_WITHIN):
        pod = room.pod(uid) or {}
        if room.eventually(lambda: room.ask(pod, "/recommend/123", timeout=3).ok, "an answer of the new process", 10):
            scene.healed_after = time.monotonic() - moment
        # A probe that fails on the healthy may have been late before, and has now ended the sick one.
        scene.restless = _restless(scene)


def _harm(scene: Scene) -> float:
    """Make one replica slow and wedge another, both proven; the moment at which the one was wedged."""
    scene.room.trouble(scene.slow, "slow", delay=SLOW, seconds=120)
    began = time.monotonic()
    answered = scene.room.ask(scene.slow, "/healthz", timeout=scene.world.deadline(6)).ok
    # A probe without any patience may have ended it meanwhile.
    if not answered and still(scene.room, scene.life(scene.slow)):
        raise Inconclusive(f"the slow replica {scene.slow['metadata']['name']} did not answer at all")
    scene.took_slow = time.monotonic() - began
    return wedge(scene.room, scene.sick)


def _restless(scene: Scene) -> str:
    """What became of the replica to which nothing was done, if its containers are ended again and again; '' otherwise.

    Once proves nothing: the machine may stand still for longer than a strict probe waits.
    """
    room, world, uid = scene.room, scene.world, scene.well["metadata"]["uid"]
    if not quiet(room, {uid: scene.before[uid]}, world.deadline(WATCHED)):
        return ""
    room.eventually(lambda: "running" in container(room.pod(uid) or {}).get("state", {}), "its next container", 15)
    probe = scene.well["spec"]["containers"][0].get("livenessProbe") or {}
    failures = probe.get("failureThreshold", 3) * (probe.get("periodSeconds", 10) + probe.get("timeoutSeconds", 1))
    needed = min(probe.get("initialDelaySeconds", 0) + failures, HEALED_WITHIN)
    after = lives([pod for pod in room.live() if pod["metadata"]["uid"] == uid])
    return quiet(room, after, world.deadline(max(WATCHED, needed)))


EXERCISE = Exercise(
    id="15.1",
    title="A process that hangs",
    points=10,
    handed_in=(HandIn(NAME),),
    stage=stage,
    lesson=f"{LESSON}#A-process-that-hangs",
    hints=(
        Hint(
            "Three probes have three jobs. Which one ends a container, and which one only takes its traffic away?",
            mentions(NAME, "readinessProbe", without="livenessProbe"),
        ),
        Hint(
            "A hanging program still has its port open. What does a TCP probe see of it?",
            mentions(NAME, "tcpSocket"),
        ),
        Hint(
            "How long does a probe wait for an answer before it counts a failure, if you say nothing? "
            "How long may an answer of this program take?",
            lambda situation: situation.failed("slow-is-not-dead"),
        ),
        Hint(
            "Your containers are restarted though nothing is wrong with them. Which port and path does the probe ask, "
            "and what does the program answer there? lab.events() shows what the probe got.",
            lambda situation: situation.failed("only-the-sick"),
        ),
        Hint("Kubernetes sees a process that runs. What would you have to ask the process to know that it works?"),
        Hint("Which page of the program needs the same lock as real work does, and costs next to nothing?"),
        Hint(
            "With periodSeconds p, timeoutSeconds t and failureThreshold n, how long does it take at most from the "
            "first failed question to the restart?"
        ),
    ),
    debrief=(
        "A liveness probe turns “the process exists” into “the process does its work”. The pod kept its name, its "
        "address and its uid; only the container in it is new. The price of a probe is its mistakes: each restart "
        "of a replica that was merely slow moves its load to the others and can topple them too. So a liveness probe "
        "asks little, waits long and forgives a few failures. Another way: the program watches itself (a watchdog "
        "thread) and ends itself when it is stuck; then restartPolicy alone does the rest."
    ),
)


@EXERCISE.check("restarted", "A hanging container is restarted, and answers again", weight=5)
def restarted(scene: Scene, world: World) -> Result:
    """The container of the wedged pod is replaced by a new one in the same pod, which answers."""
    expected = (
        f"the container that hangs is restarted, in its pod, within {HEALED_WITHIN} s (on an idle machine), and answers"
    )
    play(scene)
    if scene.restless:
        return failed(
            expected,
            f"containers were restarted to which nothing had been done: {scene.restless}",
            cause="The probe fails on healthy containers, so a restart proves nothing.",
            next_step="lab.apply(manifest_15_1), then lab.events(): which page and port does the probe ask?",
            **staircase(scene.room),
        )
    life = scene.life(scene.sick)
    if scene.healed_after is None:
        only_traffic = not scene.sick_ready_then
        return failed(
            expected,
            f"{life.pod} was wedged, and no new container answered in {world.deadline(HEALED_WITHIN):.0f} s: "
            f"{what_became(scene.room, life)}",
            cause=(
                "The pod was marked not Ready but never restarted: that is what a readiness probe does."
                if only_traffic
                else "Nothing asks the program whether it still works, or what is asked is answered by the "
                "operating system (an open port), or the probe is too patient."
            ),
            next_step="Give the container a livenessProbe that asks a page of the program.",
            pod=life.pod,
            uid=life.uid,
            **staircase(scene.room),
        )
    return passed(
        expected,
        f"{life.pod} hung and answered from a new container after {scene.healed_after:.1f} s",
        pod=life.pod,
        uid=life.uid,
        seconds=round(scene.healed_after, 1),
    )


@EXERCISE.check("only-the-sick", "A healthy replica is left alone", weight=2, needs=["restarted"])
def only_the_sick(scene: Scene, world: World) -> Result:
    """Negative control: the untouched replica keeps its container."""
    life = scene.life(scene.well)
    expected = "a replica that nothing is wrong with keeps its container"
    if still(scene.room, life):
        return passed(expected, f"{life.pod} still runs container {short(life.container)}")
    return failed(
        expected,
        what_became(scene.room, life),
        cause="The probe fails on a healthy program: wrong page, wrong port, or too little patience.",
        next_step="lab.events() shows what the probe got as an answer.",
        **staircase(scene.room),
    )


@EXERCISE.check("slow-is-not-dead", "A slow replica is left alone", weight=3, needs=["restarted"])
def slow_is_not_dead(scene: Scene, world: World) -> Result:
    """Negative control: the replica that answers late, but right, keeps its container."""
    life = scene.life(scene.slow)
    expected = f"a replica whose answers take {SLOW} s keeps its container (the task allows 2 s)"
    if scene.took_slow < SLOW and still(scene.room, life):
        raise Inconclusive(f"the slow replica answered in {scene.took_slow:.2f} s")
    # The probe has had at least as long on the slow replica as it needed on the hanging one.
    if scene.room.constantly(lambda: still(scene.room, life), world.deadline(4)):
        return passed(expected, f"{life.pod} answered in {scene.took_slow:.1f} s and was left alone")
    return failed(
        expected,
        what_became(scene.room, life),
        cause="The probe gives up after timeoutSeconds, which is 1 if you do not set it, and takes slow for dead.",
        next_step="Set timeoutSeconds above the longest time that a healthy answer may take.",
        **staircase(scene.room),
    )
