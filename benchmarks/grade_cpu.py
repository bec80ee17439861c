"""Grade notebooks that only compute: submissions per minute, ours beside plain nbgrader on the same notebooks.

Ours runs every submission in a box, checks from outside, and writes gradebook, feedback and report. Plain nbgrader
runs `autograde` and `generate_feedback`, with the same checks as an author would write them into grade cells. The
cost of one more submission is the difference between a class and its first learner, divided by the others.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from common import Figure, announce, finish, machine, options, say, table
from grade_class import Run, measured

from podlab.grading import classes, kernel_image, queue

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from autograder.corpus import notebooks  # noqa: E402 - the corpus is no part of the package

#: The checks of the corpus' exercises in a grade cell, as they are written for nbgrader.
PLAIN = {
    "90.1": """
import random
def _points():
    pairs = [(random.randint(1, 10**n), random.randint(1, 20)) for n in (2, 2, 2, 2, 12, 12, 12, 12)]
    found = [(spread(n, k), n, k) for n, k in pairs]
    if not all(sum(v) == n and len(v) == k for v, n, k in found):
        return 0
    even = all(max(v) - min(v) <= 1 for v, n, k in found)
    order = all(v == sorted(v, reverse=True) for v, n, k in found)
    return 10 * (2 + 2 * even + 2 + 2 * order) / 8
""",
    "90.2": """
def _points():
    it, seen = Counter(), {}
    for key, amount in [("first", 1), ("first", 1), *((f"k{n % 70}", n) for n in range(200))]:
        seen.setdefault(key, amount)
        if it.add(key, amount) != sum(seen.values()):
            return 0
    return 10
""",
    "90.3": "\ndef _points():\n    return 10 if choice_90_3 == 'b' else 0\n",
    "90.4": "\ndef _points():\n    return 10 if 40 <= value_90_4 <= 44 else 0\n",
}
END = "try:\n    _given = float(_points())\nexcept Exception:\n    _given = 0.0\n_given"
#: Honest answers that are not right: the last line says how they came about.
WRONG = {
    "90.1": "def spread(count, groups):\n    return [count // groups] * groups",
    "90.2": (
        "class Counter:\n    total = 0\n    def add(self, key, amount):\n"
        "        self.total += amount\n        return self.total"
    ),
    "90.3": 'choice_90_3 = "c"',
    "90.4": "value_90_4 = 12",
}


def answers(number: int) -> dict[str, str]:
    """The answers of one learner: right ones, wrong ones, none; each combination before one comes again."""
    chosen = {}
    for place, exercise in enumerate(notebooks.ALL):
        kind = number // 3**place % 3
        if kind < 2:
            chosen[exercise] = (notebooks.RIGHT, WRONG)[kind][exercise]
    return chosen


def write_class(folder: Path, learners: Sequence[int]) -> None:
    """Write submissions, with grade cells that plain nbgrader can use."""
    folder.mkdir(parents=True)
    for number in learners:
        (folder / f"learner-{number:03}.ipynb").write_text(json.dumps(with_tests(notebooks.answered(answers(number)))))


def with_tests(notebook: dict[str, Any]) -> dict[str, Any]:
    """The notebook with the checks in its grade cells."""
    for cell in notebook["cells"]:
        name = cell["id"]
        if name.startswith("checks-"):
            cell["source"] = PLAIN[name.removeprefix("checks-").replace("-", ".")] + END
    return notebook


def ours(course: Path, folder: Path, out: Path, workers: int) -> dict[str, float | None]:
    """The marks that `podlab grade` gives."""
    settings = classes.Settings(folder, notebooks.NAME, out, course, workers=workers)
    return {record.learner: record.score for record in classes.grade_class(settings, lambda _step: None).records}


def plain(source: Path, folder: Path, out: Path) -> dict[str, float | None]:
    """The marks that nbgrader's own autograde gives."""
    from nbgrader.api import Gradebook
    from nbgrader.converters import Autograde, GenerateAssignment, GenerateFeedback
    from nbgrader.coursedir import CourseDirectory

    from podlab.course.release import settings

    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    name = notebooks.NAME
    (out / "source" / name).mkdir(parents=True)
    (out / "source" / name / f"{name}.ipynb").write_bytes(source.read_bytes())
    for file in folder.glob("*.ipynb"):
        inside = out / "submitted" / file.stem / name
        inside.mkdir(parents=True)
        (inside / f"{name}.ipynb").write_bytes(file.read_bytes())
    config = settings(out)
    config.ExecutePreprocessor.iopub_timeout = 60
    log = logging.getLogger("plain nbgrader")
    log.setLevel(logging.CRITICAL)
    for kind, more in ((GenerateAssignment, {"create_assignment": True}), (Autograde, {}), (GenerateFeedback, {})):
        directory = CourseDirectory(config=config)
        directory.assignment_id = name
        converter = kind(coursedir=directory, config=config, **more)
        converter.log = log
        converter.start()
    with Gradebook(f"sqlite:///{out / 'gradebook.db'}") as book:
        return {each.student_id: float(each.score) for each in book.assignment_submissions(name)}


