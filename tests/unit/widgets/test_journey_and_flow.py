"""A request's way and requests through a Service as pure models: who made what, which pod got how much."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from dataclasses import replace
from types import SimpleNamespace

import pytest

from podlab.checks.traffic import Prober, Record
from podlab.lab.harm import Traffic
from podlab.widgets import flow, journey, live, service_graph
from podlab.widgets.calls import Scrape
from podlab.widgets.copies import Copies, Copy, Look
from podlab.widgets.flow import Flow, Moment
from podlab.widgets.journey import MOST_STEPS, Journal
from podlab.widgets.lifecycle import Life, Lifecycle
from podlab.widgets.service_graph import ServiceGraph


def thing(name, *, version, owner=None, manager="kube-controller-manager", sub=None, spec=None, status=None, **meta):
    entry = {"manager": manager, "operation": "Update", "time": f"2026-01-01T00:00:{version:02}Z"}
    entry |= {"fieldsV1": {"f": version}} | ({"subresource": sub} if sub else {})
    owners = [{"kind": owner[0], "name": owner[1]}] if owner else []
    found = {"name": name, "uid": f"u-{name}", "resourceVersion": str(version), "ownerReferences": owners, **meta}
    return {"metadata": found | {"managedFields": [entry]}, "spec": spec or {}, "status": status or {}}


def way():
    """An apply of a Deployment with one replica, as the API server tells it."""
    pod = {"owner": ("ReplicaSet", "web-1")}
    return [
        ("Deployment", "ADDED", thing("web", version=1, manager="lab", spec={"replicas": 1})),
        ("ReplicaSet", "ADDED", thing("web-1", version=2, owner=("Deployment", "web"), spec={"replicas": 1})),
        ("Pod", "ADDED", thing("web-1-a", version=3, **pod)),
        ("Pod", "MODIFIED", thing("web-1-a", version=4, spec={"nodeName": "node-1"}, **pod)),
        (
            "Pod",
            "MODIFIED",
            thing(
                "web-1-a",
                version=5,
                manager="Python",
                sub="status",
                spec={"nodeName": "node-1"},
                status={
                    "phase": "Running",
                    "podIP": "10.0.0.1",
                    "conditions": [{"type": "Ready", "status": "True"}],
                },
                **pod,
            ),
        ),
        (
            "ReplicaSet",
            "MODIFIED",
            thing(
                "web-1",
                version=6,
                owner=("Deployment", "web"),
                spec={"replicas": 1},
                status={"replicas": 1, "readyReplicas": 1},
            ),
        ),
    ]


def journal():
    made = Journal()
    for kind in ("Deployment", "ReplicaSet", "Pod"):
        made.replace(kind, [], 99.0)
    for number, (kind, what, item) in enumerate(way()):
        made.apply(kind, what, item, 100.0 + number / 10)
    return made


@pytest.mark.parametrize("kinds", [["ReplicaSet", "Pod", "Deployment"], ["Pod", "Deployment", "ReplicaSet"]])
def test_writes_are_in_the_order_of_the_store_whichever_watch_was_first(kinds):
    in_order, late = Journal(), Journal()
    for number, (kind, what, item) in enumerate(way()):
        in_order.apply(kind, what, item, 100.0 + number)
    news = sorted(way(), key=lambda event: kinds.index(event[0]))
    for number, (kind, what, item) in enumerate(news):
        late.apply(kind, what, item, 100.0 + number)
    assert [(step.version, step.what) for step in late.steps] == [(step.version, step.what) for step in in_order.steps]
    times = [step.at for step in late.steps]
    assert times == sorted(times)


def test_the_way_of_an_apply_names_who_wrote_what():
    told = [(step.who, step.kind, step.what) for step in journal().steps]
    assert told == [
        ("you", "Deployment", "created"),
        ("deployment controller", "ReplicaSet", "created for Deployment web"),
        ("replicaset controller", "Pod", "created for ReplicaSet web-1"),
        ("scheduler", "Pod", "bound to node-1"),
        ("node", "Pod", "Running, ready, has an address"),
        ("replicaset controller", "ReplicaSet", "status: 1 replicas, 1 ready"),
    ]


def test_a_heartbeat_a_repeated_event_and_what_was_there_before_make_no_step():
    made = Journal()
    made.replace("Pod", [way()[2][2]], 1.0)
    assert made.steps == [] and not made.apply("Pod", "MODIFIED", way()[2][2], 2.0)
    assert made.apply("Pod", "DELETED", way()[2][2], 3.0) and made.steps[0].what == "deleted"
    assert not made.apply("Pod", "DELETED", way()[2][2], 4.0)


def test_who_asked_for_a_deletion_is_not_invented():
    made = journal()
    gone = thing("web-1-a", version=7, manager="x", deletionTimestamp="t", spec={"nodeName": "node-1"})
    made.apply("Pod", "MODIFIED", gone, 101.0)
    assert (made.steps[-1].who, made.steps[-1].what) == ("not recorded", "told to go")


def test_a_journal_is_counted_cut_and_kept():
    made = journal()
    assert made.count(who="scheduler") == 1 and made.count(kind="Pod") == 3
    assert len(made.since(100.25).steps) == 3 and len(made.about("Pod").steps) == 3
    again = Journal.load(json.loads(json.dumps(made.dump())))
    assert again.steps == made.steps


@pytest.mark.parametrize("position", [0, 1, 4, 6])
def test_picture_words_and_table_tell_the_same_steps(position):
    view = live.JourneyView(journal(), "The way")
    view.seek(position)
    marks = ET.fromstring(view.to_svg()).findall(".//{http://www.w3.org/2000/svg}circle")
    assert len(marks) == position == len(view.view["rows"])
    assert view.to_text().count("\n  ") == position + 1 and view.view["summary"] in view.to_svg()


def test_a_full_journal_is_still_drawn_anew():
    made = live.Journey(SimpleNamespace(), "space", "The way")  # an API that is none: what happens is told by hand
    made.stop()
    made.view.mode = "live"
    step = journal().steps[0]
    for number in range(MOST_STEPS + 1):
        made.journal.steps[:] = [*made.journal.steps, replace(step, name=f"web-{number}")][-MOST_STEPS:]
        if number >= MOST_STEPS - 1:
            made._publish()
            assert made.view.view["rows"][-1][2] == f"Deployment web-{number}"


def test_a_view_at_the_end_follows_the_news_and_one_that_was_turned_back_stays():
    made = journal()
    view = live.JourneyView(made, "The way")
    made.apply("Pod", "DELETED", way()[-2][2], 102.0)
    view.grow()
    assert view.position == 7
    view.seek(3)
    view.grow()
    assert view.position == 3


def growing():
    """Each kind of picture whose record grows, live, and what makes it grow by hand."""
    way_to_go = live.JourneyView(journal(), "The way", "live")
    requests = live.FlowView(Flow([Moment(1, {"a": 5})]), "web", "Requests", "live")
    life = Life()
    life.look("one", 1.0, "ready")
    strip = Lifecycle(life, mode="live")
    graph = ServiceGraph({}, scrapes=[Scrape(0.0)])
    graph.mode = "live"
    graph.refresh()
    copies = Copies(["one"], looks=[Look(1.0, 5, (), 0, (Copy(),))])

    def step():
        way_to_go.journal.apply("Pod", "DELETED", way()[-2][2], 102.0)
        way_to_go.grow()

    def change():
        life.look("two", life.end + 1, "starting")
        strip.grow()

    return {
        "journey": (way_to_go, step),
        "flow": (requests, lambda: requests.add(Moment(2, {"a": 1, "b": 3}))),
        "strip": (strip, change),
        "graph": (graph, lambda: graph.add(Scrape(9.0))),
        "copies": (copies, lambda: copies.add(Look(1.0, 60, (), 0, (Copy(),)))),
    }


@pytest.mark.parametrize("kind", ["journey", "flow", "strip", "graph", "copies"])
def test_what_is_paused_stays_as_it_is_until_it_goes_on_with_what_has_come(kind):
    view, grow = growing()[kind]
    assert view.view["mode"] == "live" and view.view["follows"]
    view._on_message(view, {"type": "pause"}, [])
    held, length = view.view, view.length
    assert held["mode"] == "paused" and not held["follows"] and "(paused" in view.to_text().splitlines()[0]
    grow()
    assert view.view is held and view.length > length, "the record goes on, the picture does not move"
    view.step(-1)
    assert view.view["mode"] == "paused" and view.view["length"] == view.length, "what has come can be stepped through"
    view._on_message(view, {"type": "live"}, [])
    assert view.view["mode"] == "live" and view.view["position"] == view.length > length


@pytest.mark.parametrize("kind", ["journey", "flow", "graph"])
def test_of_a_record_that_is_too_long_the_beginning_goes_and_what_is_held_stays(kind, monkeypatch):
    monkeypatch.setattr(journey, "MOST_STEPS", 8)
    monkeypatch.setattr(flow, "MOST_MOMENTS", 8)
    monkeypatch.setattr(service_graph, "MOST_LOOKS", 9)
    view, _ = growing()[kind]
    view.seconds = 2

    def grow(number):
        if kind == "journey":
            pod = {"metadata": {"uid": f"{number}", "name": f"p{number}", "resourceVersion": f"{1000 + number}"}}
            view.journal.apply("Pod", "ADDED", pod, 100.0 + number)
            view.grow()
        else:
            view.add(Moment(number, {f"p{number}": 1}) if kind == "flow" else Scrape(float(number)))

    for number in range(10, 20):
        grow(number)
    kept = len(view.journal.steps if kind == "journey" else view.record.moments if kind == "flow" else view.scrapes)
    assert kept == (9 if kind == "graph" else 8)
    assert view.forgotten == view.length - 8 > 0 and f"the first {view.forgotten} are kept no more" in view.moment()
    view.pause()
    held, drawn = view.view["position"], view.picture()
    for number in range(20, 23):
        grow(number)
    view.seek(held)
    assert view.view["mode"] == "paused" and view.view["position"] == held
    if kind != "journey":  # its lanes and times are those of all
        assert [*ET.fromstring(view.picture()).itertext()] == [*ET.fromstring(drawn).itertext()]
    view.step(-1)
    assert view.position == held - 1
    view.seek(0)
    assert view.position == view.forgotten and view.to_text()


def test_what_has_ended_is_drawn_as_recorded_where_it_was_held():
    made = live.Journey(SimpleNamespace(), "space", "The way")
    made.view.journal.steps[:] = journal().steps
    made.view.seek(2)
    assert made.view.view["mode"] == "paused"
    made.stop()
    assert made.view.view["mode"] == "recorded" and made.view.view["position"] == 2


def record(pod, status=200, error="", sent=1.0):
    return Record(sent, status, pod, "i", error, 0.01)


def test_a_moment_says_who_answered_and_why_others_failed():
    moment = live.moment_of([record("a"), record("a"), record("b"), record("", 0, "refused")], ["a"], ["b"])
    assert moment.answered == {"a": 2, "b": 1} and moment.failed == 1 and moment.why == "refused"
    assert flow.rows(moment) == [
        ["a", "ready", "2", "50 %"],
        ["b", "not ready", "1", "25 %"],
        ["nobody", "refused", "1", "25 %"],
    ]
    assert "4 requests, 1 failed; 1 ready endpoints" in flow.summary(moment)


def test_a_flow_adds_seconds_up_goes_back_and_survives_a_file():
    record_of = Flow([Moment(1, {"a": 5}, ready=("a",)), Moment(2, {"a": 1, "b": 3}, 1, "x", ("a", "b"))])
    view = live.FlowView(record_of, "web", "Requests")
    assert view.shown.answered == {"a": 6, "b": 3}
    view.set(seconds=1)
    assert view.shown.answered == {"a": 1, "b": 3}
    view.seek(1)
    assert view.shown.answered == {"a": 5} and view.shown.ready == ("a",)
    assert Flow.load(json.loads(json.dumps(record_of.dump()))).moments == record_of.moments


def test_the_picture_of_a_flow_names_every_pod_and_every_failure():
    view = live.FlowView(Flow([Moment(1, {"a": 5}, 2, "timed out", ("a",), ("b",))]), "web", "Requests")
    texts = [node.text or "" for node in ET.fromstring(view.to_svg()).iter("{http://www.w3.org/2000/svg}text")]
    assert any("a" in text for text in texts) and "◍ b" in texts and "✕ nobody: timed out" in texts
    assert "5 (71 %)" in texts and "2 (29 %)" in texts
    assert live.FlowView(Flow(), "web", "Requests").to_text()


class Told:
    """An API server behind which a prober tells what it has so far."""

    def __init__(self):
        self.rows = []

    def raw(self, _method, _path, *, query, timeout):
        answer = {"next": len(self.rows), "now": 9.0, "records": self.rows[query["since"] :]}
        return SimpleNamespace(status=200, data=json.dumps(answer).encode())

    def ended(self, sent, status):
        pod = "a" if status else ""
        told = {"nonce": "own" if status else "", "error": "" if status else "timed out", "instance": "", "took": 0.1}
        self.rows.append({"sent": sent, "status": status, "pod": pod, **told})


def test_a_watched_flow_shows_each_request_once_also_one_that_fails_long_after_it_was_sent():
    told = Told()
    traffic = Traffic(Prober(SimpleNamespace(api=told, namespace="space"), "prober"), "web")
    view, reachable = live.FlowView(Flow(), "web", "Requests", "live"), []
    watcher = live.Watcher(view, traffic.records, lambda: (reachable[0], []))
    watcher.stop()
    for sent in (1.0, 3.0):
        told.ended(sent, 200)
    with pytest.raises(IndexError):
        watcher.look()
    reachable.append(["a"])
    watcher.look()
    told.ended(2.0, 0)
    watcher.look()
    told.ended(4.0, 200)
    watcher.look()
    assert [(one.answered, one.failed) for one in view.record.moments] == [({"a": 2}, 0), ({}, 1), ({"a": 1}, 0)]


def test_endpoints_are_told_apart_by_their_readiness():
    entries = [
        {"addresses": ["1"], "conditions": {"ready": ready}, "targetRef": {"name": name}}
        for name, ready in (("a", True), ("b", False))
    ]
    assert live.endpoints([{"endpoints": entries}, {}]) == (["a"], ["b"])


def test_a_journey_that_is_shown_ends_its_own_recording():
    view = live.JourneyView(journal(), "The way")
    view.stop()  # nothing is recorded: nothing happens
    ended = []
    view.recorder = SimpleNamespace(stop=lambda: ended.append(True))
    view.stop()
    assert ended == [True]
