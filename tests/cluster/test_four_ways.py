"""One job in four ways: the same counts, also when a worker is killed with a task in hand."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from podlab import addons
from podlab.checks.api import Api
from podlab.cluster import Cluster
from podlab.lab import four_ways
from podlab.spark import missing
from podlab.waiting import until

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(missing()), reason=f"{', '.join(missing())} not on this machine: pip install '.[spark]'"),
]

LINES = four_ways.corpus(400)
RIGHT = four_ways.counts(LINES)


@pytest.fixture(scope="module")
def api(shared: Cluster) -> Iterator[Api]:
    addons.enable("spark", shared.name)
    yield Api.connect(shared.kubeconfig)
    addons.disable("spark", shared.name)


@pytest.mark.parametrize("way", four_ways.WAYS, ids=lambda way: way.name)
def test_every_way_counts_the_same_and_does_a_killed_task_again(api: Api, way: type[four_ways.Way]) -> None:
    with way(LINES, api) as entered:
        calm = entered.run()
        killed = entered.run(kill=True)
    assert calm.counts == killed.counts == RIGHT
    assert calm.tasks == four_ways.SPLITS + four_ways.REDUCERS < killed.tasks
    assert calm.stages == (four_ways.SPLITS, four_ways.REDUCERS) and len(killed.stages) >= 2
    assert 0 < calm.shuffled <= killed.shuffled
    until(
        lambda: not [one for one in api.list("Namespace") if one["metadata"]["name"].startswith("four-ways-")],
        "the namespace going",
        timeout=300,
        interval=0.3,
    )
