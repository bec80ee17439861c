"""Spark for questions about Spark itself: plans of operations and lost partitions, each tried for real.

Runs in a process of its own, without a learner's code; see `asking`.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

from podlab.spark.measured import measured

_harness = sys.modules["podlab.course.inside_spark.harness"]


def tasks_of(steps: list[dict[str, Any]], partitions: int) -> list[int]:
    """The tasks of each stage that counting the end of a chain of operations needs, in order."""
    spark = _harness.context()
    rdd = spark.parallelize([(number, 1) for number in range(12)], partitions)
    for step in steps:
        rdd = _step(rdd, step)
    run = measured(spark, rdd.count)
    return [stage.count for stage in run.stages]


def _step(rdd: Any, step: dict[str, Any]) -> Any:
    do, parts = step["do"], step.get("partitions")
    if do == "map":
        return rdd.map(lambda pair: (pair[0], 1))
    if do == "flatMap":
        return rdd.flatMap(lambda pair: [(pair[0], 1), (pair[0], 1)])
    if do == "filter":
        return rdd.filter(lambda pair: pair[0] != 3)
    if do == "mapValues":
        return rdd.mapValues(lambda value: 1)
    if do == "reduceByKey":
        return rdd.reduceByKey(lambda one, other: one, parts)
    if do in ("groupByKey", "repartition", "coalesce"):
        return getattr(rdd, do)(parts)
    raise ValueError(f"no operation {do}")


def again(rdds: list[dict[str, Any]], cached: list[list[Any]], files: list[list[Any]]) -> list[list[Any]]:
    """What Spark computes in a second action on the last RDD, after partitions and shuffle files were lost.

    `cached` are [name, partition] of cached partitions, `files` [name, partition of its parent] of a shuffle's files.
    """
    from pyspark.accumulators import AccumulatorParam

    class Marks(AccumulatorParam):
        def zero(self, value: Any) -> Any:
            return []

        def addInPlace(self, value1: Any, value2: Any) -> Any:
            return value1 + value2

    spark = _harness.context()
    marks = spark.accumulator([], Marks())
    made: dict[str, Any] = {}
    for one in rdds:
        made[one["name"]] = _lineage(spark, one, [made[name] for name in one["of"]], marks)
    last = made[rdds[-1]["name"]]
    shuffles = _shuffles(spark)
    last.count()
    new = sorted(_shuffles(spark) - shuffles)
    numbers = dict(zip([one["name"] for one in rdds if one["how"] == "shuffle"], new, strict=True))
    blocks, outputs = _part(spark, "blockManager"), _part(spark, "mapOutputTracker")
    for name, partition in cached:
        blocks.removeBlock(spark._jvm.org.apache.spark.storage.RDDBlockId(made[name].id(), partition), True)
    for name, partition in files:
        outputs.unregisterMapOutput(numbers[name], partition, blocks.blockManagerId())
    before = len(marks.value)
    last.count()
    return sorted([name, partition] for name, partition in marks.value[before:])


def _shuffles(spark: Any) -> set[int]:
    keys = _part(spark, "mapOutputTracker").shuffleStatuses().keys().toSeq()
    return {keys.apply(at) for at in range(keys.size())}


def _part(spark: Any, name: str) -> Any:
    """A part of Spark's environment, by its field: py4j cannot list the methods of a class that names absent ones."""
    field = spark._jvm.java.lang.Class.forName("org.apache.spark.SparkEnv").getDeclaredField(name)
    field.setAccessible(True)
    return field.get(spark._jsc.sc().env())


def _lineage(spark: Any, one: dict[str, Any], parents: list[Any], marks: Any) -> Any:
    name = one["name"]

    def mark(partition: int, records: Iterator[Any]) -> Iterator[Any]:
        marks.add([(name, partition)])
        return records

    if one["how"] == "source":
        base = spark.parallelize(range(4 * one["partitions"]), one["partitions"])
    elif one["how"] == "narrow":
        base = parents[0]
    elif one["how"] == "union":
        base = spark.union(parents)
    else:
        base = parents[0].map(lambda record: (record, record)).partitionBy(one["partitions"]).values()
    rdd = base.mapPartitionsWithIndex(mark)
    return rdd.cache() if one["cached"] else rdd
