"""Exercise 01.4: predict the speed-up of a job before it runs, then have it measured with real processes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from podlab.checks.bench import Bench
from podlab.checks.contract import Answer, CheckFunction, Exercise, HandIn, Hint, Inconclusive
from podlab.course.plain import Problem, judged
from podlab.course.split_and_conquer.split import LESSON
from podlab.distributed.farm import amdahl, cut, farm, plan
from podlab.waiting import pause

NAMES = {2: "speedup_2", 4: "speedup_4", 16: "speedup_16"}
CHOICE = "best_change"
#: Workers in the question of what would help most.
MANY = 16
#: How far off a prediction may be, as a share of what was measured.
TOLERANCE = 0.1
#: How much slower than told the job is run, tried in this order.
PACES = (1.0, 3.0, 9.0, 27.0)


@dataclass(frozen=True)
class Job:
    """The job of the task, in seconds: a part that cannot be divided, equal tasks in chunks, a message per chunk."""

    serial: float = 0.2
    tasks: int = 60
    each: float = 0.02
    chunk: int = 5
    message: float = 0.02

    @property
    def alone(self) -> float:
        """Seconds for one process, without messages."""
        return self.serial + self.tasks * self.each

    def planned(self, workers: int) -> float:
        """Speed-up by computation."""
        chunks = cut([self.each] * self.tasks, self.chunk)
        return self.alone / (self.serial + plan(chunks, workers, message=self.message).seconds)

    def run(self, workers: int, pace: float = 1.0) -> float:
        """Speed-up with real processes, which wait in place of working; `pace` stretches all times alike."""
        chunks = [[pace * self.each * len(chunk)] for chunk in cut(range(self.tasks), self.chunk)]
        took = farm(pause, chunks, workers, message=pace * self.message).seconds
        return self.alone / (self.serial + took / pace)

    def measured(self, workers: int) -> float:
        """Speed-up as measured. On a busy machine the job runs slower and slower, until the machine's own delays are
        small beside its times: a speed-up is a ratio, and stays the same. Inconclusive where even that does not help.
        """
        for pace in PACES:
            speedup = self.run(workers, pace)
            if abs(speedup - self.planned(workers)) < TOLERANCE / 2 * speedup:
                return speedup
        raise Inconclusive(f"{workers} workers were {speedup:.2f} times faster: this machine is too busy to measure")


JOB = Job()
#: The changes to choose from, each halves something (the chunk's size or a time).
CHANGES = {
    "halve the messages": replace(JOB, message=JOB.message / 2),
    "halve the chunks": replace(JOB, chunk=JOB.chunk // 2 + 1),
    "halve the serial part": replace(JOB, serial=JOB.serial / 2),
    "twice as many workers": JOB,
}


def stage(answer: Answer, _bench: Bench) -> dict[str, Any]:
    """The answers as they are."""
    return dict(answer)


EXERCISE = Exercise(
    id="01.4",
    title="Predict the speed-up",
    points=10,
    handed_in=(*(HandIn(name, "prediction") for name in NAMES.values()), HandIn(CHOICE, "choice")),
    stage=stage,
    cluster=False,
    lesson=f"{LESSON}#The-part-that-cannot-be-divided",
    hints=(
        Hint(
            "Twelve chunks on sixteen workers: how many workers have nothing to do?",
            lambda situation: situation.failed("with-16"),
        ),
        Hint("How many rounds of chunks does each worker have, and how long is a round with its message?"),
        Hint("Time with w workers = serial part + rounds × (message + chunk). What is the time of one process alone?"),
        Hint("For the last question: which of the two terms is larger with 16 workers, and what changes it?"),
    ),
    debrief=(
        "Amdahl's law is the ceiling: it knows only the serial part. Below it, rounds that do not come out even and "
        "the price of messages decide. With many workers the serial part is what is left, so it is what to work on."
    ),
)


def _with(workers: int) -> CheckFunction:
    @judged(f"the speed-up with {workers} workers is predicted to within {100 * TOLERANCE:.0f} % of the measured one")
    def check(scene: dict[str, Any], bench: Bench) -> str | Problem:
        measured, told = JOB.measured(workers), scene[NAMES[workers]]
        if abs(told - measured) <= TOLERANCE * measured:
            return f"predicted {told:.2f}, measured {measured:.2f}"
        ceiling = amdahl(JOB.serial / JOB.alone, workers)
        if told >= 0.97 * workers:
            cause = "This is the perfect speed-up: it forgets the part that cannot be divided."
        elif abs(told - ceiling) < 0.03 * ceiling:
            cause = "This is Amdahl's law: it forgets the messages, and that chunks come in whole rounds."
        elif told > measured:
            cause = "Something that costs time was left out: the serial part, the messages, or the last round."
        else:
            cause = "Something was counted twice: a worker pays for its own chunks only."
        return Problem(
            f"predicted {told:.2f}, measured {measured:.2f}",
            cause,
            f"Draw the Gantt chart of {workers} workers: how many chunks has the worker that has most?",
        )

    return check


for _workers, _weight in ((2, 2), (4, 2), (16, 3)):
    EXERCISE.check(f"with-{_workers}", f"The speed-up with {_workers} workers", weight=_weight)(_with(_workers))


@EXERCISE.check("best-change", "What would help most with 16 workers", weight=3)
@judged("the change that helps most with 16 workers, as measured, is the one that you chose")
def best_change(scene: dict[str, Any], bench: Bench) -> str | Problem:
    """Measure each change with real processes."""
    chosen = scene[CHOICE]
    if chosen not in CHANGES:
        return Problem(
            f"{CHOICE} is {chosen!r}",
            "It is none of the four changes.",
            f"Copy one of them as it stands: {', '.join(CHANGES)}.",
        )
    speedups = {
        # Against the time of the job as it was, also where the change shortens what one process needs.
        name: job.measured(2 * MANY if name.startswith("twice") else MANY) * JOB.alone / job.alone
        for name, job in CHANGES.items()
    }
    told = ", ".join(f"{name}: {speedup:.2f}" for name, speedup in speedups.items())
    if chosen == max(speedups, key=lambda name: speedups[name]):
        return told
    return Problem(
        f"you chose “{chosen}”; measured: {told}",
        "What is halved there is not what most of the time goes to.",
        "Write down the two terms of the time with 16 workers, and halve each in turn.",
    )
