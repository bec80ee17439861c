"""Grade the sample class: wall time and CPU of the machine, beside plain nbgrader on the same notebooks.

Ours runs every submission in a box and a cluster of its own and checks from outside, hidden checks too. Plain
nbgrader executes the same notebooks one after the other, visible checks in the learner's kernel, on one cluster
that is up already; its marks are shown beside the known ones.
"""

from __future__ import annotations

import logging
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from common import Figure, announce, finish, machine, options, say, spent, table

from podlab import cluster
from podlab.commands.demo import throw_away_home
from podlab.grading import classes, queue, samples

COURSE = Path(__file__).parents[1]
#: Learners of a short run.
FEW = ("bea", "eva", "kim")
#: Seconds that plain nbgrader may spend in one cell: its checks are cells too.
PLAIN_CELL = 180


@dataclass(frozen=True)
class Run:
    """One way of grading: seconds of wall time and of CPU, marks by learner."""

    wall: float
    cpu: float
    marks: dict[str, float | None]


def measured(work: Callable[[], dict[str, float | None]]) -> Run:
    """Run `work` and take its times."""
    began, before = time.monotonic(), spent()
    marks = work()
    return Run(time.monotonic() - began, spent() - before, marks)


def ours(folder: Path, out: Path) -> dict[str, float | None]:
    """The marks that `podlab grade` gives."""
    settings = classes.Settings(
        folder=folder, assignment=samples.ASSIGNMENT, out=out, course=COURSE, cell_limit=20, regrade=True
    )

    def progress(step: queue.Progress) -> None:
        if step.record is not None:
            say(f"  {step.learner}: {step.record.outcome.value}")

    graded = classes.grade_class(settings, progress)
    return {record.learner: record.score for record in graded.records}


def plain(folder: Path, out: Path) -> dict[str, float | None]:
    """The marks that nbgrader's own autograde gives, with the visible checks, on one cluster."""
    from nbgrader.api import Gradebook
    from nbgrader.converters import Autograde, GenerateAssignment
    from nbgrader.converters.base import NbGraderException
    from nbgrader.coursedir import CourseDirectory

    from podlab.course.release import settings

    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    name = samples.ASSIGNMENT
    (out / "source" / name).mkdir(parents=True)
    shutil.copy(COURSE / "source" / name / f"{name}.ipynb", out / "source" / name)
    config = settings(out)
    config.ExecutePreprocessor.timeout = PLAIN_CELL
    config.ExecutePreprocessor.iopub_timeout = 30
    config.OverwriteCells.add_missing_cells = True
    log = logging.getLogger("plain nbgrader")
    log.setLevel(logging.CRITICAL)

    def convert(kind: type, learner: str, **more: object) -> None:
        directory = CourseDirectory(config=config)
        directory.assignment_id, directory.student_id = name, learner
        converter = kind(coursedir=directory, config=config, **more)
        converter.log = log
        converter.start()

    convert(GenerateAssignment, "*", create_assignment=True, force=True)
    for file in sorted(folder.glob("*.ipynb")):
        inside = out / "submitted" / file.stem / name
        inside.mkdir(parents=True)
        shutil.copy(file, inside / f"{name}.ipynb")
        try:
            convert(Autograde, file.stem)
        except (NbGraderException, Exception) as error:
            say(f"  {file.stem}: lost ({str(error)[:80]})")
    marks: dict[str, float | None] = {file.stem: None for file in folder.glob("*.ipynb")}
    with Gradebook(f"sqlite:///{out / 'gradebook.db'}") as book:
        for each in book.assignment_submissions(name):
            lost = any(grade.auto_score is None for part in each.notebooks for grade in part.grades)
            marks[each.student_id] = None if lost else float(each.score)
    return marks


def main() -> None:
    """Measure and tell."""
    given = options(__doc__)
    here = machine()
    announce("grade-class", here)
    known = {sample.learner: sum(sample.marks.values()) for sample in samples.SAMPLES}
    with throw_away_home() as home, tempfile.TemporaryDirectory(prefix="podlab-bench-") as scratch:
        folder = home / "class"
        samples.write(COURSE, folder)
        for file in folder.glob("*.ipynb"):
            if given.small and file.stem not in FEW:
                file.unlink()
        say("  podlab grade")
        first = measured(lambda: ours(folder, home / "graded"))
        say("  plain nbgrader")
        with cluster.up("plain", nodes=3):
            os.environ["PODLAB_CLUSTER"] = "plain"
            second = measured(lambda: plain(folder, Path(scratch)))
    right = {learner for learner, mark in first.marks.items() if mark == round(known[learner], 2)}
    rows = [
        (name, known[name], _mark(first.marks[name]), _mark(second.marks.get(name))) for name in sorted(first.marks)
    ]
    rows.append(("seconds of wall time", "", first.wall, second.wall))
    rows.append(("seconds of CPU", "", first.cpu, second.cpu))
    table(f"{len(first.marks)} submissions, {queue.default_jobs()} at a time", ("", "known", "ours", "plain"), rows)
    figure = Figure("grade-class", first.wall, "s", second.wall, "all marks as known")
    figure.met = len(right) == len(first.marks)
    figure.more = {
        "cpu": round(first.cpu, 1),
        "floor_cpu": round(second.cpu, 1),
        "submissions": len(first.marks),
        "right": len(right),
    }
    finish(figure, here)


def _mark(value: float | None) -> object:
    return "lost" if value is None else value


if __name__ == "__main__":
    main()
