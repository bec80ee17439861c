"""A picture of a namespace that was saved in a file is opened again, without any cluster; and what is no such file."""

from __future__ import annotations

import json

import pytest

from podlab.distributed.election import simulated
from podlab.distributed.farm import Farmed, Span
from podlab.distributed.mapreduce_plan import Plan, corpus, events
from podlab.errors import UsageError
from podlab.lab import LabError, start
from podlab.widgets import model
from podlab.widgets.flow import Flow, Moment
from podlab.widgets.gantt import Gantt
from podlab.widgets.journey import Journal, Step
from podlab.widgets.live import FlowView, JourneyView
from podlab.widgets.model import Box, Entry, Record, Tile
from podlab.widgets.ring import Ring
from podlab.widgets.shuffle import Shuffle
from podlab.widgets.views import ClusterMap, Staircase


@pytest.fixture(autouse=True)
def home(monkeypatch, tmp_path):
    monkeypatch.setenv("PODLAB_PROGRESS", str(tmp_path / "progress"))


def record():
    made = Record()
    made._add(Entry(1.0, "node/node-1", None, Box("node-1", True, "")))
    for at, state, restarts in ((2.0, "running", 0), (3.0, "notready", 0), (5.0, "running", 1)):
        made._add(Entry(at, "pod/u", Tile("u", "serving-u", "node-1", state, restarts, "", "serving")))
    made._add(Entry(6.0, "pod/o", Tile("o", "other-o", "node-1", "running", 0, "", "other")))
    return made


def views():
    return [
        ClusterMap(record(), "The map"),
        Staircase(record(), "The stairs", app="serving"),
        JourneyView(Journal([Step(1.0, "scheduler", "Pod", "serving-u", "u", "7", "bound")]), "The way"),
        FlowView(Flow([Moment(1.0, {"a": 3}, 1, "no answer", ("a",), ("b",))] * 3), "serving", "The flow", seconds=2),
        Gantt(Farmed([Span(0, 0, 0.0, 1.0, 3, 7), Span(1, 1, 0.2, 0.9, 2, 8)], [None] * 5, 1.5, 2), "The run"),
        Ring(simulated(3, seconds=20.0).record, "The group", mode="simulation"),
        Shuffle(list(events(Plan(corpus(1, 4), killed=1))), "The job"),
    ]


@pytest.mark.parametrize("number", range(len(views())))
def test_a_saved_picture_says_the_same_again_and_can_be_gone_through(number, tmp_path):
    view = views()[number]
    lab, file = start("01"), str(tmp_path / "record.json")
    assert file in lab.save(view, file).text
    again = lab.replay(file)
    assert again.title == f"{view.title} (record.json)", "it takes no live picture's place"
    view.title = again.title
    view.refresh()
    assert type(again).__name__ == type(view).__name__ and again.to_text() == view.to_text()
    again.seek(1)
    view.seek(1)
    assert again.to_svg() == view.to_svg()


def test_what_is_older_than_the_record_is_saved_too(monkeypatch):
    monkeypatch.setattr(model, "LONGEST_RECORD", 2)
    short = record()
    assert len(short.entries) == 2 and Record.load(short.dump()).state()["pods"] == short.state()["pods"]


def test_a_picture_without_a_record_is_not_saved(tmp_path):
    lab = start("01")
    for view in (lab.planner(), lab.election(), lab.stepper(), object()):  # a strip has no title
        with pytest.raises(UsageError, match="keeps no record"):
            lab.save(view, str(tmp_path / "x.json"))
    with pytest.raises(LabError, match="cannot be written: No such file"):
        lab.save(views()[0], str(tmp_path / "nowhere" / "x.json"))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        '{"podlab": 2}',
        *(
            json.dumps({"podlab": 1, "title": "t", **kept})
            for kept in (
                {"kind": "no"},
                {"kind": "map", "entries": [{"at": 1}]},
                {"kind": "journey", "steps": [{"who": "nobody"}]},
            )
        ),
    ],
)
def test_what_is_no_record_is_said(text, tmp_path):
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(LabError, match="holds no record"):
        start("01").replay(str(tmp_path / "x.json"))


def test_a_file_that_is_not_there_is_named():
    with pytest.raises(LabError, match=r"gone\.json cannot be read: No such file"):
        start("01").replay("gone.json")


def test_a_number_and_a_path_are_taken_for_what_they_mean(tmp_path):
    lab, file = start("01"), tmp_path / "record.json"
    lab.save(views()[0], file)
    assert "(record.json)" in lab.replay(file).to_text()
    with pytest.raises(LabError, match=r"15\.2 has not been checked"):
        lab.replay(15.2)
