"""Grade submissions: `python -m podlab.grading.worker PARENT` reads a job from each line of standard input.

The worker holds the hidden checks and, where an exercise needs a cluster, the administrator's credentials of one that
is the submission's own; the learner's code runs in a box. On standard output it says what is going on, a JSON line
each: {"say": text}, {"attempt": number} when one begins, and {"done": learner} when the record is written.
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import json
import os
import signal
import stat
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from podlab import paths
from podlab.checks import registry, runner, seeds
from podlab.checks.bench import Bench
from podlab.checks.contract import Exercise, Report
from podlab.errors import PodlabError
from podlab.grading import execution, own_cluster, records, unboxed
from podlab.grading.boxed import BoxedBench
from podlab.grading.execution import BoxError, Executed, Limits
from podlab.grading.house import House
from podlab.grading.own_cluster import OwnCluster, Pool
from podlab.grading.records import Outcome, Record, Unanswered
from podlab.grading.submissions import Unreadable, read_notebook
from podlab.grading.transplant import Transplanted, transplant

_PR_SET_PDEATHSIG = 1
#: A submission is tried so often, each time on a fresh cluster, when the machine was in the way.
ATTEMPTS = 3
#: Seconds, on an idle machine, after which one check is ended: its own waits are shorter, all of them together. The
#: longest is for Spark (inside_spark.asking), which may take ten minutes to start on a busy machine.
LONGEST_CHECK = 900.0
UNTOUCHED = "The answer cell is as it was released."
#: How much a busy machine may lengthen the limits of cells.
MOST_STRETCH = 3.0


@dataclass(frozen=True)
class Job:
    """Everything that a worker needs. All paths are absolute."""

    learner: str
    assignment: str
    submission: str | None
    release: str
    hidden: str | None
    out: str
    image: str
    cluster: str
    nodes: int = 3
    #: Whether the worker's cluster may have served others before, if it is proven to be as it was when new.
    pooled: bool = False
    #: Whether the learner's code runs without a box, as --unsafe asks for: in containers if there is an image for them.
    unsafe: bool = False
    cell_limit: float = 60.0
    notebook_limit: float = 300.0
    #: SHA-256 of the submitted file, if it is known.
    digest: str = ""
    #: Why the collector did not take the file.
    refused: str = ""
    #: See Record.
    basis: str = ""
    #: Which attempt is the next: those of workers that have died count.
    attempt: int = 1

    @property
    def chapter(self) -> str:
        """The two digits with which the assignment's name begins."""
        return self.assignment[:2]


class Grader:
    """Grades one submission after the other; keeps the house in which their boxes are."""

    def __init__(
        self, say: Callable[[str], None] = lambda _text: None, begun: Callable[[int], None] = lambda _attempt: None
    ) -> None:
        self.say = say
        self._begun = begun
        self._stack = contextlib.ExitStack()
        self.pool = Pool(say)
        self._houses: dict[str, House] = {}

    def __enter__(self) -> Grader:
        return self

    def __exit__(self, *_error: object) -> None:
        self.pool.close()
        self.close()

    def house(self, image: str, contained: bool = False) -> House:
        """The house for boxes of `image`, opened when it is first needed; `contained`: they are containers."""
        if image not in self._houses:
            from podlab.grading.contained import Containers
            from podlab.images.pull import Images

            root = Images(paths.cache() / "images").resolve(image).root
            house = Containers(root) if contained else House(root)
            self._houses[image] = self._stack.enter_context(house)
        return self._houses[image]

    def close(self) -> None:
        """End the house; the next submission gets a new one."""
        self._houses.clear()
        self._stack.close()

    def grade(self, job: Job) -> Record:
        """The record of one submission. Never raises for anything that the submission contains."""
        began = time.monotonic()
        exercises = registry.chapter(job.chapter, Path(job.hidden) if job.hidden else None)
        path = Path(job.submission) if job.submission else None
        blank = Record(job.learner, job.assignment, Outcome.GRADED, digest=job.digest or digest(path), basis=job.basis)
        try:
            if job.refused:
                raise Unreadable(job.refused)
            submitted = read_notebook(path)
        except Unreadable as reason:
            nothing = [_unanswered(each, str(reason)) for each in exercises.values()]
            return replace(blank, outcome=Outcome.NOT_GRADABLE, reason=str(reason), unanswered=nothing)
        transplanted = transplant(json.loads(Path(job.release).read_text()), submitted)
        record = blank
        for attempt in range(job.attempt, ATTEMPTS + 1):
            self._begun(attempt)
            record = replace(_Attempt(self, job, exercises, transplanted, attempt).record(blank), attempts=attempt)
            if record.outcome is not Outcome.INFRASTRUCTURE:
                break
            self.close()
            self.say(f"{record.reason} Once more, from the beginning.")
        return replace(record, seconds=round(time.monotonic() - began, 1))


