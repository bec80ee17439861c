"""Exercise 03.4: a store that refuses what a former leader still sends; its visitors come from seeded elections."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from podlab.checks.bench import Bench
from podlab.checks.contract import Answer, Exercise, HandIn, Hint, Inconclusive, Json
from podlab.course.lead_node.election import LESSON
from podlab.course.plain import Problem, computed, short, values
from podlab.distributed.election import simulated
from podlab.widgets.timeline import Bar, Mark, kept

NAME = "Store"
KEYS = ("model", "ratings", "movies")

#: Follows the learner's cell: one life of a store. Its process ends with it; the disk alone goes into the next one.
_DRIVER = """
import copy as _copy, pickle as _pickle


class _Disk:
    def __init__(self, values):
        self.values = values

    def get(self, key, default=None):
        return _copy.deepcopy(self.values.get(key, default))

    def put(self, **values):
        self.values.update(_pickle.loads(_pickle.dumps(values)))


def _lived(kept, script):
    disk = _Disk(_pickle.loads(bytes.fromhex(kept)) if kept else {})
    store = Store(disk)
    answers = [getattr(store, what)(*arguments) for what, *arguments in script]
    return {"answers": answers, "kept": _pickle.dumps(disk.values).hex()}
"""


@dataclass(frozen=True)
class Step:
    """One thing that happens to the store, and when: write (key, value, token), read (key) or crash."""

    time: float
    what: str
    arguments: tuple[Json, ...] = ()
    who: str = ""


@dataclass
class Truth:
    """What a store must do: the highest token it has ever seen decides."""

    token: int = 0
    data: dict[str, Json] = field(default_factory=dict)

    def answer(self, step: Step) -> Json:
        """The right answer to a step."""
        if step.what == "read":
            return self.data.get(str(step.arguments[0]))
        if step.what == "crash":
            return None
        key, value, token = step.arguments
        if token < self.token:
            return False
        self.token, self.data[key] = token, value
        return True


def election(bench: Bench, number: int, *, crashes: bool = False) -> list[Step]:
    """The writes of one simulated election as they arrived, each followed by a read; perhaps the store crashes."""
    chance, steps = bench.random, list[Step]()
    for event in simulated(f"{bench.seed}/fence/{number}", seconds=40.0, kinds=("pause", "isolated"), every=3.0).record:
        if event["event"] != "write":
            continue
        key, now = chance.choice(KEYS), event["time"]
        if crashes and chance.random() < 0.1:
            steps.append(Step(now, "crash"))
        value = f"{event['writer']}-{len(steps)}"
        steps.append(Step(now, "write", (key, value, event["token"]), event["writer"]))
        steps.append(Step(now, "read", (key,)))
    return steps


def elections(bench: Bench, count: int, *, crashes: bool = False) -> list[list[Step]]:
    """`count` elections in each of which a former leader wrote too late."""
    found: list[list[Step]] = []
    for number in range(40 * count):
        steps = election(bench, number, crashes=crashes)
        truth = Truth()
        if any(truth.answer(step) is False for step in steps):
            found.append(steps)
        if len(found) == count:
            return found
    raise Inconclusive("no former leader came too late in these runs")


def stage(answer: Answer, _bench: Bench) -> str:
    """The source of the learner's class."""
    return answer[NAME]


EXERCISE = Exercise(
    id="03.4",
    title="Too late",
    points=10,
    handed_in=(HandIn(NAME, "function"),),
    stage=stage,
    cluster=False,
    lesson=f"{LESSON}#The-write-that-comes-too-late",
    hints=(
        Hint(
            "A leader of term 5 writes ten times. Which of its tokens is higher than the one before?",
            lambda situation: situation.failed("fresh"),
        ),
        Hint(
            "The store is started again. Which token has it seen before, and how does it know?",
            lambda situation: situation.failed("crash"),
        ),
        Hint("What must the store compare a token with: the last, that of this key, or the highest that it ever saw?"),
        Hint("A write is refused. What has changed in the store?"),
    ),
    debrief=(
        "The lease lets a leader know when to stop, if it looks. A frozen process does not look: it goes on in the "
        "middle of its write, hours later. Only the store can refuse that, if every write brings the term along. "
        "Kubernetes has the same idea in resourceVersion: a write that is based on an old version is refused (409)."
    ),
)


def stored(source: str, bench: Bench, scripts: Sequence[Sequence[Step]]) -> list[list[Json]]:
    """What the store answered to each step of each script; None for a crash, which ends the process that it is in."""
    lives = [_lives(steps) for steps in scripts]
    said: list[list[Json]] = [[] for _ in scripts]
    kept = [""] * len(scripts)
    for number in range(max(map(len, lives))):
        if number:
            bench.afresh()  # a file of the store's own is no disk: it would go with the store's machine
        # Those of all scripts with the same number are in one process.
        living = [which for which, each in enumerate(lives) if number < len(each)]
        calls = [[kept[which], lives[which][number]] for which in living]
        for which, told in zip(living, values(bench, source + _DRIVER, "_lived", calls, 20), strict=True):
            said[which] += [*([None] if number else []), *told["answers"]]
            kept[which] = told["kept"]
    return said


