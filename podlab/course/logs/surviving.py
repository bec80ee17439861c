"""Exercise 22.4: a pod's log outlives the pod, on the real add-on of the cluster."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import resources
from typing import Any

from podlab.addons.logs import Line, Logs
from podlab.checks.api import Object
from podlab.checks.contract import Answer, Exercise, HandIn, Hint, Inconclusive, Result, failed, passed
from podlab.checks.world import OURS, Room, World
from podlab.course import add_on, workload
from podlab.course.logs.scenes import LESSON
from podlab.course.scenes import bring_up, mentions

NAME = "shop_manifest"
PROGRAMS = ("victoria-logs", "vlagent")
#: Seconds from a written line to its being found, on an idle machine, with much to spare.
ARRIVES = 25
#: What testifies of visits. It is told how to log, and another container may print its file.
GIVEN = workload.Given(
    dict.fromkeys(("NAME", "LOG_FILE", "LOG_FORMAT", "LOG_LEVEL"), ""), program="stall", flags=("-S", "-u"), beside=True
)


@dataclass
class Scene:
    """The room with the learner's pods, the store, and what the first visits have left there."""

    room: Room
    logs: Logs
    good: str
    bad: str
    #: A word that a pod of the checker has written: if it is not found, nothing is said about anybody's answer.
    control: str


def objects() -> list[Object]:
    """The stall's program, as every manifest of the chapter mounts it."""
    source = resources.files("podlab.course").joinpath("programs/stall.py").read_text()
    return [
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "stall-program", "labels": {OURS: "workload"}},
            "data": {"stall.py": source},
        }
    ]


def speaker(world: World, word: str) -> Object:
    """A pod of the checker that says a word: the proof that lines arrive."""
    container = {
        "name": "speaker",
        "image": world.image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["python3", "-S", "-u", "-c", f"print({word!r})"],
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "speaker", "labels": {OURS: "control"}},
        "spec": {"restartPolicy": "Never", "automountServiceAccountToken": False, "containers": [container]},
    }


def stage(answer: Answer, world: World) -> Scene:
    """Bring the shop up, and visit it twice: a user who is served, and user 0, of whom it knows nothing."""
    add_on.bring_in(world, "logging", PROGRAMS)
    logs = Logs.of_cluster(world.api)
    good, bad, control = (f"{world.nonce}{number:x}{world.random.getrandbits(24):06x}" for number in (1, 2, 0))
    ours = [*objects(), speaker(world, control)]
    room = bring_up(str(answer.get(NAME) or ""), world, "shop", wanted=1, objects=ours, given=GIVEN)
    scene = Scene(room, logs, good, bad, control)
    visit(scene, room.ready()[0], 100 + world.random.randrange(800), good, 200)
    visit(scene, room.ready()[0], 0, bad, 500)
    return scene


def visit(scene: Scene, pod: Object, user: int, nonce: str, status: int) -> dict[str, Any]:
    """Visit a pod, and return what it said; Inconclusive if the stall does not answer as it must."""
    reply = scene.room.ask(pod, "/visit", user=user, nonce=nonce, timeout=10)
    if reply.status != status:
        raise Inconclusive(f"a visit of user {user} was answered with {reply.status or reply.error}")
    return dict(reply.body)


def arrived(scene: Scene, question: str) -> list[Line]:
    """The lines that a question finds in this room's pods, within the time that a line needs; empty if none comes.

    Inconclusive if nothing arrives at all.
    """
    whole = f'kubernetes.pod_namespace:="{scene.room.namespace}" {question}'
    found = scene.room.eventually(lambda: scene.logs.query(whole), "the line being found", ARRIVES, interval=0.4)
    if not found and not scene.logs.query(f'"{scene.control}"'):
        raise Inconclusive("a line that the checker's own pod wrote has not arrived in the log store either")
    return found or []


EXERCISE = Exercise(
    id="22.4",
    title="A log that outlives its pod",
    points=10,
    handed_in=(HandIn(NAME, "manifests"),),
    stage=stage,
    lesson=f"{LESSON}#The-pod-is-gone",
    hints=(
        Hint(
            "What does `kubectl logs` of your pod show? The shipper reads the same.",
            lambda situation: situation.failed("found"),
        ),
        Hint(
            "Your line is found as a text. Which setting makes the program write fields?",
            mentions(NAME, "LOG_FILE", without="json"),
        ),
        Hint(
            "How many events does a stack trace make, if each of its lines is a line of the log?",
            lambda situation: situation.failed("whole"),
        ),
        Hint(
            "Another container of the pod may read the file and print it. Where must the file be, so that both see it?"
        ),
    ),
    debrief=(
        "Standard output is the place: the node keeps it in a file outside the container, and the shipper reads it "
        "there. A program that can only write a file gets a second container that prints it; that costs a container "
        "for each pod. One line of JSON for each event leaves nothing to be put together, and makes fields."
    ),
)


UNREAD = (
    "The program writes to a file in its container, which nobody reads and which ends with it; or a setting keeps "
    "lines of this level back."
)


