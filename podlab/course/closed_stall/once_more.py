"""Exercise 11.1: a call with a deadline and one more try. Time is a number here: calls move it, nothing waits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from podlab.checks.bench import Bench
from podlab.checks.contract import Answer, Exercise, HandIn, Hint
from podlab.course.outside import answered, outside
from podlab.course.plain import Problem, judged

LESSON = "notebooks/11-when-a-stall-closes.ipynb"
NAME = "ask"
_A_LITTLE = 1e-6

#: Follows the learner's cell. What happens, and when, is outside of its process: see programs/one_service.py.
_DRIVER = """
def _asked(address, seconds):
    from podlab.course.way import CutOff, Way
    way = Way(address)
    call, clock = (lambda patience: way.ask("call", float(patience))), (lambda: way.ask("clock"))
    try:
        return {"value": repr(ask(call, seconds, clock))}
    except NotImplementedError:
        raise
    except CutOff:
        return {}
    except Exception as error:
        return {"error": type(error).__name__, "says": str(error)[:100]}
"""

Behaviour = list[list[Any]]


@dataclass(frozen=True)
class Run:
    """How one call went: tries as (when, patience), what came back or was raised, and how long it took."""

    behaviour: Behaviour
    seconds: float
    tries: list[list[float]]
    value: str | None
    error: str
    says: str
    took: float

    @property
    def shown(self) -> str:
        """The run in words."""
        does = ", then ".join(
            f"{what} after {after:g} s" if what != "hangs" else "hangs" for what, after in self.behaviour
        )
        waits = ", ".join(f"at {at:.2g} s for {patience:.2g} s" for at, patience in self.tries[:4])
        return f"a service that {does}, {self.seconds:g} s: {len(self.tries)} tries ({waits})"


def runs(source: str, bench: Bench, cases: list[tuple[Behaviour, float]]) -> list[Run]:
    """One run for each behaviour and patience."""
    made = []
    with outside(bench, "one_service") as service:
        address = service.tell("begin")
        with bench.talk(source + _DRIVER, seconds=10) as talk:
            for behaviour, seconds in cases:
                service.tell("behave", behaviour)
                told = answered(talk, "_asked", address, seconds)
                went = service.tell("went")
                error = "endless" if went["endless"] else str(told.get("error", ""))
                value = None if error else str(told.get("value"))
                says = str(told.get("says", ""))
                made.append(Run(behaviour, seconds, went["tries"], value, error, says, went["took"]))
    return made


def stage(answer: Answer, _bench: Bench) -> str:
    """The source of the learner's function."""
    return answer[NAME]


EXERCISE = Exercise(
    id="11.1",
    title="Once more, but not for ever",
    points=10,
    handed_in=(HandIn(NAME, "function"),),
    stage=stage,
    cluster=False,
    lesson=f"{LESSON}#The-first-pages",
    hints=(
        Hint(
            "Your caller gave you one second. The first try used 0.7 of it: how long may the second one take?",
            lambda situation: situation.failed("deadline"),
        ),
        Hint(
            "Which exceptions say that trying again might help, and which say that it cannot?",
            lambda situation: situation.failed("question", "answers"),
        ),
        Hint(
            "What does your function do when the second try fails as well?",
            lambda situation: situation.failed("tries"),
        ),
        Hint("Note once, at the beginning, when it must be over: clock() + seconds. What is left at any later moment?"),
        Hint("A loop over two tries: what do you do in it when the last try fails, or when nothing is left?"),
    ),
    debrief=(
        "A deadline belongs to the whole question, not to a try: who waits for you does not care how often you asked. "
        "movies/calls.py does the same, and tells the service behind it how many seconds are left, so that nobody "
        "works on an answer that nobody waits for."
    ),
)


