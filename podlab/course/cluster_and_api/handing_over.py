"""Exercise 14.3: hand a field of a running Deployment over to another manager, and nobody notices."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from podlab.checks.api import ApiError, Object, documents
from podlab.checks.contract import Answer, Exercise, HandIn, Hint, Inconclusive, Refused, failed
from podlab.checks.world import Room, World
from podlab.course import workload
from podlab.course.cluster_and_api import LESSON
from podlab.course.moments import Story, cluster_map
from podlab.course.plain import Problem, judged
from podlab.course.scenes import once

NAME = "steps"
COUNT = 2
MANAGERS = ("team", "scaler")
MOST_STEPS = 10
#: What the team has written, and runs with: it owns the number of replicas.
BEFORE = f"""
apiVersion: apps/v1
kind: Deployment
metadata:
  name: serving
  labels: {{team: serving}}
spec:
  replicas: {COUNT}
  selector:
    matchLabels: {{app: serving}}
  template:
    metadata:
      labels: {{app: serving}}
    spec:
      terminationGracePeriodSeconds: 2
      containers:
      - name: serving
        image: podlab/python:3
        imagePullPolicy: IfNotPresent
        command: ["python3", "-S", "/program/serving.py"]
        volumeMounts:
        - {{name: program, mountPath: /program}}
      volumes:
      - name: program
        configMap: {{name: serving-program}}
"""


@dataclass
class Scene:
    """The Deployment as the team left it, the learner's steps, and what each led to."""

    room: Room
    world: World
    steps: list[Mapping[str, Any]]
    pods: set[str]
    counts: list[int] = field(default_factory=list)
    refused: str = ""
    after: set[str] = field(default_factory=set)
    #: Who owns the number, how large it is, and what became of the pods.
    story: Story = field(default_factory=Story)

    def tell(self, now: Object) -> None:
        """What the API says of the Deployment."""
        owners = {each["manager"] for each in now["metadata"]["managedFields"] if _names_the_number(each)}
        for manager in MANAGERS:
            self.story.state(manager, "owns the number" if manager in owners else "")
        count = now["spec"]["replicas"]
        self.story.state("replicas", f"{count}", "good" if count == COUNT else "bad")

    def look(self) -> bool:
        """Which pods there are; always True."""
        self.after = {pod["metadata"]["uid"] for pod in self.room.live()}
        left = len(self.pods & self.after)
        self.story.state("the first pods", f"{left} left", "good" if left == COUNT else "bad")
        return True


def _names_the_number(entry: Mapping[str, Any]) -> bool:
    return "f:replicas" in entry.get("fieldsV1", {}).get("f:spec", {})


def apply(room: Room, manager: str, text: str, force: bool = False) -> Object:
    """Server-side apply as the learner, in the name of a manager; ApiError 409 is a conflict."""
    (item,) = documents(text)
    resource = room.api.resource(item["kind"], item.get("apiVersion"))
    return room.learner.request(
        "PATCH",
        resource.path(room.namespace, item["metadata"]["name"]),
        query={"fieldManager": manager, "force": "true" if force else "false", "fieldValidation": "Strict"},
        body=room.world.fitting(item),
        content_type="application/apply-patch+yaml",
    )


def count_only(count: int) -> str:
    """What a scaler says of the Deployment: its number, and nothing else."""
    return f"apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: serving}}\nspec: {{replicas: {count}}}\n"


def stage(answer: Answer, world: World) -> Scene:
    """Bring the team's Deployment up; Refused for steps that are no steps."""
    steps = _steps(answer[NAME])
    room = world.room("hand-over", workload.objects())
    apply(room, "team", BEFORE)
    if not room.eventually(lambda: len(room.ready()) == COUNT == len(room.live()), "the team's pods", 30):
        raise Inconclusive(f"the site that the check puts up is not ready: {room.states()}")
    return Scene(room, world, steps, {pod["metadata"]["uid"] for pod in room.live()})


def _steps(value: Any) -> list[Mapping[str, Any]]:
    """The steps, if they are of the form that the task says."""
    wrong = ""
    if not isinstance(value, list) or not 1 <= len(value) <= MOST_STEPS:
        wrong = f"it is {str(value)[:100]!r}"
    else:
        for number, step in enumerate(value, 1):
            if not isinstance(step, dict) or not isinstance(step.get("manifest"), str):
                wrong = f"step {number} is {str(step)[:100]!r}"
            elif step.get("manager") not in MANAGERS:
                wrong = f"step {number} has the manager {step.get('manager')!r}"
            else:
                try:
                    found = documents(step["manifest"])
                    if len(found) != 1 or found[0]["kind"] != "Deployment":
                        wrong = f"step {number} does not hold one Deployment"
                except ValueError as error:
                    wrong = f"step {number}: {error}"
    if wrong:
        raise Refused(
            failed(
                f"{NAME} is a list of 1 to {MOST_STEPS} dictionaries with manager, manifest and, if you like, force",
                wrong,
                cause="A step lacks something, or has it in another form.",
                next_step='A step is {"manager": "team" or "scaler", "manifest": "..."}.',
            )
        )
    return value


