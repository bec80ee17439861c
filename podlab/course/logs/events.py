"""Exercise 22.2: from the lines of a container's file to events with fields."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from podlab.checks.bench import Bench
from podlab.checks.contract import Answer, Exercise, HandIn, Hint, Json
from podlab.course.logs.container_log import Event, File, written
from podlab.course.logs.scenes import LESSON
from podlab.course.logs.store import Store
from podlab.course.plain import Problem, computed, judged, short, values

NAME = "events"


@dataclass
class Scene:
    """The learner's code."""

    source: str


def stage(answer: Answer, bench: Bench) -> Scene:
    """Nothing to be set: each check writes files of its own."""
    return Scene(str(answer.get(NAME) or ""))


EXERCISE = Exercise(
    id="22.2",
    title="What is one event?",
    points=10,
    handed_in=(HandIn(NAME, "function"),),
    stage=stage,
    cluster=False,
    lesson=f"{LESSON}#One-event,-many-lines",
    hints=(
        Hint(
            "A stack trace is five events of yours. How does the first line of an event differ from those that go on?",
            lambda situation: situation.failed("trace"),
        ),
        Hint(
            "Two streams are written by turns. Of which event is a line the continuation: of the last one, or of the "
            "last one of its stream?",
            lambda situation: situation.failed("streams"),
        ),
        Hint(
            "A line with the flag P is not whole. When do you know what kind of text it is?",
            lambda situation: situation.failed("long"),
        ),
        Hint(
            "What begins like JSON need not be JSON. What becomes of such a line?",
            lambda situation: situation.failed("broken"),
        ),
        Hint("Split a line into four parts at most: what does text.split(' ', 3) give?"),
    ),
    debrief=(
        "A log file knows lines, a question is about events. Putting lines together is a guess that a shipper makes "
        "with a pattern (Filebeat's `multiline`, Fluent Bit's parsers), for each stream apart, and it must never lose "
        "what does not fit. A program that writes each event as one line of JSON, its stack trace in a field, leaves "
        "nothing to guess. That is why the movie site does."
    ),
)


def given(scene: Scene, bench: Bench, *kinds: str, size: int = 24) -> tuple[File, list[Event]] | Problem:
    """A fresh file, and the events that the learner's function makes of it; a Problem if they are no events."""
    file = written(time.time() - 600, bench.random, kinds, size)
    (found,) = values(bench, scene.source, NAME, [[list(file.lines)]])
    if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
        return Problem(
            f"{NAME}(...) returned {short(found)}", "It returns no list of dictionaries.", "One dictionary per event."
        )
    return file, found


def compared(file: File, found: Sequence[Json], cause: str, next_step: str) -> str | Problem:
    """Whether the events are those of the file, in the order in which they begin."""
    truth = [event for _, event in sorted(file.events, key=lambda pair: str(pair[1]["time"]))]
    for number, event in enumerate(truth):
        if number >= len(found):
            return Problem(
                f"{len(found)} events of {len(truth)}; missing: {short(event.get('message'))}", cause, next_step
            )
        if found[number] != event:
            said = found[number]
            keys = [key for key in (*event, *said) if said.get(key) != event.get(key)]
            shown = keys[0] if keys else ""
            return Problem(
                f"event {number}: {shown} is {short(said.get(shown))}, right is {short(event.get(shown))}",
                cause,
                next_step,
            )
    if len(found) > len(truth):
        return Problem(f"{len(found)} events of {len(truth)}", cause, next_step)
    return f"{len(truth)} events of {len(file.lines)} lines, as they were written"


def looked_at(
    scene: Scene, bench: Bench, kinds: Sequence[str], cause: str, next_step: str, size: int = 24
) -> str | Problem:
    """The events of a fresh file with some kinds of lines, compared."""
    pair = given(scene, bench, *kinds, size=size)
    return pair if isinstance(pair, Problem) else compared(*pair, cause, next_step)


