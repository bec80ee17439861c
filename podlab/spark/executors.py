"""The executors of a local-cluster: which processes they are, what they hold, and an end for one of them."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import psutil

from podlab.errors import LaboratoryError
from podlab.spark.measured import rest
from podlab.waiting import until

#: Seconds within which Spark notices a death. Not a verdict on speed.
PATIENCE = 120.0


@dataclass(frozen=True)
class Executor:
    """An executor that is a process of this machine."""

    name: str
    process: psutil.Process
    context: Any

    def kill(self) -> None:
        """Kill it (SIGKILL) and return when Spark's driver knows of it."""
        self.process.kill()
        until(
            lambda: self.name not in {one["id"] for one in rest(self.context, "executors") if one["isActive"]},
            f"Spark noticing the death of executor {self.name}",
            timeout=PATIENCE,
        )


def executors(context: Any) -> list[Executor]:
    """The executors of a context whose master is local-cluster[...], by name; LaboratoryError if it has none."""
    context = getattr(context, "sparkContext", context)
    driver = psutil.Process(context._gateway.proc.pid)
    found = []
    for process in driver.children(recursive=True):
        try:
            words = process.cmdline()
        except psutil.Error:
            continue
        if "--executor-id" in words:
            found.append(Executor(words[words.index("--executor-id") + 1], process, context))
    if not found:
        raise LaboratoryError(
            f"Spark has no executors of its own with the master {context.master}: everything is in the driver.",
            hint='Start it with session("...", "local-cluster[2,1,512]", spark_executor_memory="512m").',
        )
    return sorted(found, key=lambda one: int(one.name))


def partitions_in_memory(context: Any, rdd: Any) -> Counter[str]:
    """How many cached partitions of an RDD each executor has."""
    context = getattr(context, "sparkContext", context)
    told = rest(context, f"storage/rdd/{rdd.id()}")
    return Counter(name for one in told.get("partitions", ()) for name in one.get("executors", ()))
