"""Exercise 03.1: a failure detector that tells slow from dead, judged by what real processes did."""

from __future__ import annotations

import itertools
import os
import select
import time
from collections.abc import Sequence
from dataclasses import dataclass

from podlab import waiting
from podlab.checks.bench import Bench
from podlab.checks.contract import Answer, Exercise, HandIn, Hint, Inconclusive, Json
from podlab.course.lead_node.election import LESSON
from podlab.course.outside import answered
from podlab.course.plain import Problem, computed, made, short
from podlab.distributed.harness import Harness
from podlab.widgets.timeline import Bar, Mark, kept

NAME = "Detector"
#: Seconds: between heartbeats; up to which a silent node is alive; up to which it is slow, at first.
BEAT, ALIVE, PATIENCE = 0.1, 0.35, 1.2
#: No question is asked closer to a change than this.
EDGE = 0.02
NODES = ("n1", "n2", "n3")

#: Follows the learner's cell: what was heard until now, and which nodes are asked about.
_DRIVER = """
def _looked(heard, nodes, now):
    for each in heard:
        it.heard(*each)
    return {"said": [it.state(node, now) for node in nodes]}
"""

#: (node, number, time of arrival).
Beat = tuple[str, int, float]


def truth(beats: Sequence[Beat], node: str, now: float) -> tuple[str, float, float]:
    """What a node is at `now` by the rules of the task, how long it has been silent, and its patience by then."""
    last, highest, patience = 0.0, 0, PATIENCE
    for name, number, at in beats:
        if name != node or at > now or number <= highest:
            continue
        if at - last > patience:
            patience *= 2
        last, highest = at, number
    silence = now - last
    return "alive" if silence <= ALIVE else "slow" if silence <= patience else "dead", silence, patience


@dataclass(frozen=True)
class Story:
    """Heartbeats as they arrived, what was done to whom and when, and how long it took in all."""

    beats: Sequence[Beat]
    done: Sequence[tuple[str, float, str]] = ()
    nodes: Sequence[str] = NODES

    @property
    def end(self) -> float:
        """Long enough after the last heartbeat that a dead node must be called dead."""
        return max([0.0, *(at for _, _, at in self.beats)]) + 2 * PATIENCE + 0.3

    def questions(self, node: str) -> list[float]:
        """When to ask about a node: often, but never where a rule's boundary is."""
        found = []
        for step in range(1, int(self.end / 0.05)):
            now = 0.05 * step
            _, silence, patience = truth(self.beats, node, now)
            if all(abs(silence - edge) > EDGE for edge in (ALIVE, patience)):
                found.append(round(now, 4))
        return found

    def script(self, nodes: Sequence[str]) -> list[list[Json]]:
        """All that the detector is told and asked, in order of time."""
        told: list[tuple[float, int, list[Json]]] = [
            (at, 0, ["heard", node, number, round(at, 5)]) for node, number, at in self.beats
        ]
        told += [(now, 1, ["state", node, now]) for node in nodes for now in self.questions(node)]
        return [entry for _, _, entry in sorted(told, key=lambda one: one[:2])]


@dataclass
class Scene:
    """The learner's class, and what happened to real processes."""

    source: str
    real: Story | None = None

    def happened(self) -> Story:
        """Three processes: one in peace, one stopped for a while, one killed. Once for all checks."""
        if self.real is None:
            self.real = real_story()
        return self.real


def _beating(pipe: int, name: str) -> None:
    number = 0
    while True:
        number += 1
        os.write(pipe, f"{name} {number}\n".encode())
        waiting.pause(BEAT)


def real_story() -> Story:
    """Heartbeats of three real processes, one of which is stopped and continued, and one killed."""
    reading, writing = os.pipe()
    beats: list[Beat] = []
    done: list[tuple[str, float, str]] = []
    rest = b""
    try:
        with Harness() as harness:
            workers = {name: harness.spawn(_beating, writing, name, name=name) for name in NODES}
            began = time.monotonic()

            def listen(until: float) -> None:
                nonlocal rest
                while (left := until - (time.monotonic() - began)) > 0:
                    if not select.select([reading], [], [], left)[0]:
                        return
                    *lines, rest = (rest + os.read(reading, 65536)).split(b"\n")
                    now = time.monotonic() - began
                    for line in lines:
                        name, number = line.decode().split()
                        beats.append((name, int(number), now))

            for until, name, verb in ((0.8, "n2", "stop"), (1.0, "n3", "kill"), (1.55, "n2", "resume")):
                listen(until)
                proof = getattr(workers[name], verb)()
                done.append((name, time.monotonic() - began, proof.fault))
                if not proof:
                    raise Inconclusive(str(proof))
            listen(2.4)
    finally:
        os.close(reading)
        os.close(writing)
    return undisturbed(Story(beats, done))


