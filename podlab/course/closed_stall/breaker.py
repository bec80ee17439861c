"""Exercise 11.2: a circuit breaker. It is asked and told, with the time as a number: nothing waits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from podlab.checks.bench import Bench
from podlab.checks.contract import Answer, Exercise, HandIn, Hint, Json
from podlab.course.closed_stall.once_more import LESSON
from podlab.course.plain import Problem, computed, made
from podlab.widgets.timeline import Bar, Mark, kept

NAME = "Breaker"
#: ["allow" | "ok" | "failed", time].
Script = list[list[Any]]


@dataclass(frozen=True)
class Setting:
    """Numbers of one run."""

    failures: int
    rest: float

    def failing(self, start: float, count: int) -> Script:
        """So many calls that fail, a tenth of a second apart."""
        return [[what, start + number / 10] for number in range(count) for what in ("allow", "failed")]

    def opened(self) -> tuple[Script, float]:
        """A script after which the breaker is open, and when it opened."""
        return self.failing(10.0, self.failures), 10.0 + (self.failures - 1) / 10


def setting(bench: Bench) -> Setting:
    """Numbers that differ from run to run."""
    return Setting(bench.random.randint(3, 7), round(bench.random.uniform(2.0, 6.0), 1))


def played(source: str, bench: Bench, one: Setting, script: Script) -> list[bool]:
    """What every "allow" of a script said."""
    said = []
    with made(bench, source, NAME, one.failures, one.rest) as breaker:
        for what, now in script:
            if what == "allow":
                said.append(bool(breaker.ask("it.allow", now)))
            else:
                breaker.tell(f"it.{what}", now)
    return said


def picture(script: Script, said: list[bool], wrong: int) -> dict[str, Json]:
    """Evidence for `lab.replay`: what it said and was told, opened at question number `wrong` (from 0)."""
    asked = [now for what, now in script if what == "allow"]
    until = [*asked[1:], max(now for _, now in script) + 0.5]
    bars = [
        Bar("your breaker", begin, end, "allows" if yes else "refuses", "good" if yes else "gone")
        for begin, end, yes in zip(asked, until, said, strict=True)
    ]
    marks = [Mark(f"told {what}()", now, what) for what, now in script if what != "allow"]
    return {"replay": kept(bars, marks, asked[wrong], mode="simulation")}


def served(source: str, bench: Bench, one: Setting, step: float, dead: tuple[float, float], calls: int) -> list[float]:
    """When calls reached a service, of those made at a steady pace; it is dead for a while."""
    reached = []
    with made(bench, source, NAME, one.failures, one.rest) as breaker:
        for now in (number * step for number in range(calls)):
            if breaker.ask("it.allow", now):
                reached.append(now)
                breaker.tell("it.failed" if dead[0] <= now < dead[1] else "it.ok", now)
    return reached


def stage(answer: Answer, _bench: Bench) -> str:
    """The source of the learner's class."""
    return answer[NAME]


EXERCISE = Exercise(
    id="11.2",
    title="Leave it alone for a while",
    points=12,
    handed_in=(HandIn(NAME, "function"),),
    stage=stage,
    cluster=False,
    lesson=f"{LESSON}#Left-alone",
    hints=(
        Hint(
            "Which number says that the last failures came in a row, and when does it go back to 0?",
            lambda situation: situation.failed("in-a-row"),
        ),
        Hint(
            "The rest is over and ten callers ask in the same moment. Who of them may go?",
            lambda situation: situation.failed("one-tries"),
        ),
        Hint(
            "The one that tried came back with an answer. What must be forgotten now?",
            lambda situation: situation.failed("recovers"),
        ),
        Hint("How many states does your breaker have? Closed, open, and one more: somebody is trying."),
        Hint("Remember the failures in a row, and until when nobody may call. Who moves the second one on?"),
    ),
    debrief=(
        "A breaker protects both sides: pages do not wait for who cannot answer, and a service that comes back is not "
        "run over by all who waited. The one in movies/calls.py needs no third state: letting one call through moves "
        "the end of the rest on."
    ),
)


