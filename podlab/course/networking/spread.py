"""Exercise 16.1: a Service that spreads requests over the ready pods of one part, and over nothing else."""

from __future__ import annotations

from dataclasses import dataclass, field

from podlab.checks.api import Object
from podlab.checks.contract import Answer, Exercise, HandIn, Hint, Inconclusive, Refused, failed
from podlab.checks.traffic import Client, Window
from podlab.checks.world import Room, World, is_ready
from podlab.course import workload
from podlab.course.moments import visited
from podlab.course.networking.sites import (
    LESSON,
    all_ready,
    deployment,
    names,
    of,
    only_sites,
    page,
    readiness,
    share,
    why_no_answer,
)
from podlab.course.plain import Problem, judged
from podlab.course.scenes import mentions, once

NAME = "manifest_16_1"
PREDICTIONS = ("share_of_three", "share_of_two", "share_when_kept")
REPLICAS = 3
#: Requests that are counted. With three pods a share strays from a third by more than 17 points in one run of 60,000.
REQUESTS = 120
LEAST, MOST = 16, 51
#: How far a predicted share may be from the measured one, in points.
TOLERANCE = 5


@dataclass
class Scene:
    """Three replicas of serving and one pod of another part, a client, and what it saw."""

    room: Room
    world: World
    client: Client
    answer: Answer
    window: Window
    others: set[str]
    pods: list[Object]
    kept: Window = field(default_factory=lambda: Window([]))
    victim: str = ""
    clear: Window | None = None
    seen: Window = field(default_factory=lambda: Window([]))


def stage(answer: Answer, world: World) -> Scene:
    """Put the site up, apply the Service, and ask it from inside the cluster until it answers."""
    parts = [
        deployment("serving", {"app": "movies", "part": "serving"}, REPLICAS),
        deployment("ingest", {"app": "movies", "part": "ingest"}, 1),
    ]
    room = world.room("spread", [*workload.objects(), *parts])
    client = room.client()
    if not room.eventually(lambda: all_ready(room, REPLICAS + 1), "our pods", 30):
        raise Inconclusive(f"the site that the check puts up is not ready: {room.states()}")
    # Only now: so nobody is known as an endpoint before the others, the pod of the other part among them.
    only_sites(room)
    room.submit(answer[NAME])
    target = page(room, workload.SERVICE)
    if not room.eventually(lambda: not client.visit(target).failed, "an answer of the Service", 10, interval=0.5):
        told, cause = why_no_answer(room, workload.SERVICE)
        raise Refused(
            failed(
                f"requests to http://{workload.SERVICE} are answered",
                f"none was: {client.visit(target, 3).summary()}; {told}",
                cause=cause,
                next_step='lab.get("services") and lab.get("endpointslices"): which pods, which port?',
            )
        )
    serving = of(room, part="serving")
    # A node learns of the endpoints one after the other.
    room.eventually(lambda: names(serving) <= set(client.visit(target, 20).share()), "all being asked", 10)
    for _ in range(3):
        before, window = readiness(room), client.visit(target, REQUESTS)
        if readiness(room) == before:
            return Scene(room, world, client, answer, window, names(of(room, part="ingest")), serving)
    raise Inconclusive(f"a replica's readiness changed while requests were counted: {room.states()}")


@once
def play(scene: Scene) -> None:
    """The episode: one replica has no model for a while; see whether requests still reach it."""
    room, target = scene.room, page(scene.room, workload.SERVICE)
    scene.kept = scene.client.visit(target, 40, keep=True)
    victim = scene.world.random.choice(scene.pods)
    scene.victim = victim["metadata"]["name"]
    if share(scene.window, scene.victim) == 0:
        return
    room.trouble(victim, "unready", seconds=600)
    if not room.eventually(lambda: room.ask(victim, "/readyz").status == 503, "503", 15):
        raise Inconclusive(f"{scene.victim} does not say that it is not ready")
    uid = victim["metadata"]["uid"]
    if not room.eventually(lambda: not is_ready(room.pod(uid) or {}), "the replica being called not ready", 60):
        raise Inconclusive(f"{scene.victim} says 503 and is still called ready: {room.states()}")

    def clear() -> bool:
        scene.seen = scene.client.visit(target, 40)
        return scene.victim not in scene.seen.share()

    if room.eventually(clear, "requests going to the others only", 15):
        # Not once, but from now on.
        scene.seen = scene.client.visit(target, REQUESTS)
        scene.clear = scene.seen if scene.victim not in scene.seen.share() else None


