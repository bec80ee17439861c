"""The table of the ways that need no cluster; those in pods, and with a worker killed, are tested in tests/cluster."""

from __future__ import annotations

import pytest

from podlab.lab import four_ways
from podlab.spark import missing

LINES = four_ways.corpus(40)
WAYS = [
    four_ways.Ours,
    pytest.param(four_ways.SparkHere, marks=pytest.mark.skipif(bool(missing()), reason="Spark is not on this machine")),
]


@pytest.mark.parametrize("way", WAYS)
def test_a_way_tells_its_stages_by_the_number_of_their_tasks(way: type[four_ways.Way]) -> None:
    with way(LINES) as entered:
        outcome = entered.run()
    assert outcome.counts == four_ways.counts(LINES)
    assert outcome.stages == (four_ways.SPLITS, four_ways.REDUCERS) and sum(outcome.stages) == outcome.tasks


def test_the_table_has_the_stages_beside_the_tasks() -> None:
    row = {"way": "ours", "seconds": 1.0, "killed": 2.0, "stages": (8, 2), "tasks": 10, "again": 1, "shuffled": 5}
    shown = {head: tell(row) for head, tell in four_ways._COLUMNS}
    assert (shown["STAGES"], shown["TASKS"]) == ("8 + 2", "10")
