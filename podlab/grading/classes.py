"""Grade a folder of submissions from end to end."""

from __future__ import annotations

import hashlib
import math
import os
import platform
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from queue import SimpleQueue

from podlab import paths
from podlab.checks import registry
from podlab.course import build as course_builder
from podlab.errors import GradingError
from podlab.grading import (
    basis,
    contained,
    exports,
    kernel_image,
    own_cluster,
    queue,
    receipts,
    records,
    report,
    submissions,
    worker,
)
from podlab.grading.alone import alone_in
from podlab.grading.bookkeeping import Books
from podlab.grading.records import Outcome, Record
from podlab.grading.room import room_in
from podlab.grading.term import Term


@dataclass(frozen=True)
class Settings:
    """What is graded, and how. `only` names learners; `regrade` grades what has a record again.
    Both together leave alone how far a `regrade` of all has come.

    With a `term`, what was collected there is graded; `renew` takes a changed assignment in place of the old one.
    """

    folder: Path
    assignment: str
    out: Path
    course: Path
    workers: int | None = None
    nodes: int = 3
    only: Sequence[str] = ()
    regrade: bool = False
    #: Whether grading again goes on where it was cut off; it begins once more otherwise.
    resume: bool = True
    term: Term | None = None
    renew: bool = False
    #: Whether clusters serve several submissions, proven clean in between; each gets a fresh one otherwise.
    pooled: bool = False
    #: Whether learners' code runs without a box where this machine cannot make one.
    unsafe: bool = False
    cell_limit: float = 60.0
    notebook_limit: float = 300.0
    #: The address under which learners find the lessons, for links in feedback; a term says its own.
    lessons: str = ""


@dataclass(frozen=True)
class Graded:
    """The outcome of a class: a record each, and where the results are."""

    records: Sequence[Record]
    grades: Path
    words: Path
    html: Path
    report: Path


def assignments(course: Path) -> list[str]:
    """The assignments of the course, by name; also one whose release is being made anew, or was when all was killed."""
    steps = (course / "release", course / "source")
    return sorted({folder.name for step in steps for folder in step.glob("*") if folder.is_dir()})


def which_assignment(course: Path, folder: Path, asked: str | None) -> str:
    """The assignment to grade: the one asked for, the only one that `folder` has work for, or the course's only one."""
    known = assignments(course)
    if asked is not None:
        found = [name for name in known if name == asked or name.split("-")[0] == asked]
        if len(found) != 1:
            raise GradingError(f"There is no assignment {asked!r}.", hint=f"There are: {', '.join(known)}.")
        return found[0]
    present = [name for name in known if any(folder.glob(f"*/{name}"))]
    if len(present) == 1:
        return present[0]
    if len(known) == 1:
        return known[0]
    raise GradingError(
        f"It is not clear which assignment {folder} holds.", hint=f"Say it: --assignment {(present or known)[0]}."
    )


def grade_class(
    settings: Settings,
    progress: Callable[[queue.Progress], None],
    say: Callable[[str], None] = lambda _text: None,
) -> Graded:
    """Grade everything that has no record yet, then write gradebook, feedback, CSV and the report of the class."""
    with room_in(settings.out):
        return _grade_class(settings, progress, say)


def _grade_class(settings: Settings, progress: Callable[[queue.Progress], None], say: Callable[[str], None]) -> Graded:
    if (own := settings.course / "exercises").is_dir():
        os.environ[registry.OWN] = str(own.resolve())  # the workers inherit it
    found = _found(settings)
    unknown = set(settings.only) - {each.learner for each in found}
    if unknown:
        raise GradingError(f"No submission of: {', '.join(sorted(unknown))}.", hint="--only takes learners' names.")
    wanted = [each for each in found if not settings.only or each.learner in settings.only]
    out = paths.private(settings.out.resolve())
    with alone_in(out):
        return _grade_wanted(settings, wanted, out, progress, say)


def _grade_wanted(
    settings: Settings,
    wanted: Sequence[submissions.Submission],
    out: Path,
    progress: Callable[[queue.Progress], None],
    say: Callable[[str], None],
) -> Graded:
    books = books_of(settings, out)
    say("Opening the gradebook.")
    release = books.open(settings.renew)
    books.enter(wanted, release, None if settings.term else out / "received" / settings.assignment)
    books.set_deadlines([each.learner for each in wanted])
    jobs, done = _jobs(settings, wanted, out, release, say)
    exercises = registry.chapter(settings.assignment[:2]).values()
    workers = settings.workers or queue.default_jobs(any(each.cluster for each in exercises))
    try:
        _grade_and_book(books, jobs, done, workers, progress)
        if settings.regrade and not settings.only:
            _mark(out, settings.assignment).unlink(missing_ok=True)
    finally:
        for name in {job.cluster for job in jobs if job.pooled}:
            own_cluster.sweep(name)
    say("Writing the report.")
    return results(books)


def _grade_and_book(
    books: Books,
    jobs: Sequence[worker.Job],
    done: Sequence[Record],
    workers: int,
    progress: Callable[[queue.Progress], None],
) -> None:
    """Grade the jobs; every record goes into the books while the next submissions are graded, after those of before."""
    arrived: SimpleQueue[Record | None] = SimpleQueue()
    for record in done:
        arrived.put(record)

    def step(what: queue.Progress) -> None:
        progress(what)
        if what.record is not None:
            arrived.put(what.record)

    with ThreadPoolExecutor(1, "bookkeeper") as bookkeeper:
        booked = bookkeeper.submit(books.book, iter(arrived.get, None))
        try:
            if jobs:
                queue.grade_all(jobs, workers, step)
        finally:
            arrived.put(None)
    booked.result()


