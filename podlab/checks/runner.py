"""Run an exercise: set the scene, run every check, repeat what was inconclusive, and report."""

from __future__ import annotations

import math
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager

from podlab.checks import calm
from podlab.checks.api import ApiError
from podlab.checks.bench import Bench
from podlab.checks.contract import (
    Answer,
    Check,
    Exercise,
    HandIn,
    Inconclusive,
    Line,
    NotGradable,
    Refused,
    Report,
    Result,
    Verdict,
    failed,
)
from podlab.checks.faults import undisturbed
from podlab.checks.finite import comparable
from podlab.checks.world import World
from podlab.errors import PodlabError

#: How often an exercise is tried when the machine, and not the answer, was in the way.
ATTEMPTS = 3
#: Seconds to wait for a calm machine before another attempt: what was in the way of the last one may still be there.
PATIENCE = 60.0
#: How many attempts in a row a check must fail to be believed: on a crowded machine, and on one that got slower.
CROWDED_TWICE, SLOWER_THRICE = 2, 3
#: An answer longer than this is not looked at (characters of one text).
LONGEST_TEXT = 64 * 1024

WorldFactory = Callable[[], AbstractContextManager[World | Bench]]
Say = Callable[[str], None]
Convinced = Callable[[Sequence[Line]], bool]


def run(
    exercise: Exercise,
    answer: Answer,
    world: WorldFactory,
    *,
    hidden: bool = False,
    attempts: int = ATTEMPTS,
    longest: float | None = None,
    say: Say = lambda _text: None,
    convinced: Convinced = lambda _lines: False,
) -> Report:
    """Return the report of all checks (`hidden`: the hidden ones too) on `answer`.

    `world()` opens a fresh world for each attempt. An attempt is repeated while one of its lines was
    inconclusive, and while a failure came from a machine that got much slower during the run, each time
    once the machine is calm or PATIENCE is over. What fails on a crowded machine counts once it has failed
    twice in a row, unless it is certain. After the last attempt such lines are infrastructure errors, which are
    never scored. Nothing here raises on a bad answer. `longest`: seconds, on an idle machine, after which a check
    or the setting of the scene is ended as the machine's trouble; only the main thread can be. `convinced(lines)`:
    whether these failures are believed at once, since no machine makes them; for answers that are known.
    """
    exercise = exercise if hidden else exercise.visible()
    began = time.monotonic()
    if misfit := _misfit(exercise, answer):
        return _report(exercise, _all(exercise.checks, misfit), began, 0, "", 0, ())
    notes: list[str] = []
    streaks: Counter[str] = Counter()
    for attempt in range(1, attempts + 1):
        lines, seed, nonce, trouble = _attempt(exercise, answer, world, say, streaks, longest, convinced)
        if not trouble:
            break
        notes.append(f"Attempt {attempt}: {trouble}")
        if attempt < attempts:
            say(f"That run proved nothing ({trouble}). Once more, when the machine is calm.")
            calm.wait(PATIENCE)
    if trouble and not any(line.result.verdict is Verdict.INFRASTRUCTURE for line in lines):
        lines = _all(exercise.checks, _in_the_way(trouble))
    return _report(exercise, lines, began, seed, nonce, attempt, notes)


def _attempt(
    exercise: Exercise,
    answer: Answer,
    world_factory: WorldFactory,
    say: Say,
    streaks: Counter[str],
    longest: float | None,
    convinced: Convinced,
) -> tuple[list[Line], int, str, str]:
    """One attempt: its lines, seed and nonce, and what made it void ('' if nothing did).

    `streaks`: how often in a row each check has failed, this attempt included when it ends.
    """
    seed, nonce, meter = 0, "", calm.Meter()
    try:
        with ExitStack() as stack:
            world = stack.enter_context(world_factory())
            if exercise.cluster and not exercise.disruptive:
                stack.enter_context(undisturbed(world.cluster, say))
            seed, nonce = world.seed, world.nonce
            lines = _lines(exercise, answer, world, say, None if longest is None else world.deadline(longest))
            unclear = [line for line in lines if line.result.verdict is Verdict.INFRASTRUCTURE]
            least = _count(lines, streaks)
            if unclear:
                return lines, seed, nonce, unclear[0].result.observed
            if convinced(lines):
                return lines, seed, nonce, ""
            if least < CROWDED_TWICE and meter.share() > calm.CROWDED:
                return lines, seed, nonce, BUSY
            if least < SLOWER_THRICE and not world.steady():
                return lines, seed, nonce, SLOWER
            return lines, seed, nonce, ""
    except (Inconclusive, PodlabError) as error:
        return _all(exercise.checks, _in_the_way(str(error))), seed, nonce, str(error)


