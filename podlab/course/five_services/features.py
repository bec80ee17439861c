"""Exercise 10.2: the same features online and offline, and nothing of the future in them."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

from podlab.checks.bench import Bench
from podlab.checks.contract import Answer, Exercise, HandIn, Hint
from podlab.course.five_services.ingestion import LESSON
from podlab.course.plain import Problem, computed, made, short, values

OFFLINE, ONLINE = "offline", "Online"
_CLOSE = 1e-9

Event = dict[str, Any]
Question = tuple[int, int]


@dataclass(frozen=True)
class Scene:
    """The learner's function and class, each with what its cell defines."""

    offline: str
    online: str


def history(chance: random.Random, count: int, users: int = 4) -> list[Event]:
    """Ratings with dates, the earliest first; users rate some movies again."""
    at, found = 1_000, []
    for _ in range(count):
        at += chance.randint(1, 90)
        found.append(
            {
                "user": chance.randint(1, users),
                "movie": chance.randint(1, 8),
                "stars": chance.randint(1, 10) / 2,
                "at": at,
            }
        )
    return found


def wanted(events: list[Event], user: int, as_of: int) -> list[float | None]:
    """The vector, by the task's own words."""
    before = sorted((one for one in events if one["at"] < as_of), key=lambda one: one["at"])
    mine = {one["movie"]: one["stars"] for one in before if one["user"] == user}
    everybody = [one["stars"] for one in before]
    if not mine:
        return [0, 0.0, None]
    own = sum(mine.values()) / len(mine)
    last = max(one["at"] for one in before if one["user"] == user)
    return [len(mine), own - sum(everybody) / len(everybody), as_of - last]


def same(value: Any, want: list[float | None]) -> bool:
    """Whether a value is the wanted vector, up to rounding."""
    if not isinstance(value, list) or len(value) != len(want):
        return False
    for one, other in zip(value, want, strict=True):
        if one is None or other is None:
            if one is not other:
                return False
        elif isinstance(one, bool) or not isinstance(one, int | float) or not abs(one - other) <= _CLOSE:
            return False
    return True


def off(scene: Scene, bench: Bench, events: list[Event], asked: list[Question]) -> list[Any]:
    """What `offline` says to each question."""
    return values(bench, scene.offline, OFFLINE, [[events, *question] for question in asked])


def on(scene: Scene, bench: Bench, script: list[list[Any]]) -> list[Any]:
    """What `Online` says to the questions of a script of see and ask."""
    said = []
    with made(bench, scene.online, ONLINE) as online:
        for what, value in script:
            if what == "see":
                online.tell("it.see", value)
            else:
                said.append(online.ask("it.vector", *value))
    return said


def differs(told: list[Any], events: list[Event], asked: list[Question], call: str) -> Problem | None:
    """A Problem for the first answer that is not the wanted vector."""
    for value, (user, as_of) in zip(told, asked, strict=True):
        want = wanted(events, user, as_of)
        if same(value, want):
            continue
        return Problem(
            f"{call} of user {user} as of {as_of} gave {short(value)}; from what happened before it is {short(want)}",
            _cause(value, want, events, user, as_of),
            f"Do it by hand for this user: {_shown(events, user)}.",
        )
    return None


def _cause(value: Any, want: list[float | None], events: list[Event], user: int, as_of: int) -> str:
    if any(one["at"] >= as_of for one in events) and same(value, _leaked(events, user, as_of)):
        return "The mean of everybody is taken over all events: what comes later has leaked into it."
    with_it = wanted(events, user, as_of + 1)
    if same(value, [*with_it[:2], None if with_it[2] is None else with_it[2] - 1]):
        return "What happens exactly at `as_of` is not before it: at < as_of."
    if isinstance(value, list) and len(value) == 3 and value[0] != want[0]:
        return "Movies are counted, not ratings, and only those rated before `as_of` (at < as_of)."
    if isinstance(value, list) and len(value) == 3 and value[2] != want[2]:
        return "The time since the last rating is counted from `as_of` back to the user's latest one before it."
    return "For a movie that was rated twice the later stars hold, by their date `at` and not by their arrival."


def _leaked(events: list[Event], user: int, as_of: int) -> list[float | None]:
    """The vector with the mean of everybody over all time."""
    count, mean, since = wanted(events, user, as_of)
    if since is None or mean is None:
        return [count, mean, since]
    before = [one["stars"] for one in events if one["at"] < as_of]
    ever = [one["stars"] for one in events]
    return [count, mean + sum(before) / len(before) - sum(ever) / len(ever), since]