def cost(whole: Run, first: Run, others: int) -> float:
    """CPU seconds of one more submission."""
    return max(0.0, whole.cpu - first.cpu) / max(1, others)


def main() -> None:
    """Measure and tell."""
    given = options(__doc__, learners=(81, 4, "submissions"))
    here = machine()
    announce("grade-cpu", here)
    warnings.simplefilter("ignore")
    workers = queue.default_jobs(cluster=False)
    kernel_image.build_image()  # once for each version of the package; not a cost of grading
    runs: dict[str, tuple[Run, Run]] = {}
    with tempfile.TemporaryDirectory(prefix="podlab-bench-") as scratch:
        top = Path(scratch)
        course = notebooks.write_course(top / "course")
        source = course / "source" / notebooks.NAME / f"{notebooks.NAME}.ipynb"
        source.write_text(json.dumps(with_tests(json.loads(source.read_text()))))
        write_class(top / "whole", range(given.learners))
        write_class(top / "first", range(1))
        for name, work in (
            ("ours", lambda folder, out: ours(course, folder, out, workers)),
            ("plain", lambda folder, out: plain(source, folder, out)),
        ):
            say(f"  {name}")
            first, whole = (
                measured(lambda part=part, name=name, work=work: work(top / part, top / f"{name}-{part}"))
                for part in ("first", "whole")
            )
            runs[name] = first, whole
    (our_first, our_whole), (plain_first, plain_whole) = runs["ours"], runs["plain"]
    rate, floor = (60 * given.learners / run.wall for run in (our_whole, plain_whole))
    costs = [cost(our_whole, our_first, given.learners - 1), cost(plain_whole, plain_first, given.learners - 1)]
    same = our_whole.marks == plain_whole.marks
    rows = [
        ("submissions per minute", rate, floor),
        ("seconds, a class of one", our_first.wall, plain_first.wall),
        ("CPU seconds of one more", *costs),
        ("seconds of CPU", our_whole.cpu, plain_whole.cpu),
    ]
    table(f"{given.learners} submissions, {workers} at a time", ("", "ours", "plain"), rows)
    say("  identical scores" if same else f"  SCORES DIFFER: {our_whole.marks} and {plain_whole.marks}")
    limit = "4 times plain nbgrader, one more at half its cost, identical scores"
    figure = Figure("grade-cpu", rate, "submissions/min", floor, limit)
    figure.met = same and (given.small or (rate >= 4 * floor and costs[0] <= costs[1] / 2))
    figure.more = {"cpu_each": round(costs[0], 2), "floor_cpu_each": round(costs[1], 2), "same_scores": same}
    finish(figure, here)


if __name__ == "__main__":
    main()
