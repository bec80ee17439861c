"""Exercise 15.4: the site survives the loss of a node, and an administrator who empties nodes."""

from __future__ import annotations

import time
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass, field

from podlab.checks.api import Object
from podlab.checks.contract import (
    Answer,
    Exercise,
    HandIn,
    Hint,
    Inconclusive,
    Json,
    NotGradable,
    Result,
    failed,
    passed,
)
from podlab.checks.faults import exclusive, node_ready, ready_to_lose_one
from podlab.checks.traffic import Prober, Window, url
from podlab.checks.world import OURS, Room, World, is_ready
from podlab.course import workload
from podlab.course.moments import Film, cluster_map
from podlab.course.scenes import bring_up, mentions, once, settled

LESSON = "notebooks/15-self-healing.ipynb"
NAME = "manifest_15_4"
#: While the control plane does not know yet, requests to the lost replicas fail. In every span of this many
#: seconds at least one request must be answered all the same.
SPAN = 4.0
#: The longest time in which the control plane declares a silent node not ready (seconds), with some reserve.
DECLARED_WITHIN = 75
#: Seconds for a node to come back.
BACK_WITHIN = 45


@dataclass
class Scene:
    """Replicas under requests on three nodes, a control pod on the node that will die, and what was seen."""

    room: Room
    world: World
    wanted: int
    stack: ExitStack
    node: str = ""
    on_node: int = 0
    dark: float = 0.0
    answered: int = 0
    asked: Window = field(default_factory=lambda: Window([]))
    film: Film | None = None
    moved_map: dict[str, Json] = field(default_factory=dict)
    declared_after: float | None = None
    moved_after: float | None = None
    control_evicted_after: float | None = None
    states: str = ""
    replaced: int = 0
    pending: bool = False
    #: (refused, allowed, fewest ready) once all replicas have been asked to leave.
    evictions: tuple[int, int, int] | None = None


def stage(answer: Answer, world: World) -> Scene:
    """Bring the answer up, whatever its number of replicas."""
    room = bring_up(answer[NAME], world, "nodes", wanted=1)
    room.eventually(lambda: settled(room), "all replicas Ready", 20)
    return Scene(room, world, len(room.live()), ExitStack())


def close(scene: Scene, world: World) -> None:
    """Bring the node back and let others break nodes again."""
    scene.stack.close()


@once
def play(scene: Scene) -> None:
    """The episode: the node with most replicas loses its power; who answers, and who is replaced first?"""
    room, world = scene.room, scene.world
    if world.nodes is None:
        raise NotGradable("nodes of this cluster cannot be switched off from here")
    note = scene.stack.enter_context(exclusive(world.cluster, f"a check (namespace {room.namespace})", world.say))
    nodes = ready_to_lose_one(world.api)
    places = Counter(pod["spec"]["nodeName"] for pod in room.live() if pod["spec"].get("nodeName"))
    most = max(places.values())
    scene.node = world.random.choice(sorted(node for node, count in places.items() if count == most))
    scene.on_node = most
    elsewhere = world.random.choice([node for node in nodes if node != scene.node])
    room.put(_control(world.image, scene.node))
    prober = room.prober(url(workload.SERVICE, room.namespace, workload.PAGE), rate=12, patience=1.5, node=elsewhere)
    if not room.eventually(lambda: _answers(prober) and _control_ready(room), "traffic and the control pod", 20):
        raise Inconclusive(
            f"before the node was lost: {prober.window().summary()}; control pod ready: {_control_ready(room)}"
        )
    film = scene.film = Film(room, prober, workload.SERVICE)
    room.look_at_nodes()
    lost_at, moment = film.poll(), time.monotonic()
    scene.stack.callback(_rejoin, world, scene.node)
    note(scene.node)
    world.nodes.kill(scene.node)

    def lost() -> bool:
        film.poll()
        return not node_ready(world.api, scene.node)

    declared = room.eventually(lost, "the node declared", DECLARED_WITHIN)
    if not declared:
        raise Inconclusive(f"{scene.node} was switched off, and the control plane still takes it for ready")
    scene.declared_after = time.monotonic() - moment
    room.look_at_nodes()

    def decided() -> bool:
        film.poll()
        if scene.moved_after is None and len(_replaced(scene)) >= scene.wanted:
            scene.moved_after = time.monotonic() - moment
        control = room.api.get("Pod", "control", room.namespace)
        if scene.control_evicted_after is None and (control is None or control["metadata"].get("deletionTimestamp")):
            scene.control_evicted_after = time.monotonic() - moment
        return scene.moved_after is not None or scene.control_evicted_after is not None

    if not room.eventually(decided, "the pods being replaced", DECLARED_WITHIN):
        raise Inconclusive("not even a pod without any toleration of its own was taken off the dead node")
    now = film.poll()
    scene.asked = prober.window(lost_at, now - 2)
    scene.answered = len(scene.asked) - len(scene.asked.failed)
    scene.dark = longest_dark(scene.asked)
    scene.states = room.states()
    scene.replaced = len(_replaced(scene))
    scene.moved_map = cluster_map(room)
    scene.pending = any(not pod["spec"].get("nodeName") for pod in room.live())
    # The node comes back in any case, so that the checks that follow find whole nodes, whatever the answer was; and
    # others may go on when it is there, not when it is on its way.
    _rejoin(world, scene.node)
    if not room.eventually(lambda: node_ready(world.api, scene.node), "the node's return", BACK_WITHIN):
        raise Inconclusive(f"{scene.node} did not come back")
    scene.stack.close()


def _answers(prober: Prober) -> bool:
    prober.poll()
    recent = prober.window().records[-10:]
    return len(recent) == 10 and all(record.ok for record in recent)


