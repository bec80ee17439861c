"""Exercise 10.3: a model that can be made again to the byte, and is published whole or not at all."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

from podlab.checks import finite
from podlab.checks.bench import Bench
from podlab.checks.calls import Called
from podlab.checks.contract import Answer, Exercise, HandIn, Hint, Inconclusive
from podlab.checks.talks import TalkEnded
from podlab.course.five_services.ingestion import LESSON
from podlab.course.outside import outside
from podlab.course.plain import Problem, judged, short, values

TRAIN, PUBLISH = "train", "publish"
#: How often a model that is published repeats its 13 bytes, and after how many bytes a write is cut short.
_TIMES, _CUT = 23_000, 100_000

#: Seconds that one publishing may take, on an idle machine.
PATIENCE = 10.0
#: What may happen to a model that stands there while another is published, in words.
_HAPPENED = {
    "away": "there was a moment without any model",
    "written": "something was written into the file model",
}

#: Follows the learner's cell.
_DRIVER = r"""
def _trained(rows, seed):
    made = train([tuple(one) for one in rows], seed)
    return made.decode("latin-1") if isinstance(made, bytes) else {"not": type(made).__name__}
"""

Row = tuple[int, str, float]


def ratings(chance: random.Random, count: int = 400, movies: int = 25) -> tuple[list[Row], dict[str, float]]:
    """Rows (user, title, stars), and how good each movie really is."""
    good = {f"Movie {chance.getrandbits(24):06x}": chance.uniform(1.5, 4.5) for _ in range(movies)}
    titles = list(good)
    rows = []
    for _ in range(count):
        title = chance.choice(titles)
        stars = min(5.0, max(0.5, round(2 * chance.gauss(good[title], 0.6)) / 2))
        rows.append((chance.randint(1, 90), title, stars))
    return rows, good


@dataclass(frozen=True)
class Scene:
    """The learner's two functions, each with what its cell defines."""

    train: str
    publish: str


def trained(scene: Scene, bench: Bench, rows: list[Row], seed: int) -> str:
    """The model's bytes as text, made where nothing is left of an earlier run (and with its own order of sets)."""
    bench.afresh()
    made = values(bench, scene.train + _DRIVER, "_trained", [[rows, seed]], 20)[0]
    return made if isinstance(made, str) else f"no bytes, but {made['not']}"


def published(scene: Scene, bench: Bench, script: list[tuple[str, int]]) -> list[Any]:
    """What each step came to: publish, cut, begin to read, read on, read. All are seen outside: programs/reader.py."""
    told: list[Any] = []
    patience = bench.deadline(PATIENCE)
    with outside(bench, "reader", 3 * PATIENCE) as reader:
        reader.tell("begin", {str(number): f"model {number:06d} " for number in range(1, 10)}, _TIMES)
        for what, number in script:
            if what not in ("publish", "cut"):
                told.append(reader.tell(what.replace(" ", "_")))
                continue
            said = reader.tell("publish", scene.publish, number, _CUT if what == "cut" else 0, patience)
            if said is None:
                raise TalkEnded(Called("late", error=f"did not return within {PATIENCE:.0f} s"), f"{PUBLISH}(...)")
            if said.get("error", "").startswith("NotImplementedError"):
                raise TalkEnded(Called("raised", error="raised NotImplementedError"), PUBLISH)
            told.append(said)
    return told


def cut_short(told: dict[str, Any], found: Any, number: int) -> None:
    """Inconclusive if the model that was to be cut short is there: the kernel has not ended the write."""
    if found == number:
        raise Inconclusive(f"the write of model {number} was not cut short: {told}")


def first_difference(one: str, other: str) -> str:
    """Where two models differ, for the learner to recognise."""
    unequal = (index for index, (a, b) in enumerate(zip(one, other, strict=False)) if a != b)
    at = next(unequal, min(len(one), len(other)))
    return f"from byte {at} on: …{short(one[max(0, at - 20) : at + 30])} and …{short(other[max(0, at - 20) : at + 30])}"


def stage(answer: Answer, _bench: Bench) -> Scene:
    """Nothing has run yet."""
    return Scene(answer[TRAIN], answer[PUBLISH])


EXERCISE = Exercise(
    id="10.3",
    title="The same bytes, all of them or none",
    points=14,
    handed_in=(HandIn(TRAIN, "function"), HandIn(PUBLISH, "function")),
    stage=stage,
    cluster=False,
    lesson=f"{LESSON}#Training",
    hints=(
        Hint(
            "In which order does Python go through a set of texts, and is it the same tomorrow?",
            lambda situation: "set(" in situation.text(TRAIN) and situation.failed("again", "any-order"),
        ),
        Hint(
            "What in your model depends on the moment, or on a random number that nobody has written down?",
            lambda situation: situation.failed("again"),
        ),
        Hint(
            "Rows come in another order. Which line of yours notices?", lambda situation: situation.failed("any-order")
        ),
        Hint(
            "A reader opens the model while you write it. What does it find, and which call makes that impossible?",
            lambda situation: situation.failed("reader", "cut"),
        ),
        Hint("What does os.replace promise, and what must both of its paths have in common?"),
    ),
    debrief=(
        "What can be made again can be compared, traced and blamed. movies/training.py is bound to one thread, since "
        "sums in no fixed order are not reproducible, and names a model by the hash of its bytes. Publishing is an "
        "object first, and then a pointer that moves: os.replace is that pointer in a file system."
    ),
)


