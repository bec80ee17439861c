"""Exercise 05.1: count words as map and reduce, in any language, in any number of splits."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from podlab.checks.bench import Bench
from podlab.checks.contract import Answer, Exercise, HandIn, Hint, Json
from podlab.course.plain import Problem, computed, short, values

LESSON = "notebooks/05-mapreduce-from-scratch.ipynb"
MAP, REDUCE = "map_words", "reduce_words"

#: Follows the learner's cell: what map yields or returns becomes a list of lists.
_PLAIN = """
def _listed(function):
    def call(*arguments):
        found = function(*arguments)
        if isinstance(found, (str, dict)) or not hasattr(found, "__iter__"):
            return found
        return [list(one) if isinstance(one, tuple) else one for one in found]
    return call
map_words = _listed(map_words)
"""


@dataclass(frozen=True)
class Scene:
    """The learner's two functions."""

    mapping: str
    reducing: str

    def mapped(self, bench: Bench, lines: Sequence[str], seconds: float = 10) -> list[list[list[Json]]] | Problem:
        """The pairs of every line, or a Problem where something is no pair."""
        found = values(bench, self.mapping + _PLAIN, MAP, [[line] for line in lines], seconds)
        for line, pairs in zip(lines, found, strict=True):
            if not isinstance(pairs, list):
                return Problem(
                    f"map_words({short(line)}) returned {short(pairs)}",
                    "It neither yields pairs nor returns a list of them.",
                    "Yield (word, number), or return a list of such pairs; an empty one where there are none.",
                )
            for pair in pairs:
                if not (
                    isinstance(pair, list) and len(pair) == 2 and isinstance(pair[0], str) and type(pair[1]) is int
                ):
                    return Problem(
                        f"map_words({short(line)}) gave {short(pair)} among others",
                        "That is no pair of a word and a number.",
                        "Yield (word, number), or return a list of such pairs.",
                    )
        return found

    def reduced(self, bench: Bench, groups: dict[str, list[int]], seconds: float = 10) -> dict[str, Json]:
        """What each word comes to."""
        found = values(bench, self.reducing, REDUCE, [[word, numbers] for word, numbers in groups.items()], seconds)
        return dict(zip(groups, found, strict=True))


def words_of(line: str) -> list[str]:
    """The words of a line, by the rule of the task."""
    return [word.casefold() for word in "".join(one if one.isalnum() else " " for one in line).split()]


def counted(lines: Sequence[str]) -> dict[str, int]:
    """How often each word occurs: what map and reduce must come to."""
    return dict(Counter(word for line in lines for word in words_of(line)))


def job(scene: Scene, bench: Bench, splits: Sequence[Sequence[str]], combined: Sequence[bool] = ()) -> str | Problem:
    """The whole job over some splits, where `combined` says of each whether its numbers are reduced beforehand."""
    lines = [line for split in splits for line in split]
    pairs = scene.mapped(bench, lines)
    if isinstance(pairs, Problem):
        return pairs
    left, groups = iter(pairs), dict[str, list[int]]()
    for number, split in enumerate(splits):
        own = dict[str, list[int]]()
        for _ in split:
            for word, count in next(left):
                own.setdefault(word, []).append(count)
        if number < len(combined) and combined[number]:
            partial = scene.reduced(bench, own)
            if bad := next((word for word, count in partial.items() if type(count) is not int), None):
                return _unfit(bad, own[bad], partial[bad])
            own = {word: [count] for word, count in partial.items()}
        for word, counts in own.items():
            groups.setdefault(word, []).extend(counts)
    have, want = scene.reduced(bench, groups), counted(lines)
    return compared(have, want, groups) or f"{sum(want.values())} words of {len(lines)} lines, {len(want)} different"


def _unfit(word: str, numbers: list[int], value: Json) -> Problem:
    return Problem(
        f"reduce_words({word!r}, {short(numbers)}) returned {short(value)}",
        "It returns something else than a number.",
        "Return how often the word occurs.",
    )


def compared(have: dict[str, Json], want: dict[str, int], groups: dict[str, list[int]]) -> Problem | None:
    """A Problem for the first word that is missing, too much, or counted wrongly."""
    if lost := [word for word in want if word not in have]:
        near = [word for word in have if lost[0] in word.casefold()]
        return Problem(
            f"the word {short(lost[0])} is missing" + (f"; there is {short(near[0])}" if near else ""),
            "Words are not cut at all characters that are neither letters nor digits (punctuation stays on them), or "
            "they are not folded by casefold.",
            "What does your map give for “Good, GOOD; Straße”?",
        )
    if extra := [word for word in have if word not in want]:
        if extra[0].casefold() in want:
            return Problem(
                f"{short(extra[0])} and {short(extra[0].casefold())} were counted as two words",
                "Words are not folded by casefold: lower leaves letters such as ß as they are.",
                "What do lower and casefold give for “Straße” and for “STRASSE”?",
            )
        return Problem(
            f"{short(extra[0])} was counted, and is no word",
            "An empty text, or one with other characters in it, is taken for a word.",
            "What does your map give for “... ” and for an empty line?",
        )
    for word, count in have.items():
        if type(count) is not int:
            return _unfit(word, groups[word], count)
        if count != want[word]:
            return Problem(
                f"{short(word)} occurs {want[word]} times; from {short(groups[word], 60)} you made {count}",
                "The numbers were counted and not added up: one number may stand for many occurrences.",
                "What is reduce_words('good', [2, 3])?",
            )
    return None