@once
def play(scene: Scene) -> None:
    """The episode: the steps one after the other; after each, what the API says of the number."""
    scene.look()
    if began := scene.room.api.get("Deployment", "serving", scene.room.namespace):
        scene.tell(began)
    for number, step in enumerate(scene.steps, 1):
        scene.story.event(step["manager"], f"step {number}{', forced' if step.get('force') is True else ''}")
        try:
            now = apply(scene.room, step["manager"], step["manifest"], step.get("force") is True)
        except ApiError as error:
            if error.server:
                raise
            scene.refused = f"step {number} ({step['manager']}): {error.status} {error.reason}: {error.message}"
            scene.story.event(step["manager"], f"is refused: {error.status} {error.reason}")
            return
        scene.counts.append(now["spec"]["replicas"])
        scene.tell(now)
    scene.room.constantly(scene.look, 2)
    scene.look()


EXERCISE = Exercise(
    id="14.3",
    title="Two managers, one field",
    points=10,
    handed_in=(HandIn(NAME, "value"),),
    stage=stage,
    lesson=f"{LESSON}#Two-who-write-the-same-field",
    hints=(
        Hint(
            "For a moment the number was another one. What becomes of a field when the last of its managers drops it?",
            lambda situation: situation.failed("unnoticed"),
        ),
        Hint(
            "The API named a conflict. Over which field, and with whom? May two managers own a field if they agree?",
            lambda situation: situation.failed("accepted"),
        ),
        Hint(
            "The team still owns the number. What must its next manifest not say?",
            lambda situation: situation.failed("scaler-alone"),
        ),
        Hint("Who owns which field? lab.get('deployment', 'serving')['metadata']['managedFields']."),
        Hint("In what order: the new owner first, or the old one's leaving?"),
    ),
    debrief=(
        "A field belongs to whoever applied it last, or to several who said the same. Dropping a field from your "
        "manifest gives up your share; when the last share goes, the field goes, and a default may take its place: "
        "for replicas that is one. So the new manager comes first, with the value that is there, and only then the "
        "old one lets go. That is how one puts an autoscaler on a running site. Another way: force, with the same "
        "value, which takes the field over at once; with another value it is a change, and not a hand-over."
    ),
)


@EXERCISE.check("accepted", "Every step is accepted", weight=1)
@judged("the API accepts every step, in the order given")
def accepted(scene: Scene, world: World) -> str | Problem:
    """No step is refused, and the scaler takes part."""
    play(scene)
    if scene.refused:
        return Problem(
            scene.refused,
            "Two managers say different things about one field, and the second did not insist (a conflict)."
            if " 409 " in scene.refused
            else "The manifest cannot be applied as it is.",
            "Let the second say what is there already, or read the message: it names the manager and the field.",
            scene.story.moment(),
        )
    if not any(step["manager"] == "scaler" for step in scene.steps):
        return Problem(
            f"{len(scene.steps)} steps, all by the team",
            "A scaler that has said nothing owns nothing.",
            "Which manifest would the scaler apply? It needs to name the Deployment and the number only.",
            scene.story.moment(),
        )
    return f"{len(scene.steps)} steps, numbers after each: {scene.counts}"


@EXERCISE.check("unnoticed", "The number never changes, and no pod is ended", weight=3, needs=["accepted"])
@judged(f"after every step there are {COUNT} replicas, and in the end the pods are those of the beginning")
def unnoticed(scene: Scene, world: World) -> str | Problem:
    """The spec's number after each step, and the uids of the pods at the end."""
    lost = len(scene.pods - scene.after)
    told = f"numbers after each step: {scene.counts}; {lost} of {COUNT} pods were ended"
    if set(scene.counts) == {COUNT} and not lost and scene.after == scene.pods:
        return told
    if 1 in scene.counts:
        cause = "Nobody owned the number for a moment, so it went, and the default took its place: 1."
    elif set(scene.counts) != {COUNT}:
        cause = "A step said another number than the one that was there."
    else:
        cause = "A step changed the template, so that the pods were replaced."
    next_step = "Let each step change who owns the number, and nothing else."
    return Problem(told, cause, next_step, scene.story.moment("bad"))


@EXERCISE.check("scaler-alone", "The scaler decides", weight=3, needs=["accepted"])
@judged("afterwards the scaler changes the number without insisting, and there are so many pods")
def scaler_alone(scene: Scene, world: World) -> str | Problem:
    """A change by the scaler without force must be accepted and come true."""
    scene.story.event("scaler", f"asks for {COUNT + 1}")
    try:
        apply(scene.room, "scaler", count_only(COUNT + 1))
    except ApiError as error:
        if error.server:
            raise
        scene.story.event("scaler", f"is refused: {error.status} {error.reason}")
        return Problem(
            f"{error.status} {error.reason}: {error.message}",
            "The team still owns the number too, so the scaler cannot change it without a conflict.",
            "The team's last manifest must not speak of replicas.",
            scene.story.moment(),
        )
    if scene.room.eventually(lambda: len(scene.room.ready()) == COUNT + 1, "one pod more", 20):
        return f"the scaler asked for {COUNT + 1}; {len(scene.room.ready())} pods are ready"
    return Problem(
        scene.room.states(),
        "The number was changed, and the pods did not follow.",
        "lab.events().",
        cluster_map(scene.room),
    )


def last_of_team(scene: Scene) -> str:
    """The manifest that the team applied last; what it started with, if it applied none."""
    return next((step["manifest"] for step in reversed(scene.steps) if step["manager"] == "team"), BEFORE)
