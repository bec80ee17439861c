"""The exercises without a cluster, judged as the grader does it: the learner's code runs in a box."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from podlab import paths
from podlab.checks import answers, registry, runner, seeds
from podlab.course import manuscript, needs
from podlab.grading import kernel_image
from podlab.grading.boxed import BoxedBench
from podlab.grading.house import House
from podlab.images.pull import Images
from podlab.lab.show import ReportView

pytestmark = pytest.mark.sandbox

COURSE = Path(__file__).parents[2]


def plain_cases() -> list[manuscript.Case]:
    """The reference of every exercise without a cluster, and the first wrong answer to each; of Spark's, one."""
    found: dict[tuple[str, str], manuscript.Case] = {}
    for document in manuscript.documents(COURSE / "manuscript"):
        if document.part == "assignment" and document.about["needs"].startswith("processes"):
            for case in manuscript.cases(document):
                if case.kind in ("reference", "wrong"):
                    found.setdefault((case.exercise, case.kind), case)
        elif document.part == "assignment" and "packages" in document.about and not needs.missing(document.about):
            first = next(case for case in manuscript.cases(document) if case.kind == "reference")
            found[first.exercise, first.kind] = first
    return list(found.values())


@pytest.fixture(scope="module")
def house() -> Iterator[House]:
    root = Images(paths.cache() / "images").resolve(kernel_image.build_image()).root
    with House(root) as made:
        yield made


@pytest.mark.parametrize("case", plain_cases(), ids=lambda case: f"{case.exercise} {case.kind}")
def test_in_a_box_it_is_judged_as_outside(house: House, case: manuscript.Case) -> None:
    exercise = registry.exercise(case.exercise, COURSE / "autograder" / "hidden")
    answer = answers.collect([exercise], case.names)[case.exercise]
    seed = seeds.seed_for(case.title, case.exercise)
    report = runner.run(exercise, answer, lambda: BoxedBench(house, seed=seed), hidden=True)
    told = ReportView(report).text
    if case.kind == "reference":
        assert report.score == float(report.points), told
    else:
        assert report.score is not None and report.score < report.points, told
        for check, words in case.fails.items():
            result = report.result(check)
            assert words in f"{result.observed}\n{result.cause}\n{result.next_step}\n{result.expected}", told