SLOWER = "the machine became much slower while the checks ran"
BUSY = "the machine was so busy while the checks ran that a failure says little"


def _count(lines: Sequence[Line], streaks: Counter[str]) -> float:
    """Count what has failed and forget what has passed; the shortest streak of what has failed now and may not hold."""
    for line in lines:
        if line.result.verdict is Verdict.FAIL:
            streaks[line.check] += 1
        elif line.result.verdict is Verdict.PASS:
            del streaks[line.check]
    doubtful = [line for line in lines if line.result.verdict is Verdict.FAIL and not line.result.certain]
    return min((streaks[line.check] for line in doubtful), default=math.inf)


def _lines(exercise: Exercise, answer: Answer, world: World | Bench, say: Say, longest: float | None) -> list[Line]:
    scene = None
    try:
        say("Setting the scene.")
        try:
            with _ended_after(longest, "setting the scene"):
                scene = exercise.stage(answer, world)
        except Refused as refusal:
            return _all(exercise.checks, refusal.result)
        except NotGradable as reason:
            return _all(exercise.checks, _not_here(reason))
        except Inconclusive as reason:
            return _all(exercise.checks, _in_the_way(str(reason)))
        lines: list[Line] = []
        for number, check in enumerate(exercise.checks, 1):
            if not check.hidden:
                say(f"Check {number} of {len(exercise.checks)}: {check.title}.")
            began = time.monotonic()
            result = _one(check, scene, world, lines, longest)
            seconds = round(time.monotonic() - began, 2)
            lines.append(Line(check.id, check.title, check.weight, check.hidden, result, seconds))
        return lines
    finally:
        if exercise.closing and scene is not None:
            exercise.closing(scene, world)


def _one(check: Check, scene: object, world: World | Bench, before: Sequence[Line], longest: float | None) -> Result:
    """One check's result; its own defects and the machine's troubles are infrastructure errors."""
    for need in check.needs:
        earlier = next(line for line in before if line.check == need)
        if earlier.result.verdict is Verdict.FAIL:
            return failed(
                f"{check.title} (this counts only once “{earlier.title}” has passed)",
                f"“{earlier.title}” has not passed, so nothing can be shown here",
                cause=earlier.result.cause,
                next_step=f"First see to “{earlier.title}”.",
                certain=earlier.result.certain,
            )
        if earlier.result.verdict is not Verdict.PASS:
            return Result(earlier.result.verdict, check.title, earlier.result.observed)
    try:
        with _ended_after(longest, f"“{check.title}”"):
            result = check.function(scene, world)
    except Refused as refusal:
        return refusal.result
    except NotGradable as reason:
        return _not_here(reason)
    except (Inconclusive, PodlabError) as reason:
        return _in_the_way(_text(reason))
    except Exception as error:  # a defect of a check must never cost the learner points
        return _in_the_way(f"the check itself broke ({type(error).__name__}: {str(error)[:200]})")
    if not isinstance(result, Result):
        return _in_the_way(f"the check itself broke (it returned {type(result).__name__}, not a Result)")
    return result


class _Overdue(BaseException):
    """Raised where the main thread is; no check catches it by accident."""


@contextmanager
def _ended_after(seconds: float | None, what: str) -> Iterator[None]:
    """Inconclusive if the block takes longer than `seconds`; None, or another thread than the main one: no bound."""
    if seconds is None or threading.current_thread() is not threading.main_thread():
        yield
        return

    def over(*_signal: object) -> None:
        raise _Overdue

    began, handler = time.monotonic(), signal.signal(signal.SIGALRM, over)
    others, interval = signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    except _Overdue:
        raise Inconclusive(f"{what} did not end within {seconds:.0f} s and was ended") from None
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, handler)
        if others:  # somebody else waits for this clock, too
            signal.setitimer(signal.ITIMER_REAL, max(0.001, others - (time.monotonic() - began)), interval)


