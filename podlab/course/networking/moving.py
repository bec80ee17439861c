"""Exercise 16.5: the programs move to another port, one pod after the other, and no request is lost."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from podlab.checks.api import Object
from podlab.checks.contract import Answer, Exercise, HandIn, Hint, Inconclusive, Refused, failed
from podlab.checks.traffic import Prober, Window
from podlab.checks.world import OURS, Room, World, is_ready
from podlab.course import workload
from podlab.course.moments import Film, staircase
from podlab.course.networking.sites import LESSON, page, why_no_answer
from podlab.course.plain import Problem, judged
from podlab.course.scenes import bring_up, killing, once, time_to_ready

BEFORE, AFTER = "manifest_16_5_before", "manifest_16_5_after"
REPLICAS = 2
OLD, NEW = 8080, 9090
#: How long a new pod loads its model before it opens its port, and how long one that is added later (seconds).
START, ADDED_START = 2, 5
#: How long a request may take before it counts as lost, and how long one is under way when its pod is told to go.
PATIENCE, UNDER_WAY = 6.0, 3.0
#: Seconds in which the old pods serve under the new manifest, before they are replaced.
HELD = 3.0


@dataclass
class Scene:
    """Replicas at the old port under steady requests; then the second manifest is applied."""

    room: Room
    answer: Answer
    prober: Prober
    film: Film
    old: set[str]
    moved: bool = False
    states: str = ""
    held: Window = field(default_factory=lambda: Window([]))
    change: Window = field(default_factory=lambda: Window([]))

    def during(self, action: Callable[[], object]) -> Window:
        """The requests from the beginning of `action` to a second after its end, all of which have ended."""
        start = self.film.poll()
        action()
        end = self.film.poll() + 1
        self.room.eventually(lambda: self.film.poll() > end + PATIENCE, "the last answers", 3 * PATIENCE)
        return self.prober.window(start, end)


def stage(answer: Answer, world: World) -> Scene:
    """Bring the first manifest up and let a client ask it steadily."""
    objects, given = workload.objects(start_seconds=START), workload.Given(env={"PORT": ""})
    room = bring_up(answer[BEFORE], world, "moving", wanted=REPLICAS, objects=objects, given=given, slack=START)
    prober = room.prober(page(room, workload.SERVICE), rate=20, patience=PATIENCE)

    def answered() -> bool:
        prober.poll()
        recent = Window(prober.window().records[-20:])
        return len(recent) == 20 and not recent.failed

    if not room.eventually(answered, "answers of the Service", 15):
        told, cause = why_no_answer(room, workload.SERVICE)
        raise Refused(
            failed(
                f"before anything is changed, requests to http://{workload.SERVICE} are answered",
                f"{Window(prober.window().records[-20:]).summary()}; {told}",
                cause=cause,
                next_step='lab.apply(...) the first manifest, then lab.get("endpointslices").',
            )
        )
    film = Film(room, prober, workload.SERVICE)
    return Scene(room, answer, prober, film, {pod["metadata"]["uid"] for pod in room.live()})


@once
def play(scene: Scene) -> None:
    """The episode: apply the second manifest while the replacing of pods is on hold; then let it go on."""
    room = scene.room
    _patch(room, {"paused": True})
    room.submit(scene.answer[AFTER])
    _heard(room)
    # If the Service asks the old pods elsewhere now, it takes the nodes a moment to do so.
    if _asked(room) != {OLD}:
        room.eventually(lambda: _fails(scene), "the nodes asking at the new port", 15)
    scene.held = scene.during(lambda: room.constantly(lambda: True, HELD))

    def moved() -> bool:
        scene.film.poll()
        pods = room.pods()
        fresh = [pod for pod in pods if pod["metadata"]["uid"] not in scene.old]
        return len(fresh) == len(pods) == REPLICAS and all(_answers(room, pod) for pod in fresh)

    def replace() -> None:
        _patch(room, {"paused": False})
        scene.moved = bool(room.eventually(moved, "all pods at the new port", 50, interval=0.5))

    scene.change = scene.during(replace)
    scene.states = room.states()


def _fails(scene: Scene) -> bool:
    """Whether one of the newest requests has failed."""
    scene.prober.poll()
    return bool(Window(scene.prober.window().records[-5:]).failed)


def _heard(room: Room) -> None:
    """Return when the cluster has found the endpoints of a Service that is younger than the answer's last change."""
    found = room.api.get("Service", workload.SERVICE, room.namespace) or {"spec": {}}
    spec = {"selector": found["spec"].get("selector") or {"app": "nobody"}, "ports": [{"port": 80}]}
    named = {"name": "younger", "labels": {OURS: "control"}}
    room.put({"apiVersion": "v1", "kind": "Service", "metadata": named, "spec": spec})
    if not room.eventually(lambda: room.slices("younger"), "the endpoints of a Service of ours", 15):
        raise Inconclusive("the cluster does not find the endpoints of a Service that the check has made")


