"""Exercise 22.3: a shipper with a checkpoint. The check is its disk and its network, and kills it again and again.

The learner writes a generator: each `yield` hands out what is to be done, and gets the answer. So every step is seen,
and the process can be killed between any two of them.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from podlab.checks.bench import Bench
from podlab.checks.contract import Answer, Exercise, HandIn, Hint, Inconclusive, Json
from podlab.course.logs.incident import stamp
from podlab.course.logs.scenes import LESSON
from podlab.course.logs.store import Store
from podlab.course.plain import Problem, judged, short

NAME = "ship"
#: Lines in one sending, characters in one reading: said in the task.
MOST, READ = 20, 2000
#: A shipper that has done so much without finishing does not finish.
PATIENCE = 3000
#: Readings without anything new after which it has seen the end.
IDLE = 4
#: How often it is killed.
KILLS = 9
_DRIVER = """

class PodlabDriver:
    def __init__(self, checkpoint):
        self.steps, self.begun = ship(checkpoint), False

    def go(self, answer):
        try:
            step = self.steps.send(answer if self.begun else None)
        except StopIteration:
            return ["ended"]
        self.begun = True
        return list(step) if isinstance(step, (tuple, list)) else [step]
"""


class Wrong(Exception):
    """The shipper did something that ends the run; `problem` says what."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.observed)
        self.problem = problem


@dataclass
class Machine:
    """The file that grows, the checkpoint on disk, the store that is away for some sendings, and what came there."""

    chance: random.Random
    lines: list[str] = field(default_factory=list)
    away: frozenset[int] = frozenset()
    #: How often the shipper is to be killed; until then the file goes on growing.
    wanted: int = 0
    grows: tuple[int, int] = (30, 900)
    text: str = ""
    written: int = 0
    checkpoint: Json = None
    got: list[str] = field(default_factory=list)
    sendings: int = 0
    refused: int = 0
    last: int = 0
    kills: int = 0
    #: The lines that were in the last sending of a life, over all lives: so many may come twice.
    allowed: int = 0
    idle: int = 0
    steps: int = 0

    def write(self, lines: int) -> None:
        """Let some more lines be written, of unequal lengths."""
        for _ in range(lines):
            word, rest = f"{self.chance.getrandbits(40):010x}", "visitor " * self.chance.randint(1, 12)
            self.lines.append(f"{len(self.lines)} {word} {rest}end")
            self.text += f"{self.lines[-1]}\n"

    def kill(self) -> None:
        """Note that the shipper is killed now."""
        self.kills += 1
        self.allowed += self.last
        self.last = 0

    def do(self, step: Sequence[Any]) -> Json:
        """Do one step and return its answer."""
        self.steps += 1
        kind = step[0] if step else None
        if kind == "read" and len(step) == 2:
            return self._read(step[1])
        if kind == "send" and len(step) == 2:
            return self._send(step[1])
        if kind == "save" and len(step) == 2:
            self.checkpoint = step[1]
            return None
        if kind == "ended":
            raise Wrong(
                Problem("the shipper came to an end", "A shipper goes on for ever.", "while True: around everything.")
            )
        raise Wrong(
            Problem(
                f"it handed out {short(list(step))}",
                "There are three steps: read, send and save.",
                'yield ("read", place), yield ("send", lines), yield ("save", checkpoint)',
            )
        )

    def _read(self, place: Any) -> str:
        if type(place) is not int or place < 0:
            raise Wrong(Problem(f"it reads from {short(place)}", "A place is a number of characters.", "Begin at 0."))
        if self.kills < self.wanted and self.written + self.grows[1] > len(self.text):
            self.write(20)
        if self.written < len(self.text):
            self.written = min(len(self.text), self.written + self.chance.randint(*self.grows))
        found = self.text[place : min(self.written, place + READ)]
        self.idle = self.idle + 1 if self.written == len(self.text) and place >= len(self.text) else 0
        return found

    def _send(self, lines: Any) -> bool:
        if not isinstance(lines, list) or not all(isinstance(line, str) for line in lines):
            raise Wrong(Problem(f"it sends {short(lines)}", "What is sent is a list of lines.", "text.splitlines()"))
        if len(lines) > MOST:
            raise Wrong(
                Problem(f"it sends {len(lines)} lines at once", f"The store takes {MOST}.", "Cut the list into parts.")
            )
        self.sendings += 1
        if self.sendings in self.away:
            self.refused += 1
            return False
        self.got += lines
        self.last = len(lines)
        return True

    @property
    def done(self) -> bool:
        """Whether the whole file was written, and the shipper has seen that there is no more."""
        return self.idle >= IDLE

    @property
    def missing(self) -> list[str]:
        """The lines that did not come to the store."""
        got = set(self.got)
        return [line for line in self.lines if line not in got]