def _lives(steps: Sequence[Step]) -> list[list[list[Json]]]:
    lives: list[list[list[Json]]] = [[]]
    for step in steps:
        if step.what == "crash":
            lives.append([])
        else:
            lives[-1].append([step.what, *step.arguments])
    return lives


def compare(source: str, bench: Bench, scripts: Sequence[Sequence[Step]]) -> str | Problem:
    """Whether the store answered as it must to every step of every script."""
    refused = 0
    for steps, answers in zip(scripts, stored(source, bench, scripts), strict=True):
        truth, crashed = Truth(), False
        for index, (step, answer) in enumerate(zip(steps, answers, strict=True)):
            token, wanted = truth.token, truth.answer(step)
            crashed = crashed or step.what == "crash"
            refused += wanted is False
            if step.what == "crash" or answer == wanted:
                continue
            shown = f"{step.what}({', '.join(repr(one) for one in step.arguments)})"
            return Problem(
                f"{shown} returned {short(answer)}, not {wanted!r}; the highest token so far was {token}",
                _cause(step, steps[:index], crashed, wanted),
                'lab.replay("03.4") shows who wrote what before.',
                _picture(steps, index),
            )
    return f"{sum(map(len, scripts))} writes and reads were right, {refused} late writes refused"


def _cause(step: Step, before: Sequence[Step], crashed: bool, wanted: Json) -> str:
    if step.what == "read":
        late = before[-1].what == "write" if before else False
        if crashed and not late:
            return "What was written was lost in a crash."
        return "A write that was refused has changed the value, or one that was accepted has not."
    if wanted is True:
        return "A leader writes many times with one token: an equal token is no older one."
    key, _value, token = step.arguments
    others = [each.arguments for each in before if each.what == "write"]
    if crashed and all(each[2] <= token for each in _since_crash(before)):
        return "After a crash the store has forgotten which token it had seen."
    if all(each[2] <= token for each in others if each[0] == key):
        return "The higher token came with another key; it ends the former leader's rights to every key."
    return "A write with a lower token comes from a former leader: a newer one has written already."


def _since_crash(before: Sequence[Step]) -> list[tuple[Json, ...]]:
    last = max(index for index, step in enumerate(before) if step.what == "crash")
    return [step.arguments for step in before[last:] if step.what == "write"]


def _picture(steps: Sequence[Step], index: int) -> dict[str, Json]:
    near = steps[max(0, index - 40) : index + 1]
    truth, bars, marks = Truth(), list[Bar](), list[Mark]()
    begin, leader = near[0].time, ""
    for step in near:
        if step.what == "write":
            token = step.arguments[2]
            right = "accept" if truth.answer(step) else "refuse"
            marks.append(Mark(step.who, step.time, f"writes {step.arguments[0]} with token {token}: {right}"))
            if right == "accept" and leader != f"token {token}":
                if leader:
                    bars.append(Bar("highest token", begin, step.time, leader, "lead"))
                begin, leader = step.time, f"token {token}"
        elif step.what == "crash":
            marks.append(Mark("store", step.time, "crash and restart"))
    end = near[-1].time
    bars.append(Bar("highest token", begin, max(end, begin + 0.01), leader or "none", "lead"))
    return {"replay": kept(bars, marks, end, mode="simulation")}


@EXERCISE.check("fresh", "The leader may write, as often as it likes", weight=3)
@computed("a write with the highest token so far, or a higher one, is accepted and can be read")
def fresh(source: str, bench: Bench) -> str | Problem:
    """One leader after the other, nobody late."""
    chance, scripts = bench.random, []
    for _ in range(5):
        token, steps = chance.randint(1, 3), list[Step]()
        for number in range(25):
            token += chance.random() < 0.2
            key = chance.choice(KEYS)
            steps.append(Step(number, "write", (key, f"{bench.nonce}-{number}", token), f"leader {token}"))
            steps.append(Step(number, "read", (key,)))
        scripts.append(steps)
    return compare(source, bench, scripts)


@EXERCISE.check("stale", "A former leader is refused", weight=3, needs=["fresh"])
@computed("a write with a lower token than the highest so far returns False and changes nothing")
def stale(source: str, bench: Bench) -> str | Problem:
    """The writes of elections in which leaders freeze and come back."""
    return compare(source, bench, elections(bench, 12))


@EXERCISE.check("crash", "The store remembers after a crash", weight=2, needs=["fresh"])
@computed("what was written, and the highest token, are known after the store was started again")
def crash(source: str, bench: Bench) -> str | Problem:
    """A crash between two leaders, and elections with crashes."""
    steps = [
        Step(0, "write", ("model", "a", 4), "n1"),
        Step(1, "write", ("model", "b", 5), "n2"),
        Step(2, "crash"),
        Step(3, "read", ("model",)),
        Step(4, "write", ("model", "c", 4), "n1"),
        Step(5, "read", ("model",)),
    ]
    return compare(source, bench, [steps, *elections(bench, 4, crashes=True)])
