"""The corpus' attacks on a submission's own cluster, graded as one class at full load: nothing is gained or lost."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from podlab import cluster, waiting
from podlab.checks import registry
from podlab.grading import classes

pytestmark = [pytest.mark.slow, pytest.mark.embedded("graders make embedded clusters")]

sys.path.insert(0, str(Path(__file__).parents[2]))

from autograder.corpus import attacks, clustered, kills, notebooks  # noqa: E402 - the corpus is no part of the package

HONEST = next(each for each in clustered.ATTACKS if each.name == "honest")
#: Right answers which are graded beside the attacks, in the order of names, and must keep what is theirs.
BESIDE = tuple(replace(HONEST, name=f"{name}-beside") for name in ("claims", "disk", "evicted"))
CLASS = (*clustered.ATTACKS, *BESIDE)


@pytest.fixture
def orphans() -> Iterator[None]:
    kills.adopt_orphans()
    yield
    kills.adopt_orphans(False)


@pytest.mark.parametrize("pooled", [False, True], ids=["fresh", "pooled"])
def test_in_a_class_with_clusters_nobody_gains_or_loses_and_none_is_the_machines_fault(
    pooled: bool, tmp_path: Path, home: Path, orphans: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    course = notebooks.write_course(tmp_path / "course", clustered.NAME, clustered.STUB)
    monkeypatch.setenv(registry.OWN, str(course / "exercises"))
    clusters, processes = cluster.list_clusters(), set(kills.children())
    (tmp_path / "class").mkdir()
    for attack in CLASS:
        file = tmp_path / "class" / f"{attack.name}.ipynb"
        notebooks.write(notebooks.answered(attack.code, clustered.STUB), file)
    said: list[str] = []
    settings = classes.Settings(
        folder=tmp_path / "class",
        assignment=clustered.NAME,
        out=tmp_path / "out",
        course=course,
        nodes=1,
        pooled=pooled,
        cell_limit=30,
    )
    graded = classes.grade_class(settings, lambda step: said.append(f"{step.learner}: {step.text}"))
    found = {record.learner: record for record in graded.records}
    shown = json.dumps({name: [record.reason, record.notes] for name, record in found.items()}, indent=1)
    assert attacks.differences(found, CLASS, clustered.EXERCISES) == [], (shown, said)
    assert found.keys() == {each.name for each in CLASS}
    began = sum("Starting its cluster." in line for line in said)
    assert began < len(CLASS) if pooled else began >= len(CLASS), "no cluster was lent again: this proves nothing"
    assert cluster.list_clusters() == clusters
    waiting.until(lambda: set(kills.children()) <= processes, "the end of what the grader started", timeout=60)
