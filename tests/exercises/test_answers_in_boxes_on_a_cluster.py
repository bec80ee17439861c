"""Functions and classes that are handed in for exercises with a cluster, judged as the grader does it: in a box."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from podlab import paths
from podlab.checks import answers, registry, runner, seeds
from podlab.cluster import Cluster
from podlab.course import manuscript
from podlab.grading import kernel_image
from podlab.grading.house import House
from podlab.grading.own_cluster import OwnCluster
from podlab.images.pull import Images
from podlab.lab.show import ReportView

pytestmark = [pytest.mark.slow, pytest.mark.cluster]

COURSE = Path(__file__).parents[2]


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
    root = Images(paths.cache() / "images").resolve(kernel_image.build_image()).root
    with House(root) as made:
        yield made


@pytest.mark.parametrize("case", cases(), ids=lambda case: f"{case.exercise} {case.kind}")
def test_in_a_box_it_is_judged_as_outside(cluster: OwnCluster, house: House, case: manuscript.Case) -> None:
    exercise = registry.exercise(case.exercise, COURSE / "autograder" / "hidden")
    answer = answers.collect([exercise], case.names)[case.exercise]
    seed = seeds.seed_for(case.title, case.exercise)
    report = runner.run(exercise, answer, lambda: cluster.boxed_world(seed, lambda: house), hidden=True)
    told = ReportView(report).text
    if case.kind == "reference":
        assert report.score == float(report.points), told
    else:
        assert report.score is not None and report.score < report.points, told
        for check, words in case.fails.items():
            result = report.result(check)
            assert words in f"{result.observed}\n{result.cause}\n{result.next_step}\n{result.expected}", told
