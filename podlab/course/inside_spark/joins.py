"""Exercise 06.4: a large table and a small one, without sending the large one about."""

from __future__ import annotations

import random

from podlab.checks.bench import Bench
from podlab.checks.contract import Answer, Exercise, HandIn, Hint, Json
from podlab.course.inside_spark.trials import GROWTH, LARGER, LESSON, Given, Scene, tried
from podlab.course.plain import Problem, judged, short

NAME = "titled_means"
PARTS = 4


def ratings(chance: random.Random, count: int, movies: list[str]) -> list[Json]:
    """Stars for movies by chance; every movie has some."""
    some = [*movies, *chance.choices(movies, k=count - len(movies))]
    return [[movie, chance.choice((1.0, 2.0, 2.5, 3.0, 4.0, 5.0))] for movie in some]


def stage(answer: Answer, bench: Bench) -> Scene:
    """Ordinary tables, tables that do not fit together, and the same movies with few and many ratings."""
    chance, movies = bench.random, [f"m{number}" for number in range(30)]
    titles: Given = ([[movie, f"Title {bench.nonce} {movie}"] for movie in movies], 2)
    strange: Given = (
        [["m1", 4.0], ["m1", 3.0], ["unknown", 5.0], ["m2", 2.0]],
        3,
    )
    size = 1200
    given = {
        "ordinary": ((ratings(chance, 500, movies), PARTS), titles),
        "strange": (strange, titles),
        "small": ((ratings(chance, size, movies), PARTS), titles),
        "large": ((ratings(chance, LARGER * size, movies), PARTS), titles),
    }
    return tried(bench, answer[NAME], NAME, given)


EXERCISE = Exercise(
    id="06.4",
    title="Join without sending everything",
    points=10,
    handed_in=(HandIn(NAME, "function"),),
    stage=stage,
    cluster=False,
    lesson=f"{LESSON}#Send-less",
    hints=(
        Hint(
            "What travels in your join: one record for each movie, or one for each rating?",
            lambda situation: situation.failed("bytes"),
        ),
        Hint(
            "Which of the two tables may come to the driver, and which may not?",
            lambda situation: situation.failed("driver"),
        ),
        Hint("A mean of means is not the mean. What did the values look like that could be combined, in 05.2?"),
        Hint("Which movies has a join that are in only one of its tables?"),
    ),
    debrief=(
        "First make the large table small where it lies (one sum and one count for each movie and partition), then "
        "join. The small table can be sent whole to every executor, as a broadcast: such a join needs no shuffle at "
        "all. Spark's DataFrames choose it by themselves for tables below 10 MB (autoBroadcastJoinThreshold)."
    ),
)


def right(scene: Scene, trial: str) -> str | Problem:
    """Whether the means and titles are right."""
    facts = scene.facts(trial)
    if isinstance(facts, Problem):
        return facts
    (stars, _), (titles, _) = scene.given[trial]
    names = dict(titles)
    known: dict[str, list[float]] = {}
    for movie, value in stars:
        if movie in names:
            known.setdefault(movie, []).append(value)
    wanted = {movie: [names[movie], sum(some) / len(some)] for movie, some in known.items()}
    records = facts["records"]
    shaped = all(
        isinstance(one, list) and len(one) == 2 and isinstance(one[1], list) and len(one[1]) == 2 for one in records
    )
    if not shaped or len({repr(one[0]) for one in records}) != len(records):
        return Problem(
            f"its first records are {short(records[:3])}",
            "A record is not (movie, (title, mean)), or a movie comes more than once.",
            "One record for each movie, as the task says.",
        )
    found = {one[0]: one[1] for one in records}
    if missing := sorted(wanted.keys() - found.keys()):
        return Problem(f"{missing[0]} is missing", "A movie with ratings and a title is left out.", "Look at the join.")
    if extra := sorted(map(str, found.keys() - wanted.keys())):
        return Problem(
            f"{extra[0]} is there, with {short(found[extra[0]])}",
            "A movie without a title, or without a rating, is kept.",
            "Keep what is in both tables.",
        )
    for movie, (title, mean) in wanted.items():
        got = found[movie]
        if got[0] != title or not isinstance(got[1], (int, float)) or not abs(got[1] - mean) <= 1e-6:
            return Problem(
                f"{movie} has {short(got)}; its title is {title!r}, and the mean of its {len(known[movie])} ratings "
                f"{mean:.4f}",
                "A mean of means, or of two values at a time, depends on how the ratings were cut.",
                "Carry sum and count, and divide at the end.",
            )
    return f"{len(wanted)} movies with title and mean"


@EXERCISE.check("means", "Every movie with its title and its mean", weight=3)
@judged("an RDD of (movie, (title, mean)), one for each movie with ratings")
def means(scene: Scene, bench: Bench) -> str | Problem:
    """Ordinary tables."""
    return right(scene, "ordinary")


@EXERCISE.check("bytes", "Ratings stay where they are", weight=3, needs=["means"])
@judged(f"{LARGER} times as many ratings of the same movies shuffle about as many bytes")
def bytes_(scene: Scene, bench: Bench) -> str | Problem:
    """Shuffled bytes, as Spark measured them, uncompressed."""
    found = scene.growth("shuffled")
    if isinstance(found, Problem):
        return found
    small, large = found
    if large > GROWTH * max(small, 1):
        return Problem(
            f"{small} bytes are shuffled for some ratings, {large} for {LARGER} times as many",
            "Every rating travels: it is joined or grouped before it is added up.",
            "Add up first (sum and count for each movie), join afterwards.",
        )
    return f"{small} bytes, and {large} for {LARGER} times as many ratings"


@EXERCISE.check("driver", "Ratings do not come to the driver", weight=2)
@judged(f"{LARGER} times as many ratings bring about as many bytes to the driver while the function is called")
def driver(scene: Scene, bench: Bench) -> str | Problem:
    """Bytes of results of actions within the call."""
    found = scene.growth("fetched")
    if isinstance(found, Problem):
        return found
    small, large = found
    if large > GROWTH * max(small, 1):
        return Problem(
            f"{small} bytes came to the driver for some ratings, {large} for {LARGER} times as many",
            "The large table is collected: with a billion ratings the driver's memory would end.",
            "Collect the small table alone.",
        )
    return f"{small} bytes, and {large} for {LARGER} times as many ratings"
