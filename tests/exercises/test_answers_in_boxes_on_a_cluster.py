"""Functions and classes that are handed in for exercises with a cluster, judged as the grader does it: in a box."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from boxed_answers import COURSE, judged_as_outside, open_house

from podlab.checks import registry
from podlab.cluster import Cluster
from podlab.course import manuscript
from podlab.grading.house import House
from podlab.grading.own_cluster import OwnCluster

pytestmark = [pytest.mark.slow, pytest.mark.cluster]


def cases() -> list[manuscript.Case]:
    """The reference and the first wrong answer of every exercise with a cluster that asks for code."""
    found: dict[tuple[str, str], manuscript.Case] = {}
    for document in manuscript.documents(COURSE / "manuscript"):
        if document.part == "assignment":
            for case in manuscript.cases(document):
                exercise = registry.exercise(case.exercise)
                code = any(item.kind in ("function", "program") for item in exercise.handed_in)
                if exercise.cluster and code and case.kind in ("reference", "wrong"):
                    found.setdefault((case.exercise, case.kind), case)
    return list(found.values())


@pytest.fixture(scope="module")
def cluster(cluster_for: Callable[[str], Cluster]) -> OwnCluster:
    made = cluster_for("quiet")
    return OwnCluster(made.name, made.kubeconfig)


@pytest.fixture(scope="module")
def house(cluster: OwnCluster) -> Iterator[House]:
    with open_house() as made:
        yield made


@pytest.mark.parametrize("case", cases(), ids=lambda case: f"{case.exercise} {case.kind}")
def test_in_a_box_it_is_judged_as_outside(cluster: OwnCluster, house: House, case: manuscript.Case) -> None:
    judged_as_outside(case, lambda seed: cluster.boxed_world(seed, lambda: house))
