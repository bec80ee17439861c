"""Exercise 21.4: as many pods as a metric of theirs asks for, by the cluster's own autoscaler."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib import resources

from podlab.addons.programs.object_metrics import quantity
from podlab.checks.api import AGAIN, Object
from podlab.checks.contract import Answer, Exercise, HandIn, Hint, Inconclusive
from podlab.checks.traffic import Prober, Record, Window, url
from podlab.checks.world import OURS, Room, World
from podlab.course import add_on, workload
from podlab.course.monitoring.scenes import LESSON
from podlab.course.plain import Problem, judged
from podlab.course.scenes import bring_up, mentions, once

NAME = "cinema_manifest"
SERVICE, METRIC = "cinema", "http_requests_in_progress"
#: Seconds of a trailer, and viewers whom a pod shows it smoothly at a time; as in the program.
TRAILER, SEATS = 3, 12
#: Seconds (idle machine) from the beginning of a rush until it is smooth, and from its end until one pod is left; the
#: most pods there may be. All of them are said in the task.
WITHIN, BACK_WITHIN, MOST = 60, 90, 6
#: However slow the machine is: after 300 s an autoscaler that was told nothing takes pods away, too.
LATE = 240
#: Seconds for which the rush must stay smooth: the autoscaler looks every 15 s. And seconds of it that are judged at a
#: time until it is.
STAYS, SPAN = 20.0, 6.0
#: The share of viewers who must see it smoothly: a Service spreads them by chance.
ENOUGH = 0.95
#: What a metric of all pods together shows in a quiet hour at the least; others are rates.
FEW, FEW_PER_SECOND = {METRIC: 1.5}, 0.3
#: Seconds in which Prometheus finds a pod and asks it, with much to spare.
SCRAPED = 30


@dataclass
class Scene:
    """The cinema, how many pods it had, and what its viewers saw. The episode is played once."""

    room: Room
    early: Prober
    quiet_rate: float
    rush_rate: float
    calm: int = 0
    before: int = 0
    grown: int = 0
    smooth_after: float | None = None
    seen: Window = field(default_factory=lambda: Window([]))
    most: int = 0
    alone_after: float | None = None
    left: int = 0

    def pods(self) -> int:
        """How many pods the cinema has now; the most there ever were is kept."""
        now = len(self.room.live())
        self.most = max(self.most, now)
        return now


def program() -> Object:
    """The ConfigMap with the cinema's program, as the manifest mounts it."""
    source = resources.files("podlab.course").joinpath("programs/cinema.py").read_text()
    named = {"name": "cinema-program", "labels": {OURS: "workload"}}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": named, "data": {"cinema.py": source}}


def control(world: World) -> Object:
    """A cinema of the checker, which asks to be scraped: the proof that metrics arrive."""
    container = {
        "name": "cinema",
        "image": world.image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["python3", "-S", "/program/cinema.py"],
        "volumeMounts": [{"name": "program", "mountPath": "/program"}],
    }
    spec = {
        "terminationGracePeriodSeconds": 1,
        "automountServiceAccountToken": False,
        "containers": [container],
        "volumes": [{"name": "program", "configMap": {"name": "cinema-program"}}],
    }
    asks = {"prometheus.io/scrape": "true", "prometheus.io/port": "8080"}
    named = {"name": "control", "labels": {OURS: "control"}, "annotations": asks}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": named, "spec": spec}


def stage(answer: Answer, world: World) -> Scene:
    """Bring the cinema up beside one of ours, and send it a few viewers."""
    add_on.bring_in(world, "monitoring", ("prometheus", "alertmanager"))
    text = str(answer.get(NAME) or "")
    given = workload.Given(settings=False, program="cinema")
    room = bring_up(text, world, "scaling", wanted=1, objects=[program(), control(world)], given=given)
    quiet, rush = world.random.uniform(0.7, 0.9), world.random.uniform(6.2, 7.0)
    return Scene(room, _viewers(room, "early", quiet), quiet, rush)


