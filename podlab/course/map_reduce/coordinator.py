"""Exercise 05.4: a coordinator whose workers die, leave early and come back; every task counts once."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps

from podlab.checks.bench import Bench
from podlab.checks.contract import Answer, Exercise, HandIn, Hint, Inconclusive, Json
from podlab.checks.talks import Talk, TalkEnded
from podlab.course.map_reduce.crew import Crew
from podlab.course.map_reduce.shift import Shift, Wrong
from podlab.course.map_reduce.words import LESSON
from podlab.course.plain import Problem, judged

NAME = "Coordinator"
#: Seconds for which a worker of ours may be silent, on an idle machine.
PATIENCE = 20.0


class Learners:
    """The learner's coordinator, in a process of its own."""

    def __init__(self, talk: Talk, tasks: int) -> None:
        self._talk = talk
        made = talk.make(NAME, tasks)
        if not made.ok and made.kind != "unfit":
            raise TalkEnded(made, f"{NAME}({tasks})")

    def next(self, worker: str) -> Json:
        """The task for a free worker, or None."""
        return self._talk.ask("it.next", worker)

    def ended(self, worker: str, task: int) -> Json:
        """Whether this result counts."""
        return self._talk.ask("it.ended", worker, task)

    def lost(self, worker: str) -> None:
        """A worker is gone."""
        self._talk.ask("it.lost", worker)

    def finished(self) -> Json:
        """Whether every task has counted."""
        return self._talk.ask("it.finished")


def stage(answer: Answer, _bench: Bench) -> str:
    """The source of the learner's class."""
    return answer[NAME]


EXERCISE = Exercise(
    id="05.4",
    title="A coordinator whose workers die",
    points=14,
    handed_in=(HandIn(NAME, "function"),),
    stage=stage,
    cluster=False,
    lesson=f"{LESSON}#Once-and-only-once",
    hints=(
        Hint(
            "A worker is lost. How does your coordinator know which task it had in hand?",
            lambda situation: situation.failed("crash", "last"),
        ),
        Hint(
            "Two workers report an end of the same task. What is different when the second one comes?",
            lambda situation: situation.failed("once"),
        ),
        Hint(
            "All tasks are handed out. Is the job finished?",
            lambda situation: situation.failed("all"),
        ),
        Hint("Every task is in one of three states. Which, and what moves it from one to the next?"),
        Hint("What if a worker is lost that has nothing in hand, or that you have never heard of?"),
    ),
    debrief=(
        "A coordinator cannot know whether a silent worker is dead or slow. So it makes the question unimportant: any "
        "task may be done again, and the first result counts. It works because map and reduce have no effect but their "
        "result. The same idea returns as idempotency in chapter 10, and as Jobs of Kubernetes in chapter 20."
    ),
)


def conducted(
    tasks: int, workers: int, script: Callable[[Shift, Bench], str], held: int = 0
) -> Callable[[str, Bench], str | Problem]:
    """A check's function: a job of real workers under the learner's coordinator, in which `script` strikes.

    The first `held` tasks by chance are held when they are given for the first time.
    """

    @wraps(script)
    def run(scene: str, bench: Bench) -> str | Problem:
        hold = set(bench.random.sample(range(tasks), held))
        with Crew(workers, bench.deadline(PATIENCE)) as crew, bench.talk(scene) as talk:
            try:
                return script(Shift(crew, Learners(talk, tasks), tasks, hold=hold), bench)
            except Wrong as wrong:
                return wrong.problem

    return run


def victim(shift: Shift) -> tuple[int, str]:
    """The held task, once somebody has it in hand, and who that is."""
    task = next(iter(shift.hold))
    shift.go_on(lambda: task in shift.hands.values())
    return task, shift.holder(task)


def calm(shift: Shift, _bench: Bench) -> str:
    """Nothing happens to anybody."""
    shift.to_the_end()
    used = len(set(shift.counted.values()))
    return f"{shift.tasks} tasks counted, each once, done by {used} workers"


def crash(shift: Shift, _bench: Bench) -> str:
    """Kill a worker in the middle of a task."""
    task, worker = victim(shift)
    proof = shift.kill(worker)
    shift.to_the_end()
    if shift.given[task] < 2:
        raise Inconclusive(f"task {task} was not lost")
    return f"{proof.fault} during task {task} bit; {shift.counted[task]} did it again; each task counted once"


def thought_dead(shift: Shift, _bench: Bench) -> str:
    """A worker stands still, is given up, and comes back with its result when another has done its task."""
    task, worker = victim(shift)
    shift.crew.stop(worker)
    shift.absent.add(worker)
    shift.gone(worker)
    shift.go_on(lambda: task in shift.counted)
    shift.since[worker] = 0.0
    shift.crew.resume(worker)
    shift.crew.release(worker)
    late = False
    while not late:
        late = worker in shift.take(None)
    shift.to_the_end()
    return f"{worker} was stopped during task {task} and came back; {shift.counted[task]}'s result counted, once"


EXERCISE.check("all", "Every task counts once, and then the job is finished", weight=3)(
    judged("each of ten tasks is handed out to one worker and counts once; finished() is True then, and not before")(
        conducted(10, 3, calm)
    )
)
EXERCISE.check("crash", "A worker is killed in the middle of a task", weight=3)(
    judged("the task of a worker that was killed is handed out again, and each task counts once")(
        conducted(8, 3, crash, held=1)
    )
)
EXERCISE.check("once", "A worker that was given up comes back", weight=3, needs=["crash"])(
    judged("the result of a worker that was thought dead does not count if another's has counted")(
        conducted(8, 3, thought_dead, held=1)
    )
)