@EXERCISE.check("fields", "JSON and text become fields", weight=2)
@computed("each line of JSON gives its own fields, each line of text level and message; time and stream with both")
def fields(scene: Scene, bench: Bench) -> str | Problem:
    """Lines that are events."""
    return looked_at(
        scene,
        bench,
        ("json", "plain"),
        "A line is TIME STREAM FLAG TEXT, and the text may hold blanks. Numbers in JSON stay numbers.",
        "Split three times, and no more; json.loads for what begins with {.",
    )


@EXERCISE.check("trace", "A stack trace is one event", weight=2, needs=["fields"])
@computed("a line that begins neither with [LEVEL] nor with { goes on with the event before it")
def trace(scene: Scene, bench: Bench) -> str | Problem:
    """Five lines, one event; its last line is not indented."""
    return looked_at(
        scene,
        bench,
        ("json", "plain", "trace"),
        "A stack trace is cut into several events, or its lines are lost. Its last line is not indented.",
        "What begins an event? All else is added to the event before, after a line break.",
    )


@EXERCISE.check("long", "A long line is put together", weight=2, needs=["fields"])
@computed("lines with the flag P are put together with the next ones of their stream, until one has the flag F")
def long(scene: Scene, bench: Bench) -> str | Problem:
    """Texts in three pieces."""
    return looked_at(
        scene,
        bench,
        ("json", "plain", "long"),
        "The pieces of a long text are events of their own, or a line break or blank has come between them.",
        "Put the pieces together as they are, before you look at the text.",
    )


@EXERCISE.check("streams", "Two streams do not mix", weight=2, needs=["trace"])
@computed("while a stack trace is written to one stream, lines of the other stream are events of their own")
def streams(scene: Scene, bench: Bench) -> str | Problem:
    """Both by turns."""
    return looked_at(
        scene,
        bench,
        ("json", "interleaved", "long"),
        "A line went to the event before it in the file, which was of the other stream.",
        "Remember the open event, and the open piece, for each stream. Sort the events by time in the end.",
        40,
    )


@EXERCISE.check("broken", "What is no JSON is not lost", weight=1, needs=["fields"])
@computed("a line that begins like JSON and is none becomes a message as it is")
def broken(scene: Scene, bench: Bench) -> str | Problem:
    """A program was killed in the middle of a line."""
    return looked_at(
        scene,
        bench,
        ("json", "plain", "broken"),
        "Such a line raises an error, is dropped, or is added to another event.",
        "try json.loads, and what to do when it raises ValueError?",
    )


@EXERCISE.check("search", "The store finds them by their fields", weight=2, needs=["fields"])
@judged("your events, put into a real VictoriaLogs, are found: slow requests by a number, stack traces as one line")
def search(scene: Scene, bench: Bench) -> str | Problem:
    """Shipped, and asked."""
    pair = given(scene, bench, "json", "plain", "trace", size=60)
    if isinstance(pair, Problem):
        return pair
    file, found = pair
    limit = bench.random.randint(200, 600)
    store = Store()
    try:
        store.fill([{**one, "@timestamp": one.get("time", "")} for one in found], ("stream",))
        slow = store.ask.count(f"latency_ms:>{limit}")
        traces = store.ask.count('level:="error" "serving.py" "KeyError"')
    finally:
        store.close()
    truth = sum(int(str(one["latency_ms"])) > limit for one in file.of("json"))
    whole = len(file.of("trace"))
    if (slow, traces) == (truth, whole):
        return f"latency_ms:>{limit} finds {slow}; {traces} stack traces are one line each"
    return Problem(
        f"latency_ms:>{limit} finds {slow} of {truth}; whole stack traces: {traces} of {whole}",
        "The fields have other names or values in the store than in the lines, or one trace is several events.",
        "Look at one of your events: has it latency_ms, level, and the whole message?",
    )