@EXERCISE.check("opens", "After enough failures nobody calls", weight=3)
@computed("after `failures` failures in a row, allow is False until `rest` seconds have passed since the last of them")
def opens(scene: str, bench: Bench) -> str | Problem:
    """Before, at and after the last failure."""
    one = setting(bench)
    script, at = one.opened()
    looks = [at + one.rest * share for share in (0.01, 0.5, 0.99)]
    script += [["allow", now] for now in looks]
    said = played(scene, bench, one, script)
    if not all(said[: one.failures]):
        return Problem(
            f"Breaker({one.failures}, {one.rest}) refused call {said.index(False) + 1} too early",
            "It opens too early.",
            "Count the failures; refuse when the count has reached `failures`.",
            picture(script, said, said.index(False)),
        )
    if any(said[one.failures :]):
        wrong = said.index(True, one.failures)
        when = looks[wrong - one.failures] - at
        return Problem(
            f"Breaker({one.failures}, {one.rest}) allowed a call {when:.2g} s after failure number {one.failures}",
            "It does not open, or not for so long.",
            "In failed(now), when the count is reached, note until when nobody may call: now + rest.",
            picture(script, said, wrong),
        )
    return f"{one.failures} failures, then {one.rest} s of rest"


@EXERCISE.check("in-a-row", "A success in between starts the count anew", weight=2)
@computed("failures with successes in between never open the breaker")
def in_a_row(scene: str, bench: Bench) -> str | Problem:
    """Nearly enough failures, a success, again and again."""
    one = setting(bench)
    script: Script = []
    for turn in range(6):
        begin = 10.0 + turn
        script += [*one.failing(begin, one.failures - 1), ["allow", begin + 0.9], ["ok", begin + 0.9]]
    said = played(scene, bench, one, script)
    if not all(said):
        return Problem(
            f"every {one.failures}th call was answered, and Breaker({one.failures}, {one.rest}) refused call "
            f"{said.index(False) + 1}",
            "All failures are counted, not those in a row.",
            "What does ok(now) have to forget?",
            picture(script, said, said.index(False)),
        )
    return f"{len(said)} calls with a success every {one.failures} were all allowed"


@EXERCISE.check("one-tries", "After the rest one call tries", weight=3, needs=["opens"])
@computed("when the rest is over, exactly one call is allowed; the others wait for what becomes of it")
def one_tries(scene: str, bench: Bench) -> str | Problem:
    """Ten callers right after the rest."""
    one = setting(bench)
    script, at = one.opened()
    begin = at + one.rest + 0.01
    script += [["allow", begin + number / 1000] for number in range(10)]
    said = played(scene, bench, one, script)
    through = sum(said[one.failures :])
    if through != 1:
        return Problem(
            f"after the rest of {one.rest} s, {through} of 10 calls in the same moment were allowed",
            "All who waited run at once at a service that may just be coming back."
            if through
            else "Nobody is ever allowed again: the breaker cannot find out that the service is back.",
            "When you let one through, remember that somebody is trying (or move the rest on).",
            picture(script, said, one.failures + bool(said[one.failures])),
        )
    return "one of ten was allowed"


@EXERCISE.check("recovers", "It closes when the service is back", weight=2, needs=["opens"])
@computed(
    "once the call that tried was answered, all calls are allowed, and it takes `failures` failures again to open"
)
def recovers(scene: str, bench: Bench) -> str | Problem:
    """A trial that is answered."""
    one = setting(bench)
    script, at = one.opened()
    begin = at + one.rest + 0.01
    script += [["allow", begin], ["ok", begin + 0.05]]
    script += [["allow", begin + 0.1 + number / 100] for number in range(10)]
    script += [*one.failing(begin + 1, one.failures - 1), ["allow", begin + 2]]
    said = played(scene, bench, one, script)
    wrong = next((number for number in range(one.failures, len(said)) if not said[number]), len(said))
    if wrong < one.failures + 11:
        return Problem(
            "the service answered, and a call after that was refused",
            "The breaker does not close again, or somebody is still taken to be trying.",
            "ok(now) makes everything as in the beginning.",
            picture(script, said, wrong),
        )
    if wrong < len(said):
        return Problem(
            f"after it had closed, Breaker({one.failures}, {one.rest}) opened with fewer than {one.failures} failures",
            "The old failures are still counted.",
            "ok(now) makes everything as in the beginning.",
            picture(script, said, wrong),
        )
    return "it closed, and counted from 0"
