"""Exercise 15.2: a replica that cannot serve for a while gets no requests, is not restarted, and comes back."""

from __future__ import annotations

from dataclasses import dataclass

from podlab.checks.api import Object
from podlab.checks.contract import (
    Answer,
    Exercise,
    HandIn,
    Hint,
    Inconclusive,
    Refused,
    Result,
    failed,
    passed,
)
from podlab.checks.traffic import Prober, Window, url
from podlab.checks.world import Room, World
from podlab.course import workload
from podlab.course.moments import Film, staircase
from podlab.course.scenes import (
    Life,
    bring_up,
    mentions,
    once,
    short,
    still,
    what_became,
    why_not_ready,
)

LESSON = "notebooks/15-self-healing.ipynb"
NAME = "manifest_15_2"
REPLICAS = 3
#: How long the model takes to load in a new replica (seconds); said in the task.
START = 3
#: How long one replica cannot serve (seconds), and within what time that must be noticed, and its end.
UNREADY = 25
NOTICED_WITHIN = 10
BACK_WITHIN = 12
#: Seconds without a request to the unready replica that count as "out of traffic". A request has failed after PATIENCE.
CLEAR, PATIENCE = 3.0, 2.0


@dataclass
class Scene:
    """Three replicas under steady requests; one says for a while that it has no model."""

    room: Room
    world: World
    prober: Prober
    film: Film
    victim: Object
    life: Life
    share_before: int
    began: float = 0.0
    decided: float = 0.0
    window: Window | None = None
    back: bool = False
    kept: bool = False
    became: str = ""
    after: str = ""


def stage(answer: Answer, world: World) -> Scene:
    """Bring three replicas up under traffic, and see that each of them gets some."""
    room = bring_up(
        answer[NAME],
        world,
        "traffic",
        wanted=REPLICAS,
        objects=workload.objects(start_seconds=START),
        given=workload.Given(),
        slack=START,
    )
    prober = room.prober(url(workload.SERVICE, room.namespace, workload.PAGE), rate=15, patience=PATIENCE)
    prober.poll()

    def all_answer() -> bool:
        prober.poll()
        names = {pod["metadata"]["name"] for pod in room.live()}
        recent = Window(prober.window().records[-60:])
        return names <= {record.pod for record in recent.records if record.ok}

    if not room.eventually(all_answer, "every replica answering", 15):
        endpoints = _endpoints(room)
        seen = Window(prober.window().records[-60:])
        if endpoints >= REPLICAS and not any(record.ok for record in seen.records):
            raise Inconclusive(f"the Service has {endpoints} ready endpoints, but no request arrived: {seen.summary()}")
        raise Refused(
            failed(
                f"requests to the Service {workload.SERVICE} reach all {REPLICAS} replicas",
                f"{seen.summary()}; the Service has {endpoints} ready endpoints; {room.states()}",
                cause="The Service does not select the pods, names another port, or "
                + why_not_ready(room)[0].lower()
                + why_not_ready(room)[1:],
                next_step="Compare the Service's selector and targetPort with the pods; lab.get('endpointslices').",
            )
        )
    victim = world.random.choice(room.ready())
    before = prober.window().share()[victim["metadata"]["name"]]
    return Scene(room, world, prober, Film(room, prober, workload.SERVICE), victim, Life.of(victim), before)


@once
def play(scene: Scene) -> None:
    """The episode: the victim says 503 for a while; watch who gets requests until it is well again."""
    room, world, prober, name = scene.room, scene.world, scene.prober, scene.victim["metadata"]["name"]
    film = scene.film
    if scene.share_before == 0:
        raise Inconclusive(f"{name} had no traffic that could have been taken away")
    length = world.deadline(UNREADY)
    room.trouble(scene.victim, "unready", seconds=length)
    if not room.eventually(lambda: room.ask(scene.victim, "/readyz").status == 503, "503", 10):
        raise Inconclusive(f"{name} does not say that it is not ready")
    scene.began = film.poll()

    def clear() -> Window | None:
        # One that nobody has answered may have gone to a replica that stands still.
        end, window = _ended(scene, film.poll())
        enough = end - scene.began >= CLEAR and len(window) >= CLEAR * 8
        return window if enough and not window.failed and name not in window.share() else None

    within = NOTICED_WITHIN + CLEAR + PATIENCE + 0.5
    scene.window = room.eventually(clear, "the replica being out of traffic", within)
    scene.decided = film.poll()
    end = scene.began + length - 1

    def over() -> bool:
        return film.poll() >= end or not still(room, scene.life)

    room.eventually(over, "the trouble's end", UNREADY + 5)
    scene.kept, scene.became = still(room, scene.life), what_became(room, scene.life)
    if scene.kept:
        begin = film.poll() + 1

        def serves() -> bool:
            film.poll()
            return any(record.ok and record.pod == name for record in prober.window(begin).records)

        scene.back = bool(room.eventually(serves, "requests reaching it again", BACK_WITHIN))
        scene.after = prober.window(begin).summary()


