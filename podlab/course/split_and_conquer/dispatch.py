"""Exercise 01.2: hand chunks to real processes; the evidence is which process did what, and when."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from podlab.checks.bench import Bench
from podlab.checks.contract import Answer, Exercise, HandIn, Hint
from podlab.course.plain import Problem, judged, short, values
from podlab.course.split_and_conquer.evidence import Line, most_in_hand, result
from podlab.course.split_and_conquer.split import LESSON

NAME = "dispatch"
#: Chunks of the usual run, and its workers.
COUNT, WORKERS = 9, 3
#: Seconds that a chunk lasts once it may go on: time for a process too many to show up.
LINGER = 0.15
#: Seconds without any news after which a chunk no longer waits for others.
PATIENCE = 2.0

#: Follows the learner's cell in the process that runs it.
_DRIVER = """
def _dispatched(seconds, workers, nonce, more):
    import os, tempfile, time
    from podlab.course.split_and_conquer.evidence import Work, read
    from podlab.waiting import pause
    path = os.path.abspath(os.path.join(tempfile.mkdtemp(dir="."), "evidence"))
    work = Work(path, nonce, len(seconds), **more)
    told = {"own": os.getpid(), "error": ""}
    try:
        told["value"] = dispatch(work, [[number, one] for number, one in enumerate(seconds)], workers)
        if not isinstance(told["value"], list):
            told["value"] = "a " + type(told["value"]).__name__
    except NotImplementedError:
        raise
    except Exception as error:
        told["error"], told["value"] = type(error).__name__ + ": " + str(error)[:200], None
    told["lines"] = read(path)
    told["left"] = sorted({line["pid"] for line in told["lines"]} - {os.getpid()})
    # Whoever is on its way out is not held against anybody.
    end = time.monotonic() + work.patience
    while (left := [pid for pid in told["left"] if _lives(pid)]) and time.monotonic() < end:
        pause(0.02)
    told["left"] = left
    return told

def _lives(pid):
    try:
        with open("/proc/%d/stat" % pid) as file:
            return file.read().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False
"""


@dataclass
class Scene:
    """The learner's function, and one run of it that several checks look at."""

    source: str
    run: dict[str, Any] | None = None

    def dispatched(self, bench: Bench, seconds: list[float], workers: int, **more: float) -> dict[str, Any]:
        """One run: what came back, and who did what in which order; `more` are fields of `Work`."""
        calls = [[seconds, workers, bench.nonce, {"patience": bench.deadline(PATIENCE), **more}]]
        return values(bench, self.source + _DRIVER, "_dispatched", calls, 30 + sum(seconds))[0]

    def usual(self, bench: Bench) -> dict[str, Any]:
        """Nine chunks on three workers; the first ones wait until three are in hand."""
        if self.run is None:
            self.run = self.dispatched(bench, [bench.deadline(LINGER)] * COUNT, WORKERS, together=WORKERS)
        return self.run


def picture(lines: Sequence[Line]) -> dict[str, Any]:
    """Evidence for `lab.replay`: the chart of who did which chunk."""
    pids = list(dict.fromkeys(line["pid"] for line in lines))
    zero = lines[0]["at"] if lines else 0.0
    ends = {line["chunk"]: line["at"] - zero for line in lines if line["event"] == "end"}
    spans = [
        [pids.index(line["pid"]), line["chunk"], line["at"] - zero, ends.get(line["chunk"], lines[-1]["at"] - zero)]
        for line in lines
        if line["event"] == "begin"
    ]
    return {"replay": {"kind": "gantt", "workers": len(pids), "pids": pids, "spans": spans}} if spans else {}


def stage(answer: Answer, _bench: Bench) -> Scene:
    """Nothing has run yet."""
    return Scene(answer[NAME])


