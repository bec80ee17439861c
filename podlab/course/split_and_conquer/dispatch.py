"""Exercise 01.2: hand chunks to real processes; a witness beside them sees which process does what, and when."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from podlab.checks.bench import Bench
from podlab.checks.contract import Answer, Exercise, HandIn, Hint, Json
from podlab.course.outside import answered, outside
from podlab.course.plain import Problem, judged, short
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
def _dispatched(address, chunks, workers):
    from podlab.course.split_and_conquer.work import Work
    work = Work(address)
    work.ask(-1)
    try:
        value = dispatch(work, chunks, workers)
    except NotImplementedError:
        raise
    except Exception as error:
        return {"error": type(error).__name__ + ": " + str(error)[:200]}
    return {"value": value if isinstance(value, list) else "a " + type(value).__name__}
"""


@dataclass(frozen=True)
class Run:
    """One run of the learner's function, and what the witness has seen of it; its lines are those of witness.py."""

    value: list[Json] | str
    error: str
    caller: int | None
    lines: Sequence[Mapping[str, Any]]
    results: Sequence[str]
    most: int
    left: Sequence[int]


@dataclass
class Scene:
    """The learner's function, and one run of it that several checks look at."""

    source: str
    run: Run | None = None

    def dispatched(self, bench: Bench, seconds: list[float], workers: int, **rules: Json) -> Run:
        """One run: what came back, and who did what in which order; `rules` are the witness's (see `begin`)."""
        plan: dict[str, Json] = {"seconds": list(seconds), "patience": bench.deadline(PATIENCE), **rules}
        chunks: list[Json] = [[number, one] for number, one in enumerate(seconds)]
        with outside(bench, "witness") as witness:
            address = witness.tell("begin", plan)
            with bench.talk(self.source + _DRIVER, seconds=30 + sum(seconds)) as talk:
                told = answered(talk, "_dispatched", address, chunks, workers)
                value = told.get("value")
                return Run(
                    value=value if isinstance(value, list | str) else [],
                    error=str(told.get("error", "")),
                    # While the caller lives: with it go all its processes.
                    left=witness.tell("left"),
                    **witness.tell("seen"),
                )

    def usual(self, bench: Bench) -> Run:
        """Nine chunks on three workers; the first ones wait until three are in hand."""
        if self.run is None:
            self.run = self.dispatched(bench, [bench.deadline(LINGER)] * COUNT, WORKERS, together=WORKERS)
        return self.run


def picture(lines: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
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
    if run.error:
        return Problem(
            f"dispatch(work, chunks, 3) raised {run.error}",
            "The function fails with nine chunks on three workers.",
            "Try it with work = len and some lists as chunks.",
        )
    done = sorted(line["chunk"] for line in run.lines if line["event"] == "begin")
    if done != list(range(COUNT)):
        return Problem(
            f"of chunks 0 to {COUNT - 1} these were worked on: {done}",
            "Some chunk was left out, or handed out twice.",
            "Follow one chunk through your code: who takes it, and who notes that it is taken?",
            picture(run.lines),
        )
    if run.value != run.results:
        order = "the order differs" if sorted(map(str, run.value)) == sorted(run.results) else "they are not there"
        return Problem(
            f"the results are {short(run.value)}; {order}",
            "Results were taken in the order in which they arrived, or not returned as a list.",
            "Keep with each result the number of its chunk; pool.map does.",
            picture(run.lines),
        )
    return "nine chunks, nine results, in order"


@EXERCISE.check("processes", "Other processes do the work", weight=2)
@judged("three workers are three processes besides the one that calls dispatch")
def processes(scene: Scene, bench: Bench) -> str | Problem:
    """Count the PIDs of those who had a chunk in hand until it was done."""
    run = scene.usual(bench)
    done = [line["pid"] for line in run.lines if line["event"] == "end"]
    if run.caller in done:
        return Problem(
            f"{done.count(run.caller)} of {len(done)} chunks were done by the calling process itself "
            f"(pid {run.caller})",
            "The work is called directly, or in threads: they share the process, and one core's worth of Python.",
            "Use processes: multiprocessing, or ProcessPoolExecutor.",
            picture(run.lines),
        )
    if len(set(done)) < WORKERS:
        return Problem(
            f"{len(set(done))} process{'es' if len(set(done)) != 1 else ''} did all the work",
            "The number of workers is not used, or one worker takes all chunks.",
            "Pass `workers` on to whatever makes the processes.",
            picture(run.lines),
        )
    return f"{len(set(done))} processes worked, none of them the caller"


@EXERCISE.check("at-once", "They work at the same time, no more than asked for", weight=3)
@judged("at some moment three chunks are in hand, and never more than three")
def at_once(scene: Scene, bench: Bench) -> str | Problem:
    """Count the chunks in hand: the first ones wait for each other, so that a slow start is no excuse and no harm."""
    run = scene.usual(bench)
    lines, most = run.lines, run.most
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
