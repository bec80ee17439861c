"""Exercise 09.2: how many copies, and how much memory: of the whole, or of each part. Real processes say whether so."""

from __future__ import annotations

from typing import Any

from podlab.checks.bench import Bench
from podlab.checks.contract import Answer, Exercise, HandIn, Hint, Inconclusive
from podlab.course.one_process.profile import LESSON
from podlab.course.plain import Problem, computed, judged, values
from podlab.distributed.farm import farm
from podlab.waiting import pause

NAME = "plan"
PARTS = ("ui", "ingestion", "features", "training", "serving")
#: How much slower than told the requests are, tried in this order, until the machine's delays are small beside them.
PACES = (1.0, 4.0, 12.0)

Parts = dict[str, list[int]]


def parts(bench: Bench) -> Parts:
    """Milliseconds and MiB of five parts, of which one is hot."""
    found = {name: [bench.random.randint(2, 12), bench.random.randint(10, 90)] for name in PARTS}
    found[bench.random.choice(PARTS)][0] = bench.random.randint(50, 90)
    return found


def wanted(given: Parts, rate: int, frame: int) -> dict[str, Any]:
    """The plan, by the task's own words."""

    def copies(milliseconds: int) -> int:
        return max(1, -(-rate * milliseconds // 1000))

    number = copies(sum(ms for ms, _ in given.values()))
    whole: dict[str, Any] = {"copies": number, "mib": number * (frame + sum(mib for _, mib in given.values()))}
    each = {name: copies(ms) for name, (ms, _) in given.items()}
    split: dict[str, Any] = {"copies": each, "mib": sum(each[name] * (frame + mib) for name, (_, mib) in given.items())}
    return {"whole": whole, "split": split, "cheaper": "split" if split["mib"] < whole["mib"] else "whole"}


def planned(scene: str, bench: Bench, cases: list[tuple[Parts, int, int]]) -> list[Any]:
    """The learner's plans."""
    return values(bench, scene, NAME, [list(case) for case in cases])


def compare(scene: str, bench: Bench, cases: list[tuple[Parts, int, int]], *keys: str) -> Problem | None:
    """A Problem for the first plan that is wrong in what `keys` lead to."""
    for case, value in zip(cases, planned(scene, bench, cases), strict=True):
        want: Any = wanted(*case)
        have: Any = value
        for key in keys:
            want, have = want[key], have.get(key) if isinstance(have, dict) else None
        if have != want:
            given, rate, frame = case
            total = sum(ms for ms, _ in given.values())
            return Problem(
                f"{given}, {rate} requests/s, frame {frame}: {'/'.join(keys)} is {have!r}, not {want!r}",
                "Copies are rounded to the nearest or down, a part without load has none, or a frame was left out.",
                f"{rate} requests/s of {total} ms each keep how many processes busy, and what does each of them take?",
            )
    return None


def throughput(copies: int, seconds: float, pace: float) -> float:
    """Requests per second of so many real processes, each busy for `seconds` with one request at a time."""
    if copies < 1:
        return 0.0
    count = 6 * copies
    return count / (farm(pause, [[pace * seconds]] * count, copies).seconds / pace)


def stage(answer: Answer, _bench: Bench) -> str:
    """The source of the learner's function."""
    return answer[NAME]


EXERCISE = Exercise(
    id="09.2",
    title="The whole, or its parts",
    points=10,
    handed_in=(HandIn(NAME, "function"),),
    stage=stage,
    cluster=False,
    lesson=f"{LESSON}#Scale-the-whole",
    hints=(
        Hint(
            "2.1 processes would be busy. How many do you start?",
            lambda situation: situation.failed("whole", "measured"),
        ),
        Hint("30 requests/s of 50 ms: how many milliseconds of work arrive in each second?"),
        Hint("A part that is hardly used: can it have no process at all?", lambda situation: situation.failed("split")),
        Hint(
            "What does each process need before it has done anything, and how many processes has each plan?",
            lambda situation: situation.failed("memory"),
        ),
    ),
    debrief=(
        "Whoever copies the whole copies the cold parts with the hot one. Whoever splits pays a frame for each part. "
        "With little load the monolith is cheaper, and simpler; with much load it is the other way round, and the more "
        "uneven the parts, the sooner."
    ),
)


def _cases(bench: Bench, count: int = 12) -> list[tuple[Parts, int, int]]:
    return [(parts(bench), bench.random.randint(5, 90), bench.random.choice((10, 30, 60))) for _ in range(count)]


@EXERCISE.check("whole", "Copies of the whole", weight=2)
@computed("the fewest copies of the whole that can do all the work that arrives")
def whole(scene: str, bench: Bench) -> str | Problem:
    """Numbers of copies."""
    return compare(scene, bench, _cases(bench), "whole", "copies") or "twelve loads, the fewest copies for each"


@EXERCISE.check("split", "Copies of each part", weight=2)
@computed("the fewest copies of each part, at least one")
def split(scene: str, bench: Bench) -> str | Problem:
    """Numbers of copies by part."""
    return compare(scene, bench, _cases(bench), "split", "copies") or "twelve loads, the fewest copies of each part"


@EXERCISE.check("memory", "What both take", weight=2, needs=["whole", "split"])
@computed("memory: each copy takes its parts' and one frame")
def memory(scene: str, bench: Bench) -> str | Problem:
    """MiB of both."""
    cases = _cases(bench)
    wrong = compare(scene, bench, cases, "whole", "mib") or compare(scene, bench, cases, "split", "mib")
    return wrong or "twelve loads, both ways"


@EXERCISE.check("measured", "Real processes do it, one fewer does not", weight=2)
@judged("so many real processes answer all requests, and one fewer falls behind")
def measured(scene: str, bench: Bench) -> str | Problem:
    """Processes that are busy as long as told."""
    seconds, busy = 0.05, bench.random.choice((1.4, 2.2))
    rate = round(busy / seconds)
    given = {name: [10, 20] for name in PARTS}
    told = planned(scene, bench, [(given, rate, 10)])[0]
    copies = told["whole"].get("copies") if isinstance(told, dict) and isinstance(told.get("whole"), dict) else None
    if type(copies) is not int or not 1 <= copies <= 10:
        return Problem(
            f"whole/copies is {copies!r}", "It is no number of processes.", "Return the dictionary of the task."
        )
    for pace in PACES:
        enough, fewer = throughput(copies, seconds, pace), throughput(copies - 1, seconds, pace)
        # What was measured has to agree with what is possible at all: otherwise the machine was in the way.
        if (enough >= rate, fewer >= rate) == (copies >= busy, copies - 1 >= busy):
            break
    else:
        raise Inconclusive("this machine is too busy to measure how many requests the processes answer")
    observed = f"{rate} requests/s: {copies} processes did {enough:.0f}/s, {copies - 1} did {fewer:.0f}/s"
    if enough < rate:
        return Problem(observed, "There is one process too few.", "Round up: a part of a process cannot be started.")
    if fewer >= rate:
        return Problem(observed, "There is one process too many.", "Round up once, and add nothing.")
    return observed
