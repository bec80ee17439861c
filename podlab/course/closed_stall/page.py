"""Exercise 11.3: a page made of several answers, from real processes, some of which are stopped in mid-air."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from podlab.checks.bench import Bench
from podlab.checks.contract import Answer, Exercise, HandIn, Hint, Inconclusive
from podlab.course.closed_stall.once_more import LESSON
from podlab.course.outside import answered, outside
from podlab.course.plain import Problem, judged

NAME = "page"
#: Seconds that a page has, and how many times as long a stopped stall stays stopped if the page does not come.
SECONDS, FACTOR = 0.4, 12
#: A healthy stall answers at once. If it takes more than this part of the page's seconds, or the whole process stands
#: still for so long, the machine is in the way.
STARVED = 0.6
STALLS = ("popular", "recommended", "rated")

#: Follows the learner's cell. Each stall is a process of its own, asked through programs/stalls.py.
_DRIVER = """
def _opened(address, names, seconds):
    import threading, time
    over, stood = threading.Event(), [0.0]

    def pulse():
        while not over.is_set():
            begun = time.monotonic()
            over.wait(seconds / 20)
            stood.append((time.monotonic() - begun) / seconds)

    beating = threading.Thread(target=pulse, daemon=True)
    beating.start()
    told = _page(address, names, seconds)
    over.set()
    beating.join()
    return {**told, "stood": max(stood)}

def _page(address, names, seconds):
    from podlab.course.way import Way
    way = Way(address)

    def call(name):
        return lambda: way.ask(name)

    try:
        value = page({name: call(name) for name in names}, seconds)
    except NotImplementedError:
        raise
    except Exception as error:
        return {"error": type(error).__name__ + ": " + str(error)[:150]}
    if not isinstance(value, dict):
        return {"error": "no dictionary, but " + type(value).__name__}
    return {"value": {str(key): one if isinstance(one, str) else None if one is None else repr(one)
                      for key, one in value.items()}}
"""


@dataclass
class Scene:
    """The learner's function."""

    source: str

    def page(self, bench: Bench, **kinds: str) -> dict[str, Any]:
        """One page from stalls of these kinds: answers, refuses, stopped, together."""
        seconds = bench.deadline(SECONDS)
        with outside(bench, "stalls") as stalls:
            address = stalls.tell("begin", kinds, seconds, FACTOR, bench.nonce)
            with bench.talk(self.source + _DRIVER, seconds=4 * SECONDS * FACTOR + 10) as talk:
                stalls.tell("watch")
                told = answered(talk, "_opened", address, list(kinds), seconds)
                value = told.get("value")
                page = value if isinstance(value, dict) else {}
                run = {"value": page, "error": str(told.get("error", "")), **stalls.tell("over")}
        stood = told.get("stood")
        if run["late"] and isinstance(stood, int | float) and stood > STARVED:
            raise Inconclusive("the process that makes the page stood still for longer than the page has")
        return run


def stage(answer: Answer, _bench: Bench) -> Scene:
    """Nothing has run yet."""
    return Scene(answer[NAME])


EXERCISE = Exercise(
    id="11.3",
    title="The page comes in any case",
    points=12,
    handed_in=(HandIn(NAME, "function"),),
    stage=stage,
    cluster=False,
    lesson=f"{LESSON}#What-a-page-is-made-of",
    hints=(
        Hint(
            "Three stalls take 0.1 s each. Why should a page take 0.3 s?",
            lambda situation: situation.failed("at-once"),
        ),
        Hint(
            "Your function has all answers it will get. What is it still waiting for? Look at the end of a with block.",
            lambda situation: situation.failed("in-time"),
        ),
        Hint("What does result(timeout=...) of a future do when the time is over, and what can you put in its place?"),
        Hint("Which threads keep Python from going on: those that you join, and those of a pool that you close?"),
    ),
    debrief=(
        "A page is as reliable as its least needed part, unless it can do without. movies/ui/composing.py asks all "
        "services at once and leaves out what does not come. A thread that hangs cannot be ended from outside: here "
        "it is left behind, in the real site coroutines are cancelled."
    ),
)


