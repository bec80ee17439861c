"""Exercise 01.1: cut a list into pieces, whatever the list and however many pieces."""

from __future__ import annotations

import random
from collections import Counter
from itertools import chain

from podlab.checks.bench import Bench
from podlab.checks.contract import Answer, Exercise, HandIn, Hint, Json
from podlab.course.plain import Problem, called, computed, short, values

LESSON = "notebooks/01-split-and-conquer.ipynb"
NAME = "split"


def stage(answer: Answer, _bench: Bench) -> str:
    """The source of the learner's function."""
    return answer[NAME]


EXERCISE = Exercise(
    id="01.1",
    title="Cut it into pieces",
    points=8,
    handed_in=(HandIn(NAME, "function"),),
    stage=stage,
    cluster=False,
    lesson=f"{LESSON}#Cutting-the-work",
    hints=(
        Hint(
            "Ten items in four pieces: how many items has each of your pieces, and what do they add up to?",
            lambda situation: situation.failed("covers"),
        ),
        Hint(
            "Nine items in four pieces: how many pieces come out if each holds three?",
            lambda situation: situation.failed("pieces", "even"),
        ),
        Hint("Where would you cut a list of length n, so that the cuts are n/parts apart and still whole numbers?"),
        Hint("What is n * i // parts for i from 0 to parts? Try it with n = 10 and parts = 4."),
    ),
    debrief=(
        "The cuts at n * i // parts are never more than one apart from even, and they need no case for the rest. "
        "items[i::parts], every parts-th item, is as even; it scatters neighbours, which matters when pieces are "
        "files that are read in order."
    ),
)


def _lists(chance: random.Random, count: int = 40) -> list[list[Json]]:
    """Arguments (items, parts): all sizes, and values that come more than once."""
    found: list[list[Json]] = []
    for _ in range(count):
        length = chance.randint(0, 60)
        items = [chance.randint(0, 1000) for _ in range(length)]
        found.append([items, chance.randint(1, 12)])
    return [*found, [list(range(10)), 4], [list(range(9)), 4], [list(range(23)), 7]]


def trial(scene: str, bench: Bench, cases: list[list[Json]]) -> list[tuple[list[Json], int, list[list[Json]]]]:
    """Items, parts and what came back, for every case; a Problem where it is no list of lists."""
    return [
        (items, parts, value) for (items, parts), value in zip(cases, values(bench, scene, NAME, cases), strict=True)
    ]


def misshapen(items: list[Json], parts: int, value: Json) -> Problem | None:
    """A Problem if what came back is no list of lists."""
    if isinstance(value, list) and all(isinstance(piece, list) for piece in value):
        return None
    return Problem(
        f"split({short(items)}, {parts}) returned {short(value)}",
        "It returns something else than a list of lists.",
        "Collect the pieces in a list: [[1, 2], [3, 4]].",
    )


@EXERCISE.check("covers", "Every item is in exactly one piece", weight=3)
@computed("all pieces together hold every item of the list, each as often as the list does")
def covers(scene: str, bench: Bench) -> str | Problem:
    """Compare the items of all pieces with the list, over many lists."""
    cases = _lists(bench.random)
    for items, parts, value in trial(scene, bench, cases):
        if problem := misshapen(items, parts, value):
            return problem
        have, want = Counter(map(repr, chain.from_iterable(value))), Counter(map(repr, items))
        if have != want:
            lost, extra = sum((want - have).values()), sum((have - want).values())
            return Problem(
                f"split({short(items)}, {parts}) returned {short(value)}: "
                f"{lost} of {len(items)} items are missing, {extra} are there too often",
                "The length is not divisible by the number of pieces, and the rest was dropped or taken twice.",
                f"Run split(list(range({len(items)})), {parts}) and add up the lengths.",
            )
    return f"{len(cases)} lists of 0 to 60 items were covered exactly"


@EXERCISE.check("pieces", "As many pieces as were asked for", weight=2)
@computed("split(items, parts) returns exactly `parts` pieces; some are empty where there are too few items")
def pieces(scene: str, bench: Bench) -> str | Problem:
    """Count the pieces."""
    cases = _lists(bench.random)
    for items, parts, value in trial(scene, bench, cases):
        if problem := misshapen(items, parts, value):
            return problem
        if len(value) != parts:
            return Problem(
                f"{len(items)} items in {parts} pieces: {len(value)} pieces came back",
                "The pieces were made of a fixed size, rounded, and the list was used up early or late.",
                "Start from the number of pieces, not from their size: which items go into piece number i?",
            )
    return f"{len(cases)} times the number of pieces was right"


@EXERCISE.check("even", "No worker gets more than the others", weight=2)
@computed("the lengths of two pieces differ by one at most")
def even(scene: str, bench: Bench) -> str | Problem:
    """Compare the longest piece with the shortest, where there are as many pieces as asked for."""
    cases = _lists(bench.random)
    widest = 0
    for items, parts, value in trial(scene, bench, cases):
        if problem := misshapen(items, parts, value):
            return problem
        lengths = [len(piece) for piece in value] + [0] * max(0, parts - len(value))
        gap = max(lengths) - min(lengths)
        if gap > 1:
            return Problem(
                f"{len(items)} items in {parts} pieces: their lengths are {lengths}",
                "One piece takes the whole rest, or the last ones go empty.",
                "Spread the rest: the job takes as long as its longest piece.",
            )
        widest = max(widest, gap)
    return f"lengths differ by {widest} at most"


@EXERCISE.check("unchanged", "The list is left alone", weight=1, needs=["covers"])
@computed("the list that was handed over is the same afterwards")
def unchanged(scene: str, bench: Bench) -> str | Problem:
    """Look at the argument after the call."""
    cases = _lists(bench.random, 5)
    for (items, parts), one in zip(cases, called(bench, scene, NAME, cases), strict=True):
        if one.changed:
            return Problem(
                f"split({short(items)}, {parts}) changed its list",
                "Items were taken out with pop or del, or the list was sorted in place.",
                "Read from the list by index or slice; make new lists.",
            )
    return "it was not changed"
