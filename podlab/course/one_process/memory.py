"""Exercise 09.3: what copies of a process take together. Processes share pages, until one of them changes a page."""

from __future__ import annotations

from typing import Any

from podlab.checks.bench import Bench
from podlab.checks.contract import Answer, Exercise, HandIn, Hint, NotGradable
from podlab.course.one_process.profile import LESSON
from podlab.course.plain import Problem, judged, short, values

NAME = "memory"

#: Follows the learner's cell: processes forked from one that holds `shared` MiB, each with `own` MiB more.
_DRIVER = r"""
def _taken(copies, shared, own, changed, ended):
    import mmap, os, signal
    MIB = 1024 * 1024

    def filled(mib):
        held = mmap.mmap(-1, max(1, mib) * MIB, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        for page in range(0, mib * MIB, 4096):
            held[page] = 1
        return held

    def pss(pid):
        with open("/proc/%d/smaps_rollup" % pid) as file:
            return sum(int(line.split()[1]) for line in file if line.startswith("Pss:")) / 1024

    if not os.path.exists("/proc/self/smaps_rollup"):
        return {"missing": True}
    base, pids, pipes = filled(shared), [os.getpid()], []
    for _ in range(copies):
        reading, writing = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                mine = filled(own)
                for page in range(0, changed * MIB, 4096):
                    base[page] = 2
                os.write(writing, b"x")
                signal.pause()
            finally:
                os._exit(0)
        os.read(reading, 1)
        pids.append(pid)
        pipes += [reading, writing]
    try:
        gone = []
        for pid in pids[len(pids) - ended:] if ended else []:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            gone.append(pid)
        living = [pid for pid in pids if pid not in gone]
        before = sum(map(pss, living))
        told = {"value": memory(pids), "rss": 0.0, "pss": (before + sum(map(pss, living))) / 2}
        for pid in living:
            with open("/proc/%d/statm" % pid) as file:
                told["rss"] += int(file.read().split()[1]) * 4096 / MIB
        return told
    finally:
        for pid in pids[1:]:
            if pid not in gone:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
"""


def taken(scene: str, bench: Bench, copies: int, shared: int, own: int, changed: int = 0, ended: int = 0) -> Any:
    """What `memory` said of real processes, and what the kernel says."""
    told = values(bench, scene + _DRIVER, "_taken", [[copies, shared, own, changed, ended]], 20)[0]
    if told.get("missing"):
        raise NotGradable("this kernel does not tell what processes share (/proc/PID/smaps_rollup)")
    return told


def judge(told: Any, what: str) -> Problem | str:
    """Whether what was said is near the kernel's own word."""
    value, pss, rss = told["value"], told["pss"], told["rss"]
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


@EXERCISE.check("changed", "What is changed is no longer shared", weight=2, needs=["shared"])
@judged("a copy that writes to shared pages gets its own, and they count")
def changed(scene: str, bench: Bench) -> str | Problem:
    """Copy on write."""
    size = bench.random.randint(60, 90)
    return judge(taken(scene, bench, 2, size, 1, changed=size // 2), "three processes, two of which changed half")