def missing(run: dict[str, Any], wanted: dict[str, str | None]) -> str:
    """What is wrong with the contents of a page; empty if nothing is. Inconclusive if a healthy stall was starved."""
    if run["error"]:
        return f"page raised {run['error']}" if ":" in run["error"] else f"page returned {run['error']}"
    value = run["value"]
    bad = [name for name in wanted if name not in value or value[name] != wanted[name]]
    if starved := [name for name in bad if wanted[name] and max(run["stood"], run["waited"].get(name, 0)) > STARVED]:
        raise Inconclusive(f"{' and '.join(starved)} answered too late, though nothing was done to them")
    if bad:
        return "; ".join(
            f"{name} should be {wanted[name]!r} and is " + (repr(value[name]) if name in value else "not there")
            for name in bad
        )
    more = sorted(set(value) - set(wanted))
    return f"there are names that nobody asked for: {more}" if more else ""


def expected(bench: Bench, *without: str) -> dict[str, str | None]:
    """What a page should hold if some stalls do not answer."""
    return {name: None if name in without else f"{name} {bench.nonce}" for name in STALLS}


@EXERCISE.check("complete", "When all answer, all is on the page", weight=2)
@judged("page returns a dictionary with the answer of every call under its name")
def complete(scene: Scene, bench: Bench) -> str | Problem:
    """Three healthy stalls."""
    run = scene.page(bench, **dict.fromkeys(STALLS, "answers"))
    if run["late"]:
        raise Inconclusive("three healthy stalls did not answer in many times the page's seconds")
    if wrong := missing(run, expected(bench)):
        return Problem(wrong, "Answers are lost, or given under other names.", "Return {name: answer} for every call.")
    return "three answers, three entries"


@EXERCISE.check("in-time", "A stalled process holds up nobody", weight=4)
@judged("if one process is stopped, the page comes with the other answers, and None for that one")
def in_time(scene: Scene, bench: Bench) -> str | Problem:
    """One process gets SIGSTOP; it goes on only if the page does not come."""
    stopped = bench.random.choice(STALLS)
    run = scene.page(bench, **(dict.fromkeys(STALLS, "answers") | {stopped: "stopped"}))
    if not run["late"] and not run["asked"].get(stopped) and not run["error"]:
        if run["stood"] > STARVED:
            raise Inconclusive(f"{stopped} was not asked, and the process stood still")
        return Problem(
            f"{stopped} was never asked",
            "Calls are left out.",
            "Ask every one of them; who does not answer in time gets None.",
        )
    if run["late"]:
        return Problem(
            f"{stopped} was stopped; the page did not come within {FACTOR} times its seconds",
            "The function waits for the one that hangs: without a limit, or at the end of a with block of a pool.",
            "Wait for each answer no longer than what is left; leave the hanging thread behind: shutdown(wait=False).",
        )
    if wrong := missing(run, expected(bench, stopped)):
        return Problem(
            wrong,
            "The time-out of one call takes the whole page with it, or answers that came are thrown away.",
            "Catch the time-out of each call by itself, and put None in its place.",
        )
    return f"{stopped} was stopped; the page came without it"


@EXERCISE.check("at-once", "All are asked at the same time", weight=3, needs=["complete"])
@judged("no call waits for another: each of these three answers only when all three have been asked")
def at_once(scene: Scene, bench: Bench) -> str | Problem:
    """Every call waits until all have begun."""
    run = scene.page(bench, **dict.fromkeys(STALLS, "together"))
    if run["late"] or missing(run, expected(bench)):
        begun = sum(1 for count in run["asked"].values() if count)
        if begun == len(STALLS) and not run["late"]:
            raise Inconclusive("all were asked, and the machine was too slow for their answers")
        return Problem(
            f"{begun} of {len(STALLS)} calls had begun when the page gave up or was given up",
            "The calls are made one after the other: their times add up.",
            "Start all calls, each in a thread; only then wait for the first answer.",
        )
    return "three calls were under way together"
