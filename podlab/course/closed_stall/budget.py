"""Exercise 11.4: a budget of second tries. It is told of calls and asked for tries; all of it is counting."""

from __future__ import annotations

from dataclasses import dataclass

from podlab.checks.bench import Bench
from podlab.checks.contract import Answer, Exercise, HandIn, Hint
from podlab.checks.talks import Talk
from podlab.course.closed_stall.once_more import LESSON
from podlab.course.outside import answered
from podlab.course.plain import Problem, computed, made

NAME = "Budget"
#: Follows the learner's cell: many calls at once, since a budget says nothing to them; each "take" is asked for alone.
_DRIVER = """
def _calls(count):
    for _ in range(count):
        it.call()
"""

#: ("call" | "take", how often).
Script = list[tuple[str, int]]


@dataclass(frozen=True)
class Setting:
    """Numbers of one run; a try is earned by `every` calls, which is exact also in binary fractions."""

    every: int
    most: int

    def __str__(self) -> str:
        return f"Budget({1 / self.every:g}, {self.most})"


def setting(bench: Bench) -> Setting:
    """Numbers that differ from run to run."""
    return Setting(bench.random.choice((4, 8, 16)), bench.random.randint(3, 9))


def spent(source: str, bench: Bench, one: Setting, script: Script) -> list[int]:
    """How many tries each "take" of a script was given."""
    given = []
    with made(bench, source + _DRIVER, NAME, 1 / one.every, one.most) as talk:
        for what, count in script:
            if what == "call":
                answered(talk, "_calls", count)
            else:
                given.append(taken(talk, count))
    return given


def taken(talk: Talk, count: int, budget: str = "it") -> int:
    """How many tries a budget gives that is asked `count` times."""
    return sum(bool(talk.ask(f"{budget}.take")) for _ in range(count))


def stage(answer: Answer, _bench: Bench) -> str:
    """The source of the learner's class."""
    return answer[NAME]


EXERCISE = Exercise(
    id="11.4",
    title="Tries on a budget",
    points=8,
    handed_in=(HandIn(NAME, "function"),),
    stage=stage,
    cluster=False,
    lesson=f"{LESSON}#A-storm-of-tries",
    hints=(
        Hint(
            "Every call fails, for an hour. What pays for the second tries when those of the beginning are used up?",
            lambda situation: situation.failed("storm"),
        ),
        Hint(
            "It was quiet for a month. How many tries at once would your budget allow now?",
            lambda situation: situation.failed("full"),
        ),
        Hint("One number is enough: how many tries are left. It need not be a whole one."),
    ),
    debrief=(
        "A limit for each question (two tries) still doubles the load when everything fails; a budget over all of them "
        "adds a tenth. movies/calls.py keeps one for each service that it calls."
    ),
)


@EXERCISE.check("quiet", "A rare trouble gets its second try", weight=2)
@computed("if seldom a call fails, every one that does gets a second try")
def quiet(scene: str, bench: Bench) -> str | Problem:
    """From the start, then one failure in twice as many calls as earn a try."""
    one, times = setting(bench), 50
    given = sum(spent(scene, bench, one, [("take", 1), *[("call", 2 * one.every), ("take", 1)] * times]))
    if given <= times:
        return Problem(
            f"{one}: one failure in {2 * one.every} calls, and {given} of {times + 1} got a second try",
            "The budget is empty in the beginning, or calls do not fill it.",
            "It begins with `most` tries, and each call() adds `share` of one.",
        )
    return f"all of {times + 1} failures got a second try"


@EXERCISE.check("storm", "When everything fails, few try again", weight=3)
@computed("of calls that all fail, `most` are tried again, and after that only the share that calls earn")
def storm(scene: str, bench: Bench) -> str | Problem:
    """Every call fails and asks for a second try."""
    one, calls = setting(bench), 200
    given = sum(spent(scene, bench, one, [("call", 1), ("take", 1)] * calls))
    most = one.most + calls // one.every
    if given > most:
        return Problem(
            f"{one}: {calls} calls failed, {given} were tried again; {most} are in the budget",
            "A try costs nothing, or less than one.",
            "take() takes a whole try away, and says False if there is none.",
        )
    if given < most - 1:
        return Problem(
            f"{one}: {calls} calls failed, {given} were tried again; {most} are in the budget",
            "Calls earn too little, or a refusal costs something, too.",
            "take() that says False leaves the budget as it is.",
        )
    return f"{given} of {calls} calls were tried again"


@EXERCISE.check("apart", "One budget for each service", weight=1, needs=["storm"])
@computed("what one budget has spent is there in another")
def apart(scene: str, bench: Bench) -> str | Problem:
    """Two budgets; all of the first is used up, then the second is asked."""
    one = setting(bench)
    with made(bench, scene, NAME, 1 / one.every, one.most) as talk:
        talk.make(NAME, 1 / one.every, one.most, called="other")
        first, second = taken(talk, 2 * one.most), taken(talk, 2 * one.most, "other")
    if second != one.most:
        return Problem(
            f"two of {one}: of the first {first} tries were taken, and then {second} of the second",
            "What is left stands where all budgets see it: one service in trouble takes the second tries of all.",
            "Keep it in self, and set it in __init__.",
        )
    return f"{first} tries of the first, {second} of the second"