def metric(room: Room) -> dict[str, float]:
    """Pod -> viewers, as custom.metrics.k8s.io tells an autoscaler."""
    path = f"/apis/custom.metrics.k8s.io/v1beta2/namespaces/{room.namespace}/pods/*/{METRIC}"
    answer = room.api.raw("GET", path, again=AGAIN)
    if answer.status != 200:
        return {}
    items = json.loads(answer.data)["items"]
    return {one["describedObject"]["name"]: quantity(one["value"]) for one in items}


def _controlled(room: Room) -> None:
    """Inconclusive if the metric of the checker's own pod does not arrive either."""
    if "control" not in metric(room):
        raise Inconclusive("Prometheus has not asked the checker's own pod either, or custom.metrics.k8s.io is away")


def autoscaler(room: Room) -> str:
    """What the autoscalers of the room say of themselves."""
    told = [
        f"{one['metadata']['name']}: {condition.get('message', '')}"
        for one in room.api.list("HorizontalPodAutoscaler", room.namespace)
        for condition in (one.get("status") or {}).get("conditions") or ()
        if condition["type"] in ("ScalingActive", "AbleToScale", "ScalingLimited")
    ]
    return "; ".join(told) or "there is no autoscaler that has said anything"


def _looked(room: Room) -> bool:
    """Whether an autoscaler has read that there are some viewers; it decides in the same moment."""
    pods = len(room.live())
    return any(
        pods * quantity(read["pods"]["current"].get("averageValue", "0"))
        >= FEW.get(read["pods"]["metric"]["name"], FEW_PER_SECOND)
        for one in room.api.list("HorizontalPodAutoscaler", room.namespace)
        for read in (one.get("status") or {}).get("currentMetrics") or ()
        if read.get("type") == "Pods"
    )


def _wanted(room: Room) -> int:
    """How many pods the Deployments ask for; an autoscaler writes it before it says what it has read."""
    return sum(one["spec"].get("replicas", 1) for one in room.api.list("Deployment", room.namespace))


def _restless(room: Room) -> bool:
    """Whether an autoscaler wants more pods than it may add at once, or fewer than its look back lets it."""
    return any(
        condition["status"] == "True" and condition.get("reason") in ("ScaleUpLimit", "ScaleDownStabilized")
        for one in room.api.list("HorizontalPodAutoscaler", room.namespace)
        for condition in (one.get("status") or {}).get("conditions") or ()
    )


def held_up(records: Sequence[Record]) -> None:
    """Inconclusive if a trailer took much longer than it is long: while a pod stands still, its viewers become many."""
    if late := [record.took for record in records if record.took > TRAILER + 1]:
        raise Inconclusive(f"trailers of {TRAILER} s took up to {max(late):.0f} s, so there were more viewers at once")


def _viewers(room: Room, name: str, rate: float) -> Prober:
    return room.prober(url(SERVICE, room.namespace, "/watch"), rate=rate, patience=3 * TRAILER + 6, name=name)


def _leave(prober: Prober) -> None:
    prober.room.api.delete("Pod", prober.name, prober.room.namespace, grace=0)


def _lately(prober: Prober) -> Window:
    """The viewers of the last seconds whose trailer has ended by now."""
    now = prober.poll()
    return prober.window(now - TRAILER - 1 - SPAN, now - TRAILER - 1)


def _smooth(window: Window) -> float:
    """The share of viewers to whom it was shown smoothly."""
    return 1 - len(window.failed) / len(window) if len(window) else 0.0