EXERCISE = Exercise(
    id="01.2",
    title="Hand it to processes",
    points=12,
    handed_in=(HandIn(NAME, "function"),),
    stage=stage,
    cluster=False,
    lesson=f"{LESSON}#Four-workers",
    hints=(
        Hint(
            "Your chunks were all done by the process that called you. What do threads share that processes do not?",
            lambda situation: situation.failed("processes"),
        ),
        Hint(
            "When do you wait for a process: right after you started it, or after all are started?",
            lambda situation: situation.failed("at-once"),
        ),
        Hint(
            "In which order do results arrive, and in which order are they asked for?",
            lambda situation: situation.failed("once"),
        ),
        Hint("Which classes of concurrent.futures and multiprocessing keep a fixed number of processes busy?"),
        Hint("What does map of a ProcessPoolExecutor guarantee about the order of what it yields?"),
    ),
    debrief=(
        "A pool is a dispatcher: a fixed number of processes, and a queue from which whoever is free takes the next "
        "chunk. That is what “asked” was in the lesson. Its map returns results in the order of the chunks, and "
        "raises what a chunk raised."
    ),
)


@EXERCISE.check("once", "Every chunk once, results in order", weight=3)
@judged("each chunk is worked on exactly once, and the results come back as a list in the order of the chunks")
def once(scene: Scene, bench: Bench) -> str | Problem:
    """Compare results and evidence."""
    run = scene.usual(bench)
    if run["error"]:
        return Problem(
            f"dispatch(work, chunks, 3) raised {run['error']}",
            "The function fails with nine chunks on three workers.",
            "Try it with work = len and some lists as chunks.",
        )
    done = sorted(line["chunk"] for line in run["lines"] if line["event"] == "begin")
    wanted = [result(bench.nonce, number) for number in range(COUNT)]
    if done != list(range(COUNT)):
        return Problem(
            f"of chunks 0 to {COUNT - 1} these were worked on: {done}",
            "Some chunk was left out, or handed out twice.",
            "Follow one chunk through your code: who takes it, and who notes that it is taken?",
            picture(run["lines"]),
        )
    if run["value"] != wanted:
        order = "the order differs" if sorted(map(str, run["value"] or ())) == sorted(wanted) else "they are not there"
        return Problem(
            f"the results are {short(run['value'])}; {order}",
            "Results were taken in the order in which they arrived, or not returned as a list.",
            "Keep with each result the number of its chunk; pool.map does.",
            picture(run["lines"]),
        )
    return "nine chunks, nine results, in order"


@EXERCISE.check("processes", "Other processes do the work", weight=2)
@judged("three workers are three processes besides the one that calls dispatch")
def processes(scene: Scene, bench: Bench) -> str | Problem:
    """Count the PIDs that worked."""
    run = scene.usual(bench)
    begun = [line["pid"] for line in run["lines"] if line["event"] == "begin"]
    if run["own"] in begun:
        return Problem(
            f"{begun.count(run['own'])} of {len(begun)} chunks were done by "
            f"the calling process itself (pid {run['own']})",
            "The work is called directly, or in threads: they share the process, and one core's worth of Python.",
            "Use processes: multiprocessing, or ProcessPoolExecutor.",
            picture(run["lines"]),
        )
    if len(set(begun)) < WORKERS:
        return Problem(
            f"{len(set(begun))} process{'es' if len(set(begun)) != 1 else ''} did all the work",
            "The number of workers is not used, or one worker takes all chunks.",
            "Pass `workers` on to whatever makes the processes.",
            picture(run["lines"]),
        )
    return f"{len(set(begun))} processes worked, none of them the caller"


@EXERCISE.check("at-once", "They work at the same time, no more than asked for", weight=3)
@judged("at some moment three chunks are in hand, and never more than three")
def at_once(scene: Scene, bench: Bench) -> str | Problem:
    """Count the chunks in hand: the first ones wait for each other, so that a slow start is no excuse and no harm."""
    lines = scene.usual(bench)["lines"]
    most = most_in_hand(lines)
    if most == WORKERS:
        return "up to three chunks were in hand at a time"
    if most < WORKERS:
        return Problem(
            f"at most {most} chunk{'s were' if most != 1 else ' was'} in hand at a time; "
            "those waited in vain for a third one to begin",
            "Each process is waited for before the next one starts.",
            "Start all workers first; wait afterwards.",
            picture(lines),
        )
    return Problem(
        f"{most} chunks were in hand at a time, by {len({line['pid'] for line in lines})} processes",
        "A process is made for every chunk: ten thousand chunks would be ten thousand processes.",
        "Let `workers` processes take chunk after chunk.",
        picture(lines),
    )
