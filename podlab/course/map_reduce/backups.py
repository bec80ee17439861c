"""Exercise 05.5: which task a free worker gets, so that one that stands still does not hold up the job."""

from __future__ import annotations

import random
import statistics
import time
from typing import Any

from podlab.checks.bench import Bench
from podlab.checks.contract import Answer, Exercise, HandIn, Hint, Json
from podlab.checks.talks import Talk
from podlab.course.map_reduce.coordinator import PATIENCE
from podlab.course.map_reduce.crew import Crew
from podlab.course.map_reduce.shift import Shift, Wrong
from podlab.course.map_reduce.words import LESSON
from podlab.course.plain import Problem, judged, short, values
from podlab.waiting import pause

NAME = "choose"
#: A task is late when it has been in hand for more than this many times the usual.
LATE = 2.0
#: How late a task must be, before the check says that it was never backed up.
HOPELESS = 12.0

Case = tuple[list[int], list[dict[str, Any]], float | None]


class Chooser:
    """A coordinator of ours, which asks the learner's `choose` what a free worker gets."""

    def __init__(self, talk: Talk) -> None:
        self._talk = talk
        self.shift: Shift

    def next(self, worker: str) -> Json:
        """What `choose` says of the job as it is now."""
        shift, now = self.shift, time.monotonic()
        waiting = [
            task for task in range(shift.tasks) if task not in shift.counted and task not in shift.hands.values()
        ]
        running = [
            {"task": task, "worker": name, "seconds": round(now - shift.since[name], 4)}
            for name, task in shift.hands.items()
            if task not in shift.counted
        ]
        return self._talk.ask(NAME, waiting, running, typical(shift))

    def ended(self, worker: str, task: int) -> bool:
        """The first result counts."""
        return task not in self.shift.counted

    def lost(self, worker: str) -> None:
        """Nobody is lost in this exercise."""

    def finished(self) -> bool:
        """Whether every task has counted."""
        return len(self.shift.counted) == self.shift.tasks


def typical(shift: Shift) -> float | None:
    """The middle of the seconds that tasks have taken; None before any has ended."""
    return round(statistics.median(shift.lengths), 4) if shift.lengths else None


def stage(answer: Answer, _bench: Bench) -> str:
    """The source of the learner's function."""
    return answer[NAME]


EXERCISE = Exercise(
    id="05.5",
    title="Backups for a straggler",
    points=12,
    handed_in=(HandIn(NAME, "function"),),
    stage=stage,
    cluster=False,
    lesson=f"{LESSON}#A-worker-that-does-not-die",
    hints=(
        Hint(
            "Nothing waits, a worker is free, and one task has been in hand for ever. What does your function return?",
            lambda situation: situation.failed("straggler", "real"),
        ),
        Hint(
            "Is a backup worth more than a task that nobody has begun?",
            lambda situation: situation.failed("waiting"),
        ),
        Hint(
            "How long does a task take as a rule, and how long has the oldest one in hand taken so far?",
            lambda situation: situation.failed("patient"),
        ),
        Hint("How often does a task occur in `running` if it has a backup already?"),
    ),
    debrief=(
        "Backup tasks cost a little work near the end of a job and save the wait for the slowest machine: in the paper "
        "of Dean and Ghemawat a sort took 44 % longer without them. Spark calls it speculative execution. It is safe "
        "for the same reason as a second attempt after a crash: the first result counts, the other is thrown away."
    ),
)


def running(chance: random.Random, tasks: list[int], seconds: list[float]) -> list[dict[str, Any]]:
    """Tasks in hand, each of another worker, in any order."""
    found = [
        {"task": task, "worker": f"w{number}", "seconds": one}
        for number, (task, one) in enumerate(zip(tasks, seconds, strict=True))
    ]
    chance.shuffle(found)
    return found


def chosen(scene: str, bench: Bench, cases: list[Case]) -> list[Json]:
    """What is chosen in each case."""
    return values(bench, scene, NAME, [list(case) for case in cases])


def told(case: Case, value: Json) -> str:
    """A call and what came of it."""
    return f"choose({short(case[0], 60)}, {short(case[1], 260)}, {case[2]}) returned {short(value)}"