@EXERCISE.check("answers", "A short trouble is not noticed", weight=2)
@judged("an answer is returned at the first good try; a refused try is followed by one more")
def answers(scene: str, bench: Bench) -> str | Problem:
    """Healthy services, and such as refuse once."""
    late = round(bench.random.uniform(0.05, 0.4), 2)
    cases: list[tuple[Behaviour, float]] = [
        ([["answers", late]], 1.0),
        ([["refuses", 0.01], ["answers", late]], 1.0),
        ([["refuses", 0.0], ["answers", late]], 2.0),
    ]
    for number, run in enumerate(runs(scene, bench, cases)):
        wanted = 1 if number == 0 else 2
        if run.value != repr(f"answer {wanted}"):
            came = f"raised {run.error}" if run.error else f"returned {run.value}"
            return Problem(
                f"{run.shown}; ask {came}",
                "It gives up at the first trouble, changes the answer, or asks again though it has one.",
                "Return what call returns; if that raises TimeoutError or ConnectionError, try once more.",
            )
        if len(run.tries) != wanted:
            return Problem(
                f"{run.shown}; {wanted} would have done",
                "It asks again although it has an answer.",
                "Return at once when call returns.",
            )
    return "answers came at the first good try"


@EXERCISE.check("deadline", "All tries together keep the deadline", weight=3)
@judged("ask ends within its seconds, however many tries it makes; no try may wait longer than what is left")
def deadline(scene: str, bench: Bench) -> str | Problem:
    """Services that hang, and such as are slow and then hang."""
    early = round(bench.random.uniform(0.2, 0.45), 2)
    cases: list[tuple[Behaviour, float]] = [
        ([["hangs", 0]], 1.0),
        ([["refuses", early], ["hangs", 0]], 1.0),
        ([["hangs", 0], ["answers", 0.9]], 1.0),
        ([["refuses", 0.6], ["answers", 0.7]], 1.0),
        ([["hangs", 0]], 0.2),
    ]
    for run in runs(scene, bench, cases):
        if run.error == "endless":
            return endless(run)
        if run.took > run.seconds + _A_LITTLE:
            return Problem(
                f"{run.shown}; it took {run.took:.2g} s",
                "Each try gets all the seconds, in place of what is left of them.",
                "How much is left before the second try? end = clock() + seconds, once, at the beginning.",
            )
        for at, patience in run.tries:
            if at + patience > run.seconds + _A_LITTLE:
                return Problem(
                    f"{run.shown}; the try at {at:.2g} s was ready to wait {patience:.2g} s",
                    "A later try may wait past the deadline; it was luck that it did not.",
                    "Give each try end - clock() seconds at most.",
                )
    return f"{len(cases)} times the deadline was kept"


@EXERCISE.check("tries", "Two tries at most, and the trouble is told", weight=2)
@judged("after two failed tries ask raises TimeoutError or ConnectionError: it does not try on, nor return nothing")
def tries(scene: str, bench: Bench) -> str | Problem:
    """Services that fail every time."""
    behaviours: list[Behaviour] = [[["refuses", 0.001]], [["hangs", 0]], [["refuses", 0.0]]]
    cases = list(zip(behaviours, (1.0, 1.0, 5.0), strict=True))
    for run in runs(scene, bench, cases):
        if run.error == "endless":
            return endless(run)
        if len(run.tries) > 2:
            return Problem(
                f"{run.shown}",
                "It tries on as long as there is time. A hundred callers who do that are a storm.",
                "Count the tries: the first one, and one more.",
            )
        if run.error not in ("TimeoutError", "ConnectionError"):
            came = f"raised {run.error}" if run.error else f"returned {run.value}"
            return Problem(
                f"{run.shown}; ask {came}",
                "The exception of the last try is caught and forgotten.",
                "If there is no further try, let the exception through: raise.",
            )
    return "the trouble was told after two tries at most"


def endless(run: Run) -> Problem:
    """The Problem of code that never stops trying."""
    return Problem(
        f"a service that {run.behaviour[0][0]}: it was cut off after {len(run.tries)} tries",
        "The loop ends only with an answer.",
        "Count the tries, and look at the clock before each.",
    )