@once
def play(scene: Scene) -> None:
    """The episode: a few viewers until the autoscaler has looked, a rush until it is smooth, and its end."""
    room = scene.room
    room.eventually(lambda: scene.pods() and _looked(room), "the autoscaler reading a metric", 25, interval=0.5)
    room.eventually(lambda: scene.pods() == _wanted(room), "as many pods as it wants", 15, interval=0.5)
    scene.calm = scene.most
    scene.early.poll()
    _leave(scene.early)
    scene.before = scene.pods()
    rush = _viewers(room, "rush", scene.rush_rate)
    began, start = time.monotonic(), rush.poll()
    bitten = False

    def smooth() -> bool:
        nonlocal bitten
        scene.grown, window = max(scene.grown, scene.pods()), _lately(rush)
        bitten = bitten or len(rush.window(start).failed) > SPAN
        if scene.grown <= scene.before or len(window) < SPAN or not (bitten or scene.before > 1):
            return False
        return _smooth(window) >= ENOUGH

    def look() -> bool:
        scene.pods()
        scene.seen = rush.window(first, rush.poll() - TRAILER - 1)
        return True

    if room.eventually(smooth, "a smooth show for everybody", WITHIN, interval=0.5):
        scene.smooth_after = time.monotonic() - began
        first = rush.poll() - TRAILER - 1 - SPAN
        room.constantly(look, STAYS)
        # It adds four pods, or as many as there are, and looks again; it takes away what it has not needed for long.
        if _restless(room):
            room.eventually(lambda: look() and not _restless(room), "its last word", BACK_WITHIN, interval=0.5)
            room.constantly(look, STAYS)
    else:
        scene.seen = _lately(rush)
        if scene.before == 1 and not bitten:
            raise Inconclusive(f"a rush for one pod, and it showed everything smoothly: {scene.seen.summary()}")
    _leave(rush)
    if scene.smooth_after is None:
        return
    over = time.monotonic()

    def ended() -> str:
        if scene.pods() == 1 and room.constantly(lambda: scene.pods() == 1, 2):
            return "alone"
        return "late" if time.monotonic() > over + LATE else ""

    if room.eventually(ended, "one pod being left", BACK_WITHIN, interval=0.5) == "alone":
        scene.alone_after = time.monotonic() - over
    scene.left = scene.pods()


EXERCISE = Exercise(
    id="21.4",
    title="As many as are watching",
    points=10,
    handed_in=(HandIn(NAME, "manifests"),),
    stage=stage,
    lesson=f"{LESSON}#As-many-as-are-needed",
    hints=(
        Hint(
            "Prometheus asks nobody who has not asked for it. How did the pods of the lesson do that, and where in the "
            "manifest did it stand?",
            lambda situation: situation.failed("measured"),
        ),
        Hint(
            "What does a viewer cost the processor, who mostly waits? What else grows with viewers?",
            mentions(NAME, "cpu"),
        ),
        Hint(
            "There are enough pods, and all have a seat. What does your metric say now, and what does the autoscaler "
            "make of it?",
            lambda situation: situation.failed("stays"),
        ),
        Hint(
            "If nothing is said, an autoscaler looks back over five minutes before it takes pods away. "
            "kubectl explain hpa.spec.behavior.scaleDown tells how it is said.",
            lambda situation: situation.failed("back"),
        ),
        Hint(
            "Seven viewers come in a second and each stays for three. How many are there at once? Divide by what you "
            "want for each pod."
        ),
        Hint("The viewers of a quiet hour are two or three at once. For how many pods does your target ask then?"),
    ),
    debrief=(
        "An autoscaler knows nothing of cinemas: it divides what all pods show together by what you want for each, "
        "rounds up, and asks again every 15 seconds. So the metric must be one that grows with the load and does not "
        "stop at what a pod can do: viewers present do, processor time and answers per second of a pod that is full do "
        "not, and a queue is gone as soon as there are enough pods. Going up is urgent, going down is not: "
        "behavior.scaleDown says how long to look back, which for a real site is minutes, so that a short pause does "
        "not cost pods which are needed again at once. Another way is the rate of requests, http_requests_per_second: "
        "it is smoother, and late by its window."
    ),
)