def _shown(events: list[Event], user: int) -> str:
    mine = [f"movie {one['movie']} {one['stars']:g} at {one['at']}" for one in events if one["user"] == user]
    return ", ".join(mine[:6]) or "no rating"


def moments(chance: random.Random, events: list[Event], count: int = 12) -> list[Question]:
    """Questions: between events, exactly at one, before all and after all."""
    times = [one["at"] for one in events]
    asked = [(chance.randint(1, 5), chance.choice(times) + chance.choice((0, 0, 1, 3))) for _ in range(count)]
    return [*asked, (events[0]["user"], times[0]), (events[-1]["user"], times[-1] + 100), (99, times[-1])]


def stage(answer: Answer, _bench: Bench) -> Scene:
    """Nothing has run yet."""
    return Scene(answer[OFFLINE], answer[ONLINE])


EXERCISE = Exercise(
    id="10.2",
    title="Twice the same, and no future",
    points=12,
    handed_in=(HandIn(OFFLINE, "function"), HandIn(ONLINE, "function")),
    stage=stage,
    cluster=False,
    lesson=f"{LESSON}#Features",
    hints=(
        Hint(
            "Training asks about a day last year. Which of the ratings that you have now did not exist then?",
            lambda situation: situation.failed("future"),
        ),
        Hint(
            "Where does your online service keep the mean of everybody, and what happens to that when it is asked "
            "about an earlier moment?",
            lambda situation: situation.failed("online", "same"),
        ),
        Hint("How many definitions of the vector do you have? How many do you need?"),
        Hint("If Online kept the events that it saw: which function could it ask?"),
    ),
    debrief=(
        "One definition, asked from two sides. movies/features.py is a module of functions of (rows, as_of); the "
        "service calls them with what it has stored, training with a snapshot of the same rows. A model that was "
        "trained on leaked features looks wonderful until it meets people."
    ),
)


@EXERCISE.check("offline", "The vector, by its definition", weight=2)
@computed("offline(events, user, as_of) gives [movies, mean against everybody's, seconds since the last]")
def by_definition(scene: Scene, bench: Bench) -> str | Problem:
    """Questions after all events."""
    events = history(bench.random, 25)
    asked = [(user, events[-1]["at"] + bench.random.randint(1, 500)) for user in (1, 2, 3, 4, 77)]
    return differs(off(scene, bench, events, asked), events, asked, "offline") or f"{len(asked)} vectors are right"


@EXERCISE.check("future", "Nothing of the future", weight=3, needs=["offline"])
@computed("what happens at `as_of` or later changes no vector as of that moment, its own user's or another's")
def future(scene: Scene, bench: Bench) -> str | Problem:
    """The same moments with and without what came later."""
    events = history(bench.random, 30)
    asked = moments(bench.random, events)
    return differs(off(scene, bench, events, asked), events, asked, "offline") or f"{len(asked)} moments, no leak"


@EXERCISE.check("online", "Online, as it happens", weight=2)
@computed("Online sees events one by one, and vector(user, now) is what is known then")
def as_it_happens(scene: Scene, bench: Bench) -> str | Problem:
    """Asked after each event."""
    events = history(bench.random, 20)
    script: list[list[Any]] = []
    asked: list[Question] = []
    for one in events:
        asked.append((one["user"], one["at"] + 1))
        script += [["see", one], ["ask", asked[-1]]]
    return (
        differs(on(scene, bench, script), events, asked, "Online.vector") or f"asked {len(asked)} times, always right"
    )


@EXERCISE.check("same", "Online and offline are the same", weight=3, needs=["offline", "online"])
@computed("for any moment, also one long past, vector(user, as_of) of Online is offline(events, user, as_of)")
def both(scene: Scene, bench: Bench) -> str | Problem:
    """After a whole history, both are asked about the same moments."""
    events = history(bench.random, 30)
    asked = moments(bench.random, events)
    online = on(scene, bench, [*(["see", one] for one in events), *(["ask", each] for each in asked)])
    for value, other, (user, as_of) in zip(online, off(scene, bench, events, asked), asked, strict=True):
        if not same(value, other if isinstance(other, list) else []):
            return Problem(
                f"user {user} as of {as_of}: Online says {short(value)}, offline says {short(other)}",
                "There are two definitions, or Online keeps running totals that it cannot take back.",
                "Let Online keep what it has seen, and ask one definition.",
            )
    return f"{len(asked)} moments, twice the same"