def _control_ready(room: Room) -> bool:
    return is_ready(room.api.get("Pod", "control", room.namespace) or {})


def _replaced(scene: Scene) -> list[Object]:
    """Ready replicas that are not on the dead node."""
    return [pod for pod in scene.room.ready() if pod["spec"]["nodeName"] != scene.node]


def longest_dark(window: Window) -> float:
    """The longest span in which only failed requests were sent, in seconds; one without any request proves nothing."""
    longest, began = 0.0, None
    for record in window.records:
        began = None if record.ok else record.sent if began is None else began
        longest = longest if began is None else max(longest, record.sent - began)
    return longest


def _rejoin(world: World, node: str) -> None:
    assert world.nodes is not None
    world.nodes.rejoin(node)


def _control(image: str, node: str) -> Object:
    """A pod with nothing but defaults on the node that will be lost: the measure for "soon"."""
    program = "import signal; signal.signal(signal.SIGTERM, lambda *_: exit(0)); signal.pause()"
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "control", "labels": {OURS: "control"}},
        "spec": {
            "nodeName": node,
            "terminationGracePeriodSeconds": 1,
            "automountServiceAccountToken": False,
            "containers": [
                {
                    "name": "control",
                    "image": image,
                    "imagePullPolicy": "IfNotPresent",
                    "command": ["python3", "-S", "-c", program],
                }
            ],
        },
    }


EXERCISE = Exercise(
    id="15.4",
    title="A node is lost",
    points=10,
    handed_in=(HandIn(NAME),),
    stage=stage,
    closing=close,
    disruptive=True,
    lesson=f"{LESSON}#A-node-is-lost",
    hints=(
        Hint(
            "You have more replicas now. On which nodes are they? (lab.get('pods') shows it.) What puts them there?",
            lambda situation: situation.failed("keeps-answering") and "replicas: 1" not in situation.text(NAME),
        ),
        Hint(
            "A replacement is Pending. How many pods does the dead node have in the scheduler's eyes, and what does "
            "whenUnsatisfiable: DoNotSchedule make of that?",
            lambda situation: situation.failed("moved") and mentions(NAME, "DoNotSchedule")(situation),
        ),
        Hint(
            "Your replicas tolerate the taint of a lost node. For how long? What does a toleration without "
            "tolerationSeconds mean?",
            lambda situation: situation.failed("moved") and mentions(NAME, "tolerations")(situation),
        ),
        Hint("Which taints does a lost node get? kubectl describe node shows them. Who tolerates them, and how long?"),
        Hint("If the node that dies is the one with all your replicas, who answers until the replacements are up?"),
        Hint(
            "Emptying a node asks for each pod's eviction. Which object lets the API server say “not now”, and what "
            "must it allow so that nodes can be emptied at all?"
        ),
    ),
    debrief=(
        "Nobody can tell a dead node from a silent one, so Kubernetes waits twice: until the heartbeats have been "
        "missing long enough, and then as long as the pods tolerate it. Replicas on other nodes carry the site "
        "through that time; tolerationSeconds only shortens how long you run with fewer. Short tolerations are not "
        "free: a network that blinks then moves hundreds of pods. Another way to spread is podAntiAffinity; "
        "with `required` and as many replicas as nodes it leaves the replacement without a place."
    ),
)


@EXERCISE.check("keeps-answering", "The site answers while a node is lost", weight=4)
def keeps_answering(scene: Scene, world: World) -> Result:
    """In every few seconds after the loss some request is answered."""
    play(scene)
    # Nothing has to start for that, so a machine on which pods start slowly gets no more time.
    span = SPAN * world.stretch
    expected = f"after any one node is lost, some request is answered in every {span:.0f} s"
    seen = f"{scene.node} was lost with {scene.on_node} of {scene.wanted} replicas: {scene.asked.summary()}"
    if scene.dark <= span and scene.answered:
        return passed(expected, f"{seen}; longest silence {scene.dark:.1f} s", node=scene.node)
    return failed(
        expected,
        f"{seen}; nothing was answered for {scene.dark:.0f} s",
        cause=(
            "All replicas were on the node that was lost."
            if scene.on_node == scene.wanted
            else "The replicas on the other nodes did not carry the traffic."
        ),
        next_step="lab.get('pods'): on how many nodes are your replicas? Spread them.",
        node=scene.node,
        **(scene.film.until() if scene.film else {}),
    )


@EXERCISE.check("moved", "All replicas are back elsewhere, sooner than by default", weight=4)
def moved(scene: Scene, world: World) -> Result:
    """As many replicas as before are Ready on other nodes before a pod with default tolerations is evicted."""
    play(scene)
    expected = (
        f"{scene.wanted} replicas are Ready on other nodes before a pod that has only the default tolerations "
        f"is taken off {scene.node}"
    )
    if scene.moved_after is not None and scene.control_evicted_after is None:
        return passed(
            expected,
            f"the node was declared lost after {scene.declared_after:.1f} s and all replicas were back after "
            f"{scene.moved_after:.1f} s; the control pod was still waiting",
            declared=round(scene.declared_after or 0, 1),
            moved=round(scene.moved_after, 1),
        )
    return failed(
        expected,
        f"after {scene.control_evicted_after or 0:.0f} s the control pod was evicted, and of {scene.wanted} replicas "
        f"{scene.replaced} were Ready elsewhere: {scene.states}",
        cause=(
            "A replacement was made but fits on no node: its rule for spreading counts the dead node too."
            if scene.pending
            else "The replicas tolerate a lost node as long as the default does, or longer."
        ),
        next_step=(
            "Read the Pending pod's message in lab.events()."
            if scene.pending
            else "Give the pods tolerations with a small tolerationSeconds for both taints of a lost node."
        ),
        **scene.moved_map,
    )
