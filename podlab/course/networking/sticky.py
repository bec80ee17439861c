"""Exercise 16.4: a client that comes back soon finds the pod that knows it; clients spread; nobody is kept for ever."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from podlab.checks.contract import Answer, Exercise, HandIn, Hint, Inconclusive, Json, Refused, failed
from podlab.checks.traffic import Client, Record, Window
from podlab.checks.world import Room, World, is_ready
from podlab.course import workload
from podlab.course.networking.sites import LESSON, all_ready, deployment, only_sites, page, why_no_answer
from podlab.course.plain import Problem, judged
from podlab.course.scenes import mentions
from podlab.widgets.timeline import Bar, kept

NAME = "manifest_16_4"
REPLICAS, CLIENTS = 3, 4
#: A client that comes back within this time finds its pod again; one that stays away so long may not (seconds).
REMEMBERED, FORGOTTEN = 4, 12
#: What the task allows as a time-out, in seconds: above the one, below the other.
PAUSE, AWAY = 2.5, 12.5
#: How often all clients stay away or come back, at most: chance sends all of them to their old pods all these times
#: in one run of 40 million (AWAY) or 500,000 (PAUSE).
AWAYS, PAUSES = 4, 3
#: Clients that are asked at most, to see two that have different pods.
MOST_CLIENTS = 8


@dataclass
class Scene:
    """Replicas, clients, and the pods that answered each client in each visit."""

    room: Room
    world: World
    clients: list[Client]
    target: str
    first: list[Window] = field(default_factory=list)

    def returns(self, times: int, after: float) -> list[list[Record]]:
        """Every client asks, and comes back some times, each time `after` seconds; its requests that were answered."""

        def stay(client: Client) -> list[Record]:
            return [record for record in client.visit(self.target, times + 1, every=after).records if record.ok]

        with ThreadPoolExecutor(CLIENTS) as pool:
            return list(pool.map(stay, self.clients))


def stage(answer: Answer, world: World) -> Scene:
    """Put the site up, apply the Service, and let every client ask it ten times."""
    site = deployment("serving", {"app": "serving"}, REPLICAS)
    room = world.room("sticky", [*workload.objects(), site])
    clients = [room.client(f"client-{number}") for number in range(CLIENTS)]
    if not room.eventually(lambda: all_ready(room, REPLICAS), "our pods", 30):
        raise Inconclusive(f"the site that the check puts up is not ready: {room.states()}")
    # Only now: so the Service has all three from the beginning, and who stays with one does not for want of others.
    only_sites(room)
    room.submit(answer[NAME])
    scene = Scene(room, world, clients, page(room, workload.SERVICE))

    def answered() -> bool:
        return not any(client.visit(scene.target).failed for client in clients)

    if not room.eventually(answered, "an answer on every node", 10, interval=0.5):
        told, cause = why_no_answer(room, workload.SERVICE)
        raise Refused(
            failed(
                f"requests to http://{workload.SERVICE} are answered",
                told,
                cause=cause,
                next_step='lab.get("services") and lab.get("endpointslices").',
            )
        )
    scene.first = [client.visit(scene.target, 10) for client in clients]
    return scene


def moved(records: Sequence[Record], within: float = math.inf) -> bool:
    """Whether a client was sent to another pod than the time before, which was at most `within` seconds ago."""
    return any(one.pod != other.pod and other.sent - one.sent <= within for one, other in itertools.pairwise(records))


EXERCISE = Exercise(
    id="16.4",
    title="The pod that knows you",
    points=10,
    handed_in=(HandIn(NAME),),
    stage=stage,
    lesson=f"{LESSON}#The-same-client,-the-same-pod",
    hints=(
        Hint(
            "How long does the Service remember a client if you say nothing? kubectl explain "
            "service.spec.sessionAffinityConfig.clientIP tells.",
            lambda situation: situation.failed("forgotten") and mentions(NAME, "ClientIP")(situation),
        ),
        Hint(
            "Your clients come back after some seconds and are strangers. How long are they remembered, in seconds?",
            lambda situation: situation.failed("remembered"),
        ),
        Hint("By what could a Service know a client again? It sees packets, and no cookies."),
        Hint("Which two fields belong together: the one that switches it on, and the one that says how long?"),
    ),
    debrief=(
        "The node keeps a set of client addresses for each pod, and each new connection renews the entry. So a sticky "
        "Service balances clients and not requests, and everybody behind one gateway counts as one client. It is a "
        "help and not a promise: the pod may go, and then the client is a stranger somewhere else. What must not be "
        "lost does not belong in the memory of a pod (chapter 20). Another way: an HTTP proxy (Ingress, Gateway) that "
        "knows clients by a cookie."
    ),
)


@EXERCISE.check("sticks", "A client stays with its pod", weight=3)
@judged("of ten requests of one client, one after the other, all are answered by one pod")
def sticks(scene: Scene, world: World) -> str | Problem:
    """Every client saw one pod only."""
    told = "; ".join(f"client {number} saw {len(window.share())}" for number, window in enumerate(scene.first))
    if failures := [record for window in scene.first for record in window.failed]:
        if all("timed out" in record.error for record in failures):
            raise Inconclusive(f"{len(failures)} requests got no answer in time, and none was refused")
        return Problem(
            f"some requests got no answer; {scene.room.states()}",
            "The Service leads to pods that do not answer.",
            "lab.get('endpointslices'): are these the serving pods?",
        )
    if not any(moved(window.records, REMEMBERED) for window in scene.first):
        return f"number of pods: {told}"
    return Problem(
        f"number of pods: {told}",
        "Each new connection goes to a pod by chance: nothing remembers the client.",
        "Which field of a Service remembers clients by their address?",
    )


@EXERCISE.check("spread", "Clients spread over the pods", weight=1, needs=["sticks"])
@judged("different clients have different pods")
def spread(scene: Scene, world: World) -> str | Problem:
    """At least two pods have a client."""
    seen = [pod for window in scene.first for pod in window.share()]
    while len(set(seen)) < 2 and len(seen) < MOST_CLIENTS:
        client = scene.room.client(f"client-{len(seen)}")
        seen += client.visit(scene.target).share()
    if len(set(seen)) >= 2:
        return f"{len(seen)} clients have {len(set(seen))} pods"
    reached = sum(len(entry.get("endpoints") or []) for entry in scene.room.slices(workload.SERVICE))
    if reached >= REPLICAS:
        raise Inconclusive(f"chance sent all {len(seen)} clients to {seen[0]}")
    return Problem(
        f"all {len(seen)} clients have {seen[0]}; the Service has {reached} endpoints",
        "The Service leads to one pod only.",
        "Compare the selector with the labels of the pods.",
    )


@EXERCISE.check("remembered", "Who comes back soon finds the same pod", weight=2, needs=["sticks"])
@judged(f"a client that comes back within {REMEMBERED} s is answered by its pod")
def remembered(scene: Scene, world: World) -> str | Problem:
    """After a short pause each client sees the pod that it had."""
    seen = scene.returns(PAUSES, PAUSE)
    lost = sum(moved(records, REMEMBERED) for records in seen)
    if not lost:
        return f"{PAUSES} times after {PAUSE} s all {CLIENTS} clients found their pods"
    return Problem(
        f"of {CLIENTS} clients that came back {PAUSES} times after {PAUSE} s, {lost} were sent to other pods",
        "They are remembered for too short a time.",
        f"Let timeoutSeconds lie between {REMEMBERED} and {FORGOTTEN}, with some room to both sides.",
        {"replay": _came_back(seen)},
    )


def _came_back(seen: list[list[Record]]) -> dict[str, Json]:
    """Who answered each client each time, for the replay, which opens where the first was sent to another pod."""
    bars = [
        Bar(f"client {client}", PAUSE * visit, PAUSE * (visit + 1), pod, "good" if pod == pods[0] else "bad")
        for client, pods in enumerate([record.pod for record in records] for records in seen)
        for visit, pod in enumerate(pods)
    ]
    return kept(bars, [], min(bar.begin for bar in bars if bar.tone == "bad"))


@EXERCISE.check("healthy", "A client whose pod cannot serve gets another", weight=2, needs=["sticks"])
@judged("when its pod is not ready, a client is answered by another one")
def healthy(scene: Scene, world: World) -> str | Problem:
    """The pod of a client says 503; the client's requests go elsewhere."""
    room, client = scene.room, scene.clients[0]
    name = room.eventually(lambda: next(iter(client.visit(scene.target).share()), ""), "an answer", 15)
    pod = next((each for each in room.live() if each["metadata"]["name"] == name), None)
    if pod is None:
        raise Inconclusive("the client got no answer from a pod that is alive")
    if "readinessProbe" not in pod["spec"]["containers"][0]:
        return Problem(
            f"the client has {name}, and nothing asks that pod whether it can serve",
            "The Service leads to a pod of your own, without a readiness probe.",
            "The serving pods are there already: write a Service alone, and let it select them.",
        )
    room.trouble(pod, "unready", seconds=600)
    uid = pod["metadata"]["uid"]
    if not room.eventually(lambda: not is_ready(room.pod(uid) or {}), "the pod being called not ready", 60):
        raise Inconclusive(f"{name} says 503 and is still called ready")

    def elsewhere() -> bool:
        window = client.visit(scene.target, 5)
        return not window.failed and name not in window.share()

    found = bool(room.eventually(elsewhere, "another pod", 15))
    seen = client.visit(scene.target, 5).summary()
    room.trouble(pod, "unready", seconds=0)
    room.eventually(lambda: len(room.ready()) == REPLICAS, "all pods being ready again", 25)
    if found:
        return f"{name} was not ready; {seen}"
    return Problem(
        f"{name} was not ready; {seen}",
        "The Service leads to pods that are not ready, so the client is held by one that cannot serve.",
        "Leave publishNotReadyAddresses out: it is for peers, not for clients.",
    )


def forgetful(scene: Scene) -> tuple[int, int]:
    """How many times a client stayed away for long, and how often another pod answered it then; ends with the first."""
    for number in range(1, AWAYS + 1):
        if elsewhere := sum(map(moved, scene.returns(1, AWAY))):
            return number * CLIENTS, elsewhere
    return AWAYS * CLIENTS, 0
