"""Exercise 09.1: which part of a monolith uses the processor. Parts really compute, really wait, and ask each other."""

from __future__ import annotations

from typing import Any

from podlab.checks.bench import Bench
from podlab.checks.contract import Answer, Exercise, HandIn, Hint, NotGradable
from podlab.course.outside import outside
from podlab.course.plain import Problem, judged, short, values

LESSON = "notebooks/09-the-monolith.ipynb"
NAME = "profile"
#: How far off a part's seconds may be: a share, and seconds that Python itself needs for the calls.
SHARE, LITTLE = 0.2, 0.004

#: Follows the learner's cell. What a part does, and for how long, is told outside of its process (programs/parts.py).
_DRIVER = r"""
def _profiled(address, names, count):
    import time
    from podlab.course.way import Way
    way = Way(address)

    def part(name):
        def run(request, ask):
            call, todo = way.ask(None, name, request)
            while todo == "compute":
                end = time.thread_time() + 0.002
                while time.thread_time() < end:
                    pass
                call, todo = way.ask(call, None)
            told = []
            for other in todo["asks"]:
                try:
                    told.append(ask(other, request))
                except ConnectionError:
                    told.append("nothing")
            if todo["raises"]:
                raise ConnectionError(name + " is broken")
            answer = "%s(%s)" % (name, ", ".join(map(str, told)))
            if todo["tells"]:
                way.ask(call, answer)
            return answer
        return run

    try:
        return profile({name: part(name) for name in names}, list(range(count)))
    except ConnectionError as error:
        return "%s: %s" % (type(error).__name__, error)
"""

Shape = dict[str, dict[str, Any]]


def shape(bench: Bench, **changes: dict[str, Any]) -> Shape:
    """Five parts in some order, of which one computes most; `changes` by name."""
    times = bench.random.sample([0.002, 0.004, 0.006, 0.008, 0.014], 5)
    asks = {"ui": ["serving", "features", "ingestion"], "serving": ["features"]}
    names = ("ui", "ingestion", "features", "training", "serving")
    parts = {
        name: {"computes": seconds, "waits": 0.0, "asks": asks.get(name, [])}
        for name, seconds in zip(names, times, strict=True)
    }
    for name, change in changes.items():
        parts[name] |= change
    return parts


def order(parts: Shape) -> list[str]:
    """The names in the order of their calls for one request."""
    called = []

    def call(name: str) -> None:
        called.append(name)
        for other in parts[name]["asks"]:
            call(other)

    call("ui")
    return called


def profiled(scene: str, bench: Bench, parts: Shape, count: int = 4) -> dict[str, Any]:
    """What the learner's function found; calls of parts, answers of ui, and seconds by part as the kernel says."""
    with outside(bench, "parts") as program:
        address = program.tell("begin", parts)
        if address is None:
            raise NotGradable("this kernel does not tell what other processes have used (clock_gettime)")
        found = values(bench, scene + _DRIVER, "_profiled", [[address, list(parts), count]], 20)[0]
        return {"found": found, **program.tell("seen")}


def miscalled(told: dict[str, Any], parts: Shape, count: int = 4) -> Problem | None:
    """A Problem unless each request has made the calls that it makes, in their order."""
    wanted = [[name, request] for request in range(count) for name in order(parts)]
    if told["calls"] == wanted:
        return None
    return Problem(
        f"{count} requests made {len(told['calls'])} calls, not {len(wanted)}: {short(told['calls'])}",
        "Requests are left out or made twice, or ask does not call the part that is asked for.",
        "for request in requests: ask('ui', request), and ask calls parts[name](request, ask).",
    )


