"""Exercise 00.1: a first function, called with lists of stars that the check invents."""

from __future__ import annotations

from podlab.checks.bench import Bench
from podlab.checks.contract import Answer, Exercise, HandIn, Hint, Json
from podlab.course.plain import Problem, called, computed, short, values
from podlab.course.start_here import LESSON

NAME = "average"
#: How far off an average may be, in stars: whoever rounds to two decimals is right.
TOLERANCE = 0.01


def stage(answer: Answer, _bench: Bench) -> str:
    """The source of the learner's function."""
    return answer[NAME]


EXERCISE = Exercise(
    id="00.1",
    title="A film's average",
    points=6,
    handed_in=(HandIn(NAME, "function"),),
    stage=stage,
    cluster=False,
    lesson=f"{LESSON}#A-first-check",
    hints=(
        Hint("What is 7 // 2, and what is 7 / 2?", lambda situation: situation.failed("fraction")),
        Hint(
            "What is len([]), and what does Python say to a division by it?",
            lambda situation: situation.failed("nobody"),
        ),
        Hint("Which lists are special: the shortest, the longest, one in which all are equal?"),
    ),
    debrief=(
        "The usual list is the easy part; answers fail at the edges, here at the film that nobody has rated. The same "
        "will be true of workers, messages and pods. Another way: statistics.fmean(stars) if stars else None."
    ),
)


def lists(bench: Bench, count: int = 20) -> list[list[int]]:
    """Lists of stars, 1 to 5, as a film may get them."""
    return [[bench.random.randint(1, 5) for _ in range(bench.random.randint(2, 30))] for _ in range(count)]


def compare(source: str, bench: Bench, ratings: list[list[int]], cause: str, next_step: str) -> str | Problem:
    """Whether the average of each list is right; the Problem shows the first that is not."""
    for stars, told in zip(ratings, values(bench, source, NAME, [[stars] for stars in ratings]), strict=True):
        right = sum(stars) / len(stars)
        if not _is_number(told) or abs(told - right) > TOLERANCE:
            return Problem(f"average({short(stars)}) is {short(told)}, not {right:.2f}", cause, next_step)
    return f"{len(ratings)} averages are right"


def _is_number(value: Json) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


@EXERCISE.check("whole", "An average that is a whole number", weight=1)
@computed("where all have given the same number of stars, that is the average")
def whole(source: str, bench: Bench) -> str | Problem:
    """Lists of equal stars."""
    ratings = [[bench.random.randint(1, 5)] * bench.random.randint(1, 9) for _ in range(20)]
    return compare(
        source, bench, ratings, "It is not the sum divided by the number.", "Call it with [3, 3]: what do you expect?"
    )


@EXERCISE.check("fraction", "An average between two whole numbers", weight=2)
@computed(f"the average of all stars, to within {TOLERANCE} stars")
def fraction(source: str, bench: Bench) -> str | Problem:
    """Lists of all kinds, and one whose average is certainly none of its stars."""
    return compare(
        source,
        bench,
        [*lists(bench), [1, 2]],
        "A part of the number is lost: // and int(...) cut it off, round(...) without digits does so too.",
        "Call it with [1, 2]; it must be 1.5.",
    )


@EXERCISE.check("nobody", "A film that nobody has rated", weight=2)
@computed("average([]) is None: no average is something else than an average of 0")
def nobody(source: str, bench: Bench) -> str | Problem:
    """The empty list."""
    (told,) = values(bench, source, NAME, [[[]]])
    if told is None:
        return "average([]) is None"
    return Problem(
        f"average([]) is {short(told)}",
        "A number would say that somebody has rated the film.",
        "Return None where there are no stars.",
    )


@EXERCISE.check("unchanged", "The list is left alone", weight=1, needs=["whole"])
@computed("the list that was handed over is the same afterwards")
def unchanged(source: str, bench: Bench) -> str | Problem:
    """Look at the argument after the call."""
    cases = [[stars] for stars in lists(bench, 5)]
    for (stars,), one in zip(cases, called(bench, source, NAME, cases), strict=True):
        if one.changed:
            return Problem(
                f"average({short(stars)}) changed its list",
                "Stars were taken out with pop, or the list was sorted in place.",
                "Read from the list; change nothing in it.",
            )
    return "it was not changed"
