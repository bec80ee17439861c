"""The table of the ways that need no cluster; those in pods, and with a worker killed, are tested in tests/cluster."""

from __future__ import annotations

import runpy
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from podlab.errors import LaboratoryError
from podlab.lab import four_ways
from podlab.spark import missing
from podlab.waiting import until

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


def test_the_picture_has_the_numbers_of_the_table_for_all_four_ways() -> None:
    ways = four_ways.recorded()
    assert [row["way"] for row in ways] == [way.name for way in four_ways.WAYS]
    words = [element.text for element in ET.fromstring(ways.to_svg()).iter("{http://www.w3.org/2000/svg}text")]
    for row in ways:
        assert {row["way"], f"{row['seconds']:.1f} s", f"{row['killed']:.1f} s"} <= set(words)
        assert row["killed"] > row["seconds"] and row["again"] >= 1 and row["shuffled"] > 0
    assert ways.text in ways.to_svg().replace("&#10;", "\n") and "<table>" in ways._repr_html_()
    assert four_ways.Ways([], four_ways._COLUMNS, "none").to_svg()


def test_a_strike_that_fails_lets_who_is_held_go_on_and_is_told(tmp_path: Path) -> None:
    marker, words = tmp_path / "held", runpy.run_path(str(four_ways._WORDS))

    def strike() -> None:
        until(marker.exists, "the held one", timeout=60)
        raise LaboratoryError("No worker has it.")

    with pytest.raises(LaboratoryError, match="No worker has it"):
        four_ways._struck(lambda: words["hold"](str(marker)), strike, marker)


def test_work_that_fails_before_anything_is_held_is_told_without_waiting_for_the_strike(tmp_path: Path) -> None:
    marker, waited = tmp_path / "held", []

    def work() -> None:
        raise LaboratoryError("No split.")

    def strike() -> None:
        waited.append(until(marker.exists, "the held one", timeout=60))

    with pytest.raises(LaboratoryError, match="No split"):
        four_ways._struck(work, strike, marker)
    assert waited == [True], "the strike has ended, and not for want of patience"
