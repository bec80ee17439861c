"""The model behind the pictures: what was seen, folded and replayed; and pictures that say what the words say."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from podlab.widgets import model, svg
from podlab.widgets.model import STATES, Record, box, stairs, tile
from podlab.widgets.views import ClusterMap, Staircase

WIDGETS = Path(model.__file__).parent


def node(name, ready="True"):
    return {"metadata": {"name": name}, "spec": {}, "status": {"conditions": [{"type": "Ready", "status": ready}]}}


def pod(uid, *, name=None, on="node-1", phase="Running", ready=True, restarts=0, waiting=None, **meta):
    state = {"waiting": {"reason": waiting}} if waiting else {"running": {}}
    return {
        "metadata": {"uid": uid, "name": name or f"serving-{uid}", "labels": {"app": "serving"}, **meta},
        "spec": {"nodeName": on},
        "status": {
            "phase": phase,
            "conditions": [{"type": "Ready", "status": str(ready)}],
            "containerStatuses": [{"restartCount": restarts, "state": state}],
        },
    }


@pytest.mark.parametrize(
    ("changes", "state"),
    [
        ({}, "running"),
        ({"ready": False}, "notready"),
        ({"phase": "Pending", "ready": False}, "pending"),
        ({"phase": "Pending", "waiting": "ContainerCreating", "ready": False}, "pending"),
        ({"waiting": "CrashLoopBackOff", "ready": False}, "crashloop"),
        ({"deletionTimestamp": "2026-01-01T00:00:00Z"}, "terminating"),
        ({"phase": "Succeeded", "ready": False}, "succeeded"),
        ({"phase": "Failed", "ready": False}, "failed"),
    ],
)
def test_the_state_of_a_tile(changes, state):
    assert tile(pod("a", **changes)).state == state


def test_a_lost_node_is_neither_ready_nor_not_ready():
    assert [box(node("n", status)).ready for status in ("True", "False", "Unknown")] == [True, False, None]


def test_what_does_not_show_makes_no_entry():
    record = Record()
    assert record.apply("node", "ADDED", node("node-1"), 1) and not record.apply("node", "MODIFIED", node("node-1"), 2)
    assert len(record.entries) == 1


def test_a_pod_of_the_same_name_is_another_tile():
    record = Record()
    record.apply("pod", "ADDED", pod("a", name="web"), 1)
    record.apply("pod", "ADDED", pod("b", name="web"), 2)
    assert len(record.state()["pods"]) == 2


def test_a_new_list_removes_what_is_not_in_it():
    record = Record()
    record.replace("pod", [pod("a"), pod("b")], 1)
    record.replace("node", [node("node-1")], 1)
    assert record.replace("pod", [pod("b")], 2) and not record.replace("pod", [pod("b")], 3)
    state = record.state()
    assert [entry["uid"] for entry in state["pods"]] == ["b"] and len(state["nodes"]) == 1


events = st.lists(
    st.tuples(
        st.sampled_from(["ADDED", "MODIFIED", "DELETED"]), st.sampled_from("abc"), st.booleans(), st.integers(0, 2)
    ),
    max_size=40,
)


def played(rows):
    record = Record()
    for at, (what, uid, ready, restarts) in enumerate(rows):
        record.apply("pod", what, pod(uid, ready=ready, restarts=restarts), float(at))
    return record


@given(events)
def test_replaying_a_record_gives_every_state_again(rows):
    record = played(rows)
    live = []
    again = Record()
    for entry in record.entries:
        again._add(entry)
        live.append(again.state()["pods"])
    assert [record.state(n + 1)["pods"] for n in range(len(record.entries))] == live
    assert record.state(0)["pods"] == []
    steps = 0
    while record.step():
        steps += 1
    assert steps == len(record.entries)


@given(events)
def test_a_record_survives_json(rows):
    record = played(rows)
    again = Record.load(json.loads(json.dumps(record.dump())))
    assert again.state() == record.state()


@given(events)
def test_outages_are_in_order_and_only_the_last_may_be_open(rows):
    for row in stairs(played(rows))["stairs"]:
        times = [time for outage in row["outages"] for time in (outage["start"], outage["end"]) if time is not None]
        assert times == sorted(times)
        assert all(outage["end"] is not None for outage in row["outages"][:-1])
        assert [at for at, _ in row["steps"]] == sorted(at for at, _ in row["steps"])


@given(events)
def test_picture_and_words_show_every_pod(rows):
    view = ClusterMap(played(rows), 'A <map> & "more"')
    root = ElementTree.fromstring(view.to_svg())
    titles = [element.text for element in root.iter("{http://www.w3.org/2000/svg}title")]
    assert len(titles) == len(view.view["pods"])
    for entry in view.view["pods"]:
        assert f"{entry['name']}: {entry['state']}" in titles
        assert entry["name"] in view.to_text()
    ElementTree.fromstring(Staircase(view.record, "Stairs & <so>").to_svg())


def test_a_long_record_is_folded_and_says_the_same(monkeypatch):
    monkeypatch.setattr(model, "LONGEST_RECORD", 5)
    record = Record()
    for at in range(40):
        record.apply("pod", "MODIFIED", pod(str(at % 3), restarts=at), float(at))
    assert len(record.entries) == 5 and len(record.state()["pods"]) == 3 == len(record.state(0)["pods"])


def test_the_time_to_recovery_is_measured_from_not_ready_to_ready():
    record = Record()
    record.apply("pod", "ADDED", pod("a"), 100.0)
    record.apply("pod", "MODIFIED", pod("a", ready=False), 110.0)
    record.apply("pod", "MODIFIED", pod("a", restarts=1), 112.5)
    told = stairs(record)
    assert (
        told["stairs"][0]["outages"] == [{"start": 10.0, "end": 12.5}] and "time to recovery 2.5 s" in told["summary"]
    )
    assert stairs(record, app="other")["stairs"] == []


def test_a_pod_that_is_told_to_go_has_no_outage():
    record = Record()
    record.apply("pod", "ADDED", pod("a"), 1.0)
    record.apply("pod", "MODIFIED", pod("a", ready=False, deletionTimestamp="2026-01-01T00:00:00Z"), 5.0)
    record.apply("pod", "DELETED", pod("a"), 6.0)
    assert stairs(record)["stairs"][0]["outages"] == [] and stairs(record)["stairs"][0]["gone"] == 5.0


def test_a_pod_that_was_never_ready_has_no_outage():
    record = Record()
    record.apply("pod", "ADDED", pod("a", ready=False), 1.0)
    record.apply("pod", "MODIFIED", pod("a"), 9.0)
    assert stairs(record)["stairs"][0]["outages"] == []


def test_seeking_pausing_and_going_live_are_calls_and_messages_alike():
    record = played([("ADDED", "a", True, 0), ("ADDED", "b", True, 0)])
    view = ClusterMap(record, "Map")
    view.seek(1)
    assert len(view.view["pods"]) == 1
    view._on_message(view, {"type": "seek", "position": 2}, [])
    assert len(view.view["pods"]) == 2
    for nonsense in (
        "text",
        {"type": "seek", "position": "x"},
        {"type": "seek"},
        {},
        None,
        {"type": "seek", "position": -5},
    ):
        view._on_message(view, nonsense, [])
    assert view.position == 0


def test_a_view_has_a_still_picture_with_words_for_pages_without_scripts():
    data, _ = ClusterMap(played([("ADDED", "a", True, 0)]), "Map")._repr_mimebundle_()
    assert data["text/html"].startswith('<img alt="') and "1 running and ready" in data["text/html"]
    assert "serving-a: running and ready" in data["text/plain"]


def test_python_and_javascript_know_the_same_states_signs_and_letters():
    script = (WIDGETS / "cluster_map.js").read_text()
    words = dict(re.findall(r'(\w+): \["(.", "\w", "[^"]+)"\]', script))
    assert words == {state: f'{svg.LOOKS[state][0]}", "{letter}", "{told}' for state, (letter, told) in STATES.items()}
    styles = (WIDGETS / "cluster_map.css").read_text()
    assert all(f".{state} " in styles for state in STATES)


@pytest.mark.parametrize("path", sorted(WIDGETS.glob("*.js")), ids=lambda path: path.name)
def test_every_module_is_small_and_asks_nobody_else(path):
    text = path.read_text()
    assert len(text.encode()) <= 20_000
    assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)", text) and "import " not in text