def results(books: Books) -> Graded:
    """Write what is made of all records in a folder: grades.csv, feedback.csv, the report of the class."""
    facts = exports.facts_of(books)
    everything = list(facts.records.values())
    grades, words = books.export(everything)
    page = report.write(books, facts)
    return Graded(everything, grades, words, books.folder / "feedback", page)


def books_of(settings: Settings, out: Path) -> Books:
    """The gradebook of the folder with the results."""
    source = settings.course / "source" / settings.assignment / f"{settings.assignment}.ipynb"
    return Books(out, settings.assignment, source, settings.term, settings.lessons)


def _found(settings: Settings) -> list[submissions.Submission]:
    if settings.term is not None:
        return receipts.submissions(settings.term.folder, settings.assignment)
    return submissions.discover(settings.folder.resolve(), settings.assignment)


def _jobs(
    settings: Settings, wanted: Sequence[submissions.Submission], out: Path, release: Path, say: Callable[[str], None]
) -> tuple[list[worker.Job], list[Record]]:
    """The submissions that need grading, and the records of those that have it already."""
    hidden = settings.course / "autograder" / "hidden"
    checks = hidden / f"chapter{settings.assignment[:2]}.py"
    if not checks.is_file():
        say("There are no hidden checks for this assignment: the visible ones decide.")
    now = basis.basis(settings.assignment[:2], release, checks if checks.is_file() else None)
    began = 0.0
    if settings.regrade:
        began = math.inf if settings.only else _regrading(settings, out, say)
    jobs, done, image, stale, unsafe = [], [], None, 0, False
    for each in wanted:
        record = _kept(out, each, began)
        if record is not None and record.basis == now:
            done.append(record)
            continue
        stale += record is not None
        if image is None:
            unsafe = without_boxes(settings, say)
            say("Building the image of the learners' kernel.")
            image = contained.offered(say) if unsafe else kernel_image.build_image()
        own = "" if settings.pooled else each.learner
        word = hashlib.sha256(f"{out}/{each.assignment}/{own}".encode()).hexdigest()[:10]
        jobs.append(
            worker.Job(
                learner=each.learner,
                assignment=each.assignment,
                submission=str(each.path) if each.path else None,
                release=str(release),
                hidden=str(hidden) if checks.is_file() else None,
                out=str(out),
                image=image,
                cluster=f"grade-{word}",
                nodes=settings.nodes,
                pooled=settings.pooled,
                unsafe=unsafe,
                cell_limit=settings.cell_limit,
                notebook_limit=settings.notebook_limit,
                digest=_digest(each),
                refused=each.refused,
                basis=now,
            )
        )
    if stale:
        say(f"{stale} records were made with other checks or another release: these are graded again.")
    return jobs, done


def without_boxes(settings: Settings, say: Callable[[str], None]) -> bool:
    """Whether learners' code runs without a box; GradingError where there can be none and nobody has agreed to that."""
    from podlab.doctor.facts import try_kernel
    from podlab.node.runtime.sandbox import seccomp

    folder = paths.private(paths.data())
    refused = {what: why for what, why in try_kernel(str(folder)).items() if why is not None}
    if not seccomp.supported():
        refused["seccomp"] = f"there is no filter for the processor {platform.machine()}"
    if not refused:
        return False
    words = "; ".join(f"{what}: {why}" for what, why in refused.items())
    if not settings.unsafe:
        raise GradingError(
            f"This machine cannot make a box for learners' code ({words}).",
            hint="`podlab doctor` says how to allow it; a virtual machine or a privileged container will do too. For "
            "assignments without a cluster --unsafe grades without a box: in containers if Docker or Podman answers; "
            "otherwise their code runs as you, and is trusted.",
        )
    exercises = registry.chapter(settings.assignment[:2]).values()
    if any(each.cluster for each in exercises):
        raise GradingError(f"{settings.assignment} needs a cluster of boxes, which this machine cannot run ({words}).")
    return True


def _digest(submission: submissions.Submission) -> str:
    """What a record says of the file it was made of; also of one that was refused."""
    if submission.refused:
        return receipts.refusal(submission.refused)
    return worker.digest(submission.path)


def _mark(out: Path, assignment: str) -> Path:
    """The file that says, by its time, since when an assignment is being graded again."""
    return out / "records" / assignment / "regrading"


def _regrading(settings: Settings, out: Path, say: Callable[[str], None]) -> float:
    """Since when this assignment is being graded again, in seconds of the clock: from now on, if not from earlier."""
    mark = _mark(out, settings.assignment)
    if settings.resume and mark.exists():
        when = datetime.fromtimestamp(mark.stat().st_mtime)
        say(f"Going on with what --regrade began on {when:%d %B, %H:%M}; --no-resume begins once more.")
    else:
        paths.private(mark.parent)
        mark.touch()
    return mark.stat().st_mtime


def _kept(out: Path, submission: submissions.Submission, since: float) -> Record | None:
    """The record of this very file, unless it is older than `since`, or the machine was in the way when it was made."""
    try:
        file = records.path(out, submission.assignment, submission.learner)
        if not file.exists() or file.stat().st_mtime < since:
            return None
        record = records.read(out, submission.assignment, submission.learner)
    except GradingError:
        return None
    if record is None or record.outcome is Outcome.INFRASTRUCTURE:
        return None
    return record if record.digest == _digest(submission) else None


def course_root(given: Path | None) -> Path:
    """The folder of the course."""
    return course_builder.root(given)
