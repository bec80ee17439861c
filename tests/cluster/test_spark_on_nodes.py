"""Spark in pods: a job whose executor is killed in the middle gives the same result, and nothing is left of it."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from podlab import addons
from podlab.addons import spark
from podlab.checks.api import Api
from podlab.cluster import Cluster
from podlab.errors import AddonError
from podlab.spark import missing
from podlab.waiting import until

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(missing()), reason=f"{', '.join(missing())} not on this machine: pip install '.[spark]'"),
]

#: Not a verdict on speed.
PATIENCE = 600
PROGRAM = """
import json, time
from pyspark import TaskContext
from pyspark.sql import SparkSession
from measured import measured
spark = SparkSession.builder.getOrCreate()
context = spark.sparkContext
print("session", flush=True)

def held(partition, some):
    if partition == 0 and TaskContext.get().attemptNumber() == 0:
        time.sleep(36000)
    return ((number % 7, 1) for number in some)

pairs = context.parallelize(range(2000), 8).mapPartitionsWithIndex(held)
run = measured(context, pairs.reduceByKey(lambda one, other: one + other, 2).collect)
print("result", json.dumps([sorted(run.value), sorted(run.lost)]), flush=True)
spark.stop()
"""


@pytest.fixture(scope="module")
def api(shared: Cluster) -> Iterator[Api]:
    addons.enable("spark", shared.name)
    yield Api.connect(shared.kubeconfig)
    addons.disable("spark", shared.name)
    assert addons.status("spark", shared.name).state == "disabled"


def result(output: str) -> list:
    (line,) = (line for line in output.splitlines() if line.startswith("result "))
    return json.loads(line.removeprefix("result "))


def test_an_executor_is_killed_in_the_middle_and_the_result_is_the_same(api: Api) -> None:
    made = spark.submit(api, PROGRAM)
    try:
        until(lambda: "session" in made.output(), "Spark's session", timeout=PATIENCE, interval=0.5, state=made.state)

        def holder() -> str:
            """The executor that has the task that never ends by itself."""
            (first,) = made.rest("stages/0/0/taskList?length=100&status=running")
            return f"{made.name}-exec-{first['executorId']}" if first["index"] == 0 else ""

        victim = until(
            holder, "one task in hand", timeout=PATIENCE, interval=0.3, ignore=(Exception,), state=made.state
        )
        made.kill(victim)
        counts, lost = result(made.wait(PATIENCE))
        assert counts == [[key, len(range(key, 2000, 7))] for key in range(7)]
        assert victim.rsplit("-", 1)[1] in lost
    finally:
        made.delete()
    until(lambda: not made.executors(), "the end of the executors", timeout=PATIENCE, state=made.state)


def test_a_program_that_fails_says_its_last_lines(api: Api) -> None:
    made = spark.submit(api, "raise SystemExit('nothing to count')")
    try:
        with pytest.raises(AddonError, match="nothing to count"):
            made.wait(PATIENCE)
    finally:
        made.delete()
