"""MapReduce in pictures: a computed job keeps the engine's promises, and picture, words and table tell the same."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from collections import Counter
from pathlib import Path

import pytest

from podlab.distributed.mapreduce import Job, run, splits_of
from podlab.distributed.mapreduce_plan import Plan, corpus, events
from podlab.widgets import replays
from podlab.widgets.shuffle import Shuffle, Stepper, folded


def words(line: str) -> list[tuple[str, int]]:
    return [(word, 1) for word in line.split()]


def total(_: str, values: list[int]) -> int:
    return sum(values)


def counted(log) -> Counter[tuple[str, int]]:
    return Counter((one["kind"], one["task"]) for one in log if one["event"] == "end")


@pytest.mark.parametrize("killed", [0, 1, 2])
@pytest.mark.parametrize("slow", [1.0, 6.0])
@pytest.mark.parametrize("backups", [True, False])
@pytest.mark.parametrize("workers", [1, 3])
def test_every_task_counts_once_whatever_happens(killed, slow, backups, workers):
    plan = Plan(corpus(3, 6), workers, 3, killed=killed, slow=slow, backups=backups)
    log = events(plan)
    kinds = [("map", number) for number in range(6)] + [("reduce", number) for number in range(3)]
    assert counted(log) == Counter(kinds) and log[-1]["event"] == "done"
    assert log == events(plan)
    assert sum(one["event"] == "lost" for one in log) == (0 < killed <= workers)
    assert backups or not any(one["event"] == "backup" for one in log)
    state = folded(log, len(log))
    assert sum(state.arrived(reducer) for reducer in range(3)) == 6 * 4 * 3


def test_a_straggler_costs_less_with_backups_and_combining_shrinks_what_is_sent():
    splits = corpus(1, 7)
    took = {backups: events(Plan(splits, slow=6.0, backups=backups))[-1]["time"] for backups in (True, False)}
    assert took[True] < 0.7 * took[False]
    sent = {
        combine: sum(sum(one["parts"]) for one in events(Plan(splits, combine=combine)) if "parts" in one)
        for combine in (True, False)
    }
    assert sent[True] < 0.6 * sent[False]


def titles(view: Shuffle) -> list[str]:
    found = ET.fromstring(view.to_svg()).iter("{http://www.w3.org/2000/svg}title")
    return [title.text or "" for title in found]


def test_picture_words_and_table_tell_the_same_at_every_moment():
    view = Stepper(kill=2, slow=6.0)
    for position in range(view.length + 1):
        view.seek(position)
        rows = view.table()[1]
        for name, state in ((row[0], row[1]) for row in rows):
            assert f"{name}: {state}" in titles(view)
        dots = sum(title.startswith("for reduce") for title in titles(view))
        assert dots == sum(sum(task.parts) for task in view.state.of("map"))
        maps_done = sum(row[1] == "done" for row in rows if row[0].startswith("map"))
        assert f"{maps_done} of 7 map tasks done" in view.summary() and view.summary() in view.to_text()
    assert "worker-2 lost" in view.summary() and "backup" in view.summary()


def test_a_moment_says_what_has_happened():
    view = Stepper(kill=2)
    said = []
    for position in range(view.length + 1):
        view.seek(position)
        said.append(view.moment())
    assert said[0] == "before the start" and said[-1].endswith("all is done")
    assert any("worker-2 was killed by SIGKILL" in told for told in said)
    assert any("once more" in told for told in said)


def test_a_real_job_is_shown_and_its_dots_are_the_values_that_were_sent(tmp_path: Path):
    lines = ["love war", "love", "war war night", "river"] * 5
    result = run(Job(words, total, reducers=2), splits_of(lines, 4), tmp_path, workers=2)
    view = Shuffle(result.events)
    assert sum(sum(task.parts) for task in view.state.of("map")) == 35
    assert view.state.over and all(task.done for task in view.state.tasks.values())
    assert "a dot: 1 value" in view.to_svg()


def test_the_log_of_a_failed_check_becomes_a_picture():
    log = json.loads(json.dumps(events(Plan(corpus(1, 4), killed=1))))
    view = replays.of({"kind": "shuffle", "events": log, "position": 5}, "Crash", "task 2 was lost")
    assert view.position == 5 and view.mark == "task 2 was lost"


def test_tasks_of_no_kind_are_told_without_one():
    log = [
        {"time": 0.0, "event": "worker", "worker": "w0", "pid": 1},
        {"time": 0.1, "event": "start", "kind": "task", "task": 0, "attempt": 1, "worker": "w0"},
        {"time": 0.2, "event": "lost", "worker": "w0", "how": "was killed by SIGKILL", "task": 0},
    ]
    view = replays.of({"kind": "shuffle", "events": log}, "A worker is killed", "nobody has it in hand")
    assert view.summary() == "after 0.20 s: 0 of 1 tasks done, 0 in hand; w0 lost"
    assert view.table()[1][0][:4] == ["task 0", "waiting", "1", "1"]
