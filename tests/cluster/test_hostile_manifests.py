"""The corpus' attacks on a submission's own cluster: nothing is gained, and fresh and pooled clusters give the same."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from podlab import cluster
from podlab.checks import registry
from podlab.grading import kernel_image, worker
from podlab.grading.records import Record

pytestmark = [pytest.mark.slow, pytest.mark.embedded("graders make embedded clusters")]

sys.path.insert(0, str(Path(__file__).parents[2]))

from autograder.corpus import attacks, clustered, notebooks  # noqa: E402 - the corpus is no part of the package


@pytest.mark.parametrize("pooled", [False, True], ids=["fresh", "pooled"])
def test_in_a_cluster_nobody_gains_and_none_is_the_machines_fault(
    pooled: bool, tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(registry.OWN, str(notebooks.COURSE / "exercises"))
    before = cluster.list_clusters()
    release = tmp_path / "release.ipynb"
    notebooks.write(notebooks.release(clustered.STUB), release)
    found: dict[str, Record] = {}
    said: list[str] = []
    with worker.Grader(said.append) as grader:
        for attack in clustered.ATTACKS:
            submission = tmp_path / f"{attack.name}.ipynb"
            notebooks.write(notebooks.answered(attack.code, clustered.STUB), submission)
            job = worker.Job(
                learner=attack.name,
                assignment=clustered.NAME,
                submission=str(submission),
                release=str(release),
                hidden=None,
                out=str(tmp_path),
                image=kernel_image.build_image(),
                cluster="hostile",
                nodes=1,
                pooled=pooled,
                cell_limit=30,
            )
            found[attack.name] = grader.grade(job)
        lent_again = grader.pool.reused
    shown = json.dumps({name: [record.reason, record.notes] for name, record in found.items()}, indent=1)
    assert attacks.differences(found, clustered.ATTACKS, clustered.EXERCISES) == [], (shown, said)
    assert not pooled or lent_again, "no cluster was lent again: this proves nothing"
    assert cluster.list_clusters() == before
