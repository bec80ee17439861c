"""Exercise 06.2: where Spark cuts a chain of operations into stages, and how many tasks each has."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

from podlab.checks.bench import Bench
from podlab.checks.contract import Answer, Exercise, HandIn, Hint
from podlab.course.inside_spark.asking import DESK
from podlab.course.inside_spark.trials import LESSON
from podlab.course.plain import Problem, judged, short, values

NAME = "plan"
NARROW = ("map", "flatMap", "filter", "mapValues")
#: Those after which Spark still knows where each key is.
KEEPS = ("filter", "mapValues")

Step = dict[str, Any]
Case = tuple[list[Step], int]


def stage(answer: Answer, _bench: Bench) -> str:
    """The source of the learner's function."""
    return answer[NAME]


EXERCISE = Exercise(
    id="06.2",
    title="Where Spark cuts",
    points=12,
    handed_in=(HandIn(NAME, "function"),),
    stage=stage,
    cluster=False,
    lesson=f"{LESSON}#Where-Spark-cuts",
    hints=(
        Hint(
            "A task of map 3 needs partition 3 and nothing else. Why should it wait for others?",
            lambda situation: situation.failed("narrow"),
        ),
        Hint(
            "A reducer needs values from every partition. What must have ended before it can begin, and how many "
            "reducers are there?",
            lambda situation: situation.failed("cuts"),
        ),
        Hint(
            "coalesce(2) of six partitions lets one task read three of them. Is anything sent to anybody?",
            lambda situation: situation.failed("fewer"),
        ),
        Hint(
            "All values of a key are in one place already, and mapValues cannot have moved them. What is left for a "
            "second reduceByKey to bring together?",
            lambda situation: situation.failed("kept", "other"),
        ),
    ),
    debrief=(
        "A stage is everything that can be done with one partition alone: narrow operations are done in one go, record "
        "by record. A shuffle ends a stage, since a reducer needs a piece of every map task. Spark remembers by which "
        "function keys were placed, the partitioner: while it is known and fits, a second shuffle is left out. So "
        "mapValues in place of map may save a shuffle of the whole data."
    ),
)


def step(do: str, partitions: int = 0) -> Step:
    """One operation as the learner's function gets it."""
    return {"do": do, "partitions": partitions} if partitions else {"do": do}


def some(chance: random.Random, names: Sequence[str], most: int = 3) -> list[Step]:
    """A few narrow operations."""
    return [step(chance.choice(names)) for _ in range(chance.randint(1, most))]


def compared(scene: str, bench: Bench, cases: Sequence[Case], cause: str, next_step: str) -> str | Problem:
    """The learner's plans beside what Spark did, which is asked each of them."""
    found = values(bench, scene, NAME, [list(case) for case in cases])
    for (steps, partitions), value in zip(cases, found, strict=True):
        truth = DESK.ask(bench, "tasks_of", steps, partitions)
        if value != truth:
            chain = ".".join(f"{one['do']}({one.get('partitions', '')})" for one in steps)
            return Problem(
                f"{partitions} partitions, {chain}: plan returned {short(value)}; Spark ran stages with {truth} tasks",
                cause,
                next_step,
            )
    return f"Spark ran all of {len(cases)} chains as planned"


@EXERCISE.check("narrow", "What needs no neighbour is one stage", weight=2)
@judged("map, flatMap, filter and mapValues need no shuffle, however many there are")
def narrow(scene: str, bench: Bench) -> str | Problem:
    """Chains of narrow operations."""
    chance = bench.random
    cases = [(some(chance, NARROW, 4), chance.randint(2, 5)) for _ in range(2)]
    return compared(
        scene, bench, cases, "A stage ends where nothing has to be sent.", "One stage, a task for each partition."
    )


@EXERCISE.check("cuts", "Each shuffle begins a stage", weight=3)
@judged("reduceByKey, groupByKey and repartition end a stage; the next has as many tasks as they make partitions")
def cuts(scene: str, bench: Bench) -> str | Problem:
    """Shuffles with operations between them that may change keys."""
    chance = bench.random
    cases = []
    for first, second in (("reduceByKey", "groupByKey"), ("repartition", "reduceByKey")):
        steps = [*some(chance, NARROW), step(first, chance.randint(2, 3)), step("map")]
        cases.append(([*steps, step(second, chance.randint(4, 5)), *some(chance, NARROW)], chance.randint(2, 5)))
    return compared(
        scene,
        bench,
        cases,
        "A shuffle is not seen, or the tasks after it are not counted by its partitions.",
        "A list with one number more than there are shuffles.",
    )


@EXERCISE.check("fewer", "Fewer partitions without a shuffle", weight=2, needs=["cuts"])
@judged("coalesce puts partitions together within the stage; it never makes more of them")
def fewer(scene: str, bench: Bench) -> str | Problem:
    """coalesce after a shuffle, and with more partitions than there are."""
    chance = bench.random
    parts = chance.randint(4, 5)
    cases = [
        ([step("map"), step("reduceByKey", parts), step("coalesce", 2), step("map")], 3),
        ([step("coalesce", parts + 3), step("filter")], parts),
    ]
    return compared(
        scene,
        bench,
        cases,
        "coalesce is taken for a shuffle, or its number for the number of tasks in any case.",
        "A task of the same stage reads several partitions: the stage has fewer tasks then.",
    )


@EXERCISE.check("forgotten", "map forgets where keys are", weight=1, needs=["cuts"])
@judged("after map, flatMap or repartition a reduceByKey shuffles anew, even with the same number of partitions")
def forgotten(scene: str, bench: Bench) -> str | Problem:
    """The same number of partitions, with map in between."""
    chance = bench.random
    parts = chance.randint(2, 4)
    cases = [
        ([step("reduceByKey", parts), step(chance.choice(("map", "flatMap"))), step("reduceByKey", parts)], 3),
        ([step("reduceByKey", parts), step("repartition", parts), step("reduceByKey", parts)], 3),
    ]
    return compared(
        scene,
        bench,
        cases,
        "Spark cannot know what map does with the keys, so it has to bring them together again.",
        "What does an operation have to promise, so that keys are still in their places?",
    )