def digest(path: Path | None) -> str:
    """SHA-256 of a submitted file; empty where there is none or it cannot be read."""
    if path is None:
        return ""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as file:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                return ""
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return ""


class _Attempt:
    """One try at one submission."""

    def __init__(
        self, grader: Grader, job: Job, exercises: Mapping[str, Exercise], work: Transplanted, number: int
    ) -> None:
        self.grader = grader
        self.number = number
        self.job = job
        self.exercises = exercises
        self.work = work
        self.answered = {_exercise_of(name) for name in work.answered} & set(exercises)
        #: An ordinary process is all that there is for its code.
        self.plain = job.unsafe and not job.image
        self.needs_cluster = any(exercises[id].cluster for id in self.answered)

    def record(self, blank: Record) -> Record:
        """The record of this try."""
        notes = list(self.work.notes)
        missing = {_exercise_of(name) for name in self.work.missing}
        untouched = [
            _unanswered(each, "The answer cell was removed." if id in missing else UNTOUCHED)
            for id, each in self.exercises.items()
            if id not in self.answered
        ]
        if not self.answered:
            return replace(blank, unanswered=untouched, notes=notes)
        try:
            with contextlib.ExitStack() as stack:
                cluster = stack.enter_context(self._cluster()) if self.needs_cluster else None
                self.grader.say("Running the notebook.")
                executed = self._execute(cluster)
                reports = self._check(executed, cluster)
        except PodlabError as error:
            unjudged = [_unanswered(self.exercises[id], str(error)[:2_000]) for id in sorted(self.answered)]
            return replace(
                blank,
                outcome=Outcome.INFRASTRUCTURE,
                reason=str(error)[:2_000],
                unanswered=untouched + unjudged,
                notes=notes,
            )
        return _judged(blank, executed, reports, untouched, notes)

    def _cluster(self) -> AbstractContextManager[OwnCluster]:
        if self.job.pooled and self.number == 1:
            return self.grader.pool.lent(self.job.cluster, self.job.nodes)
        # Tried again after trouble, it gets a cluster that nobody has used.
        self.grader.pool.close()
        return own_cluster.fresh(self.job.cluster, self.job.nodes, self.grader.say)

    def _execute(self, cluster: OwnCluster | None) -> Executed:
        limits = Limits(self.job.cell_limit, self.job.notebook_limit)
        if cluster is None:
            return self._execute_in_house(limits)
        from podlab.grading import box

        limits = replace(limits, stretch=cluster.stretch())
        return box.run(cluster.api, self.job.image, self._job_text(limits), limits)

    def _job_text(self, limits: Limits, **bounds: int) -> str:
        return execution.job(self.work.notebook, self.exercises.values(), limits, **bounds)

    def _execute_in_house(self, limits: Limits) -> Executed:
        with Bench(seed=0) as bench:
            limits = replace(limits, stretch=min(MOST_STRETCH, bench.stretch))
        bounds = {"processes": unboxed.PROCESSES} if self.job.unsafe else {}
        text = self._job_text(limits, **bounds)
        if self.plain:
            return unboxed.run(text, limits)
        argv = ["python3", "-m", "podlab.grading.inside", "/submission/job.json"]
        with self._house().box(argv, {"/submission/job.json": text}) as box:
            exit_ = box.wait(limits.whole)
            if exit_ is not None and exit_.signal == signal.SIGKILL and not exit_.out_of_memory:
                # Nothing in the box can do that to its first process.
                raise BoxError("The notebook's box was killed from outside.")
            ended = "timed out" if exit_ is None else "out of memory" if exit_.out_of_memory else f"{exit_.status}"
            return execution.executed(box.output(execution.LARGEST_RESULT), ended)

    def _house(self) -> House:
        return self.grader.house(self.job.image, contained=self.job.unsafe)

    def _check(self, executed: Executed, cluster: OwnCluster | None) -> dict[str, Report]:
        reports: dict[str, Report] = {}
        for id, exercise in self.exercises.items():
            if id not in self.answered:
                continue
            self.grader.say(f"Checking {id}, {exercise.title}.")
            answer, say = executed.answers.get(id) or {}, self.grader.say
            world = self._world(exercise, cluster)
            report = runner.run(exercise, answer, world, hidden=True, longest=LONGEST_CHECK, say=say)
            why = "" if answer else executed.why_nothing(f"answer-{id.replace('.', '-')}")
            reports[id] = _observed(report, why) if why else report
        return reports

    def _world(self, exercise: Exercise, cluster: OwnCluster | None) -> Callable[[], Any]:
        seed = seeds.seed_for(self.job.learner, exercise.id)
        if exercise.cluster:
            assert cluster is not None
            return lambda: cluster.boxed_world(seed, self._house)
        if self.plain:
            return lambda: Bench(seed=seed)
        return lambda: BoxedBench(self._house(), seed=seed)


