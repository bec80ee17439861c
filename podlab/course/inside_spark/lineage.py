"""Exercise 06.3: what is computed again when cached partitions are lost."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

from podlab.checks.bench import Bench
from podlab.checks.contract import Answer, Exercise, HandIn, Hint
from podlab.course.inside_spark.asking import DESK
from podlab.course.inside_spark.trials import LESSON
from podlab.course.plain import Problem, judged, short, values

NAME = "again"

Rdd = dict[str, Any]
Lost = list[list[Any]]
#: RDDs in order, cached partitions that are lost, shuffle files that are lost.
Case = tuple[list[Rdd], Lost, Lost]


def stage(answer: Answer, _bench: Bench) -> str:
    """The source of the learner's function."""
    return answer[NAME]


EXERCISE = Exercise(
    id="06.3",
    title="What was lost, and what is done again",
    points=12,
    handed_in=(HandIn(NAME, "function"),),
    stage=stage,
    cluster=False,
    lesson=f"{LESSON}#An-executor-dies",
    hints=(
        Hint(
            "Begin at the end: which partitions of the last RDD are needed, and which of them are still there?",
            lambda situation: situation.failed("none", "one"),
        ),
        Hint(
            "A partition that is there needs no parent. How far up do you walk?",
            lambda situation: situation.failed("one", "deep"),
        ),
        Hint(
            "Three partitions of one parent and two of another make five. To whom does number 3 belong?",
            lambda situation: situation.failed("union"),
        ),
        Hint(
            "The map side of a shuffle has written files. Are they lost, when a partition that was made of them is?",
            lambda situation: situation.failed("shuffle", "files"),
        ),
    ),
    debrief=(
        "Spark keeps no second copy of a partition: it keeps the lineage, the way in which each was made, and walks up "
        "it until it meets something that is still there. Narrow steps cost one partition for each lost one. A lost "
        "file of a shuffle costs a map task, and a piece of it was in every reducer. That is why long lineages with "
        "shuffles are cut by a checkpoint, a copy that is worth its price."
    ),
)


def rdd(name: str, how: str, partitions: int, *of: str, cached: bool = False) -> Rdd:
    """One RDD as the learner's function gets it."""
    return {"name": name, "how": how, "of": list(of), "partitions": partitions, "cached": cached}


def compared(scene: str, bench: Bench, cases: Sequence[Case], cause: str, next_step: str) -> str | Problem:
    """The learner's lists beside what Spark computed again."""
    found = values(bench, scene, NAME, [list(case) for case in cases])
    total = 0
    for (rdds, cached, files), value in zip(cases, found, strict=True):
        truth = DESK.ask(bench, "again_on_spark", rdds, cached, files)
        total += len(truth)
        listed = isinstance(value, list) and all(isinstance(one, list) and len(one) == 2 for one in value)
        if not listed or sorted(map(tuple, value), key=repr) != sorted(map(tuple, truth), key=repr):
            ways = "; ".join(
                f"{one['name']}: {one['how']}{' of ' + ' and '.join(one['of']) if one['of'] else ''}, "
                f"{one['partitions']} partitions{', cached' if one['cached'] else ''}"
                for one in rdds
            )
            lost = f"lost: {cached or 'no partition'}" + (f", and files {files}" if files else "")
            return Problem(
                f"{ways}. {lost}. again returned {short(value)}; Spark computed {short(truth, 300)}", cause, next_step
            )
    return f"{len(cases)} losses, {total} partitions computed again by Spark, all as foretold"


def chain(chance: random.Random, parts: int) -> list[Rdd]:
    """A source, a cached step, a step, a last one."""
    return [
        rdd("ratings", "source", parts),
        rdd("clean", "narrow", parts, "ratings", cached=True),
        rdd("scaled", "narrow", parts, "clean"),
        rdd("best", "narrow", parts, "scaled"),
    ]


@EXERCISE.check("none", "Nothing is lost", weight=1)
@judged("with all cached partitions there, only what comes after them is computed")
def none(scene: str, bench: Bench) -> str | Problem:
    """No loss: cached RDDs cost nothing."""
    parts = bench.random.randint(2, 4)
    return compared(
        scene,
        bench,
        [(chain(bench.random, parts), [], [])],
        "Something is computed that is still in memory, or what was never cached is left out.",
        "RDDs that are not cached are computed in every action.",
    )


@EXERCISE.check("one", "Lost partitions, narrow steps", weight=3)
@judged("a lost partition costs its own line of ancestors, up to what is still there")
def one(scene: str, bench: Bench) -> str | Problem:
    """One or two partitions of a cached RDD."""
    chance = bench.random
    parts = chance.randint(3, 5)
    lost = [["clean", number] for number in chance.sample(range(parts), 2)]
    return compared(
        scene,
        bench,
        [(chain(chance, parts), lost[:1], []), (chain(chance, parts), lost, [])],
        "More is computed than the lost partitions need, or an ancestor is left out.",
        "Walk up from each lost partition: same number, one RDD at a time.",
    )


@EXERCISE.check("union", "Two parents", weight=2, needs=["one"])
@judged("a partition of a union is one partition of one of its parents")
def union(scene: str, bench: Bench) -> str | Problem:
    """A cached union; each parent loses something."""
    chance = bench.random
    old, new = chance.randint(2, 3), chance.randint(2, 3)
    rdds = [
        rdd("old", "source", old),
        rdd("new", "source", new),
        rdd("all", "union", old + new, "old", "new", cached=True),
        rdd("best", "narrow", old + new, "all"),
    ]
    lost = [["all", chance.randrange(old)], ["all", old + chance.randrange(new)]]
    return compared(
        scene,
        bench,
        [(rdds, lost, []), (rdds, lost[1:], [])],
        "The partition of the parent has another number than that of the union.",
        "The first parent's partitions come first; the second's are counted from there.",
    )


@EXERCISE.check("shuffle", "Files of a shuffle are still there", weight=3, needs=["one"])
@judged("a lost partition after a shuffle is read from the files that its map tasks have written: nothing above runs")
def shuffle(scene: str, bench: Bench) -> str | Problem:
    """A cached RDD after a shuffle."""
    chance = bench.random
    parts = chance.randint(2, 4)
    return compared(
        scene,
        bench,
        [(shuffled(parts + 1, parts), [["grouped", chance.randrange(parts)]], [])],
        "The map side is computed again though its files are there, or the lost partition is not.",
        "Which stages does Spark's page call skipped?",
    )


def shuffled(before: int, after: int, *, cached: bool = False) -> list[Rdd]:
    """A source, a step, a shuffle that is cached, a last step."""
    return [
        rdd("ratings", "source", before),
        rdd("pairs", "narrow", before, "ratings", cached=cached),
        rdd("grouped", "shuffle", after, "pairs", cached=True),
        rdd("best", "narrow", after, "grouped"),
    ]