EXERCISE = Exercise(
    id="16.1",
    title="One address for whoever is ready",
    points=10,
    handed_in=(HandIn(NAME), *(HandIn(name, "prediction") for name in PREDICTIONS)),
    stage=stage,
    lesson=f"{LESSON}#One-address-in-front-of-three",
    hints=(
        Hint(
            "Who else carries the labels that your selector names? lab.get('pods') and a look at their labels tell.",
            lambda situation: situation.failed("only-serving"),
        ),
        Hint(
            "Your Service sends requests to a pod that says it cannot serve. Which field of a Service tells it not to "
            "care about readiness?",
            lambda situation: situation.failed("unready-none") and mentions(NAME, "publishNotReady")(situation),
        ),
        Hint(
            "One client, and every request lands in one pod. Which field remembers clients?",
            lambda situation: situation.failed("spreads") and mentions(NAME, "ClientIP")(situation),
        ),
        Hint(
            "A Service chooses a pod for each connection, and not for each request. What does that mean for a client "
            "that keeps its connection?",
            lambda situation: situation.failed("predicted"),
        ),
        Hint("A Service has two ports: the one at which clients ask it, and the one at which it asks the pods. Which?"),
        Hint("Which two labels together are carried by the serving pods and by nobody else?"),
        Hint("How do you try it? client = lab.visitor(); client.visit('http://serving/recommend/1', 60)."),
    ),
    debrief=(
        "The selector is a question that is asked again and again, and its answer is kept in EndpointSlices: pods that "
        "carry the labels, with their readiness. Every node turns the ready ones into rules, and the kernel draws one "
        "of them for each new connection, by chance and without looking at load. So a kept connection is never "
        "balanced: a client with one long connection (a database driver, gRPC) stays with one pod until it ends. "
        "Another way: such a client asks a headless Service for all addresses and balances by itself."
    ),
)


@EXERCISE.check("answers", "The Service answers every request", weight=1)
@judged("every request to http://serving is answered")
def answers(scene: Scene, world: World) -> str | Problem:
    """All requests were answered with 2xx."""
    if not scene.window.failed:
        return scene.window.summary()
    return Problem(
        scene.window.summary(),
        "Some of the pods behind the Service do not answer at the port that it asks.",
        "Which pods are behind it? lab.get('endpointslices').",
        visited(scene.room, workload.SERVICE, scene.window),
    )


@EXERCISE.check("spreads", "The requests spread over the replicas", weight=2)
@judged(f"of {REQUESTS} requests, one after the other, each of the {REPLICAS} replicas answers {LEAST} to {MOST} %")
def spreads(scene: Scene, world: World) -> str | Problem:
    """Each replica's share is about a third."""
    shares = [share(scene.window, name) for name in sorted(names(scene.pods))]
    if all(LEAST <= each <= MOST for each in shares):
        return scene.window.summary()
    sticky = max(shares) > 95
    return Problem(
        scene.window.summary(),
        "The Service remembers its clients (sessionAffinity), and this client is one."
        if sticky
        else "The selector fits only some of the replicas, or others beside them.",
        "Leave sessionAffinity out." if sticky else "Compare the selector with the labels of all pods.",
        visited(scene.room, workload.SERVICE, scene.window),
    )


@EXERCISE.check("only-serving", "No request reaches another part", weight=2)
@judged("no request to serving is answered by a pod of another part")
def only_serving(scene: Scene, world: World) -> str | Problem:
    """The pod of ingest, which runs the same program, answered none."""
    strays = sum(scene.window.share()[name] for name in scene.others)
    if not strays:
        return f"the pod of ingest answered none of {len(scene.window)} requests"
    return Problem(
        f"the pod of ingest answered {strays} of {len(scene.window)} requests",
        "The selector is too wide: the label that it names is carried by other parts too.",
        "Name a label that only the serving pods have; all labels in a selector must fit.",
        visited(scene.room, workload.SERVICE, scene.window),
    )


@EXERCISE.check("unready-none", "A replica that is not ready gets no request", weight=3, needs=["spreads"])
@judged(f"while a replica is not ready, none of {REQUESTS} requests reaches it, and the others answer all")
def unready_none(scene: Scene, world: World) -> str | Problem:
    """After the replica was called not ready, no request arrives there."""
    play(scene)
    if scene.clear is not None and not scene.clear.failed:
        return f"{scene.victim} is not ready; {scene.clear.summary()}"
    return Problem(
        f"{scene.victim} is not ready; {scene.seen.summary()}",
        "The Service leads to its pods whether they are ready or not (publishNotReadyAddresses, or addresses "
        "written by hand).",
        "Let the Service select pods, and say nothing about readiness: by default it counts.",
        visited(scene.room, workload.SERVICE, scene.seen),
    )


@EXERCISE.check("predicted", "The shares are predicted", weight=2, needs=["unready-none"])
@judged(f"three shares, in percent, predicted to within {TOLERANCE} points of the measured ones")
def predicted(scene: Scene, world: World) -> str | Problem:
    """The average share of a replica with all ready, with one not ready, and the largest share of one connection."""
    play(scene)
    assert scene.clear is not None
    well = [name for name in sorted(names(scene.pods)) if name != scene.victim]
    measured = (
        sum(share(scene.window, name) for name in names(scene.pods)) / REPLICAS,
        sum(share(scene.clear, name) for name in well) / len(well),
        max(share(scene.kept, name) for name in names(scene.pods)),
    )
    told = [(name, scene.answer[name], round(value, 1)) for name, value in zip(PREDICTIONS, measured, strict=True)]
    seen = "; ".join(f"{name}: predicted {value:g}, measured {real:g}" for name, value, real in told)
    off = [name for name, value, real in told if not abs(value - real) <= TOLERANCE]
    if not off:
        return seen
    causes = {
        "share_of_three": "All replicas are ready, and chance treats them alike.",
        "share_of_two": "The replica that is not ready gets nothing, so the others share everything.",
        "share_when_kept": "The pod is chosen once for each connection, and there was only one connection.",
    }
    return Problem(seen, causes[off[0]], f"Think again about {off[0]}, or measure it with lab.visitor().")
