"""The words of chapter 05 on our engine, on Spark's executors here, and on Spark in pods: time, CPU, bytes, a kill.

Every way has two workers and the same splits, whose lines take a while, so that a worker can be killed in the middle.
Pods are measured with `--pods 1`, in a cluster that is made for it. An Indexed Job is not measured yet.
"""

from __future__ import annotations

import json
import random
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from common import Figure, announce, finish, machine, options, say, spent, table

from podlab import addons, cluster
from podlab.addons import spark
from podlab.checks.api import Api
from podlab.distributed.mapreduce import Engine, Event, Job, run, splits_of
from podlab.errors import EnvironmentUnsuitable
from podlab.spark import measured, missing, session
from podlab.spark.executors import executors
from podlab.waiting import pause, until

WORKERS, SPLITS, REDUCERS = 2, 8, 2
#: Seconds that a line takes.
WAIT = 0.002
#: Not a verdict on speed.
PATIENCE = 600.0
#: What a run gives: seconds without the start, CPU seconds, bytes shuffled, and the counts.
Measure = tuple[float, float, int, dict[str, int]]


def corpus(lines: int) -> list[str]:
    """Lines of six words; few words are frequent."""
    chance = random.Random(lines)
    words = [f"word{number}" for number in range(300)]
    return [" ".join(chance.choices(words, [1 / (n + 1) for n in range(300)], k=6)) for _ in range(lines)]


def map_words(line: str) -> list[tuple[str, int]]:
    """Ours: the pairs of a line, slowly."""
    pause(WAIT)
    return [(word, 1) for word in line.split()]


def slowly(lines: Any) -> Iterator[tuple[str, int]]:
    """Spark's: the same for a partition. Runs where podlab is not."""
    for line in lines:
        time.sleep(0.002)
        yield from ((word, 1) for word in line.split())


def ours(lines: list[str], kill: bool) -> Measure:
    """Our engine; a worker is killed in its task when two maps have ended."""
    ended: list[Event] = []
    struck: list[object] = []

    def strike(event: Event, engine: Engine) -> None:
        ended.extend([event] if event["event"] == "end" else [])
        if kill and event["event"] == "start" and len(ended) >= 2 and not struck:
            struck.append(engine.workers[event["worker"]].kill_in_flight())

    job = Job(map_words, lambda _word, some: sum(some), combine=lambda _word, some: sum(some), reducers=REDUCERS)
    with tempfile.TemporaryDirectory(prefix="podlab-bench-") as folder:
        began, cpu = time.perf_counter(), spent()
        result = run(job, splits_of(lines, SPLITS), Path(folder), workers=WORKERS, watch=strike)
        took, cpu = time.perf_counter() - began, spent() - cpu
        if kill and not result.count("lost"):
            raise SystemExit("The fault did not bite.")
        size = sum(one["bytes"] for one in result.events if one["event"] == "end" and one["kind"] == "map")
        return took, cpu, size, dict(result.pairs())


def here(context: Any, lines: list[str], kill: bool) -> Measure:
    """Spark's executors on this machine; one is killed beside the running job."""
    from threading import Thread

    counted = context.parallelize(lines, SPLITS).mapPartitions(slowly).reduceByKey(lambda a, b: a + b, REDUCERS)
    victim = executors(context)[0]

    def strike() -> None:
        pause(len(lines) * WAIT / WORKERS / 3)
        victim.kill()

    thread = Thread(target=strike)
    began, cpu = time.perf_counter(), spent()
    if kill:
        thread.start()
    found = measured(context, counted.collect)
    took, cpu = time.perf_counter() - began, spent() - cpu
    if kill:
        thread.join()
        if victim.name not in found.lost:
            raise SystemExit("The fault did not bite.")
    return took, cpu, found.shuffled, dict(found.value)


