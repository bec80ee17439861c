"""Answers that are judged in boxes, as a grader does it: with and without a cluster the same."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from known_answers import fails_as_told, said

from podlab import paths
from podlab.checks import answers, registry, runner, seeds
from podlab.checks.bench import Bench
from podlab.checks.world import World
from podlab.course import manuscript
from podlab.grading import kernel_image
from podlab.grading.house import House
from podlab.images.pull import Images
from podlab.lab.show import ReportView

COURSE = Path(__file__).parents[1]


@contextlib.contextmanager
def open_house() -> Iterator[House]:
    """A house whose boxes have the image of the learners' kernel."""
    root = Images(paths.cache() / "images").resolve(kernel_image.build_image()).root
    with House(root) as made:
        yield made


def judged_as_outside(
    case: manuscript.Case, place: Callable[[int], contextlib.AbstractContextManager[World | Bench]]
) -> None:
    """Check the answer in the place for its seed: a reference has all points, a wrong one says what it should."""
    exercise = registry.exercise(case.exercise, COURSE / "autograder" / "hidden")
    answer = answers.collect([exercise], case.names)[case.exercise]
    seed = seeds.seed_for(case.title, case.exercise)
    known = partial(fails_as_told, case)
    report = runner.run(exercise, answer, lambda: place(seed), hidden=True, convinced=known)
    told = ReportView(report).text
    if case.kind == "reference":
        assert report.score == float(report.points), told
    else:
        assert report.score is not None and report.score < report.points, told
        for check, words in case.fails.items():
            assert words in said(report.result(check)), told