@EXERCISE.check("learns", "It learns", weight=2)
@judged("train gives bytes of JSON with a score for each title, nearer to what the movie is worth than a guess")
def learns(scene: Scene, bench: Bench) -> str | Problem:
    """Scores against the true worth of each movie."""
    rows, good = ratings(bench.random)
    made = trained(scene, bench, rows, 7)
    try:
        model = finite.read(made)
        scores = {title: float(model[title]) for title in {title for _, title, _ in rows}}
    except (ValueError, KeyError, TypeError) as error:
        return Problem(
            f"train gave {short(made)} ({type(error).__name__})",
            "It is no JSON object with each title of the rows and its score, as bytes.",
            "return json.dumps({title: score, ...}).encode()",
        )
    mean = sum(stars for _, _, stars in rows) / len(rows)
    guessed = (sum((good[title] - mean) ** 2 for title in scores) / len(scores)) ** 0.5
    off = (sum((good[title] - score) ** 2 for title, score in scores.items()) / len(scores)) ** 0.5
    if off > 0.75 * guessed:
        return Problem(
            f"the scores are off by {off:.2f} stars; saying the mean of all is off by {guessed:.2f}",
            "The scores have little to do with the stars.",
            "Take the mean of each movie's stars, and look how your scores differ from it.",
        )
    return f"off by {off:.2f} stars; a guess by {guessed:.2f}"


@EXERCISE.check("again", "The same rows, the same bytes", weight=3, needs=["learns"])
@judged("three processes with the same rows and seed make the same bytes")
def again(scene: Scene, bench: Bench) -> str | Problem:
    """Each process has its own order of sets, its own moment, its own random numbers."""
    rows, _ = ratings(bench.random)
    made = [trained(scene, bench, rows, 11) for _ in range(3)]
    for other in made[1:]:
        if other != made[0]:
            return Problem(
                f"two runs differ {first_difference(made[0], other)}",
                "Something comes from outside of rows and seed: time, unseeded random numbers, or the order of a set.",
                "Use random.Random(seed), sorted(...), and nothing of the clock.",
            )
    return f"three times the same {len(made[0])} bytes"


@EXERCISE.check("any-order", "However the rows arrive", weight=2, needs=["again"])
@judged("the same rows in another order make the same bytes")
def any_order(scene: Scene, bench: Bench) -> str | Problem:
    """Rows shuffled: at least once is delivered in no order."""
    rows, _ = ratings(bench.random)
    made = trained(scene, bench, rows, 3)
    other = trained(scene, bench, bench.random.sample(rows, len(rows)), 3)
    if made != other:
        return Problem(
            f"with the rows in another order the model differs {first_difference(made, other)}",
            "Rows are used in the order in which they arrived: for sums of floats, for titles, or for random choices.",
            "Bring the rows into an order of their own first.",
        )
    return "the order does not matter"


@EXERCISE.check("reader", "A reader that has begun", weight=2)
@judged("who has begun to read when a new model is published reads the old one to its end; the next one reads the new")
def reader(scene: Scene, bench: Bench) -> str | Problem:
    """Half is read, then a new model is published, then the rest is read."""
    steps = [("publish", 1), ("read", 0), ("begin to read", 0), ("publish", 2), ("read on", 0), ("read", 0)]
    told = published(scene, bench, steps[:2])
    if told[1] != 1:
        raised = f"; publish raised {told[0]['error']}" if "error" in told[0] else ""
        return Problem(
            f"after publish(folder, data) a reader of folder/model finds {told[1]}{raised}",
            "The bytes are not there under the name model, or publish raises.",
            "Call publish with a folder of your own and look into it.",
        )
    told = published(scene, bench, steps)
    if told[4] != 1 or told[5] != 2:
        return Problem(
            f"a reader that had begun with model 1 got {told[4]}, one that came later {told[5]}",
            "The file that is being read is written over.",
            "Write a new file beside it, and let that take the name when it is whole.",
        )
    return "it read model 1 to its end, the next one read model 2"


@EXERCISE.check("cut", "Cut short in the middle", weight=3, needs=["reader"])
@judged("if the process is killed, at whichever moment, readers still have the old model, whole")
def cut(scene: Scene, bench: Bench) -> str | Problem:
    """The kernel ends the process when its file gets too long, as a full disk or a kill would."""
    told = published(scene, bench, [("publish", 1), ("publish", 2), ("read", 0), ("cut", 3), ("read", 0)])
    cut_short(told[3], told[4], 3)
    cause = "The old model is gone, or written over, before the new one is whole."
    next_step = "The name model must at no moment stand for anything but a whole model: os.replace."
    if told[4] != 2:
        return Problem(f"killed after {_CUT} bytes of model 3; then a reader finds {told[4]}", cause, next_step)
    for step in (told[1], told[3]):
        if happened := ", and ".join(_HAPPENED[each] for each in step["happened"]):
            return Problem(f"while a new model was published, {happened}", cause, next_step)
    return "killed in the middle; model 2 is whole"
