"""What an exercise, a check and a result are. The whole contract of the check engine; nothing here does I/O.

An exercise is declared once. `lab.check` runs its visible checks in the learner's kernel; the grader runs all
of them in a process of its own, with the answers that were taken out of the submission as JSON.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from fractions import Fraction
from typing import Any, Literal

#: What can travel as JSON: text, number, truth value, nothing, list or dictionary of these.
Json = Any

#: What a learner hands in. YAML, source text of a function or a program, a measured or chosen value.
Kind = Literal["manifests", "function", "program", "value", "prediction", "choice"]

#: The learner's names and what is bound to them: {"manifest_15_1": "apiVersion: ..."}.
Answer = Mapping[str, Json]


class Verdict(StrEnum):
    """What a check can come to. Only `FAIL` is the learner's doing."""

    PASS = "pass"
    FAIL = "fail"
    #: This machine or cluster cannot show the thing (say, no way to kill a node). Costs nothing.
    NOT_GRADABLE = "not gradable"
    #: The machine was in the way (API server away, baseline off, fault did not bite). Never scored; repeated.
    INFRASTRUCTURE = "infrastructure error"


@dataclass(frozen=True)
class Result:
    """One check's outcome, in words for the learner. `evidence` holds JSON facts: uids, counts, times.

    `certain`: the state of the machine has no part in it, so that a failure on a busy one is believed at once.
    """

    verdict: Verdict
    expected: str
    observed: str
    cause: str = ""
    next_step: str = ""
    evidence: Mapping[str, Json] = field(default_factory=dict)
    certain: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.verdict, Verdict):
            raise TypeError(f"verdict must be a Verdict, not {self.verdict!r}")

    @property
    def passed(self) -> bool:
        """Whether the verdict is PASS."""
        return self.verdict is Verdict.PASS


def passed(expected: str, observed: str, **evidence: Json) -> Result:
    """A Result with the verdict PASS."""
    return Result(Verdict.PASS, expected, observed, evidence=evidence)


def failed(
    expected: str, observed: str, *, cause: str, next_step: str, certain: bool = False, **evidence: Json
) -> Result:
    """A Result with the verdict FAIL: what was expected and observed, the likely cause, the next command."""
    return Result(Verdict.FAIL, expected, observed, cause, next_step, evidence, certain)


class Inconclusive(Exception):
    """Raised by a check whose fault has not bitten or whose measurement is void: the run is repeated."""


class NotGradable(Exception):
    """Raised by a check that this cluster cannot carry out; the text says what is missing."""


class Refused(Exception):
    """Raised when the answer itself cannot be used; `result` says why.

    While the scene is being set it is the result of all checks, and in a check of that one.
    """

    def __init__(self, result: Result) -> None:
        super().__init__(result.observed)
        self.result = result


#: The second argument is a World (a cluster), or a Bench for exercises with `cluster=False`.
CheckFunction = Callable[[Any, Any], Result]


@dataclass(frozen=True)
class Check:
    """One weighted question to an answer.

    `function(scene, world)` returns a Result; `scene` is what the exercise's `stage` has set up. `needs` names
    checks that give this one its meaning: a negative control ("a healthy pod is left alone") proves nothing
    where nothing is ever restarted, so it fails, unrun, when its positive check has not passed.
    """

    id: str
    title: str
    weight: int
    function: CheckFunction
    hidden: bool = False
    needs: tuple[str, ...] = ()


@dataclass(frozen=True)
class HandIn:
    """One name that the learner binds in the notebook, and the kind of thing it is bound to."""

    name: str
    kind: Kind = "manifests"


@dataclass(frozen=True)
class Situation:
    """What a hint may look at: the answer as it is, and the last results by check id (empty before a run)."""

    answer: Answer
    results: Mapping[str, Result]

    def failed(self, *checks: str) -> bool:
        """Whether one of `checks` was run last time and failed."""
        return any(check in self.results and self.results[check].verdict is Verdict.FAIL for check in checks)

    def text(self, name: str) -> str:
        """The answer bound to `name` as text, empty if there is none."""
        value = self.answer.get(name)
        return value if isinstance(value, str) else ""


@dataclass(frozen=True)
class Hint:
    """One rung of the ladder: a question, shown where `when` is true of the learner's situation."""

    question: str
    when: Callable[[Situation], bool] = lambda _situation: True


