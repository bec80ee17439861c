"""Exercise 11.2: a circuit breaker. It is asked and told, with the time as a number: nothing waits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from podlab.checks.bench import Bench
from podlab.checks.contract import Answer, Exercise, HandIn, Hint
from podlab.course.closed_stall.once_more import LESSON
from podlab.course.plain import Problem, judged, values

NAME = "Breaker"

#: Follows the learner's cell: a script of ("allow" | "ok" | "failed", time); what every "allow" said.
_DRIVER = """
def _played(failures, rest, script):
    breaker, said = Breaker(failures, rest), []
    for what, now in script:
        told = getattr(breaker, what)(now)
        if what == "allow":
            said.append(bool(told))
    return said

def _served(failures, rest, step, alive):
    breaker, reached, refused = Breaker(failures, rest), [], 0
    for number in range(alive[2]):
        now = number * step
        if not breaker.allow(now):
            refused += 1
            continue
        reached.append(now)
        (breaker.ok if not alive[0] <= now < alive[1] else breaker.failed)(now)
    return [reached, refused]
"""

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
    return values(bench, source + _DRIVER, "_played", [[one.failures, one.rest, script]])[0]


def served(source: str, bench: Bench, one: Setting, step: float, dead: tuple[float, float], calls: int) -> Any:
    """Calls at a steady pace to a service that is dead for a while: when calls reached it, how many were refused."""
    return values(bench, source + _DRIVER, "_served", [[one.failures, one.rest, step, [*dead, calls]]])[0]


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
@judged("after `failures` failures in a row, allow is False until `rest` seconds have passed since the last of them")
def opens(scene: str, bench: Bench) -> str | Problem:
    """Before, at and after the last failure."""
    one = setting(bench)
    script, at = one.opened()
    looks = [at + one.rest * share for share in (0.01, 0.5, 0.99)]
    said = played(scene, bench, one, [*script, *(["allow", now] for now in looks)])
    if not all(said[: one.failures]):
        return Problem(
            f"Breaker({one.failures}, {one.rest}) refused call {said.index(False) + 1} too early",
            "It opens too early.",
            "Count the failures; refuse when the count has reached `failures`.",
        )
    if any(said[one.failures :]):
        when = looks[said[one.failures :].index(True)] - at
        return Problem(
            f"Breaker({one.failures}, {one.rest}) allowed a call {when:.2g} s after failure number {one.failures}",
            "It does not open, or not for so long.",
            "In failed(now), when the count is reached, note until when nobody may call: now + rest.",
        )
    return f"{one.failures} failures, then {one.rest} s of rest"


@EXERCISE.check("in-a-row", "A success in between starts the count anew", weight=2)
@judged("failures with successes in between never open the breaker")
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
        )
    return f"{len(said)} calls with a success every {one.failures} were all allowed"


@EXERCISE.check("one-tries", "After the rest one call tries", weight=3, needs=["opens"])
@judged("when the rest is over, exactly one call is allowed; the others wait for what becomes of it")
def one_tries(scene: str, bench: Bench) -> str | Problem:
    """Ten callers right after the rest."""
    one = setting(bench)
    script, at = one.opened()
    begin = at + one.rest + 0.01
    said = played(scene, bench, one, [*script, *(["allow", begin + number / 1000] for number in range(10))])
    through = sum(said[one.failures :])
    if through != 1:
        return Problem(
            f"after the rest of {one.rest} s, {through} of 10 calls in the same moment were allowed",
            "All who waited run at once at a service that may just be coming back."
            if through
            else "Nobody is ever allowed again: the breaker cannot find out that the service is back.",
            "When you let one through, remember that somebody is trying (or move the rest on).",
        )
    return "one of ten was allowed"


@EXERCISE.check("recovers", "It closes when the service is back", weight=2, needs=["opens"])
@judged("after the call that tried was answered, all calls are allowed, and it takes `failures` failures again to open")
def recovers(scene: str, bench: Bench) -> str | Problem:
    """A trial that is answered."""
    one = setting(bench)
    script, at = one.opened()
    begin = at + one.rest + 0.01
    after: Script = [["allow", begin], ["ok", begin + 0.05]]
    after += [["allow", begin + 0.1 + number / 100] for number in range(10)]
    after += [*one.failing(begin + 1, one.failures - 1), ["allow", begin + 2]]
    said = played(scene, bench, one, [*script, *after])[one.failures :]
    if not all(said[:11]):
        return Problem(
            "the service answered, and a call after that was refused",
            "The breaker does not close again, or somebody is still taken to be trying.",
            "ok(now) makes everything as in the beginning.",
        )
    if not all(said[11:]):
        return Problem(
            f"after it had closed, Breaker({one.failures}, {one.rest}) opened with fewer than {one.failures} failures",
            "The old failures are still counted.",
            "ok(now) makes everything as in the beginning.",
        )
    return "it closed, and counted from 0"