def _asked(room: Room) -> set[int]:
    """The ports at which the Service asks its pods, as its EndpointSlices say."""
    return {port["port"] for item in room.slices(workload.SERVICE) for port in item.get("ports") or []}


def _patch(room: Room, spec: Object) -> None:
    """Change the Deployments of the room as the administrator."""
    for item in room.api.list("Deployment", room.namespace):
        path = f"/apis/apps/v1/namespaces/{room.namespace}/deployments/{item['metadata']['name']}"
        room.api.request("PATCH", path, body={"spec": spec}, content_type="application/merge-patch+json")


def _answers(room: Room, pod: Object) -> bool:
    return is_ready(pod) and room.ask(pod, workload.PAGE, port=NEW, timeout=3).ok


EXERCISE = Exercise(
    id="16.5",
    title="A port moves",
    points=10,
    handed_in=(HandIn(BEFORE), HandIn(AFTER)),
    stage=stage,
    lesson=f"{LESSON}#Leaving-without-a-loss",
    hints=(
        Hint(
            "While both versions run, some pods listen on the one port and some on the other. Can a number in the "
            "Service be right for both? What else can targetPort be?",
            lambda situation: situation.failed("both-ports"),
        ),
        Hint(
            "Requests fail though each pod is asked at its own port. When does a new pod get its first request, and "
            "when could it answer one?",
            lambda situation: situation.failed("arriving"),
        ),
        Hint(
            "A pod that is told to go leaves the endpoints and gets SIGTERM at the same moment. Who is first: the "
            "program that ends, or every node that has heard of it?",
            lambda situation: situation.failed("leaving"),
        ),
        Hint("A port in a pod can have a name. Who looks the name up, and when?"),
        Hint("What may a container do between being told to go and its SIGTERM? (lifecycle)"),
    ),
    debrief=(
        "A name in place of a number moved the knowledge to where it is true: each pod says itself which of its ports "
        "is web. The rest is about two races. At the start, readiness keeps requests away until the program listens. "
        "At the end, nothing keeps them away but time: the endpoint is withdrawn while the program is told to stop, "
        "and the nodes learn of it a little later, so the pod has to serve on for that while. preStop with a sleep "
        "buys it. Another way: the program goes on serving for some seconds after SIGTERM, as chapter 12 has it."
    ),
)


@EXERCISE.check("both-ports", "Pods that have not moved yet are asked at their old port", weight=3)
@judged("with the second manifest applied and no pod replaced yet, every request is answered by the old pods")
def both_ports(scene: Scene, world: World) -> str | Problem:
    """The replacing is on hold: the Service has the new manifest, and the pods the old one."""
    play(scene)
    if len(scene.held) and not scene.held.failed:
        return scene.held.summary()
    return Problem(
        scene.held.summary(),
        "The Service asks all pods at the new port, and those that run still listen on the old one.",
        "A number is right for one version only. Give the container's port a name, and let targetPort be that name.",
        scene.film.failing(scene.held),
    )