@dataclass
class Scene:
    """The learner's code, and what came of killing it."""

    source: str
    killed: Machine | Problem | None = None


def stage(answer: Answer, bench: Bench) -> Scene:
    """Nothing to be set: each check has a machine of its own."""
    return Scene(str(answer.get(NAME) or "") + _DRIVER)


EXERCISE = Exercise(
    id="22.3",
    title="At least once",
    points=10,
    handed_in=(HandIn(NAME, "function"),),
    stage=stage,
    cluster=False,
    lesson=f"{LESSON}#The-shipper-dies",
    hints=(
        Hint(
            "The process is killed between two steps. Which of your two steps must come first, so that the worst that "
            "can happen is a line that comes twice?",
            lambda situation: situation.failed("killed"),
        ),
        Hint(
            "After a kill everything came again. What was on the disk at that moment?",
            lambda situation: situation.failed("twice"),
        ),
        Hint(
            "The store said False. Where are these lines now, and who still knows of them?",
            lambda situation: situation.failed("away"),
        ),
        Hint(
            "A reading ends in the middle of a line. Where does the next one have to begin?",
            lambda situation: situation.failed("all", "halves"),
        ),
        Hint("What does a place mean: a number of lines, or of characters? What does len(line) leave out?"),
    ),
    debrief=(
        "Send, hear that it was taken, then save: a kill in between sends the same lines again, and none is lost. The "
        "other order loses them, without a trace. Exactly once would need the store's help: an id that is the same "
        "whenever the line is sent (file and place), so that the store can throw the second one away. What Filebeat "
        "calls its registry, and vlagent its checkpoints, is your checkpoint."
    ),
)


def live(scene: Scene, bench: Bench, machine: Machine, struck: Callable[[str], bool]) -> None:
    """Let a shipper live in a process of its own, until it has seen the end of the file, or a step has `struck` it."""
    with bench.talk(scene.source, seconds=10) as talk:
        made = talk.make("PodlabDriver", machine.checkpoint)
        if not made.ok:
            raise Wrong(Problem(f"ship(...) {made.error}", "It cannot be begun.", "Call next(ship(None)) in a cell."))
        answer: Json = None
        while not machine.done:
            if machine.steps >= PATIENCE:
                raise Wrong(
                    Problem(
                        f"after {PATIENCE} steps it is not at the end; {len(machine.missing)} lines are missing",
                        "It reads the same place again and again, or never reads on.",
                        "After a sending that was taken, the place goes on by what was sent.",
                    )
                )
            step = talk.ask("it.go", answer)
            answer = machine.do(step)
            if struck(step[0]):
                machine.kill()  # the step was done; the shipper does not live to hear of it
                return


def run(scene: Scene, bench: Bench, machine: Machine) -> Machine | Problem:
    """The machine after everything was written and shipped, with the wanted kills: after a sending, a saving, ..."""
    try:
        while True:
            if machine.kills:
                bench.afresh()  # all that it has is its checkpoint
            kind = ("save", "send", "read")[machine.kills % 3]
            left, steps, before = machine.chance.randint(2, 4), 0, machine.kills

            def struck(step: str, kind: str = kind) -> bool:
                nonlocal left, steps
                left, steps = left - (step == kind), steps + 1
                return machine.kills < machine.wanted and (left <= 0 or steps >= 40)

            live(scene, bench, machine, struck)
            if machine.kills == before:
                return machine
    except Wrong as wrong:
        return wrong.problem