@EXERCISE.check("measured", "The autoscaler can see the viewers", weight=2)
@judged(f"custom.metrics.k8s.io knows {METRIC} of each of the cinema's pods")
def measured(scene: Scene, world: World) -> str | Problem:
    """Asked as the autoscaler asks; a pod of the checker tells whether anything arrives at all."""
    room = scene.room

    def known() -> dict[str, float] | None:
        found = metric(room)
        names = {pod["metadata"]["name"] for pod in room.ready()}
        return {name: found[name] for name in names} if names and names <= set(found) else None

    if found := room.eventually(known, "the metric of the pods", SCRAPED, interval=0.5):
        return "; ".join(f"{name}: {value:g}" for name, value in found.items())
    _controlled(room)
    return Problem(
        f"it knows none of {', '.join(pod['metadata']['name'] for pod in room.live())}",
        "Prometheus does not ask these pods: nothing in their template asks for it, or it names another port.",
        'annotations: {prometheus.io/scrape: "true"} in the template; lab.promql("up") shows who is scraped.',
    )


@EXERCISE.check("grows", "A rush gets more pods", weight=3, needs=["measured"])
@judged(
    f"when six or seven viewers come in a second, pods are added, and within {WITHIN} s (on an idle machine) at least "
    f"{ENOUGH:.0%} of them see a smooth trailer"
)
def grows(scene: Scene, world: World) -> str | Problem:
    """More pods than before, and what the viewers see."""
    play(scene)
    if scene.smooth_after is not None:
        return f"from {scene.before} to {scene.grown} pods; smooth after {scene.smooth_after:.0f} s"
    _controlled(scene.room)
    return Problem(
        f"{scene.before} pods before, at most {scene.most} in the rush; {scene.seen.summary()}; "
        f"{autoscaler(scene.room)}",
        "The autoscaler looks at something that does not grow with the viewers, or that no pod shows; or what you want "
        "for each pod, or the most pods that you allow, leaves too many viewers for one."
        if scene.before == 1
        else "Their number does not follow the viewers.",
        "kubectl describe hpa: what does it read, and what does it want? Viewers at once: per second times "
        f"{TRAILER} s.",
    )


@EXERCISE.check("stays", "It stays smooth", weight=1, needs=["grows"])
@judged(f"for {STAYS:g} s more of the rush at least {ENOUGH:.0%} of the viewers see a smooth trailer")
def stays(scene: Scene, world: World) -> str | Problem:
    """All of them together: chance fills a pod for some seconds now and then."""
    play(scene)
    if _smooth(scene.seen) >= ENOUGH:
        return f"{_smooth(scene.seen):.0%} of {len(scene.seen)} viewers, with up to {scene.most} pods"
    held_up(scene.seen.records)
    return Problem(
        f"{_smooth(scene.seen):.0%}; {scene.seen.summary()}; {autoscaler(scene.room)}",
        "Pods were taken away again while they were needed: what the autoscaler looks at falls as soon as there are "
        "enough of them. Or there are hardly enough.",
        "Take a metric that says how many viewers there are, whether all have a seat or not, and want fewer for each "
        "pod. behavior.scaleDown.stabilizationWindowSeconds looks back before pods go; alone it only takes longer.",
    )


@EXERCISE.check("back", "After the rush there is one again", weight=2, needs=["grows"])
@judged(f"within {BACK_WITHIN} s (on an idle machine) of the end of the rush one pod is left")
def back(scene: Scene, world: World) -> str | Problem:
    """Nobody watches any more."""
    play(scene)
    if scene.alone_after is not None:
        return f"one pod after {scene.alone_after:.0f} s"
    return Problem(
        f"{scene.left} pods; {autoscaler(scene.room)}",
        "Unless it is told otherwise, an autoscaler takes away only what it has not needed for 300 seconds; and it "
        "never goes below minReplicas.",
        "behavior: {scaleDown: {stabilizationWindowSeconds: ...}} in the spec of the autoscaler.",
    )