def _ended(scene: Scene, now: float) -> tuple[float, Window]:
    """The last requests that must have ended by `now`, and until when they were sent."""
    end = now - PATIENCE - 0.5
    return end, scene.prober.window(max(scene.began, end - CLEAR), end)


def _endpoints(room: Room) -> int:
    """How many ready addresses the Service has."""
    entries = [entry for item in room.slices(workload.SERVICE) for entry in item.get("endpoints") or []]
    return sum(len(entry["addresses"]) for entry in entries if entry.get("conditions", {}).get("ready"))


EXERCISE = Exercise(
    id="15.2",
    title="A replica that cannot serve for a while",
    points=10,
    handed_in=(HandIn(NAME),),
    stage=stage,
    lesson=f"{LESSON}#Alive,-and-not-ready",
    hints=(
        Hint(
            "Your replicas are restarted while they only reload their model. Which of your probes asks a page that "
            "says 503 during a reload?",
            lambda situation: situation.failed("not-restarted"),
        ),
        Hint(
            "Your readiness probe is asked, and it says yes. What does the page that it asks say during a reload? "
            "Read the program: which pages answer 503?",
            lambda situation: situation.failed("out-of-traffic") and mentions(NAME, "readinessProbe")(situation),
        ),
        Hint("Who decides which pods a Service sends requests to, and which condition of a pod does it look at?"),
        Hint("The program has two pages about its state: /healthz and /readyz. Which one answers which question?"),
        Hint(
            "How long does your probe let requests run into an unready replica? "
            "(periodSeconds × failureThreshold, each with a default: 10 and 3.)"
        ),
    ),
    debrief=(
        "Readiness is about traffic, liveness is about life. The same 503 that takes a pod out of its Service would, "
        "asked by a liveness probe, kill it in the middle of its reload, and every replica reloading at once would "
        "then be an outage made by the healer. Readiness also covered the start: until the first yes no request came. "
        "Another way to the same end: the program writes a file when it is ready and an exec probe looks for it, "
        "which works for programs without HTTP."
    ),
)


@EXERCISE.check("out-of-traffic", "A replica that says it is not ready gets no requests", weight=4)
def out_of_traffic(scene: Scene, world: World) -> Result:
    """Requests sent to the Service stop reaching the victim, and the others answer all of them."""
    play(scene)
    name = scene.victim["metadata"]["name"]
    expected = f"within {NOTICED_WITHIN} s the replica that is not ready gets no requests; others answer all of them"
    if scene.window is not None:
        return passed(
            expected,
            f"{name} had answered {scene.share_before} requests before; afterwards {scene.window.summary()}",
            pod=name,
            before=scene.share_before,
        )
    _, last = _ended(scene, scene.decided)
    if last.failed and name not in last.share():
        return failed(
            expected,
            f"{name} answered no more requests, and the others not all of them: {last.summary()}",
            cause="More replicas were taken out than the one that had a reason.",
            next_step="lab.get('pods') while one replica is not ready: are the others?",
            **scene.film.until(scene.decided),
        )
    seen = scene.prober.window(scene.began)
    return failed(
        expected,
        f"{name} said 503 and still got {seen.share()[name]} of {len(seen)} requests; {scene.became}",
        cause="The pod counts as Ready: no readiness probe asks the page that says 503, or it asks too rarely.",
        next_step="Give the container a readinessProbe that asks /readyz, every second or two.",
        pod=name,
        **scene.film.until(scene.decided),
    )


@EXERCISE.check("not-restarted", "It is not restarted", weight=2, needs=["out-of-traffic"])
def not_restarted(scene: Scene, world: World) -> Result:
    """The victim's container is the same at the end of its trouble."""
    expected = "the replica keeps its container while it is not ready"
    if scene.kept:
        return passed(expected, f"{scene.life.pod} still runs container {short(scene.life.container)}")
    return failed(
        expected,
        scene.became,
        cause="A liveness (or startup) probe asks the page that says 503 during a reload.",
        next_step="Let liveness ask /healthz, and readiness /readyz.",
        **staircase(scene.room),
    )


@EXERCISE.check("comes-back", "It gets requests again when it is well", weight=2, needs=["not-restarted"])
def comes_back(scene: Scene, world: World) -> Result:
    """After the end of the trouble the victim answers requests of the Service again."""
    expected = f"within {BACK_WITHIN} s of being ready again, the replica gets its share of the requests"
    if scene.back:
        return passed(expected, scene.after)
    return failed(
        expected,
        f"{scene.after}; {what_became(scene.room, scene.life)}",
        cause="The probe asks too rarely, wants many successes in a row, or asks for what stays wrong once it was.",
        next_step="Look at periodSeconds and successThreshold of the readiness probe, and at what it asks for.",
        **scene.film.until(),
    )
