"""Stages of a Spark run: what is shown at each moment, in the picture and in words."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET

import pytest

from podlab.spark.measured import Run, Stage, Task
from podlab.widgets.stages import Stages, state

TITLES = "{http://www.w3.org/2000/svg}title"


def run() -> Run:
    """Two stages: an executor is lost while a task of the first runs there, and the task runs again elsewhere."""
    first = [
        Task(0, 0, "0", "SUCCESS", 0.0, 1.0),
        Task(1, 0, "1", "FAILED", 0.0, 0.5),
        Task(1, 1, "0", "SUCCESS", 1.0, 2.0),
    ]
    stages = [
        Stage(0, 0, "reduceByKey", "COMPLETE", first, 2, written=700),
        Stage(1, 0, "collect", "COMPLETE", [Task(0, 0, "0", "SUCCESS", 2.0, 3.0)], 1, read=700, parents=(0,)),
    ]
    return Run([], 1, stages, {"1": (0.5, "Command exited with code 137")})


def skipping() -> Run:
    stages = [
        Stage(2, 0, "map", "SKIPPED", [], 3),
        Stage(3, 0, "collect", "COMPLETE", [Task(0, 0, "driver", "SUCCESS", 0.0, 1.0)], 1, parents=(2,)),
    ]
    return Run([], 1, stages)


def at(view: Stages, moment: float) -> Stages:
    view.seek(view.moments.index(moment) + 1)
    return view


def told(view: Stages) -> list[str]:
    return [element.text or "" for element in ET.fromstring(view.to_svg()).iter(TITLES)]


@pytest.mark.parametrize(
    ("now", "wanted"),
    [(-1.0, ("waiting", "")), (0.2, ("running", "1")), (0.7, ("failed", "1")), (1.5, ("running", "0"))],
)
def test_a_partition_is_where_its_last_attempt_is(now: float, wanted: tuple[str, str]) -> None:
    tasks = [task for task in run().stages[0].tasks if task.partition == 1]
    assert state(tasks, now) == wanted


def test_what_was_done_once_stays_done_while_another_attempt_runs() -> None:
    tasks = [Task(0, 0, "0", "SUCCESS", 0.0, 1.0), Task(0, 1, "1", "KILLED", 0.5, 2.0)]
    assert state(tasks, 1.5) == ("done", "0")


def test_the_words_and_the_picture_say_when_an_executor_is_lost() -> None:
    view = at(Stages(run()), 0.5)
    assert "executor 1 lost" in view.summary() and "executor 1 is lost" in view.moment()
    assert told(view).count("partition 1: lost or failed") == 1
    assert "executor 1 lost: Command exited with code 137" in view.to_svg()
    view = at(view, 0.0)
    assert "lost" not in view.summary() and "partition 1: lost or failed" not in told(view)


def test_at_the_end_all_is_done_and_what_was_done_again_is_counted() -> None:
    view = Stages(run())
    assert view.summary() == (
        "after 3.00 s: 3 of 3 tasks in 2 stages done; 700 bytes shuffled; executor 1 lost; 1 task begun again"
    )
    assert [row[:4] for row in view.table()[1]] == [
        ["0", "reduceByKey", "2 done", ""],
        ["1", "collect", "1 done", "0"],
    ]


def test_a_stage_stands_right_of_what_it_reads() -> None:
    view = Stages(run())
    assert [[stage.id for stage in column] for column in view.columns()] == [[0], [1]]


def test_a_skipped_stage_is_shown_and_not_counted() -> None:
    view = Stages(skipping())
    assert "1 of 1 tasks in 1 stages done" in view.summary() and "1 stage skipped" in view.summary()
    assert told(view).count("partition 0: was there already") == 1


def test_nothing_to_show_is_no_special_case() -> None:
    view = Stages(Run(None))
    assert view.length == 0 and "0 of 0 tasks" in view.summary() and view.to_svg()


def test_a_large_run_stays_small_and_names_no_remote_place() -> None:
    stages = [
        Stage(n, 0, "reduceByKey", "COMPLETE", [Task(at, 0, "1", "SUCCESS", 0, 1) for at in range(200)], 200, 10)
        for n in range(3)
    ]
    text = Stages(Run(None, 1, stages)).to_svg()
    assert len(text.encode()) <= 20_000
    assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)", text)
