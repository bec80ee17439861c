"""What runs beside a learner's Spark code, in its process: a session, the code's RDDs, and what was measured.

This text is put in front of the learner's as a module of its own, with those of podlab.spark; see `asking`.
"""

from __future__ import annotations

import re
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from podlab.spark.local import session
from podlab.spark.measured import Run, measured

_context: Any = None


def context() -> Any:
    """The SparkContext of this process; bytes are shuffled as they are, so that they can be compared."""
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
        from pyspark import cloudpickle

        cloudpickle.register_pickle_by_value(sys.modules["answer"])
    return _context


def warm() -> None:
    """Start Spark and its Python workers."""
    context().parallelize(range(2), 2).map(str).count()


def bind(space: dict[str, Any]) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """The functions `is_written(name, arguments)` and `on_spark(name, given)` for the learner's names."""

    def is_written(name: str, arguments: int) -> None:
        """NotImplementedError if `name` is not written yet: no JVM is started for nothing."""
        function = space[name]
        try:
            function(*[None] * arguments)
        except NotImplementedError:
            raise
        except BaseException:
            pass

    def on_spark(name: str, given: list[Any]) -> Any:
        """Call `name` with an RDD for each (records, partitions) of `given`, collect what it returns, and measure."""
        function = space[name]
        spark = context()
        rdds = [spark.parallelize([_paired(one) for one in records], parts) for records, parts in given]
        try:
            begun = measured(spark, lambda: function(*rdds))
            if not hasattr(begun.value, "collect") or not hasattr(begun.value, "mapPartitions"):
                return {"returned": type(begun.value).__name__}
            return _facts(begun, measured(spark, begun.value.collect))
        except Exception as error:
            raise _in_words(error) from None

    return is_written, on_spark


def _paired(record: Any) -> Any:
    """JSON has no tuples, and keys of Spark must be hashable."""
    return tuple(record) if isinstance(record, list) else record


def _facts(begun: Run, ended: Run) -> dict[str, Any]:
    stages = [*begun.ran, *ended.ran]
    return {
        "records": ended.value,
        "jobs": begun.jobs,
        "stages": len(ended.stages),
        "shuffles": sum(stage.written > 0 for stage in stages),
        "shuffled": sum(stage.written for stage in stages),
        "fetched": sum(stage.result for stage in begun.ran if not stage.written),
    }


def _in_words(error: Exception) -> Exception:
    """An error of a task in one line, in place of two pages of Java's."""
    if "Traceback (most recent call last)" not in str(error):
        return error
    lines = re.findall(r"^\w*(?:Error|Exception|Exit|Interrupt)\b.*$", str(error), re.MULTILINE)
    return RuntimeError(f"in a task: {lines[-1] if lines else 'an error'}")
