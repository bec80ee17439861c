"""Exercise 05.3: a partitioner that says the same in every process and gives every reducer its share."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from podlab.checks.bench import Bench
from podlab.checks.contract import Answer, Exercise, HandIn, Hint, Inconclusive, Json
from podlab.course.map_reduce.words import FOREIGN, LESSON
from podlab.course.plain import Problem, computed, short, values

NAME = "partition"
#: How much more than its share a reducer may get.
TOLERANCE = 1.35
#: Processes that are asked for the same keys.
PROCESSES = 4

_WITNESS = """
def _seed():
    return hash("podlab")
"""


def stage(answer: Answer, _bench: Bench) -> str:
    """The source of the learner's function."""
    return answer[NAME]


EXERCISE = Exercise(
    id="05.3",
    title="Which reducer gets this key?",
    points=10,
    handed_in=(HandIn(NAME, "function"),),
    stage=stage,
    cluster=False,
    lesson=f"{LESSON}#Who-gets-which-word",
    hints=(
        Hint(
            "Run python -c \"print(hash('love'))\" twice in a terminal. What do you see, and what does it mean for two "
            "mappers?",
            lambda situation: situation.failed("stable"),
        ),
        Hint(
            "How many different values can your function come to, before the remainder is taken?",
            lambda situation: situation.failed("balanced", "numbered"),
        ),
        Hint("Which functions of the standard library make a number of bytes, and the same one on every machine?"),
        Hint("zlib.crc32 and hashlib work on bytes. How does a text become bytes, whatever characters it has?"),
    ),
    debrief=(
        "Python's hash of a text is different in every process, on purpose: otherwise somebody could send keys that "
        "all collide. A checksum of the bytes is the same everywhere. What no partitioner can mend is a single key "
        "with half of all values; a combiner can."
    ),
)


def placed(scene: str, bench: Bench, keys: Sequence[str], reducers: int) -> list[int] | Problem:
    """The reducer of every key, or a Problem where it is none."""
    found = values(bench, scene, NAME, [[key, reducers] for key in keys])
    for key, value in zip(keys, found, strict=True):
        if type(value) is not int or not 0 <= value < reducers:
            return Problem(
                f"partition({short(key, 60)}, {reducers}) returned {short(value)}",
                f"It is not a whole number from 0 to {reducers - 1}.",
                "Take the remainder: number % reducers.",
            )
    return found


def balance(scene: str, bench: Bench, keys: Sequence[str], reducers: int, what: str) -> str | Problem:
    """Compare the reducer with most keys with an equal share."""
    found = placed(scene, bench, keys, reducers)
    if isinstance(found, Problem):
        return found
    counts = Counter(found)
    share, (most, number) = len(keys) / reducers, counts.most_common(1)[0]
    if number > TOLERANCE * share:
        return Problem(
            f"of {len(keys)} {what}, reducer {most} of {reducers} gets {number}, in place of about {share:.0f}; "
            f"{reducers - len(counts)} get nothing",
            "What is computed of a key takes few different values, or keys that are alike come to the same.",
            "Use all of the key's characters and their order: a checksum does.",
        )
    return f"{len(keys)} {what}: the fullest of {reducers} reducers has {number}, an equal share is {share:.0f}"


@EXERCISE.check("range", "A number of a reducer", weight=2)
@computed("partition(key, reducers) is a whole number from 0 to reducers - 1, for every number of reducers")
def in_range(scene: str, bench: Bench) -> str | Problem:
    """Some keys, some numbers of reducers."""
    keys = [f"word{bench.random.randrange(10**6)}" for _ in range(50)]
    for reducers in (1, 2, 7, 64):
        found = placed(scene, bench, keys, reducers)
        if isinstance(found, Problem):
            return found
    return "always in range, for 1, 2, 7 and 64 reducers"


@EXERCISE.check("stable", "The same in every process", weight=3)
@computed(f"{PROCESSES} processes, each started anew, send every key to the same reducer")
def stable(scene: str, bench: Bench) -> str | Problem:
    """Ask new processes for the same keys, and look whether their hashes really differ."""
    keys = [f"word{bench.random.randrange(10**6)}" for _ in range(60)]
    calls: list[list[Json]] = [[key, 16] for key in keys]
    said = [values(bench, scene, NAME, calls) for _ in range(PROCESSES)]
    seeds = {values(bench, _WITNESS, "_seed", [[]])[0] for _ in range(3)}
    if len(seeds) == 1:
        raise Inconclusive("hash() is the same in all processes here: PYTHONHASHSEED is set")
    moved = [key for number, key in enumerate(keys) if len({repr(some[number]) for some in said}) > 1]
    if moved:
        where = ", ".join(str(some[keys.index(moved[0])]) for some in said)
        return Problem(
            f"{len(moved)} of {len(keys)} keys went to different reducers: {moved[0]!r} to {where}",
            "Something in it differs from process to process, such as hash() of a text, or chance.",
            "One mapper sends a word to this reducer, the next mapper to that: its count is torn apart. "
            "Compute the number from the bytes of the key.",
        )
    return f"{len(keys)} keys went to the same reducers from {PROCESSES} processes"


@EXERCISE.check("balanced", "Every reducer gets its share", weight=3)
@computed("of thousands of different words, no reducer gets a third more than an equal share")
def balanced(scene: str, bench: Bench) -> str | Problem:
    """Random words of a few letters."""
    chance = bench.random
    words = {"".join(chance.choices("aaabcdeeefghiiklmnooprstuy", k=chance.randint(5, 7))) for _ in range(5000)}
    return balance(scene, bench, sorted(words), chance.choice((5, 8, 12)), "words")


__all__ = ["EXERCISE", "FOREIGN", "balance", "placed"]