PROGRAM = """
import json, time
from pyspark.sql import SparkSession
from measured import measured
session = SparkSession.builder.getOrCreate()
context = session.sparkContext
lines = json.loads(LINES)
def slowly(some):
    for line in some:
        time.sleep(0.002)
        yield from ((word, 1) for word in line.split())
context.parallelize(range(2), 2).map(str).collect()
print("ready", flush=True)
began = time.perf_counter()
counted = context.parallelize(lines, 8).mapPartitions(slowly).reduceByKey(lambda a, b: a + b, 2)
found = measured(context, counted.collect)
print("result", json.dumps([time.perf_counter() - began, found.shuffled, dict(found.value), sorted(found.lost)]))
session.stop()
"""


def in_pods(api: Api, lines: list[str], kill: bool) -> Measure:
    """Spark in pods; one executor's pod is deleted while tasks run."""
    text = PROGRAM.replace("LINES", repr(json.dumps(lines)))
    made = spark.submit(api, text, executors=WORKERS, **{"spark.shuffle.compress": "false"})
    try:
        until(lambda: "ready" in made.output(), "Spark in pods", timeout=PATIENCE, interval=0.2, state=made.state)
        cpu = spent()
        if kill:
            pause(len(lines) * WAIT / WORKERS / 3)
            made.kill(made.running()[0])
        output = made.wait(PATIENCE)
        cpu = spent() - cpu
    finally:
        made.delete()
    told = next(line for line in output.splitlines() if line.startswith("result "))
    took, size, counts, lost = json.loads(told.removeprefix("result "))
    if kill and not lost:
        raise SystemExit("The fault did not bite.")
    return took, cpu, size, counts


def main() -> None:
    given = options(__doc__, lines=(8000, 2000, "lines"), pods=(0, 0, "1: in pods of a cluster too"))
    if lacks := missing():
        raise EnvironmentUnsuitable(f"{' and '.join(lacks)} not installed.", hint="pip install 'podlab[spark]'")
    about, lines = machine(), corpus(given.lines)
    announce("spark-vs-ours", about)
    right = dict(Counter(word for line in lines for word in line.split()))
    starts, found = {"ours": 0.0}, dict[tuple[str, bool], Measure]()

    def both(name: str, work: Callable[[bool], Measure]) -> None:
        for kill in (False, True):
            found[name, kill] = work(kill)
            say(f"  {name}{', a worker killed' if kill else ''}: {found[name, kill][0]:.1f} s")

    both("ours", lambda kill: ours(lines, kill))
    began = time.perf_counter()
    started = session(
        "benchmark", f"local-cluster[{WORKERS},1,512]", spark_executor_memory="512m", spark_shuffle_compress="false"
    )
    starts["spark"] = time.perf_counter() - began
    started.sparkContext.parallelize(range(WORKERS), WORKERS).map(str).collect()
    both("spark", lambda kill: here(started.sparkContext, lines, kill))
    started.stop()
    if given.pods:
        with ExitStack() as stack:
            made = stack.enter_context(cluster.up("spark-bench", nodes=2))
            began = time.perf_counter()
            addons.enable("spark", made.name)
            starts["pods"] = time.perf_counter() - began
            api = Api.connect(made.kubeconfig)
            both("pods", lambda kill: in_pods(api, lines, kill))
    names = list(starts)
    rows = [
        (
            name,
            starts[name],
            *found[name, False][:3],
            found[name, True][0],
            100 * (found[name, True][0] / found[name, False][0] - 1),
        )
        for name in names
    ]
    heads = ("way", "start s", "job s", "CPU s", "bytes", "one killed s", "cost %")
    table(f"{given.lines} lines, {WORKERS} workers, {SPLITS} splits", heads, rows)
    wrong = sum(counts != right for _, _, _, counts in found.values())
    more = {
        "start_s": {name: round(starts[name], 2) for name in names},
        "job_s": {name: round(found[name, False][0], 2) for name in names},
        "cpu_s": {name: round(found[name, False][1], 2) for name in names},
        "shuffled_bytes": {name: found[name, False][2] for name in names},
        "killed_s": {name: round(found[name, True][0], 2) for name in names},
        "wrong_results": wrong,
    }
    spark_s, our_s = found["spark", False][0], found["ours", False][0]
    finish(Figure("spark-vs-ours", spark_s, "s", our_s, "the same counts, killed or not", wrong == 0, more), about)


if __name__ == "__main__":
    main()
