"""The hidden checks of chapter 01. They never enter a learner's kernel, a release or a feedback's source."""

from __future__ import annotations

from itertools import chain
from typing import Any

from podlab.checks.bench import Bench
from podlab.checks.contract import Exercise
from podlab.course.plain import Problem, computed, judged, short
from podlab.course.split_and_conquer import assign, dispatch, predict, split
from podlab.distributed.farm import amdahl


def add(exercises: dict[str, Exercise]) -> None:
    """Add the hidden checks to the exercises of the chapter."""
    declare = {id: exercise.check for id, exercise in exercises.items()}
    declare["01.1"]("edges", "Empty lists and single pieces", weight=1, hidden=True)(edges)
    declare["01.1"]("repeated", "Equal items are items of their own", weight=1, hidden=True)(repeated)
    declare["01.2"]("next-free", "Whoever is free takes the next chunk", weight=2, hidden=True, needs=["at-once"])(
        next_free
    )
    declare["01.2"]("raises", "What goes wrong in a chunk is not lost", weight=1, hidden=True, needs=["once"])(raises)
    declare["01.2"]("gone", "Nobody is left", weight=1, hidden=True, needs=["processes"])(gone)
    declare["01.3"]("long-last", "The longest task may come last", weight=2, hidden=True)(long_last)
    declare["01.3"]("few", "Fewer tasks than workers", weight=1, hidden=True, needs=["once"])(few)
    declare["01.4"]("possible", "The three predictions together are possible", weight=1, hidden=True)(possible)


@computed("no items, one piece, and fewer items than pieces are no special cases")
def edges(scene: str, bench: Bench) -> str | Problem:
    """Small arguments."""
    cases = [[[], 3], [[7], 1], [[1, 2], 5], [list(range(12)), 12], [[5, 5], 1]]
    for items, parts, value in split.trial(scene, bench, cases):
        if problem := split.misshapen(items, parts, value):
            return problem
        # As texts: what was put in to fill a piece up, None say, has no order among numbers.
        if len(value) != parts or sorted(map(repr, chain.from_iterable(value))) != sorted(map(repr, items)):
            return Problem(
                f"split({items}, {parts}) returned {short(value)}",
                "The size of a piece becomes 0, or a rest is taken for granted.",
                f"Which items should piece 0 of split({items}, {parts}) have?",
            )
    return f"{len(cases)} small cases are right"


@computed("items that are equal, or lists themselves, are kept each")
def repeated(scene: str, bench: Bench) -> str | Problem:
    """Items that a set would lose, and some that a set cannot hold."""
    cases = [[[1, 1, 1, 2, 2], 2], [[{"user": 1}, {"user": 1}, {"user": 2}], 2], [[[1], [1], []], 3]]
    for items, parts, value in split.trial(scene, bench, cases):
        if problem := split.misshapen(items, parts, value):
            return problem
        if sorted(map(repr, chain.from_iterable(value))) != sorted(map(repr, items)):
            return Problem(
                f"split({short(items)}, {parts}) returned {short(value)}",
                "Equal items became one, as in a set or as keys of a dictionary.",
                "Go by positions, never by values.",
            )
    return "equal items are all there"


@judged("while one chunk lasts, the other workers do all that is left: the next chunk goes to whoever is free")
def next_free(scene: dispatch.Scene, bench: Bench) -> str | Problem:
    """Chunk 0 ends only when all others have ended; whoever dealt some of them to its worker waits in vain."""
    run = scene.dispatched(bench, [0.01] * 19, 3, last=0)
    gave_up = next((at for at, line in enumerate(run.lines) if line["event"] == "gave up"), None)
    if gave_up is None:
        if not any(line["event"] == "end" and line["chunk"] == 0 for line in run.lines):
            return Problem(
                "the long chunk was never ended" + (f"; dispatch raised {run.error}" if run.error else ""),
                "The function does not wait for its processes, or fails with 19 chunks.",
                "Wait for all results before you return.",
                dispatch.picture(run.lines),
            )
        return "eighteen chunks were done by the others while one lasted"
    begun = {line["chunk"] for line in run.lines[:gave_up] if line["event"] == "begin"}
    return Problem(
        f"while chunk 0 lasted, {19 - len(begun)} chunks were not begun, though two workers had nothing to do",
        "The chunks were dealt beforehand: those behind a long one wait for it.",
        "Let the workers take chunks from one queue.",
        dispatch.picture(run.lines),
    )