@EXERCISE.check("waiting", "What waits comes first", weight=2)
@judged("while tasks wait, a free worker gets one of them, however late others are")
def waiting_first(scene: str, bench: Bench) -> str | Problem:
    """Some tasks wait, one in hand is very late."""
    chance, cases = bench.random, list[Case]()
    for _ in range(20):
        tasks = chance.sample(range(30), 6)
        cases.append((sorted(tasks[:3]), running(chance, tasks[3:], [0.5, 1.0, 90.0]), chance.choice((None, 1.0))))
    for case, value in zip(cases, chosen(scene, bench, cases), strict=True):
        if type(value) is not int or value not in case[0]:
            return Problem(
                told(case, value),
                "A backup is made, or nothing is done, while there are tasks that nobody has begun.",
                "First look whether anything waits.",
            )
    return f"{len(cases)} times a waiting task was chosen"


@EXERCISE.check("straggler", "The one that is latest gets a backup", weight=2)
@judged("if nothing waits, a free worker gets the task that has been in one pair of hands longest, if it is late")
def straggler(scene: str, bench: Bench) -> str | Problem:
    """Nothing waits, two tasks are late."""
    chance, cases, late = bench.random, list[Case](), []
    for _ in range(20):
        tasks, usual = chance.sample(range(30), 4), chance.uniform(0.01, 60)
        times = [usual * factor for factor in (0.4, 1.1, chance.uniform(2.2, 4), chance.uniform(5, 50))]
        late.append(tasks[3])
        cases.append(([], running(chance, tasks, times), usual))
    for case, value, wanted in zip(cases, chosen(scene, bench, cases), late, strict=True):
        if value != wanted:
            return Problem(
                told(case, value) + f"; task {wanted} has been in hand longest",
                "Nobody gets a backup, or another task than the latest does.",
                "Which of the tasks in hand has the most seconds?",
            )
    return f"{len(cases)} times the latest task was chosen"


@EXERCISE.check("patient", "No backup without need", weight=2, needs=["straggler"])
@judged("a task that takes no more than twice the usual gets no backup, and none does before any task has ended")
def patient(scene: str, bench: Bench) -> str | Problem:
    """Nothing waits, and nothing is late."""
    chance, cases = bench.random, list[Case]()
    for _ in range(20):
        tasks, usual = chance.sample(range(30), 3), chance.uniform(0.01, 60)
        cases.append(([], running(chance, tasks, [usual * chance.uniform(0, 1.9) for _ in tasks]), usual))
    cases += [([], running(chance, [4, 7], [3.0, 80.0]), None), ([], [], 1.0), ([], [], None)]
    for case, value in zip(cases, chosen(scene, bench, cases), strict=True):
        if value is not None:
            return Problem(
                told(case, value),
                "Work is done twice though nobody is late: it costs as much as it may save.",
                "Compare the seconds in hand with twice the usual; return None if there is nothing to do.",
            )
    return f"{len(cases)} times nobody was backed up"


@EXERCISE.check("real", "A job with a worker that stands still comes to its end", weight=4, needs=["straggler"])
@judged("one worker is stopped (SIGSTOP) in the middle of a task; the others finish the job, each task counts once")
def real(scene: str, bench: Bench) -> str | Problem:
    """Real processes: stop one, and never wake it before all is done."""
    tasks = 8
    hold = {bench.random.randrange(tasks)}
    with Crew(3, bench.deadline(PATIENCE)) as crew, bench.talk(scene) as talk:
        desk = Chooser(talk)
        shift = desk.shift = Shift(crew, desk, tasks, hold=hold, backups=True)
        try:
            return without_one(shift)
        except Wrong as wrong:
            return wrong.problem


def without_one(shift: Shift) -> str:
    """Stop the worker with the held task, and have the rest of the job done."""
    task = next(iter(shift.hold))
    shift.go_on(lambda: task in shift.hands.values())
    still = shift.holder(task)
    proof = shift.crew.stop(still)
    while True:
        # Before the asking: so late it was at least, when the learner's function was told.
        late = time.monotonic() - shift.since[still]
        shift.hand_out()
        if shift.over():
            break
        if set(shift.hands) - {still}:
            shift.take(None)
            continue
        usual = typical(shift)
        if usual is not None and late > HOPELESS * usual:
            raise shift.wrong(
                f"{still} stands still with task {task} for {late:.2f} s, {late / usual:.0f} times the usual; all "
                "other tasks have counted, and free workers are told None",
                "The job waits for a worker that may never go on.",
                "What should a free worker do when nothing waits?",
            )
        pause(0.01)
    shift.crew.resume(still)
    shift.crew.release(still)
    while still in shift.hands:
        shift.take(None)
    return (
        f"{proof.fault} of {still} during task {task} bit; {shift.counted[task]}'s backup counted, "
        f"and {still}'s own result, when it woke up, did not"
    )
