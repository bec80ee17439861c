"""Exercise 06.1: the job of chapter 05 on Spark."""

from __future__ import annotations

import random

from podlab.checks.bench import Bench
from podlab.checks.contract import Answer, Exercise, HandIn, Hint
from podlab.course.inside_spark.trials import GROWTH, LARGER, LESSON, Scene, tried
from podlab.course.plain import Problem, judged, short
from podlab.distributed.mapreduce import Job, sequential

NAME = "count_words"
PARTS = 4
TAGS = ("good", "love", "war", "funny", "dark", "space", "heist", "slow", "été", "电影", "Love", "good!")


def lines(chance: random.Random, count: int, words: list[str]) -> list[str]:
    """Lines of six words by chance."""
    return [" ".join(chance.choices(words, k=6)) for _ in range(count)]


def stage(answer: Answer, bench: Bench) -> Scene:
    """Four bodies of text: ordinary, odd, and one in two sizes with the same words."""
    chance = bench.random
    words = [*TAGS, *(f"{bench.nonce}-{number}" for number in range(40))]
    odd = ["", "   ", f"  {bench.nonce}\tlove  love ", "", "one"]
    size = 200
    given = {
        "ordinary": ((lines(chance, 300, words), PARTS),),
        "odd": ((odd, 8),),
        "small": ((lines(chance, size, words), PARTS),),
        "large": ((lines(chance, LARGER * size, words), PARTS),),
    }
    return tried(bench, answer[NAME], NAME, given)


EXERCISE = Exercise(
    id="06.1",
    title="The job of chapter 05, on Spark",
    points=10,
    handed_in=(HandIn(NAME, "function"),),
    stage=stage,
    cluster=False,
    lesson=f"{LESSON}#The-same-job",
    hints=(
        Hint(
            "Which of your operations starts work at once? Spark calls those actions; the others only write down "
            "what is to be done.",
            lambda situation: situation.failed("lazy"),
        ),
        Hint(
            "What does each map task send for a word that it has found a hundred times?",
            lambda situation: situation.failed("combined"),
        ),
        Hint(
            "Which of your operations need all records of a key, or all records in order, in one place?",
            lambda situation: situation.failed("once"),
        ),
        Hint("flatMap makes many records of one. What must a record be, so that Spark knows its key?"),
    ),
    debrief=(
        "flatMap, map and reduceByKey are the map, the shuffle and the reduce of chapter 05; Spark has made two stages "
        "of them. reduceByKey uses your function as combiner as well, so each map task sends one number for each word. "
        "groupByKey followed by a sum gives the same result and sends every single one of them."
    ),
)


def right(scene: Scene, trial: str) -> str | Problem:
    """Whether the counts are those of our own engine."""
    facts = scene.facts(trial)
    if isinstance(facts, Problem):
        return facts
    job = Job(lambda line: [(word, 1) for word in line.split()], lambda _word, numbers: sum(numbers))
    wanted = dict(sequential(job, [scene.given[trial][0][0]]))
    records = facts["records"]
    if not all(isinstance(one, list) and len(one) == 2 and isinstance(one[0], str) for one in records):
        return Problem(
            f"its first records are {short(records[:3])}",
            "The records are not pairs (word, number).",
            "What does one record look like before reduceByKey, and after?",
        )
    keys = [word for word, _ in records]
    if len(keys) != len(set(keys)):
        twice = next(word for word in keys if keys.count(word) > 1)
        return Problem(
            f"{twice!r} comes {keys.count(twice)} times in the result",
            "Each partition was counted by itself, and nobody brought the counts of a word together.",
            "reduceByKey brings together what has the same key, wherever it was.",
        )
    found = dict(records)
    if found != wanted:
        wrong = sorted(word for word in wanted.keys() | found.keys() if wanted.get(word) != found.get(word))
        return Problem(
            f"{wrong[0]!r} is counted {found.get(wrong[0], 0)} times, our engine says {wanted.get(wrong[0], 0)}; "
            f"{len(wrong)} of {len(wanted)} words differ",
            "Lines are cut into words in another way, or something is counted that is no word.",
            "A word is what line.split() gives, as it is.",
        )
    return f"{len(wanted)} words, each with the count of our engine"


@EXERCISE.check("counts", "The counts of our own engine", weight=3)
@judged("an RDD of pairs (word, number), one for each word, with the counts of the engine of chapter 05")
def counts(scene: Scene, bench: Bench) -> str | Problem:
    """Ordinary lines."""
    return right(scene, "ordinary")


@EXERCISE.check("lazy", "Nothing runs before somebody asks", weight=2)
@judged("calling count_words runs no job: the work begins when the result is collected")
def lazy(scene: Scene, bench: Bench) -> str | Problem:
    """Jobs during the call."""
    facts = scene.facts("ordinary")
    if isinstance(facts, Problem):
        return facts
    if facts["jobs"]:
        return Problem(
            f"{facts['jobs']} job{'s' if facts['jobs'] > 1 else ''} ran while it was called",
            "It calls an action (collect, count, take), or sorts, for which Spark looks at the data beforehand.",
            "Leave the action to whoever wants the result.",
        )
    return "no job ran while it was called"


@EXERCISE.check("once", "Shuffled once", weight=2)
@judged("two stages: one before the shuffle, one after it")
def once(scene: Scene, bench: Bench) -> str | Problem:
    """Stages as Spark counted them."""
    facts = scene.facts("ordinary")
    if isinstance(facts, Problem):
        return facts
    if facts["stages"] != 2 or facts["shuffles"] != 1:
        return Problem(
            f"Spark ran {facts['stages']} stages, and {facts['shuffles']} of all of them wrote bytes for a shuffle",
            "Nothing is brought together, or more is than is needed (sorting, repartition, a second ...ByKey).",
            "Which of your operations need records from other partitions?",
        )
    return "two stages, one shuffle"


@EXERCISE.check("combined", "A word travels once from each partition", weight=3, needs=["counts"])
@judged(f"{LARGER} times as many lines of the same words, in as many partitions, shuffle about as many bytes")
def combined(scene: Scene, bench: Bench) -> str | Problem:
    """Shuffled bytes, as Spark measured them, uncompressed."""
    found = scene.growth("shuffled")
    if isinstance(found, Problem):
        return found
    small, large = found
    if large > GROWTH * small:
        return Problem(
            f"{small} bytes are shuffled for some lines, {large} for {LARGER} times as many: {large / small:.1f} times",
            "Every single word is sent, and added up only where it arrives.",
            "Add up in each partition first: reduceByKey and aggregateByKey do, groupByKey does not.",
        )
    return f"{small} bytes, and {large} for {LARGER} times as many lines"
