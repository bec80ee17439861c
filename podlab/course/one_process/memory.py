"""Exercise 09.3: what copies of a process take together. Processes share pages, until one of them changes a page."""

from __future__ import annotations

from dataclasses import dataclass

from podlab.checks.bench import Bench
from podlab.checks.contract import Answer, Exercise, HandIn, Hint, Json, NotGradable
from podlab.course.one_process.profile import LESSON
from podlab.course.outside import outside
from podlab.course.plain import Problem, judged, short, values

NAME = "memory"


@dataclass(frozen=True)
class Told:
    """What `memory` said of some processes, and what the kernel says, in MiB."""

    value: Json
    pss: float
    rss: float


def taken(scene: str, bench: Bench, copies: int, shared: int, own: int, changed: int = 0, ended: int = 0) -> Told:
    """What is said of processes forked from one that holds `shared` MiB, each with `own` MiB more.

    Each has changed some MiB of those that are shared; the last ones have ended.
    """
    with outside(bench, "copies") as program:
        pids = program.tell("begin", copies, shared, own, changed, ended)
        if pids is None:
            raise NotGradable("this kernel does not tell what processes share (/proc/PID/smaps_rollup)")
        before = program.tell("pss")
        (value,) = values(bench, scene, NAME, [[pids]], 20)
        return Told(value, (before + program.tell("pss")) / 2, program.tell("rss"))


def judge(told: Told, what: str) -> Problem | str:
    """Whether what was said is near the kernel's own word."""
    value, pss, rss = told.value, told.pss, told.rss
    if isinstance(value, int | float) and abs(value - pss) <= 0.05 * pss + 2:
        return f"{what}: {value:.0f} MiB"
    if isinstance(value, int | float) and abs(value - rss) <= 0.05 * rss + 2:
        cause = "Pages that several processes share are counted once for each of them (RSS)."
    elif isinstance(value, int | float) and 0.9 < value / 1024 / pss < 1.1:
        cause = "These are kB, not MiB."
    else:
        cause = "Something else is added up than what these processes take."
    return Problem(
        f"{what}: memory says {short(value)}, they take {pss:.0f} MiB",
        cause,
        "Look at /proc/PID/smaps_rollup of two processes, and at what proc(5) says about Pss.",
    )


def stage(answer: Answer, _bench: Bench) -> str:
    """The source of the learner's function."""
    return answer[NAME]


EXERCISE = Exercise(
    id="09.3",
    title="What copies take together",
    points=10,
    handed_in=(HandIn(NAME, "function"),),
    stage=stage,
    cluster=False,
    lesson=f"{LESSON}#What-a-copy-takes",
    hints=(
        Hint(
            "Two processes share a page. How often have you counted it?",
            lambda situation: situation.failed("shared", "changed"),
        ),
        Hint("In which unit does the kernel tell it, and in which are you asked?"),
        Hint("Which line of /proc/PID/smaps_rollup divides a shared page among those who share it?"),
        Hint("A process may have ended since somebody noted its number: what does open raise then?"),
    ),
    debrief=(
        "Copies that are forked from one process share what none of them changes: that is why servers load first and "
        "fork then. Copies that are started one by one, as pods are, share the files of programs and no more."
    ),
)


@EXERCISE.check("one", "One process", weight=2)
@judged("memory([pid]) is what one process takes, in MiB")
def one(scene: str, bench: Bench) -> str | Problem:
    """No copies."""
    return judge(taken(scene, bench, 0, bench.random.randint(40, 80), 0), "one process")


@EXERCISE.check("own", "Each its own", weight=2, needs=["one"])
@judged("what each process has for itself counts once for each")
def own(scene: str, bench: Bench) -> str | Problem:
    """Copies with much of their own."""
    return judge(taken(scene, bench, 3, 1, bench.random.randint(20, 40)), "four processes with memory of their own")


@EXERCISE.check("shared", "Shared is counted once", weight=3, needs=["one"])
@judged("what forked copies share counts once for all of them together")
def shared(scene: str, bench: Bench) -> str | Problem:
    """Copies of a large process."""
    return judge(taken(scene, bench, 3, bench.random.randint(60, 90), 4), "four processes that share most of it")


@EXERCISE.check("changed", "What is changed is no longer shared", weight=2, needs=["one"])
@judged("a copy that writes to shared pages gets its own, and they count")
def changed(scene: str, bench: Bench) -> str | Problem:
    """Copy on write."""
    size = bench.random.randint(60, 90)
    return judge(taken(scene, bench, 2, size, 1, changed=size // 2), "three processes, two of which changed half")
