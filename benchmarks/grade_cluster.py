"""Grade assignments with ten seconds of waiting in a cluster: submissions per minute, pooled and fresh clusters.

The waiting is inherent (a pod has to stay ready for ten seconds), so one after the other six a minute would be the
most. Eight at a time with pooled clusters, then as many with fresh ones, then pooled ones on one core. Clusters have
one node. What the first clusters take to start is part of it.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

from common import Figure, announce, finish, machine, options, say, table

from podlab.commands.demo import throw_away_home
from podlab.course.build import KERNEL, text_of
from podlab.grading import classes, kernel_image, queue

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from autograder.corpus.notebooks import cell  # noqa: E402 - the corpus is no part of the package

NAME = "91-waiting"
POOLED, FRESH = 20.0, 6.0
ANSWER = '''manifest_91_1 = """
apiVersion: v1
kind: Pod
metadata: {name: staying}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: staying
    image: podlab/python:latest
    command: [python3, -S, -c, "import signal; signal.signal(signal.SIGTERM, lambda *_: exit(0)); signal.pause()"]
"""'''


def notebook(answer: str) -> str:
    """The assignment with this answer."""
    facts = {"schema_version": 3, "task": False}
    answers = {"grade": False, "grade_id": "answer-91-1", "locked": False, "solution": True, **facts}
    checks = {"grade": True, "grade_id": "checks-91-1", "locked": True, "points": 10, "solution": False, **facts}
    cells = [
        cell("code", answer, "answer-91-1", {"nbgrader": answers}),
        cell("code", "float(0)", "checks-91-1", {"nbgrader": checks}),
    ]
    return text_of({"cells": cells, "metadata": KERNEL, "nbformat": 4, "nbformat_minor": 5})


def write_course(folder: Path) -> Path:
    """Make the course with the one assignment."""
    shutil.copytree(Path(__file__).with_name("waiting"), folder, ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "manuscript").mkdir()
    for step in ("source", "release"):
        (folder / step / NAME).mkdir(parents=True)
        (folder / step / NAME / f"{NAME}.ipynb").write_text(notebook("manifest_91_1 = ''  # YOUR CODE HERE"))
    return folder


def graded(course: Path, learners: int, out: Path, workers: int, cores: int, pooled: bool) -> tuple[float, int]:
    """Submissions per minute, and how many have full marks; on so many of this process's cores."""
    folder = out.with_name(f"{out.name}-class")
    folder.mkdir()
    for number in range(learners):
        (folder / f"learner-{number:03}.ipynb").write_text(notebook(ANSWER))
    settings = classes.Settings(folder, NAME, out, course, workers=workers, nodes=1, pooled=pooled)

    def progress(step: queue.Progress) -> None:
        if step.record is not None:
            say(f"  {step.learner}: {step.record.outcome.value}, {step.record.score} {step.record.reason[:200]}")

    all_cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, sorted(all_cores)[:cores])
    began = time.monotonic()
    try:
        records = classes.grade_class(settings, progress).records
    finally:
        os.sched_setaffinity(0, all_cores)
    return 60 * learners / (time.monotonic() - began), sum(record.score == record.maximum for record in records)


def main() -> None:
    """Measure and tell."""
    given = options(__doc__, pooled=(48, 4, "submissions, pooled"), fresh=(16, 2, "fresh"), workers=(8, 2, "at a time"))
    here = machine()
    announce("grade-cluster", here)
    cores = here["cores"]
    kernel_image.build_image()
    rows, rates, whole = [], {}, True
    with throw_away_home() as home, tempfile.TemporaryDirectory(prefix="podlab-bench-") as scratch:
        course = write_course(Path(scratch, "course"))
        for name, learners, on, pooled in (
            ("pooled", given.pooled, cores, True),
            ("fresh", given.fresh, cores, False),
            ("pooled, one core", given.pooled, 1, True),
        ):
            say(f"  {name}")
            out = home / name.replace(", ", "-").replace(" ", "-")
            rate, right = graded(course, learners, out, given.workers, on, pooled)
            rates[name], whole = rate, whole and right == learners
            rows.append((name, learners, on, rate, right))
    table(f"{given.workers} at a time", ("", "submissions", "cores", "per minute", "full marks"), rows)
    figure = Figure("grade-cluster", rates["pooled"], "submissions/min", None, f"{POOLED:g} pooled, {FRESH:g} fresh")
    figure.met = whole and (given.small or (rates["pooled"] >= POOLED and rates["fresh"] >= FRESH))
    figure.more = {
        "fresh": round(rates["fresh"], 1),
        "one_core": round(rates["pooled, one core"], 1),
        "full_marks": whole,
    }
    finish(figure, here)


if __name__ == "__main__":
    main()