@EXERCISE.check("moves", "All pods move to the new port", weight=1, needs=["both-ports"])
@judged(f"in the end {REPLICAS} new pods answer at port {NEW}, and the old ones are gone")
def moves(scene: Scene, world: World) -> str | Problem:
    """The change happens at all, by itself."""
    if scene.moved:
        return scene.states
    return Problem(
        scene.states,
        "The new pods do not answer at the new port, or do not become ready there.",
        "Does everything in the pod that names the port follow it: PORT, containerPort, the probe?",
        staircase(scene.room),
    )


@EXERCISE.check("lossless", "No request is lost while the pods are replaced", weight=2, needs=["moves"])
@judged("while the pods are replaced, every request is answered")
def lossless(scene: Scene, world: World) -> str | Problem:
    """The requests during the whole replacement."""
    if len(scene.change) and not scene.change.failed:
        return scene.change.summary()
    return Problem(
        scene.change.summary(),
        "A pod was asked before it could answer, or after it had stopped; or for a moment there was none.",
        "Three things to look at: when a new pod counts as ready, how long an old one serves on, and who goes first.",
        scene.film.failing(scene.change),
    )


@EXERCISE.check("arriving", "No request is lost when a pod is added", weight=2, needs=["moves"])
@judged("a pod is added; while it loads its model, no request fails")
def arriving(scene: Scene, world: World) -> str | Problem:
    """One replica more, under requests."""
    room = scene.room

    # Long enough for every node to hear of it, if it counts as ready before it can answer.
    for item in workload.objects(start_seconds=room.world.deadline(ADDED_START)):
        room.put(item)

    before = {pod["metadata"]["uid"] for pod in room.live()}

    def add() -> None:
        _patch(room, {"replicas": REPLICAS + 1})
        if not room.eventually(lambda: sum(_answers(room, pod) for pod in room.live()) > REPLICAS, "one more", 30):
            raise Inconclusive(f"the added pod never answered: {room.states()}")

    window = scene.during(add)
    times = [time_to_ready(pod) for pod in room.live() if pod["metadata"]["uid"] not in before]
    # If nobody came in time to be refused, that is the machine's merit.
    soon = [seconds for seconds in times if seconds is not None and seconds < START]
    if not window.failed and not soon:
        return window.summary()
    return Problem(
        window.summary() + (f"; called ready {soon[0]:.0f} s after its start" if soon else ""),
        "The new pod was asked as soon as its process existed: no readiness probe says when it can answer.",
        "Give the container a readinessProbe that asks /readyz at the same port.",
        scene.film.failing(window),
    )


def leave(scene: Scene) -> tuple[str, bool]:
    """Tell a pod to go while it is answering a request; the pod, and whether the request was answered."""
    room = scene.room
    pod = room.ready()[0]
    name = pod["metadata"]["name"]
    # The switch itself is not slowed down; the page is.
    path, query = "/trouble/slow", {"delay": UNDER_WAY, "seconds": 60}
    if not room.ask(pod, path, method="POST", port=NEW, **query).ok:
        raise Inconclusive(f"{name} did not take the switch")
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(room.ask, pod, workload.PAGE, port=NEW, timeout=10 * UNDER_WAY)
        room.constantly(lambda: True, UNDER_WAY / 4, polls=1)
        if asked.done():
            raise Inconclusive(f"the request to {name} ended before the pod was told to go")
        room.api.delete("Pod", name, room.namespace)

        def first() -> str:
            # What is seen first decides, not a clock: the node's may be another than ours.
            told = killing(room, pod["metadata"]["uid"])
            return "answer" if asked.done() else "end" if told else ""

        order = room.eventually(first, "the node telling that it ends the pod", 10 * UNDER_WAY)
        answered = asked.result().ok
    if answered and order != "end":
        raise Inconclusive(f"the node of {name} had not begun to end it when it answered")
    return name, answered