def stage(answer: Answer, _bench: Bench) -> Scene:
    """The sources of the two functions."""
    return Scene(answer[MAP], answer[REDUCE])


EXERCISE = Exercise(
    id="05.1",
    title="Count words",
    points=10,
    handed_in=(HandIn(MAP, "function"), HandIn(REDUCE, "function")),
    stage=stage,
    cluster=False,
    lesson=f"{LESSON}#Two-functions",
    hints=(
        Hint(
            "“Good”, “good,” and “GOOD” are one word. What has to happen to a line before it is split?",
            lambda situation: situation.failed("words"),
        ),
        Hint(
            "Which characters are letters in Amélie, in Straße, in 千と千尋? Who knows, if not a list of your own?",
            lambda situation: situation.failed("unicode"),
        ),
        Hint(
            "If a mapper has added up its own ones already, which numbers come to reduce?",
            lambda situation: situation.failed("partial"),
        ),
        Hint("What does str.isalnum say, and what does casefold do that lower does not?"),
    ),
    debrief=(
        "Reduce adds, it does not count: so it can be used on its own results, and the same function serves as a "
        "combiner. That works for whatever is associative and commutative: sums, maxima, unions."
    ),
)

TITLES = ["Toy Story", "Heat", "Good Will Hunting", "The Good the Bad and the Ugly", "Se7en", "12 Angry Men", "M", "Up"]
TAGS = ["good", "Good!", "GOOD;funny", "love-story", "based on a true story", "twist...ending", "(sci-fi)", "'90s"]
#: Titles in which a list of the letters a to z is not enough.
FOREIGN = [
    "Amélie",
    "Das weiße Band",
    "DAS WEISSE BAND",
    "千と千尋の神隠し",
    "Città aperta",
    "Ночной дозор",
    "ΟΔΥΣΣΕΙΑ",
]


def lines(chance: random.Random, count: int, words: Sequence[str]) -> list[str]:
    """Random lines of titles and tags."""
    marks = [" ", ", ", " - ", ": ", "  ", "/"]
    return [
        "".join(chance.choice(words) + chance.choice(marks) for _ in range(chance.randint(1, 5))) for _ in range(count)
    ]


@EXERCISE.check("words", "Words are counted as a loop would count them", weight=3)
@computed("map and reduce give the same counts as one loop over all lines")
def plainly(scene: Scene, bench: Bench) -> str | Problem:
    """Random titles and tags."""
    return job(scene, bench, [lines(bench.random, 60, [*TITLES, *TAGS])])


@EXERCISE.check("nothing", "Lines without words give nothing", weight=1)
@computed("an empty line, or one of spaces and punctuation, gives no pair at all")
def nothing(scene: Scene, bench: Bench) -> str | Problem:
    """Empty lines among others."""
    empty = ["", "   ", "...", "\t\n", "-- !?"]
    pairs = scene.mapped(bench, empty)
    if isinstance(pairs, Problem):
        return pairs
    for line, found in zip(empty, pairs, strict=True):
        if found:
            return Problem(
                f"map_words({line!r}) gave {short(found)}",
                "Splitting leaves empty texts at the ends, and they are counted.",
                "Leave out what is empty.",
            )
    return f"{len(empty)} such lines gave nothing"


@EXERCISE.check("unicode", "Words of all languages", weight=2, needs=["words"])
@computed("letters are what isalnum says, and upper and lower case are one by casefold")
def unicode(scene: Scene, bench: Bench) -> str | Problem:
    """Titles of other alphabets."""
    return job(scene, bench, [lines(bench.random, 30, FOREIGN) + FOREIGN])


@EXERCISE.check("partial", "Numbers may be sums already", weight=2, needs=["words"])
@computed("the counts stay the same if the numbers of some splits are reduced before they are sent")
def partial(scene: Scene, bench: Bench) -> str | Problem:
    """Three splits, of which the first two are combined with reduce itself."""
    splits = [lines(bench.random, 25, [*TITLES, *TAGS]) for _ in range(3)]
    return job(scene, bench, splits, (True, True, False))