def _text(reason: BaseException) -> str:
    if isinstance(reason, ApiError):
        return f"the API server answered {reason.status}: {reason.message}"
    return str(reason)


def _misfit(exercise: Exercise, answer: Answer) -> Result | None:
    """Why the answer cannot be looked at at all: a name is missing, empty, too long or of the wrong type."""
    for item in exercise.handed_in:
        if answer.get(item.name) is None:
            return failed(
                f"the name {item.name} is bound to your answer",
                "there is no such name, or nothing is bound to it",
                cause="The cell that defines it was not run, raised an error, or was renamed; or its value cannot be "
                "handed in, as nan cannot.",
                next_step=f"Run the cell that sets {item.name}, then check again.",
            )
        value = answer[item.name]
        if item.kind in ("manifests", "function", "program"):
            if not isinstance(value, str):
                # What is no function is handed in as a list with the name of what it is.
                kind = value[0] if item.kind != "manifests" and isinstance(value, list) and value else ""
                return failed(
                    f"{item.name} is {'text' if item.kind == 'manifests' else 'a function or a class'}",
                    f"it is a {str(kind)[:60] or type(value).__name__}",
                    cause=_not_text(item)[0],
                    next_step=_not_text(item)[1],
                )
            if not value.strip() or len(value) > LONGEST_TEXT:
                return failed(
                    f"{item.name} holds between 1 and {LONGEST_TEXT} characters",
                    f"it holds {len(value)}",
                    cause="The text is empty or was multiplied by accident.",
                    next_step="Start again from the text that the assignment gives.",
                )
        elif item.kind == "choice" and not isinstance(value, str):
            return failed(
                f"{item.name} is one of the texts to choose from",
                f"it is a {type(value).__name__}",
                cause="The quotes are missing, or there are brackets around it.",
                next_step=f'Write the one that you chose between quotes: {item.name} = "..."',
            )
        elif item.kind == "prediction" and (isinstance(value, bool) or not isinstance(value, int | float)):
            return failed(
                f"{item.name} is a number",
                f"it is a {type(value).__name__}",
                cause="A unit or a quote was written with it.",
                next_step=f"Write only the number: {item.name} = 10",
            )
        elif item.kind == "prediction" and not comparable(value):
            return failed(
                f"{item.name} is a number that can be compared with a measured one",
                "it is nan, infinite, or far too large",
                cause="A division by zero, or a power in place of a product.",
                next_step=f"Write only the number: {item.name} = 10",
            )
    return None


def _not_text(item: HandIn) -> tuple[str, str]:
    if item.kind == "manifests":
        return (
            "The quotes around the text are missing.",
            f'Write {item.name} = """ ... """ with the text between the quotes.',
        )
    return (
        f"The name {item.name} was bound to something else, here or in a later cell.",
        f"Write `def {item.name}(...):` as the assignment gives it, and run that cell again.",
    )


def _in_the_way(text: str) -> Result:
    return Result(
        Verdict.INFRASTRUCTURE,
        "a machine that can be measured",
        text,
        "The machine or the cluster was in the way; your answer was not judged.",
        "Check again when less is going on; `podlab doctor` and `podlab cluster status` say how things stand.",
    )


def _not_here(reason: BaseException) -> Result:
    return Result(
        Verdict.NOT_GRADABLE,
        "a cluster that can show this",
        str(reason),
        "This cluster cannot carry out what the check needs; it costs you nothing.",
        "To have it checked, use the embedded cluster: `podlab cluster up`.",
    )


def _all(checks: Sequence[Check], result: Result) -> list[Line]:
    return [Line(check.id, check.title, check.weight, check.hidden, result) for check in checks]


def _report(
    exercise: Exercise,
    lines: Sequence[Line],
    began: float,
    seed: int,
    nonce: str,
    attempts: int,
    notes: Sequence[str],
) -> Report:
    return Report(
        exercise.id,
        exercise.title,
        exercise.points,
        tuple(lines),
        seed,
        nonce,
        attempts,
        round(time.monotonic() - began, 1),
        tuple(notes),
    )