def not_found(nonce: str, expected: str, cause: str = UNREAD) -> Result:
    """The failed Result for a line that did not come."""
    return failed(
        expected,
        f"no line with {nonce} came from your pods",
        cause=cause,
        next_step="lab.logs(POD): is the line there? The shipper sees what kubectl logs sees. Look at LOG_FILE.",
    )


@EXERCISE.check("found", "A visit's line is found in the store", weight=2)
def found(scene: Scene, world: World) -> Result:
    """With the pod's name, which the shipper has added."""
    expected = "the lines of a visit are in the log store, with the name of the pod that wrote them"
    lines = arrived(scene, f'*:"{scene.good}"')
    if not lines:
        return not_found(scene.good, expected)
    return passed(expected, f"{len(lines)} lines from {lines[0].get('kubernetes.pod_name', 'no pod')}")


@EXERCISE.check("fields", "It has fields", weight=2, needs=["found"])
def fields(scene: Scene, world: World) -> Result:
    """Searched by a field and by a number."""
    expected = 'nonce, status and latency_ms of a visit are fields: nonce:="..." status:=200 latency_ms:>=0 finds it'
    if lines := arrived(scene, f'nonce:="{scene.good}" status:=200 latency_ms:>=0'):
        return passed(expected, f"found: {lines[0].get('_msg', '')}")
    return failed(
        expected,
        "the line is there as a text, and this question finds nothing",
        cause="The program writes text, or another container puts something in front of the JSON.",
        next_step="LOG_FORMAT=json; one line of the log is one object of JSON, from { to }.",
    )


@EXERCISE.check("whole", "A stack trace is one event", weight=2, needs=["found"])
def whole(scene: Scene, world: World) -> Result:
    """User 0 makes the program raise an error."""
    expected = "one event holds the visit's nonce, the stack trace, and the name of the error"
    if lines := arrived(scene, f'*:"{scene.bad}" *:"Traceback" *:"KeyError"'):
        return passed(expected, f"found: {lines[0].get('_msg', '')[:60]}")
    pieces = scene.logs.count(f'kubernetes.pod_namespace:="{scene.room.namespace}" ("Traceback" or "KeyError")')
    return failed(
        expected,
        f"no such event; {pieces} lines hold a piece of a stack trace",
        cause="A stack trace that is written as text is a line for each of its lines, and nothing says whose they are.",
        next_step="Let the program write each event as one line.",
    )


@EXERCISE.check("survives", "The pod is killed, its line is found", weight=3, needs=["found"])
def survives(scene: Scene, world: World) -> Result:
    """The pod is deleted without grace; the store is asked when it is gone."""
    expected = (
        "after the pod was killed and is gone, what it wrote last is still found, and what it did not write is not"
    )
    pod = scene.room.ready()[0]
    nonce = f"{world.nonce}3{world.random.getrandbits(24):06x}"
    visit(scene, pod, 7, nonce, 200)
    last = f'*:"{nonce}" *:"served"'
    before = arrived(scene, last)
    name, uid = pod["metadata"]["name"], pod["metadata"]["uid"]
    scene.room.api.delete("Pod", name, scene.room.namespace, grace=0)
    if not scene.room.eventually(lambda: scene.room.pod(uid) is None, "the pod being gone", 40):
        raise Inconclusive(f"the pod {name} did not go away")
    lines = arrived(scene, f'{last} kubernetes.pod_name:="{name}"')
    if not before or not lines:
        held = "What prints the lines keeps the last one for itself, until another comes. With the pod it is gone."
        cause = held if scene.logs.query(f'*:"{nonce}"') else UNREAD
        return not_found(f'{nonce} and "served"', expected, cause)
    if scene.logs.query(f'*:"{nonce}0"'):
        raise Inconclusive("the store finds what nobody wrote")
    return passed(expected, f"{name} is gone; {len(lines)} lines of its last visit are found")


@EXERCISE.check("earlier", "The container before this one is found", weight=1, needs=["found"])
def earlier(scene: Scene, world: World) -> Result:
    """The program crashes and is started again in the same pod."""
    expected = "after a crash the lines of the container before are found, and those of the new one too"
    if not scene.room.eventually(lambda: scene.room.ready(), "a pod being Ready", 40):
        raise Inconclusive("the pod that was killed got no successor that is Ready")
    pod = scene.room.ready()[0]
    first = f"{world.nonce}4{world.random.getrandbits(24):06x}"
    life = visit(scene, pod, 8, first, 200)["instance"]
    scene.room.trouble(pod, "crash")

    def anew() -> str:
        # A word for each visit: the first may still meet the container that is about to end, which would write it down.
        word = f"{world.nonce}5{world.random.getrandbits(24):06x}"
        reply = scene.room.ask(pod, "/visit", user=9, nonce=word)
        return word if reply.ok and reply.body.get("instance") != life else ""

    second = scene.room.eventually(anew, "the container being started again", 60)
    if not second:
        raise Inconclusive("the container was not started again")
    if not arrived(scene, f'*:"{second}"'):
        return not_found(
            second,
            expected,
            "The program that was started again opens its file by its name. Who prints it must look there again, too: "
            "what it had opened before may be another file by now.",
        )
    if not arrived(scene, f'*:"{first}"'):
        return not_found(first, expected)
    return passed(expected, "both lives of the container are found")
