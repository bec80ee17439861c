"""The hidden checks of chapter 22. They never enter a learner's kernel, a release or a feedback's source."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence

from podlab.checks.bench import Bench
from podlab.checks.contract import Exercise, Result, failed, passed
from podlab.checks.world import World
from podlab.course.logs import events, searching, shipping, surviving
from podlab.course.plain import Problem, computed, judged, short, values


def add(exercises: dict[str, Exercise]) -> None:
    """Add the hidden checks to the exercises of the chapter."""
    declare = {id: exercise.check for id, exercise in exercises.items()}
    declare["22.1"]("another", "Another request", weight=1, hidden=True, needs=["request"])(another)
    declare["22.1"]("later", "Another time", weight=1, hidden=True, needs=["failed"])(later)
    declare["22.2"]("edges", "Where a file begins and ends", weight=1, hidden=True, needs=["trace"])(edges)
    declare["22.3"]("every-step", "Killed after every step", weight=2, hidden=True, needs=["killed"])(every_step)
    declare["22.4"]("all-levels", "Every event is there", weight=1, hidden=True, needs=["found"])(all_levels)


@judged("one_request finds exactly the lines of another request as well, one that was tried again, in their order")
def another(scene: searching.Scene, bench: Bench) -> str | Problem:
    """A request that two pods of one service had to do with."""
    tried = [
        one
        for one in scene.incident.requests
        if one.app == "shop" and one.status == 200 and any(line.get("status") == 503 for line in one.lines)
    ]
    one = bench.random.choice(tried)
    rows = searching.of_one(scene, one)
    if isinstance(rows, Problem):
        return rows
    seen = list(dict.fromkeys(row["_msg"] for row in rows))
    if seen == [str(line["message"]) for line in one.lines]:
        return f"all {len(one.lines)} lines in order"
    return Problem(" → ".join(row["service"] for row in rows), "They are not in order.", "| sort by (_time)")


@judged("failed_requests is right at other times too: when hardly anything failed, and over the whole half hour")
def later(scene: searching.Scene, bench: Bench) -> str | Problem:
    """The five minutes after the incident, and everything that there is."""
    found = searching.exactly(scene, scene.incident.end + 1, scene.incident.end + 301)
    if isinstance(found, Problem):
        return found
    return searching.exactly(scene, scene.incident.begin - 900, scene.incident.end + 1500)


@computed("an empty file has no events; a file that begins in the middle of a stack trace loses no line of it")
def edges(scene: events.Scene, bench: Bench) -> str | Problem:
    """The file before this one was rotated away."""
    word = f"{bench.random.getrandbits(32):08x}"
    rest = [
        f"2026-01-01T00:00:0{number}.000Z stdout F {text}" for number, text in enumerate(("    a", f"Error: {word}"))
    ]
    whole = json.dumps({"level": "info", "message": word})
    last = f"2026-01-01T00:00:09.000Z stdout F {whole}"
    nothing, begun = values(bench, scene.source, events.NAME, [[[]], [[*rest, last]]])
    if nothing != []:
        return Problem(f"{events.NAME}([]) is {short(nothing)}", "No lines are no events.", "Return an empty list.")
    right = [
        {"time": "2026-01-01T00:00:00.000Z", "stream": "stdout", "message": f"    a\nError: {word}"},
        {"time": "2026-01-01T00:00:09.000Z", "stream": "stdout", "level": "info", "message": word},
    ]
    if begun == right:
        return "two events of three lines"
    return Problem(
        f"a file begins in the middle of a stack trace: {short(begun, 300)}; right is {short(right, 300)}",
        "Lines that go on with an event which the file does not hold are lost, or are events of their own.",
        "Make an event of the first such line, with its message alone; the next ones go on with it.",
    )


@judged("killed after its first step, after its second, and so on: nothing is lost each time")
def every_step(scene: shipping.Scene, bench: Bench) -> str | Problem:
    """One kill for each of the first nine steps, each with a fresh file; no chance in it."""
    for number in range(1, 10):
        machine = shipping.Machine(random.Random(bench.random.getrandbits(64)), grows=(400, 401))
        machine.write(14)
        try:
            shipping.live(scene, bench, machine, _after(number))
            if not machine.done:
                bench.afresh()
                shipping.live(scene, bench, machine, lambda _step: False)
        except shipping.Wrong as wrong:
            return wrong.problem
        if machine.missing:
            return Problem(
                f"killed after step {number}: {len(machine.missing)} of {len(machine.lines)} lines are missing",
                "There is a moment at which the checkpoint is ahead of the store.",
                "First send, then save.",
            )
    return "killed after each of the first nine steps: every line came"


def _after(number: int):
    steps: list[str] = []

    def struck(step: str) -> bool:
        steps.append(step)
        return len(steps) == number

    return struck


def all_levels(scene: surviving.Scene, world: World) -> Result:
    """A visit leaves two lines of the level info: nothing is held back."""
    expected = "of a visit that went well both lines are found: at the counter, and served"
    lines: Sequence[dict[str, str]] = surviving.arrived(scene, f'*:"{scene.good}"')
    scene.room.eventually(lambda: len(surviving.arrived(scene, f'*:"{scene.good}"')) >= 2, "both lines", 10)
    lines = surviving.arrived(scene, f'*:"{scene.good}"')
    if len({line.get("_msg") for line in lines}) >= 2:
        return passed(expected, f"{len(lines)} lines")
    return failed(
        expected,
        f"{len(lines)} lines: {', '.join(line.get('_msg', '') for line in lines)}",
        cause="A setting or a filter keeps some lines back.",
        next_step="What went well is needed too: leave LOG_LEVEL at info.",
    )