def differs(told: dict[str, Any], parts: Shape, count: int = 4) -> Problem | None:
    """A Problem for the first part whose seconds are not those of its own computing."""
    if wrong := miscalled(told, parts, count):
        return wrong
    found, want = told["found"], told["seconds"]
    if not isinstance(found, dict) or set(found) != set(parts):
        return Problem(
            f"profile gave {short(found)}",
            "It is no dictionary with every part, or has others.",
            f"Begin with 0.0 for each of {', '.join(parts)}.",
        )
    # What waits or breaks is looked at first: it tells most about what went wrong.
    for name, seconds in sorted(
        want.items(), key=lambda each: not (parts[each[0]]["waits"] or "raises" in parts[each[0]])
    ):
        value = found[name]
        if isinstance(value, int | float) and abs(value - seconds) <= SHARE * seconds + LITTLE:
            continue
        cause = (
            "Seconds of the parts that it asks are counted as its own." if parts[name]["asks"] else "It is miscounted."
        )
        if parts[name]["waits"]:
            cause = "Time is counted in which it only waits: that uses no processor."
        return Problem(
            f"{name} computed for {1000 * seconds:.0f} ms altogether; profile says {short(value)} s",
            cause,
            f"Follow one request by hand: {' > '.join(order(parts))}. What does time.process_time() show around each?",
        )
    return None


def stage(answer: Answer, _bench: Bench) -> str:
    """The source of the learner's function."""
    return answer[NAME]


EXERCISE = Exercise(
    id="09.1",
    title="Who uses the processor?",
    points=10,
    handed_in=(HandIn(NAME, "function"),),
    stage=stage,
    cluster=False,
    lesson=f"{LESSON}#One-part-is-hot",
    hints=(
        Hint(
            "One part waits for a disk. Does it keep anybody else from the processor? Which clock knows that?",
            lambda situation: situation.failed("waiting"),
        ),
        Hint(
            "ui asks serving, and serving asks features. Whose seconds are those of features?",
            lambda situation: situation.failed("own"),
        ),
        Hint("Where do you learn that a part begins and ends? Who calls ask?"),
        Hint("When a part has ended you know how long it took altogether. What do you have to take off that?"),
    ),
    debrief=(
        "Own time and time altogether are the two columns of every profiler (tottime and cumtime of cProfile). What "
        "waits can be helped by doing something else meanwhile; what computes needs another processor: a copy."
    ),
)


@EXERCISE.check("all", "Every request, every part", weight=2)
@judged("each request goes to ui once, parts get the answers of those that they ask, and every part is in the result")
def everything(scene: str, bench: Bench) -> str | Problem:
    """The calls, and what came of them."""
    parts = shape(bench)
    told = profiled(scene, bench, parts)
    if wrong := miscalled(told, parts):
        return wrong
    if set(told["answers"]) != {"ui(serving(features()), features(), ingestion())"}:
        return Problem(
            f"the page was {short(told['answers'])}",
            "ask does not give back what the part returned.",
            "return parts[name](request, ask).",
        )
    if not isinstance(told["found"], dict) or set(told["found"]) != set(parts):
        return Problem(
            f"profile gave {short(told['found'])}", "Not every part is in it.", "training is asked for nothing: 0.0."
        )
    return f"four requests, {len(told['calls'])} calls"


@EXERCISE.check("own", "Own time, not that of others", weight=3, needs=["all"])
@judged("a part's seconds are those in which it computed itself, without the parts that it asked")
def own(scene: str, bench: Bench) -> str | Problem:
    """Nothing waits."""
    parts = shape(bench)
    told = profiled(scene, bench, parts)
    return differs(told, parts) or ", ".join(f"{name} {1000 * value:.0f} ms" for name, value in told["found"].items())


@EXERCISE.check("waiting", "Waiting is not computing", weight=3, needs=["all"])
@judged("a part that waits uses no processor meanwhile, and is not the bottleneck")
def waiting(scene: str, bench: Bench) -> str | Problem:
    """Two parts wait far longer than any computes."""
    parts = shape(bench, ingestion={"waits": 0.06}, features={"waits": 0.04})
    told = profiled(scene, bench, parts)
    return differs(told, parts) or "what waited was not counted"