def _judged(
    blank: Record,
    executed: Executed,
    reports: Mapping[str, Report],
    unanswered: list[Unanswered],
    notes: list[str],
) -> Record:
    """The record of a submission that was executed and checked."""
    kinds = {trouble["kind"] for trouble in executed.troubles}
    troubles = [f"{trouble['cell'] or 'the notebook'}: {trouble['text']}" for trouble in executed.troubles]
    outcome = next((Outcome(kind) for kind in ("timed out", "crashed") if kind in kinds), Outcome.GRADED)
    reason = " ".join(troubles)
    if any(report.score is None and _in_the_way(report) for report in reports.values()):
        outcome = Outcome.INFRASTRUCTURE
        reason = "; ".join(note for report in reports.values() for note in report.notes)
    return replace(
        blank,
        outcome=outcome,
        reason=reason[:2_000],
        reports=reports,
        unanswered=unanswered,
        notes=[*notes, *troubles],
    )


def _observed(report: Report, why: str) -> Report:
    """The report of an answer that handed in nothing, which no check has looked at: observed is why it did not."""
    lines = [replace(line, result=replace(line.result, observed=why)) for line in report.lines]
    return replace(report, lines=lines)


def _in_the_way(report: Report) -> bool:
    return any(line.result.verdict.value == Outcome.INFRASTRUCTURE.value for line in report.lines)


def _exercise_of(grade_id: str) -> str:
    """ "15.1" of "answer-15-1" or "checks-15-1"; the empty string of anything else."""
    parts = grade_id.split("-")
    return f"{parts[1]}.{parts[2]}" if len(parts) == 3 and parts[0] in ("answer", "checks") else ""


def _unanswered(exercise: Exercise, reason: str) -> Unanswered:
    return Unanswered(exercise.id, exercise.title, exercise.points, reason)


def main() -> int:
    """Grade the jobs that come on standard input, write their records, and say on standard output what is going on."""

    def tell(**fact: str | int) -> None:
        print(json.dumps(fact), flush=True)

    # With the grader dies its worker, and with the worker every box.
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != int(sys.argv[1]):
        return 1
    with Grader(lambda text: tell(say=text), lambda number: tell(attempt=number)) as grader:
        for line in sys.stdin:
            job = Job(**json.loads(line))
            records.write(Path(job.out), grader.grade(job))
            tell(done=job.learner)
    return 0


def to_json(job: Job) -> str:
    """The job as one line of JSON."""
    return json.dumps(asdict(job))


if __name__ == "__main__":
    sys.exit(main())
