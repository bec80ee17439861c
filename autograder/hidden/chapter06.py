"""The hidden checks of chapter 06. They never enter a learner's kernel, a release or a feedback's source."""

from __future__ import annotations

from podlab.checks.bench import Bench
from podlab.checks.contract import Exercise
from podlab.course.inside_spark import cuts, joins, lineage, words
from podlab.course.inside_spark.trials import Scene
from podlab.course.plain import Problem, judged


def add(exercises: dict[str, Exercise]) -> None:
    """Add the hidden checks to the exercises of the chapter."""
    declare = {id: exercise.check for id, exercise in exercises.items()}
    declare["06.1"]("odd", "Empty lines and empty partitions", weight=1, hidden=True)(odd)
    declare["06.2"]("kept", "Keys that are in their places", weight=3, hidden=True, needs=["cuts"])(kept)
    declare["06.2"]("other", "In their places, but too few of them", weight=1, hidden=True, needs=["cuts"])(other)
    declare["06.3"]("deep", "Two caches, and both have lost", weight=1, hidden=True, needs=["one"])(deep)
    declare["06.3"]("files", "Files of a shuffle are lost too", weight=2, hidden=True, needs=["shuffle"])(files)
    declare["06.4"]("strange", "Tables that do not fit together", weight=2, hidden=True, needs=["means"])(strange)


@judged("lines without words and partitions without lines are no special cases")
def odd(scene: Scene, bench: Bench) -> str | Problem:
    """A few lines in many partitions."""
    return words.right(scene, "odd")


@judged("after reduceByKey and what leaves keys alone, a second one into as many partitions needs no shuffle")
def kept(scene: str, bench: Bench) -> str | Problem:
    """The partitioner is known and fits."""
    chance = bench.random
    parts = chance.randint(2, 4)
    steps = [cuts.step("reduceByKey", parts), *cuts.some(chance, cuts.KEEPS), cuts.step("groupByKey", parts)]
    cases = [(steps, 3), ([cuts.step("map"), *steps, cuts.step("mapValues"), cuts.step("reduceByKey", parts)], 4)]
    return cuts.compared(
        scene,
        bench,
        cases,
        "A shuffle is planned, but Spark knows that all values of a key are in one place already.",
        "filter and mapValues leave keys alone: where are they then?",
    )


@judged("into another number of partitions keys have to move, however well their places are known")
def other(scene: str, bench: Bench) -> str | Problem:
    """The partitioner is known and does not fit; coalesce forgets it."""
    parts = bench.random.randint(2, 3)
    cases = [
        ([cuts.step("reduceByKey", parts), cuts.step("mapValues"), cuts.step("reduceByKey", parts + 1)], 3),
        ([cuts.step("reduceByKey", parts + 1), cuts.step("coalesce", parts), cuts.step("reduceByKey", parts)], 3),
        ([cuts.step("reduceByKey", parts + 1), cuts.step("coalesce", parts), cuts.step("reduceByKey", parts + 1)], 3),
    ]
    return cuts.compared(
        scene,
        bench,
        cases,
        "A shuffle is left out where keys are not where they have to be.",
        "What must be the same, so that a key stays in its place?",
    )


@judged("what is lost in two cached RDDs is computed again as far up as it must be, and no farther")
def deep(scene: str, bench: Bench) -> str | Problem:
    """One partition lost in both, one in the lower only."""
    chance = bench.random
    parts = chance.randint(3, 4)
    both, lower = chance.sample(range(parts), 2)
    rdds = [
        lineage.rdd("ratings", "source", parts),
        lineage.rdd("clean", "narrow", parts, "ratings", cached=True),
        lineage.rdd("scaled", "narrow", parts, "clean"),
        lineage.rdd("best", "narrow", parts, "scaled", cached=True),
    ]
    cases = [(rdds, [["clean", both], ["best", both], ["best", lower]], []), (rdds, [["clean", both]], [])]
    return lineage.compared(
        scene,
        bench,
        cases,
        "The walk goes past a partition that is still there, or begins at one that nobody needs.",
        "A lost partition that nobody asks for is not computed.",
    )


@judged("a map task whose file is lost runs again, if anything is read of its shuffle; otherwise it does not")
def files(scene: str, bench: Bench) -> str | Problem:
    """Files lost with and without a lost partition after the shuffle."""
    chance = bench.random
    rdds = lineage.shuffled(3, 2)
    lost = [["grouped", chance.randrange(3)]]
    # Every partition of it is computed, though none was lost.
    uncached = lineage.shuffled(3, 2)
    uncached[2]["cached"] = False
    cases: list[lineage.Case] = [
        (rdds, [["grouped", chance.randrange(2)]], lost),
        (rdds, [], lost),
        (rdds, [["grouped", 0], ["grouped", 1]], lost),
        (uncached, [], lost),
        (lineage.shuffled(3, 2, cached=True), [["grouped", 0], ["grouped", 1], ["pairs", 2]], lost),
    ]
    return lineage.compared(
        scene,
        bench,
        cases,
        "A lost file is ignored, or computed again though nobody reads it.",
        "Every reducer reads a piece of every file: one lost file is needed by any lost partition, and written once.",
    )


@judged("ratings without a title and titles without a rating are left out")
def strange(scene: Scene, bench: Bench) -> str | Problem:
    """Two tables with few movies in common."""
    return joins.right(scene, "strange")