def undisturbed(story: Story) -> Story:
    """A story in which nobody was called dead and heard again: it teaches no patience. Inconclusive otherwise."""
    for node in story.nodes:
        times = [0.0, *(at for name, _, at in story.beats if name == node)]
        silence = max((later - earlier for earlier, later in itertools.pairwise(times)), default=0.0)
        if silence > PATIENCE:
            raise Inconclusive(f"{node} was not heard for {silence:.1f} s, and then again: the machine stood still")
    return story


def stage(answer: Answer, _bench: Bench) -> Scene:
    """Nothing has run yet."""
    return Scene(answer[NAME])


EXERCISE = Exercise(
    id="03.1",
    title="Slow or dead",
    points=10,
    handed_in=(HandIn(NAME, "function"),),
    stage=stage,
    cluster=False,
    lesson=f"{LESSON}#Is-it-dead-or-only-slow",
    hints=(
        Hint(
            "For how long has each node been silent at the moment at which you are asked? What do you need to keep?",
            lambda situation: situation.failed("stopped", "killed"),
        ),
        Hint(
            "A node that you took for dead is heard again. What was wrong: the node, or your patience with it?",
            lambda situation: situation.failed("learns"),
        ),
        Hint("A network may deliver late and twice. Which heartbeats say something about now?"),
        Hint("A node that has never been heard of: since when has it been silent?"),
    ),
    debrief=(
        "No detector can be both quick and right: nobody can tell a slow node from a dead one, only wait. Patience "
        "that grows with every mistake is in the end long enough (Chandra and Toueg, 1996). Kubernetes waits too: a "
        "node whose kubelet has been silent for 40 s is marked not ready, and only five minutes later its pods are "
        "replaced elsewhere."
    ),
)


def watched(scene: Scene, bench: Bench, story: Story, script: Sequence[list[Json]]) -> list[Json]:
    """What the detector says each time that the script asks it; it is told nothing before its time."""
    said, heard = list[Json](), list[Json]()
    with made(bench, scene.source + _DRIVER, NAME, list(story.nodes), 0.0) as talk:
        for (what, now), entries in itertools.groupby(script, key=lambda entry: (entry[0], entry[-1])):
            if what == "heard":
                heard += [entry[1:] for entry in entries]
            else:
                said += answered(talk, "_looked", heard, [entry[1] for entry in entries], now)["said"]
                heard = []
    return said


def compare(scene: Scene, bench: Bench, story: Story, nodes: Sequence[str], cause: str, ask: str) -> int | Problem:
    """How many answers were right; a Problem for the first that was not, with the picture of that moment."""
    script = story.script(nodes)
    said = watched(scene, bench, story, script)
    asked = [(entry[1], entry[2]) for entry in script if entry[0] == "state"]
    for (node, now), answer in zip(asked, said, strict=True):
        wanted, silence, patience = truth(story.beats, node, now)
        if answer != wanted:
            mine = [one for (name, _), one in zip(asked, said, strict=True) if name == node]
            times = [at for name, at in asked if name == node]
            return Problem(
                f"at {now:.2f} s {node} had been silent for {silence:.2f} s (its patience is {patience:.1f} s): "
                f"that is {wanted}, and state said {short(answer)}",
                cause,
                f'{ask} lab.replay("03.1") shows the moment.',
                {"replay": _picture(story, node, times, mine, now)},
            )
    return len(said)