@judged("if the work on a chunk raises an exception, dispatch raises one too")
def raises(scene: dispatch.Scene, bench: Bench) -> str | Problem:
    """Chunk 2 of four fails."""
    run = scene.dispatched(bench, [0.01] * 4, 2, fails=2)
    if not any(line["chunk"] == 2 for line in run.lines):
        how = f"raised {run.error}" if run.error else f"returned {short(run.value)}"
        return Problem(
            f"with four chunks and two workers dispatch {how}, and chunk 2 was never begun",
            "The function is right for the numbers of the other checks only, or stops early.",
            "Try it with other numbers of chunks and workers.",
        )
    if run.error:
        return run.error
    return Problem(
        f"chunk 2 raised ValueError, and dispatch returned {short(run.value)}",
        "The exception was caught, or a process that ended badly was not noticed.",
        "Results that silently lack a piece are worse than none: let the exception through.",
    )


@judged("when dispatch has returned, the processes that worked are gone")
def gone(scene: dispatch.Scene, bench: Bench) -> str | Problem:
    """Look for them a while later."""
    left = scene.usual(bench).left
    if not left:
        return "none of them is left"
    return Problem(
        f"dispatch has returned, and {len(left)} of its processes still live (pids {', '.join(map(str, left))})",
        "A pool is kept: its processes wait for more chunks, and each call leaves more of them.",
        "Use the pool in a `with` statement.",
    )


@computed("if the longest task comes last, the deal is as good as if it came first")
def long_last(scene: str, bench: Bench) -> str | Problem:
    """Ascending lengths, the last as long as many others together."""
    chance = bench.random
    cases = []
    for _ in range(15):
        workers = chance.randint(2, 5)
        some = [round(chance.uniform(0.5, 1.5), 2) for _ in range(8 * workers)]
        cases.append([[*sorted(some), round(sum(some) / workers, 2)], workers])
    return assign.too_long(
        scene,
        bench,
        cases,
        "Tasks are dealt in the order in which they come: the long one falls on a worker that has its share already.",
        "Deal the longest tasks first, while there is room to even things out.",
    )


@computed("with fewer tasks than workers, or none, some workers get an empty list")
def few(scene: str, bench: Bench) -> str | Problem:
    """Small arguments."""
    cases = [[[], 3], [[2.0], 4], [[1.0, 5.0], 2]]
    deals = assign.deal(scene, bench, cases)
    if isinstance(deals, Problem):
        return deals
    if max(assign.loads([1.0, 5.0], deals[2])) > 5.0:
        return Problem(
            "assign([1.0, 5.0], 2) gives both tasks to one worker",
            "A worker with nothing to do was overlooked.",
            "Who has least so far?",
        )
    return f"{len(cases)} small cases are right"


@judged("no prediction is above the ceiling of the serial part, and more workers are never slower")
def possible(scene: dict[str, Any], bench: Bench) -> str | Problem:
    """What must hold of the predictions whatever this machine measures."""
    told = {workers: scene[name] for workers, name in predict.NAMES.items()}
    for workers, speedup in told.items():
        ceiling = amdahl(predict.JOB.serial / predict.JOB.alone, workers)
        if speedup > ceiling:
            return Problem(
                f"{speedup:.2f} times faster with {workers} workers; without any message it would be {ceiling:.2f}",
                "This is more than is possible: the serial part takes its time whatever the workers do.",
                "How long does the job take if the rest takes no time at all?",
            )
    if list(told.values()) != sorted(told.values()):
        return Problem(
            ", ".join(f"{workers} workers: {speedup:.2f}" for workers, speedup in told.items()),
            "Here more workers are slower, though idle ones cost nothing.",
            "What does a worker cost that gets no chunk?",
        )
    return "each below its ceiling, in ascending order"
