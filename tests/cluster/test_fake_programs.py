"""A program that says what the checks want to hear earns nothing: it is told before it is asked."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from podlab.checks import registry, runner
from podlab.checks.api import Api
from podlab.checks.world import World
from podlab.cluster import Cluster
from podlab.course import manuscript

pytestmark = pytest.mark.slow

COURSE = Path(__file__).parents[2]
sys.path.insert(0, str(COURSE))

from autograder.corpus import fakes  # noqa: E402 - the corpus is no part of the package


@pytest.mark.parametrize("number", ["15.1", "15.2", "15.3"])
def test_a_fake_server_earns_nothing(number: str, shared: Cluster) -> None:
    exercise = registry.exercise(number, COURSE / "autograder" / "hidden")
    document = manuscript.read(COURSE / "manuscript" / "15-self-healing" / "assignment.py")
    api = Api.connect(shared.kubeconfig)
    answer = fakes.answer(document, number)
    report = runner.run(exercise, answer, lambda: World(api, seed=1, cluster="shared"), hidden=True)
    assert report.score == 0.0
    for line in report.lines:
        assert "command and args are ['python3', '-S', '-c'," in line.result.observed
        assert "no longer runs the given program" in line.result.cause
