"""Stages of a Spark run: what is shown at each moment, in the picture and in words."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET

import pytest

from podlab.spark.measured import Rdd, Run, Stage, Task
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
        "after 3.00 s: 3 of 3 tasks in 2 stages done; 700 bytes shuffled; executor 1 lost; "
        "computed again: partition 1 of stage 0"
    )
    assert [row[:4] for row in view.table()[1]] == [
        ["0", "reduceByKey", "1 done, 1 done again", ""],
        ["1", "collect", "1 done", "0"],
    ]


def test_a_stage_stands_right_of_what_it_reads() -> None:
    view = Stages(run())
    assert [[stage.id for stage in column] for column in view.columns()] == [[0], [1]]


def test_a_skipped_stage_is_shown_and_not_counted() -> None:
    view = Stages(skipping())
    assert "1 of 1 tasks in 1 stages done" in view.summary() and "1 stage skipped" in view.summary()
    assert told(view).count("partition 0: was there already") == 1


def hurt() -> Run:
    """Files of partitions 1 and 3 of an earlier job's stage died with their executor, and so did a cached RDD's."""
    rdds = [Rdd(0, "ParallelCollectionRDD"), Rdd(1, "PythonRDD", True, (0,)), Rdd(2, "PairwiseRDD", parents=(1,))]
    tasks = [Task(number, 0, "2", "SUCCESS", 0.0, 1.0 + number) for number in (1, 3)]
    end = [Task(0, 0, "0", "SUCCESS", 4.0, 5.0)]
    stages = [
        Stage(4, 0, "reduceByKey", "COMPLETE", tasks, 2, 700, whole=4, rdds=rdds),
        Stage(5, 0, "collect", "COMPLETE", end, 1, parents=(4,), whole=1, rdds=[Rdd(3, "ShuffledRDD", parents=(2,))]),
    ]
    return Run([], 1, stages, {"1": (0.0, "killed")})


def test_of_a_stage_that_had_lost_some_files_those_are_computed_again_and_the_others_were_there() -> None:
    view = at(Stages(hurt()), 2.0)
    some = {number: one for number, (one, _) in view.partitions(view.run.stages[0]).items()}
    assert some == {0: "skipped", 1: "again", 2: "skipped", 3: "running"}
    assert "1 of 3 tasks in 2 stages done; 1 running" in view.summary()
    assert "computed again: partitions 1, 3 of stage 4" in view.summary() and "partitions 1, 3" in view.to_svg()
    assert told(view).count("partition 1: done again") == 1 and told(view).count("partition 2: was there already") == 1


def test_the_lineage_is_in_the_picture_and_in_words() -> None:
    view = Stages(hurt())
    assert [row[-1] for row in view.table()[1]] == [
        "0 ParallelCollectionRDD; 1 PythonRDD ▣ ← 0; 2 PairwiseRDD ← 1",
        "3 ShuffledRDD ← 2",
    ]
    words = [element.text for element in ET.fromstring(view.to_svg()).iter("{http://www.w3.org/2000/svg}text")]
    assert [one for one in words if one and "RDD" in one] == [
        "0 ParallelCollectionRDD",
        "1 PythonRDD ▣ ← 0",
        "2 PairwiseRDD ← 1",
        "3 ShuffledRDD ← 2",
    ]


def test_the_figure_says_what_the_picture_says() -> None:
    view = at(Stages(hurt()), 2.0)
    (axes,) = view.figure().axes
    words = "\n".join(text.get_text() for text in axes.texts)
    assert "– ↻2 – ●2" in words and "1 PythonRDD ▣ ← 0" in words and "3 ShuffledRDD ← 2" in words
    assert view.summary() in axes.get_title() and "700 B" in words
    assert Stages(Run(None)).figure().axes


def test_a_task_that_was_never_begun_waits() -> None:
    stage = Stage(0, 0, "collect", "FAILED", [Task(0, 0, "0", "FAILED", 0.0, 1.0)], 2, whole=2)
    assert {1: ("waiting", "")}.items() <= Stages(Run(None, 1, [stage])).partitions(stage).items()


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


def test_of_a_long_chain_the_picture_shows_what_is_at_work_and_says_what_it_leaves_out() -> None:
    stages = [
        Stage(
            n,
            0,
            "reduceByKey",
            "COMPLETE",
            [Task(0, 0, "1", "SUCCESS", n, n + 1)],
            1,
            10,
            parents=(n - 1,) if n else (),
        )
        for n in range(40)
    ]
    view = Stages(Run(None, 1, stages))

    def boxes() -> list[str]:
        return [one.split(":")[0] for one in told(view) if one.startswith("stage ")]

    assert boxes() == [f"stage {n}" for n in range(34, 40)] and "columns 35 to 40 of 40" in view.to_svg()
    assert "columns 35 to 40 of 40" in view.figure().axes[0].get_title() and len(view.table()[1]) == 40
    view = at(view, 20.0)
    assert boxes() == [f"stage {n}" for n in range(16, 22)]
    view.seek(0)
    assert boxes() == [f"stage {n}" for n in range(6)]
    assert int(re.findall(r'width="(\d+)"', view.to_svg())[0]) < 1400
