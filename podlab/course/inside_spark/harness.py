"""What runs beside a learner's Spark code, in two processes: one keeps Spark and measures, the other has the code.

The keeper starts Java, puts the records into RDDs, and asks Spark what it has done. The code's process joins that
Spark: it gets the RDDs, not the records. This text is a module in both, with those of podlab.spark; see `asking`.
"""

from __future__ import annotations

import ctypes
import re
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from podlab.spark.local import joined, session
from podlab.spark.measured import Run, jobs_of, reported

PR_SET_DUMPABLE = 4
_context: Any = None


def context() -> Any:
    """The SparkContext of a Spark of this process; bytes are shuffled as they are, so that they can be compared."""
    global _context
    if _context is None:
        # In the folder of this process, which goes even when it is killed.
        tempfile.tempdir = str(Path.cwd())
        _context = session(
            "podlab check",
            "local[2]",
            spark_shuffle_compress="false",
            # A box knows no name, not even localhost.
            spark_python_unix_domain_socket_enabled="true",
            spark_python_unix_domain_socket_dir=tempfile.tempdir,
        ).sparkContext
    return _context


def warm() -> None:
    """Start Spark and its Python workers."""
    context().parallelize(range(2), 2).map(str).count()


@dataclass
class _Trial:
    """What the keeper knows of one call: the RDDs that it gave, the jobs before now, and what was measured so far."""

    rdds: list[Any]
    before: set[int]
    runs: list[Run] = field(default_factory=list)


_trial = _Trial([], set())


def keep() -> list[Any]:
    """Start Spark, in a process into which the learner's cannot look: the port and the secret of its gateway."""
    ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)
    warm()
    parameters = context()._gateway.gateway_parameters
    return [parameters.port, parameters.auth_token]


def give(given: list[Any]) -> list[str]:
    """Begin a trial: an RDD for each (records, partitions), by the names that Java's gateway has for them."""
    global _trial
    rdds = [context().parallelize([_paired(one) for one in records], parts) for records, parts in given]
    # They are kept: Java's gateway forgets the names of what nobody here has any more.
    _trial = _Trial(rdds, jobs_of(context()))
    return [rdd._jrdd._target_id for rdd in rdds]


def look() -> None:
    """Note what Spark has done since the last look."""
    run = reported(context(), None, _trial.before, set())
    _trial.before = jobs_of(context())
    _trial.runs.append(run)


def facts() -> dict[str, Any]:
    """What Spark did while the function was called, and while its result was collected."""
    begun, ended = _trial.runs
    stages = [*begun.ran, *ended.ran]
    return {
        "jobs": begun.jobs,
        "stages": len(ended.stages),
        "shuffles": sum(stage.written > 0 for stage in stages),
        "shuffled": sum(stage.written for stage in stages),
        "fetched": sum(stage.result for stage in begun.ran if not stage.written),
    }


def bind(space: dict[str, Any]) -> tuple[Callable[..., Any], ...]:
    """What is asked of the process with the learner's names: is_written, join_spark, on_spark, collected."""
    made: list[Any] = []

    def is_written(name: str, arguments: int) -> None:
        """NotImplementedError if `name` is not written yet: no JVM is started for nothing."""
        function = space[name]
        try:
            function(*[None] * arguments)
        except NotImplementedError:
            raise
        except BaseException:
            pass

    def join_spark(port: int, secret: str) -> None:
        """Work with the keeper's Spark."""
        from pyspark import cloudpickle

        made.append(joined(port, secret).sparkContext)
        cloudpickle.register_pickle_by_value(sys.modules["answer"])

    def on_spark(name: str, rdds: list[str]) -> dict[str, Any]:
        """Call `name` with the RDDs that Java knows by these names."""
        from py4j.java_gateway import JavaObject
        from pyspark.rdd import RDD
        from pyspark.serializers import BatchedSerializer, CPickleSerializer

        spark, function = made[0], space[name]
        client, packed = spark._gateway._gateway_client, BatchedSerializer(CPickleSerializer())
        try:
            value = function(*[RDD(JavaObject(one, client), spark, packed) for one in rdds])
        except Exception as error:
            raise _in_words(error) from None
        made[1:] = [value]
        is_rdd = hasattr(value, "collect") and hasattr(value, "mapPartitions")
        return {} if is_rdd else {"returned": type(value).__name__}

    def collected() -> Any:
        """What the RDD has that the function returned."""
        try:
            return made[1].collect()
        except Exception as error:
            raise _in_words(error) from None

    return is_written, join_spark, on_spark, collected


def _paired(record: Any) -> Any:
    """JSON has no tuples, and keys of Spark must be hashable."""
    return tuple(record) if isinstance(record, list) else record


def _in_words(error: Exception) -> Exception:
    """An error of a task in one line, in place of two pages of Java's."""
    if "Traceback (most recent call last)" not in str(error):
        return error
    lines = re.findall(r"^\w*(?:Error|Exception|Exit|Interrupt)\b.*$", str(error), re.MULTILINE)
    return RuntimeError(f"in a task: {lines[-1] if lines else 'an error'}")