def machine(bench: Bench, lines: int = 120, **more: Any) -> Machine:
    """A machine with a fresh file, of which a part is there already."""
    made = Machine(random.Random(bench.random.getrandbits(64)), **more)
    made.write(lines)
    made.written = min(2500, len(made.text) // 2)
    return made


def complete(found: Machine | Problem, cause: str, next_step: str) -> Machine | Problem:
    """The machine, or what is wrong if a line is missing or a sent line is none of the file's."""
    if isinstance(found, Problem):
        return found
    strange = [line for line in found.got if line not in set(found.lines)]
    if strange:
        return Problem(
            f"{len(strange)} sent lines are none of the file's, such as {short(strange[0])}",
            "A reading ends in the middle of a line: the half was sent, or its rest was taken for a line.",
            "Send only what ends with a line break; the next reading begins after the last of them.",
        )
    if found.missing:
        numbers = ", ".join(line.split()[0] for line in found.missing[:8])
        return Problem(f"{len(found.missing)} of {len(found.lines)} lines are missing: {numbers}", cause, next_step)
    return found


def counted(lines: Sequence[str]) -> tuple[int, int]:
    """How many lines a real store finds, and how many different ones, when it is given these."""
    store = Store()
    try:
        now = time.time()
        store.fill([{"@timestamp": stamp(now), "message": line, "number": line.split()[0]} for line in lines], ())
        (row,) = store.ask.query("* | stats count() lines, count_uniq(number) different")
    finally:
        store.close()
    return int(row["lines"]), int(row["different"])


@EXERCISE.check("all", "Undisturbed, every line comes once", weight=2)
@judged("a file that grows while it is read: every line is in the store, and none twice")
def all_lines(scene: Scene, bench: Bench) -> str | Problem:
    """Nobody is killed."""
    found = complete(
        run(scene, bench, machine(bench)),
        "The place of the next reading is too far on.",
        "A place counts characters, line breaks too: len(line) + 1.",
    )
    if isinstance(found, Problem):
        return found
    if (twice := len(found.got) - len(found.lines)) > 0:
        return Problem(
            f"{twice} lines came twice, and nobody was killed",
            "The next reading begins before the end of what was sent.",
            "Go on after the last line break that was sent.",
        )
    return f"{len(found.lines)} lines in {found.sendings} sendings"


@EXERCISE.check("halves", "Half a line is not sent", weight=1, needs=["all"])
@judged("a line that is still being written is left for later, also when it stays the last one for a while")
def halves(scene: Scene, bench: Bench) -> str | Problem:
    """The file grows by a few characters at a time."""
    found = complete(
        run(scene, bench, machine(bench, 40, grows=(5, 20))),
        "A line was given up.",
        "Leave the place before it, and read again.",
    )
    return found if isinstance(found, Problem) else f"{len(found.lines)} whole lines"


@EXERCISE.check("killed", "Killed again and again, nothing is lost", weight=3, needs=["all"])
@judged("killed nine times at moments of chance and started with its last checkpoint: every line is in the store")
def killed(scene: Scene, bench: Bench) -> str | Problem:
    """Real processes; the count is that of a real VictoriaLogs."""
    found = after_kills(scene, bench)
    if isinstance(found, Problem):
        return found
    lines, different = counted(found.got)
    if different < len(found.lines):
        raise Inconclusive(f"VictoriaLogs has {different} of {len(found.lines)} lines that were sent")
    return f"{found.kills} kills; VictoriaLogs finds {different} different lines, {lines - different} of them twice"


def after_kills(scene: Scene, bench: Bench) -> Machine | Problem:
    """A machine after nine kills, the same for every check that asks."""
    if scene.killed is None:
        scene.killed = complete(
            run(scene, bench, machine(bench, wanted=KILLS)),
            "It was killed between two steps: the checkpoint said already that these lines were sent.",
            "First send, then save.",
        )
    if isinstance(scene.killed, Machine) and scene.killed.kills < KILLS:
        raise Inconclusive(f"only {scene.killed.kills} kills happened")
    return scene.killed


@EXERCISE.check("twice", "After a kill little comes twice", weight=2, needs=["killed"])
@judged("for each kill at most the lines of the last sending before it come twice")
def twice(scene: Scene, bench: Bench) -> str | Problem:
    """At least once, and hardly more."""
    found = after_kills(scene, bench)
    if isinstance(found, Problem):
        return found
    again = len(found.got) - len(found.lines)
    if again > found.allowed:
        return Problem(
            f"{again} lines came twice in {found.kills} kills; the last sendings before them had {found.allowed}",
            "A new life began far behind where the last one was.",
            "Save after each sending that was taken, and begin at the checkpoint.",
        )
    return f"{again} lines came twice in {found.kills} kills"


@EXERCISE.check("away", "While the store is away, lines wait", weight=2, needs=["all"])
@judged("the store takes nothing for some sendings: later every line is there, once and in order")
def away(scene: Scene, bench: Bench) -> str | Problem:
    """Sendings 3 to 7 and 9 are answered with False."""
    found = complete(
        run(scene, bench, machine(bench, away=frozenset({3, 4, 5, 6, 7, 9}))),
        "The store said False, and the lines of that sending were given up.",
        "Look at the answer of a sending, and send the same lines again while it is False.",
    )
    if isinstance(found, Problem):
        return found
    if found.refused < 6:
        raise Inconclusive(f"only {found.refused} sendings were refused")
    if found.got != list(found.lines):
        return Problem(
            "the lines came in another order, or twice", "Later lines overtook.", "Send the same lines again, at once."
        )
    return f"{found.refused} sendings refused; {len(found.lines)} lines in order"
