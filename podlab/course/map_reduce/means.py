"""Exercise 05.2: a mean that can be combined; what cannot is caught by cutting the same records in other ways."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass

from podlab.checks.bench import Bench
from podlab.checks.contract import Answer, Exercise, HandIn, Hint, Json
from podlab.course.map_reduce.words import LESSON
from podlab.course.plain import Problem, computed, short, values

MAP, COMBINE, REDUCE = "map_rating", "combine_ratings", "mean_rating"

#: Whoever returns the pair itself, in place of yielding it, gives one pair as well.
_PLAIN = """
def _listed(function):
    def call(*arguments):
        found = function(*arguments)
        if isinstance(found, tuple) and len(found) == 2 and isinstance(found[0], str):
            found = [found]
        if isinstance(found, (str, dict)) or not hasattr(found, "__iter__"):
            return found
        return [list(one) if isinstance(one, tuple) else one for one in found]
    return call
map_rating = _listed(map_rating)
"""

Record = tuple[str, float]
Groups = dict[str, list[Json]]


@dataclass(frozen=True)
class Scene:
    """The learner's three functions."""

    mapping: str
    combining: str
    reducing: str

    def mapped(self, bench: Bench, records: Sequence[Record]) -> list[list[Json]] | Problem:
        """One pair for each record, or a Problem."""
        found = values(bench, self.mapping + _PLAIN, MAP, [[list(record)] for record in records])
        pairs = []
        for record, some in zip(records, found, strict=True):
            pair = some[0] if isinstance(some, list) and len(some) == 1 else None
            if not isinstance(pair, list) or len(pair) != 2 or pair[0] != record[0]:
                return Problem(
                    f"map_rating({list(record)}) gave {short(some)}",
                    "A record is to give one pair: its movie, and a value of your choice.",
                    "Yield or return (movie, value).",
                )
            pairs.append(pair)
        return pairs

    def combined(self, bench: Bench, groups: Groups) -> Groups:
        """One value for each movie in place of many."""
        found = values(bench, self.combining, COMBINE, [[movie, some] for movie, some in groups.items()])
        return {movie: [value] for movie, value in zip(groups, found, strict=True)}

    def means(self, bench: Bench, groups: Groups) -> dict[str, Json]:
        """What the reducer makes of each movie's values."""
        found = values(bench, self.reducing, REDUCE, [[movie, some] for movie, some in groups.items()])
        return dict(zip(groups, found, strict=True))


def ratings(chance: random.Random, count: int) -> list[Record]:
    """Records (movie, stars) in halves; few movies have most of them."""
    movies = ["Toy Story", "Heat", "Amélie", "Up", "Alien"]
    weights = [8, 4, 2, 1, 1]
    return [(movie, chance.randint(1, 10) / 2) for movie in chance.choices(movies, weights, k=count)]


def unequal(chance: random.Random, records: list[Record], parts: int) -> list[list[Record]]:
    """The records in splits of very different length."""
    cuts = sorted(chance.sample(range(1, len(records)), parts - 1))
    return [records[begin:end] for begin, end in zip([0, *cuts], [*cuts, len(records)], strict=True)]


def grouped(pairs: Sequence[Sequence[Json]]) -> Groups:
    """Values by movie, in order."""
    groups: Groups = {}
    for movie, value in pairs:
        groups.setdefault(movie, []).append(value)
    return groups


def joined(parts: Sequence[Groups]) -> Groups:
    """What arrives at the reducers from some splits."""
    return grouped([(movie, value) for part in parts for movie, some in part.items() for value in some])


def split_pairs(scene: Scene, bench: Bench, splits: Sequence[list[Record]]) -> list[Groups] | Problem:
    """The mapped values of each split, by movie."""
    pairs = scene.mapped(bench, [record for split in splits for record in split])
    if isinstance(pairs, Problem):
        return pairs
    left = iter(pairs)
    return [grouped([next(left) for _ in split]) for split in splits]