def _picture(story: Story, node: str, times: Sequence[float], said: Sequence[Json], now: float) -> dict[str, Json]:
    tones = {"alive": "good", "slow": "doubt", "dead": "gone"}
    bars: list[Bar] = []
    for row, words in (
        ("it is", [truth(story.beats, node, at)[0] for at in times]),
        ("you said", [one if isinstance(one, str) and one in tones else short(one, 20) for one in said]),
    ):
        begin = 0
        for index in range(1, len(words) + 1):
            if index == len(words) or words[index] != words[begin]:
                until = times[index] if index < len(times) else times[-1]
                bars.append(Bar(f"{node}: {row}", times[begin], until, words[begin], tones.get(words[begin], "bad")))
                begin = index
    marks = [Mark(f"{node}: heartbeats", at, f"number {number}") for name, number, at in story.beats if name == node]
    marks += [Mark(f"{node}: done to it", at, what) for name, at, what in story.done if name == node]
    return kept(bars, marks, now, mode="real run" if story.done else "simulation")


@EXERCISE.check("stopped", "A process that is stopped for a while", weight=3)
@computed(f"silent for more than {ALIVE} s is slow, until it was so for its patience; heard again, it is alive")
def stopped(scene: Scene, bench: Bench) -> str | Problem:
    """SIGSTOP and SIGCONT of a real process."""
    story = scene.happened()
    if not any(truth(story.beats, "n2", now)[0] == "slow" for now in story.questions("n2")):
        raise Inconclusive("the stopped process was never silent for long enough")
    found = compare(
        scene,
        bench,
        story,
        ["n2"],
        "The node was stopped with SIGSTOP and continued with SIGCONT; silence is measured or judged wrongly.",
        "What do you know at that moment: how long ago was the last heartbeat?",
    )
    return found if isinstance(found, Problem) else f"{found} answers about a stopped process were right"


@EXERCISE.check("killed", "A process that is killed", weight=3)
@computed("a killed process is slow at first, and dead when its patience has run out")
def killed(scene: Scene, bench: Bench) -> str | Problem:
    """SIGKILL of a real process."""
    story = scene.happened()
    found = compare(
        scene,
        bench,
        story,
        ["n3"],
        "The node was killed with SIGKILL: it is given up too early, too late, or never.",
        f"At first the patience is {PATIENCE} s. When does silence become longer than that?",
    )
    return found if isinstance(found, Problem) else f"{found} answers about a killed process were right"


@EXERCISE.check("steady", "A process in peace is left alone", weight=2, needs=["killed"])
@computed("while the others are stopped and killed, the third is alive, as long as it is heard")
def steady(scene: Scene, bench: Bench) -> str | Problem:
    """The process to which nothing was done."""
    found = compare(
        scene,
        bench,
        scene.happened(),
        ["n1"],
        "Something that concerns one node is kept for all of them.",
        "Keep what you know by node.",
    )
    return found if isinstance(found, Problem) else f"{found} answers about a process in peace were right"


def regular(node: str, first: int, begin: float, end: float) -> list[Beat]:
    """Heartbeats of a healthy node between two times."""
    count = max(0, round((end - begin) / BEAT))
    return [(node, first + step, round(begin + BEAT * step, 4)) for step in range(count)]


def _gaps(chance_gap: float, nodes: Sequence[str]) -> Story:
    """One node is silent again and again; the others are not."""
    first, *others = nodes
    beats, at = list[Beat](), 0.1
    # A mistake, and a silence that is none any more; a mistake with twice the patience, and one that is none again.
    for turn, silence in enumerate((chance_gap, chance_gap, chance_gap + PATIENCE, chance_gap + 2 * PATIENCE, 0.0)):
        beats += regular(first, 1 + 20 * turn, at, at + 1.0)
        at += 1.0 + silence
    for other in others:
        beats += regular(other, 1, 0.1, at - 0.3)
    return Story(sorted(beats, key=lambda beat: beat[2]), nodes=nodes)


@EXERCISE.check("learns", "A mistake makes it more patient, with that node", weight=2, needs=["killed"])
@computed("whenever a node is heard again after it was called dead, it gets twice the patience, and no other does")
def learns(scene: Scene, bench: Bench) -> str | Problem:
    """Long silences of one node, and the end of others."""
    total = 0
    for _ in range(3):
        story = _gaps(round(bench.random.uniform(1.5, 2.0), 2), bench.random.sample(["n1", "n2", "n3", "n4"], 3))
        found = compare(
            scene,
            bench,
            story,
            story.nodes,
            "The patience does not grow when a node comes back from the dead, not twofold each time, or for all nodes.",
            "Which node was misjudged, and what was its patience?",
        )
        if isinstance(found, Problem):
            return found
        total += found
    return f"{total} answers before and after mistakes were right"
