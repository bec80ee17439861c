"""What a check on a cluster keeps of its moment: the looks of a room and the requests of a prober, opened again."""

from __future__ import annotations

import json
import types

import pytest

from podlab.checks import results
from podlab.checks.contract import Line, Report, failed
from podlab.checks.traffic import Record, Window
from podlab.checks.world import Room
from podlab.course.moments import LARGEST, Film, Story, cluster_map, opened_at, staircase, visited
from podlab.lab import start
from podlab.widgets import replays


def pod(name, *, restarts=0, ready=True, node="node-1"):
    conditions = [{"type": "Ready", "status": str(ready)}]
    statuses = [{"restartCount": restarts, "state": {"running": {}}}]
    return {
        "metadata": {"name": name, "uid": f"uid-of-{name}"},
        "spec": {"nodeName": node},
        "status": {"phase": "Running", "conditions": conditions, "containerStatuses": statuses},
    }


class Listed:
    """In place of an API: what its lists are to give, by kind."""

    def __init__(self, **kinds):
        self.kinds = kinds

    def list(self, kind, *_where, **_query):
        return self.kinds.get(kind, [])


@pytest.fixture
def room():
    api = Listed(
        Node=[{"metadata": {"name": "node-1"}, "status": {"conditions": [{"type": "Ready", "status": "True"}]}}]
    )
    return Room(types.SimpleNamespace(api=api, namespaces=["n"]), "r", "n")


def looked(room, *pods):
    room.api.kinds["Pod"] = list(pods)
    return room.pods()


def report(**evidence):
    result = failed("e", "two restarts", cause="c", next_step="n", **evidence)
    return Report("15.1", "t", 10, [Line("check", "A check", 1, False, result)], 1, "n")


@pytest.fixture(autouse=True)
def progress(monkeypatch, tmp_path):
    monkeypatch.setenv("PODLAB_PROGRESS", str(tmp_path / "progress"))


def test_the_restarts_that_a_check_has_seen_are_opened_at_the_last_of_them(room):
    looked(room, pod("a"))
    looked(room, pod("a", ready=False))
    looked(room, pod("a", restarts=1))
    lab = start("01")
    lab._last["15.1"] = report(**staircase(room))
    shown = lab.replay("15.1")
    assert shown.title == "A check" and "1 restart" in shown.to_text() and "two restarts" in shown.to_text()
    assert shown.view["mark"] == "two restarts"
    shown.seek(2)
    assert "1 pod seen, 0 restarts; 1 still not ready" in shown.to_text()


def test_the_map_has_the_nodes_and_goes_back_to_where_the_pod_still_was(room):
    looked(room, pod("a"))
    looked(room)
    shown = replays.of(cluster_map(room)["replay"], "t", "gone")
    assert shown.view["mode"] == "recorded" and [node["name"] for node in shown.view["nodes"]] == ["node-1"]
    assert shown.view["pods"] == []
    shown.seek(1)
    assert [tile["name"] for tile in shown.view["pods"]] == ["a"]


def test_a_map_is_opened_as_it_was_at_a_time(room):
    room.looks.extend([(100.123456, "pod", [pod("a")]), (101.0, "pod", [])])
    shown = replays.of(opened_at(cluster_map(room), 100.123456)["replay"], "t", "it was there")
    assert [tile["name"] for tile in shown.view["pods"]] == ["a"] and shown.length > 1
    assert opened_at({}, 100.0) == {}


def test_a_look_that_saw_nothing_new_is_not_kept(room):
    for _ in range(3):
        looked(room, pod("a"))
    room.look_at_nodes()
    looked(room, pod("a"))
    assert [kind for _, kind, _ in room.looks] == ["pod", "node"]


def test_a_long_story_is_cut_at_its_beginning_and_fits_a_report(room):
    for number in range(300):
        looked(room, pod("a", restarts=number), *(pod(f"steady-{other}") for other in range(5)))
    kept = staircase(room)
    (line,) = results.to_json(report(**kept))["lines"]
    assert line["evidence"] == json.loads(json.dumps(kept))
    shown = replays.of(line["evidence"]["replay"], "t", "o")
    last = shown.record.state()["pods"]
    assert len(last) == 6 and last[0]["restarts"] == 299


def test_of_a_story_that_fits_nowhere_nothing_is_kept(room):
    looked(room, *(pod(f"{number}-{'x' * 200}") for number in range(200)))
    assert staircase(room) == {}


def request(sent, name, status=200):
    return Record(sent, status, name, "", "", 0.0)


class Asked:
    """In place of a prober: each poll brings what is said."""

    def __init__(self, *polls):
        self.polls, self.records = list(polls), []

    def poll(self):
        now, fresh = self.polls.pop(0)
        self.records += fresh
        return now


def slices(**ready):
    entries = [{"targetRef": {"name": name}, "conditions": {"ready": yes}} for name, yes in ready.items()]
    return [{"endpoints": entries}]


def test_a_film_of_requests_ends_where_the_first_was_lost(room):
    lost = request(2.4, "", 0)
    polls = [(1.0, [request(0.5, "a")]), (1.2, [request(1.1, "a")]), (2.5, [lost, request(2.45, "b")])]
    film = Film(room, Asked(*polls, (4.0, [request(3.5, "b")])), "serving")
    for ready in (True, True, False, False):
        room.api.kinds["EndpointSlice"] = slices(a=ready, b=True)
        film.poll()
    shown = replays.of(film.failing(Window([lost]))["replay"], "t", "1 failed")
    assert shown.length == 2 and "1 failed" in shown.summary() and shown.table()[1][0][:2] == ["a", "not ready"]
    shown.seek(1)
    assert shown.summary() == "1 requests, 0 failed; 2 ready endpoints; a 100 %, b 0 %"
    assert replays.of(film.until()["replay"], "t", "").length == 3
    assert film.until(0.1) == {}


def test_the_visits_of_a_client_stand_beside_the_endpoints(room):
    room.api.kinds["EndpointSlice"] = slices(a=True)
    kept = visited(room, "serving", Window([request(0, "a"), request(1, "stray")]))
    shown = replays.of(kept["replay"], "t", "")
    assert [row[:2] for row in shown.table()[1]] == [["a", "ready"], ["stray", "no endpoint"]]


def test_a_story_opens_at_its_last_event_or_where_something_was_bad_first():
    times = iter([0, 1, 1.00001, 2, 3, 4, 4.00001, 5, 6, 7, 8, 9])
    story = Story(lambda: next(times))
    story.state("number", "2", "good")
    story.event("team", "step 1")
    story.state("number", "1", "bad")
    story.state("number", "1", "bad")
    story.event("team", "step 2")
    story.state("number", "2", "good")
    story.event("scaler", "is refused")
    shown = replays.of(story.moment("bad")["replay"], "t", "2, 1, 2")
    assert shown.now == 2 and shown.holding("number") == ["1"]
    assert [row[3] for row in shown.table()[1]] == ["2", "step 1", "1"]
    shown = replays.of(story.moment()["replay"], "t", "")
    assert shown.now == 5 and shown.holding("number") == ["2"] and shown.table()[1][-1][3] == "is refused"
    story.state("number", "")
    assert [bar.words for bar in replays.of(story.moment()["replay"], "t", "").bars] == ["2", "1", "2"]


def test_of_a_long_story_the_last_events_are_kept():
    story = Story()
    story.state("row", "there")
    for number in range(2000):
        story.event("row", f"event {number}")
    kept = story.moment()["replay"]
    assert len(json.dumps(kept)) <= LARGEST and kept["marks"][-1][2] == "event 1999" and len(kept["bars"]) == 1
