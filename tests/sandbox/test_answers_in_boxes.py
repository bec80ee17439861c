"""The exercises without a cluster, judged as the grader does it: the learner's code runs in a box."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from boxed_answers import COURSE, judged_as_outside, open_house

from podlab.course import manuscript, needs
from podlab.grading.boxed import BoxedBench
from podlab.grading.house import House

pytestmark = pytest.mark.sandbox


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
    with open_house() as made:
        yield made


@pytest.mark.parametrize("case", plain_cases(), ids=lambda case: f"{case.exercise} {case.kind}")
def test_in_a_box_it_is_judged_as_outside(house: House, case: manuscript.Case) -> None:
    judged_as_outside(case, lambda seed: BoxedBench(house, seed=seed))