def compared(scene: Scene, bench: Bench, groups: Groups, records: Sequence[Record], how: str) -> str | Problem:
    """Compare the means of what has arrived with those of the records."""
    stars: dict[str, list[float]] = {}
    for movie, rating in records:
        stars.setdefault(movie, []).append(rating)
    have = scene.means(bench, groups)
    for movie, some in stars.items():
        want, value = sum(some) / len(some), have.get(movie)
        if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value - want) <= 1e-9:
            return Problem(
                f"{how}: {movie} has {len(some)} ratings with the mean {want:.4f}; "
                f"mean_rating({movie!r}, {short(groups[movie], 70)}) returned {short(value, 40)}",
                "A mean of means is not the mean: each part weighs the same, however many ratings are in it."
                if how.startswith("combined")
                else "The reducer does not understand what the mapper gives it.",
                "What must a value carry, so that two of them can be made into one and nothing is forgotten?",
            )
    return f"{len(records)} ratings of {len(stars)} movies, {how}: all means are right"


def stage(answer: Answer, _bench: Bench) -> Scene:
    """The sources of the three functions."""
    return Scene(answer[MAP], answer[COMBINE], answer[REDUCE])


EXERCISE = Exercise(
    id="05.2",
    title="A mean that can be combined",
    points=10,
    handed_in=(HandIn(MAP, "function"), HandIn(COMBINE, "function"), HandIn(REDUCE, "function")),
    stage=stage,
    cluster=False,
    lesson=f"{LESSON}#Send-less",
    hints=(
        Hint(
            "One split has a single rating of 5, another a hundred ratings of 1. What is the mean, and what does yours "
            "come to?",
            lambda situation: situation.failed("combined"),
        ),
        Hint(
            "Does your reducer understand a value that has never been combined?",
            lambda situation: situation.failed("mean"),
        ),
        Hint(
            "How long is your combined value after a million ratings?",
            lambda situation: situation.failed("small"),
        ),
        Hint("Which two numbers about some ratings are enough to know their mean, and can be added?"),
    ),
    debrief=(
        "A mean is not associative, but the pair of sum and count is. Many things have such a form: a variance (sum, "
        "sum of squares, count), the ten best (ten candidates), the number of different users (a sketch such as "
        "HyperLogLog). Spark asks for the same in aggregateByKey."
    ),
)


@EXERCISE.check("mean", "The mean, if nothing is combined", weight=2)
@computed("values that come straight from the mapper give the mean of the movie's ratings")
def uncombined(scene: Scene, bench: Bench) -> str | Problem:
    """One split, no combiner."""
    records = ratings(bench.random, 80)
    parts = split_pairs(scene, bench, [records])
    return parts if isinstance(parts, Problem) else compared(scene, bench, joined(parts), records, "not combined")


@EXERCISE.check("combined", "The same mean, if every split combines", weight=3)
@computed("with one combined value for each movie and split, the means are the same, however the records are cut")
def every_split(scene: Scene, bench: Bench) -> str | Problem:
    """Splits of very different length, each combined; and cut again in another way."""
    records, told = ratings(bench.random, 120), ""
    for number in (4, 9):
        parts = split_pairs(scene, bench, unequal(bench.random, records, number))
        if isinstance(parts, Problem):
            return parts
        arrived = joined([scene.combined(bench, part) for part in parts])
        outcome = compared(scene, bench, arrived, records, f"combined in {number} splits")
        if isinstance(outcome, Problem):
            return outcome
        told = outcome
    return told


@EXERCISE.check("small", "A combined value stays small", weight=2)
@computed("the combined value of 3,000 ratings is hardly longer than that of two")
def small(scene: Scene, bench: Bench) -> str | Problem:
    """Compare the lengths of two combined values as JSON."""
    pairs = scene.mapped(bench, [("Heat", bench.random.randint(1, 10) / 2) for _ in range(3000)])
    if isinstance(pairs, Problem):
        return pairs
    all_values = [value for _, value in pairs]
    short_one, long_one = (
        len(json.dumps(scene.combined(bench, {"Heat": some})["Heat"])) for some in (all_values[:2], all_values)
    )
    if long_one > short_one + 40:
        return Problem(
            f"the combined value of 2 ratings takes {short_one} characters, that of 3,000 takes {long_one}",
            "All ratings are kept in the value: nothing is saved on the way.",
            "Which few numbers about these ratings does the reducer need?",
        )
    return f"{short_one} characters for 2 ratings, {long_one} for 3,000"