@dataclass
class Exercise:
    """What is asked, how the scene is set, how it is checked, what helps, what to think about afterwards.

    `stage(answer, world)` sets the scene once for all checks of a run (say, applies the manifests and waits)
    and returns it; it raises Refused when the answer cannot be used. `closing(scene, world)` clears up what is
    outside the world's namespaces. `lesson` is the address of the section that explains the subject.
    """

    id: str
    title: str
    points: int
    handed_in: tuple[HandIn, ...]
    stage: Callable[[Answer, Any], Any]
    hints: Sequence[Hint] = ()
    debrief: str = ""
    lesson: str = ""
    closing: Callable[[Any, Any], None] | None = None
    #: Harms nodes: nothing else is checked on the same cluster meanwhile.
    disruptive: bool = False
    #: Needs a cluster, and gets a World; without, its checks get a Bench and run anywhere.
    cluster: bool = True
    checks: list[Check] = field(default_factory=list)

    def __post_init__(self) -> None:
        if not re.fullmatch(r"\d\d\.\d+", self.id):
            raise ValueError(f"exercise id {self.id!r} is not of the form 15.1")
        if type(self.points) is not int or self.points <= 0:
            raise ValueError(f"points of {self.id} must be a whole number above 0, not {self.points!r}")
        if not self.handed_in:
            raise ValueError(f"exercise {self.id} asks for nothing")

    @property
    def chapter(self) -> str:
        """The two digits before the dot."""
        return self.id.split(".")[0]

    def check(
        self, id: str, title: str, *, weight: int, hidden: bool = False, needs: Sequence[str] = ()
    ) -> Callable[[CheckFunction], CheckFunction]:
        """Decorator that declares a check of this exercise; checks run in the order of declaration."""

        def declare(function: CheckFunction) -> CheckFunction:
            self.add(Check(id, title, weight, function, hidden, tuple(needs)))
            return function

        return declare

    def add(self, check: Check) -> None:
        """Add a check; ValueError if its id is taken, its weight not a whole number, or a need unknown."""
        if check.id in {other.id for other in self.checks}:
            raise ValueError(f"exercise {self.id} has a check {check.id!r} already")
        if type(check.weight) is not int or check.weight <= 0:
            raise ValueError(f"weight of {self.id}/{check.id} must be a whole number above 0")
        unknown = set(check.needs) - {other.id for other in self.checks}
        if unknown:
            raise ValueError(f"{self.id}/{check.id} needs {sorted(unknown)}, not declared before it")
        self.checks.append(check)

    def visible(self) -> Exercise:
        """This exercise with its visible checks only."""
        return replace(self, checks=[check for check in self.checks if not check.hidden])


@dataclass(frozen=True)
class Line:
    """One check's line in a report."""

    check: str
    title: str
    weight: int
    hidden: bool
    result: Result
    seconds: float = 0.0


@dataclass(frozen=True)
class Report:
    """All lines of one run of an exercise. `attempts` counts runs, repeated ones included."""

    exercise: str
    title: str
    points: int
    lines: Sequence[Line]
    seed: int
    nonce: str
    attempts: int = 1
    seconds: float = 0.0
    notes: Sequence[str] = ()

    @property
    def score(self) -> float | None:
        """Points earned, from 0 to `points`, to two decimals; None if a line is an infrastructure error.

        Lines that are not gradable leave both sides of the fraction. None as well where no line is gradable.
        """
        return score(self.points, [(line.weight, line.result.verdict) for line in self.lines])

    @property
    def passed(self) -> bool:
        """Whether at least one line was gradable and all gradable lines passed."""
        verdicts = {line.result.verdict for line in self.lines} - {Verdict.NOT_GRADABLE}
        return verdicts == {Verdict.PASS}

    def result(self, check: str) -> Result:
        """The result of one check; KeyError if it was not run."""
        for line in self.lines:
            if line.check == check:
                return line.result
        raise KeyError(check)


def score(points: int, lines: Sequence[tuple[int, Verdict]]) -> float | None:
    """Points for weighted verdicts, exact until rounded to two decimals; None where nothing may be scored."""
    if any(verdict is Verdict.INFRASTRUCTURE for _, verdict in lines):
        return None
    gradable = [(weight, verdict) for weight, verdict in lines if verdict is not Verdict.NOT_GRADABLE]
    whole = sum(weight for weight, _ in gradable)
    if whole <= 0:
        return None
    earned = sum(weight for weight, verdict in gradable if verdict is Verdict.PASS)
    return float(round(min(Fraction(points), Fraction(points * earned, whole)), 2))
