"""Charts of jobs: picture, words and table tell the same, and a failed check's evidence becomes one."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from podlab.course.split_and_conquer import assign, dispatch
from podlab.distributed.farm import amdahl, cut, farm, plan
from podlab.errors import UsageError
from podlab.widgets import replays
from podlab.widgets.gantt import Gantt, Planner, SpeedUp

WIDGETS = Path(replays.__file__).parent


def bars(view: Gantt) -> list[str]:
    boxes = ET.fromstring(view.to_svg()).iter("{http://www.w3.org/2000/svg}rect")
    told = [box.find("{http://www.w3.org/2000/svg}title") for box in boxes]
    return [title.text or "" for title in told if title is not None]


def test_a_bar_for_each_chunk_that_has_begun():
    view = Gantt(plan(cut([0.1] * 8, 2), 2), "Who", mode="simulation")
    assert len(bars(view)) == 4 and "4 of 4" not in view.summary()
    view.seek(1)
    assert len(bars(view)) == 2 and "0 of 4 chunks done, 2 in hand" in view.summary()
    assert [row[1] for row in view.table()[1]] == ["1", "1"]


def test_what_set_changes_is_planned_anew_and_nonsense_is_refused():
    planner = Planner(workers=4, chunk=2, skew=1.0, straggler=2.0)
    dealt = planner.run.seconds
    planner.set(hand_out="asked")
    assert planner.run.seconds < 0.6 * dealt
    assert Planner(workers=4, chunk=2, skew=1.0, straggler=2.0).run.seconds == dealt
    with pytest.raises(UsageError, match="between 1 and 16"):
        planner.set(workers=99)
    with pytest.raises(UsageError, match="no control 'colour'"):
        planner.set(colour="red")


def test_measured_speedups_stand_beside_the_law():
    view = SpeedUp({1: 1.0, 4: 2.4}, 0.2)
    assert view.table()[1][1] == ["4", "2.40", f"{amdahl(0.2, 4):.2f}"]
    assert "at most 5.0 with any number" in view.to_text()


def test_a_real_farm_says_what_its_start_has_cost():
    run = farm(abs, cut([-1, -2, -3], 1), 2)
    assert list(run.results) == [1, 2, 3] and run.start > 0
    assert len({span.pid for span in run.spans}) <= 2 and all(span.pid for span in run.spans)


def test_evidence_of_a_run_and_of_a_deal_become_charts():
    lines = [
        {"event": "begin", "chunk": 0, "pid": 7, "at": 1.0},
        {"event": "begin", "chunk": 1, "pid": 8, "at": 1.5},
        {"event": "end", "chunk": 0, "pid": 7, "at": 2.0},
    ]
    view = replays.of(dispatch.picture(lines)["replay"], "They work at the same time", "2 in hand")
    assert view.mark == "2 in hand" and view.position == view.length and len(bars(view)) == 2
    assert dispatch.picture([]) == {}
    deal = replays.of(assign.picture([1.0, 2.0, 3.0], [[0, 1], [2]])["replay"], "Nobody is long behind", "x")
    assert deal.mode == "simulation" and [row[3] for row in deal.table()[1]] == ["3.00", "3.00"]


@pytest.mark.parametrize("path", sorted(WIDGETS.glob("*.js")), ids=lambda path: path.name)
def test_every_view_is_small(path):
    assert path.stat().st_size <= 20_000
