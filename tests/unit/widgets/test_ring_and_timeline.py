"""Elections and timelines to go through: a moment is a function of the record, and words match pictures."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from itertools import pairwise

import pytest

from podlab.distributed.election import simulated
from podlab.distributed.histories import leases
from podlab.errors import UsageError
from podlab.widgets import replays, timeline
from podlab.widgets.group import GRID, Group, Settings, frames, state
from podlab.widgets.ring import Election, Ring, lanes_of
from podlab.widgets.timeline import Bar, Mark, Timeline


def texts(svg):
    return [element.text for element in ET.fromstring(svg).iter("{http://www.w3.org/2000/svg}text")]


def test_the_same_settings_and_faults_are_the_same_run():
    one, other = Group(Settings(seed=4, loss=0.2)), Group(Settings(seed=4, loss=0.2))
    assert one.record == other.record
    one.strike(5.0, "crash", "n1")
    assert one.record != other.record
    other.strike(5.0, "crash", "n1")
    assert one.record == other.record


def test_a_fault_at_an_earlier_moment_forgets_those_after_it():
    group = Group()
    group.strike(5.0, "crash", "n1")
    group.strike(9.0, "crash", "n2")
    group.strike(7.0, "heal")
    assert [(fault.time, fault.verb) for fault in group.faults] == [(5.0, "crash"), (7.0, "heal")]


def test_moments_ascend_and_are_never_further_apart_than_the_grid():
    moments = Group().frames
    assert moments == sorted(moments) and all(b - a <= GRID + 1e-3 for a, b in pairwise(moments))
    assert frames([]) == [0.0]


@pytest.mark.parametrize("seed", range(5))
def test_holders_at_any_moment_are_those_of_the_checker(seed):
    record = simulated(seed, seconds=30.0, trace=True).record
    view = Ring(record, mode="simulation")
    every = leases(record)
    for position in range(0, view.length, 7):
        view.seek(position)
        # One tenth of a millisecond beside an event the two may differ: moments are rounded.
        if any(abs(edge - view.now) < 1e-3 for lease in every for edge in (lease.begin, lease.end)):
            continue
        want = [lease.holder for lease in every if lease.begin <= view.now < lease.end]
        assert view.state.holders == want, f"at {view.now} s"


def test_killing_the_leader_is_seen_in_words_picture_and_table():
    view = Election(seed=2)
    view.until(6)
    (leader,) = view.state.holders
    view.kill()
    assert f"Kill {leader} at" in view.mark and view.state.members[leader].role(view.now) == "down"
    assert "nobody leads" in view.summary() and f"down: {leader}" in str(view)
    assert f"{leader} ✕" in texts(view.to_svg())
    view.until(12)
    (second,) = view.state.holders
    assert second != leader and view.state.members[second].term == 2
    assert f"{second} L" in texts(view.to_svg())
    view.restart(leader)
    view.until(14)
    assert view.state.members[leader].role(view.now) == "follower" and view.state.holders == [second]


def test_a_paused_leader_loses_its_lease_and_its_late_write_is_refused():
    view = Election(seed=3)
    view.until(8)
    (first,) = view.state.holders
    view.pause()
    assert view.state.members[first].role(view.now) == "paused leader"
    view.until(14)
    view.resume(first)
    view.until(16)
    assert view.state.holders and view.state.holders != [first]
    kinds = {kind for kind, *_ in lanes_of(view.record, view.names, 30.0)[first]}
    assert {"lease", "paused"} <= kinds


def test_cut_off_nodes_are_cut_from_members_and_healed():
    view = Election(seed=1)
    view.until(5)
    view.isolate("n1", "n2")
    assert len(view.state.cuts) == 12 and ("n1", "n2") not in view.state.cuts
    view.until(9)
    view.heal()
    assert view.state.cuts == set()
    assert [fault.verb for fault in view.group.faults] == ["cut", "cut", "heal"]


def test_bad_input_is_named():
    with pytest.raises(UsageError, match="no setting 'speed'"):
        Election(speed=3)
    view = Election()
    with pytest.raises(UsageError, match="no node 'n9'"):
        view.kill("n9")
    with pytest.raises(UsageError, match="between"):
        view.set(lease=99)
    view.kill("leader")
    assert "Nobody leads at 0.00 s" in view.mark


def test_messages_of_the_page_do_what_the_calls_do():
    view, other = Election(seed=5), Election(seed=5)
    for message in (
        {"type": "set", "name": "lease", "value": 1.0},
        {"type": "seek", "position": 30},
        {"type": "do", "name": "kill"},
    ):
        view._on_message(view, message, [])
    other.set(lease=1.0)
    other.seek(30)
    other.kill("leader")
    assert view.view == other.view


def test_a_moment_is_never_influenced_by_what_comes_later():
    record = Group().record
    half = [event for event in record if event["time"] <= 7.5]
    names = ["n1", "n2", "n3", "n4", "n5"]
    assert state(record, names, 7.5).words() == state(half, names, 7.5).words()


def test_a_timeline_says_what_holds_and_draws_only_what_was():
    view = Timeline([Bar("n1", 0, 2, "alive", "good"), Bar("n1", 2, 5, "slow", "doubt")], [Mark("n2", 1, "killed")])
    view.seek(view.position_of(2.5))
    assert view.now == 2 and view.holding("n1") == ["slow"] and "n1: slow" in view.summary()
    view.seek(0)
    assert "slow" not in view.to_svg() and "killed" not in view.to_svg()


def test_what_a_check_keeps_comes_back_at_its_moment():
    bars, marks = [Bar("n1", 0, 2, "alive"), Bar("n1", 2, 5, "slow")], [Mark("n1", 3, "asked")]
    kept = json.loads(json.dumps(timeline.kept(bars, marks, 3.0)))
    view = replays.of(kept, "The detector", "it said dead")
    assert isinstance(view, Timeline) and view.now == 3 and view.mark == "it said dead"
    record = [event for event in simulated(3, seconds=20.0).record if event["time"] < 9]
    ring = Ring(record)
    back = replays.of({"kind": "ring", "record": record, "position": ring.position_of(5.0)}, "t", "two holders")
    assert isinstance(back, Ring) and abs(back.now - 5.0) < GRID
