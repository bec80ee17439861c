"""The words of chapter 05, counted in four ways: by our engine, by Spark here, by Spark in pods, by Indexed Jobs.

Every way has two workers, the same splits and the same slow lines. In a run with a kill one task, its work done, does
not end: its worker is killed while it is held, and another attempt has to do that work again.
"""

from __future__ import annotations

import json
import random
import runpy
import secrets
import tempfile
import time
from abc import abstractmethod
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, Self

from podlab import addons
from podlab.addons import spark
from podlab.checks.api import Api
from podlab.checks.indexed_job import IndexedJob
from podlab.checks.world import MADE_BY
from podlab.cluster import clusters
from podlab.distributed.mapreduce import Engine, Job, splits_of
from podlab.errors import LaboratoryError
from podlab.lab.show import Listing
from podlab.spark import measured, session
from podlab.spark.executors import executors
from podlab.spark.measured import rest
from podlab.waiting import until
from podlab.widgets.drawing import BLUE, INK, ORANGE, Page
from podlab.widgets.views import still

WORKERS, SPLITS, REDUCERS = 2, 8, 2
#: Not a verdict on speed.
PATIENCE = 600.0

_WORDS = resources.files(__package__).joinpath("words.py")
_DRIVER = resources.files(__package__).joinpath("driver.py")
#: What a job's program is as an Indexed Job.
PROGRAM = """
import os
from mapreduce_tasks import Job

def map_part(record):
    number, lines = record
    yield from words_of(lines)
    if KILL and number == HELD and os.environ["ATTEMPT"] == "0":
        hold()

def total(word, numbers):
    return sum(numbers)

job = Job(map_part, total, combine=total)
"""


@dataclass(frozen=True)
class Outcome:
    """One run: seconds, bytes written to be shuffled, tasks that were begun, also those begun again, the counts.

    `stages` has the number of tasks of each stage that ran, in their order: Spark's own, our phases, the Jobs. A stage
    that Spark ran again after a loss is in it once more, with the tasks of that attempt.
    """

    seconds: float
    shuffled: int
    tasks: int
    counts: dict[str, int]
    stages: tuple[int, ...]


def corpus(lines: int) -> list[str]:
    """Lines of six words; few words are frequent."""
    chance = random.Random(lines)
    words = [f"word{number}" for number in range(300)]
    return [" ".join(chance.choices(words, [1 / (n + 1) for n in range(300)], k=6)) for _ in range(lines)]


def counts(lines: Sequence[str]) -> dict[str, int]:
    """What has to come out."""
    return dict(Counter(word for line in lines for word in line.split()))


class Way(AbstractContextManager["Way"]):
    """A way to count `lines`: entered, it has what can be got ready before the job; `run` may be called many times."""

    name = ""

    def __init__(self, lines: Sequence[str], api: Api | None = None) -> None:
        self.lines = list(lines)
        self.api = api
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self._stack = stack
            self.start()
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_error: object) -> None:
        self._stack.close()

    def start(self) -> None:
        """Get ready; what has to be undone is put on the stack."""

    @abstractmethod
    def run(self, kill: bool = False) -> Outcome:
        """Count, with or without a kill; LaboratoryError if the kill did not meet a task in hand."""

    def _folder(self) -> Path:
        return Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="podlab-ways-")))


class Ours(Way):
    """The engine of chapter 05. Without backups, as Spark is without them unless it is told otherwise."""

    name = "our engine"

    def run(self, kill: bool = False) -> Outcome:
        folder = self._folder()
        marker, words = folder / "held", runpy.run_path(str(_WORDS))

        def map_part(record: tuple[int, list[str]]) -> Any:
            number, lines = record
            yield from words["words_of"](lines)
            if kill and number == words["HELD"] and not marker.exists():
                words["hold"](str(marker))

        def total(_word: str, numbers: list[int]) -> int:
            return sum(numbers)

        def strike() -> bool:
            until(marker.exists, "a task that is held", timeout=PATIENCE, interval=0.02)
            task = f"map-{words['HELD']}"
            (holder,) = (worker for worker in engine.workers.values() if worker.task == task)
            return bool(holder.kill_in_flight(task))

        splits = [[record] for record in enumerate(splits_of(self.lines, SPLITS))]
        job = Job(map_part, total, combine=total, reducers=REDUCERS)
        engine = Engine(job, splits, folder / "job", workers=WORKERS, backups=False)
        result, seconds, bit = _struck(engine.run, strike if kill else None, marker)
        _proven(self, kill, bit and result.count("lost") == 1)
        written = sum(one["bytes"] for one in result.events if one["event"] == "end" and one["kind"] == "map")
        done = Counter(one["kind"] for one in result.events if one["event"] == "end")
        return Outcome(seconds, written, result.count("start"), dict(result.pairs()), tuple(done.values()))


class SparkHere(Way):
    """Two executors of Spark, processes of this machine."""

    name = "Spark here"

    def start(self) -> None:
        master = f"local-cluster[{WORKERS},1,512]"
        made = session("four ways", master, spark_executor_memory="512m", spark_shuffle_compress="false")
        self._stack.callback(made.stop)
        self.context = made.sparkContext
        self.context.parallelize(range(WORKERS), WORKERS).map(str).collect()

    def run(self, kill: bool = False) -> Outcome:
        words, marker = runpy.run_path(str(_WORDS)), self._folder() / "held"
        until(lambda: len(_active(self.context)) == WORKERS, "all executors being there", timeout=PATIENCE)

        def strike() -> str:
            until(marker.exists, "a task that is held", timeout=PATIENCE, interval=0.02)
            holder = _holder(self.context, words["HELD"])
            next(one for one in executors(self.context) if one.name == holder).kill()
            return holder

        rdd = words["counted"](self.context, self.lines, SPLITS, REDUCERS, kill, str(marker))
        found, seconds, holder = _struck(lambda: measured(self.context, rdd.collect), strike if kill else None, marker)
        _proven(self, kill, holder in found.lost)
        return Outcome(seconds, found.shuffled, found.tasks, dict(found.value), found.stage_sizes)


class SparkInPods(Way):
    """Spark's driver and two executors as pods; the add-on has to be enabled."""

    name = "Spark in pods"
    api: Api

    def start(self) -> None:
        settings: dict[str, Any] = {"spark.shuffle.compress": "false"}
        self.made = spark.submit(
            self.api,
            _DRIVER.read_text(),
            executors=WORKERS,
            arguments=[str(number) for number in (WORKERS, SPLITS, REDUCERS)],
            files={"words.py": _WORDS.read_text(), "lines.json": json.dumps(self.lines)},
            **settings,
        )
        self._stack.callback(self._end)
        self.made.until_printed("ready", PATIENCE)

    def _end(self) -> None:
        """Executors go with their driver, a little later; whoever measures what comes next needs them gone."""
        self.made.delete()
        until(lambda: not self.made.executors(), "the end of the executors", timeout=PATIENCE, interval=0.3)

    def run(self, kill: bool = False) -> Outcome:
        def strike() -> str:
            def holder() -> str:
                return next((name for name in self.made.running() if "held" in self.made.log(name)), "")

            victim = until(holder, "a task that is held", timeout=PATIENCE, interval=0.1, state=self.made.state)
            self.made.kill(victim)
            return victim.rsplit("-", 1)[1]

        path = f"/api/v1/namespaces/{spark.NAMESPACE}/pods/{self.made.name}:8099/proxy/{'killed' if kill else 'calm'}"
        told, _, victim = _struck(lambda: self.api.request("POST", path, timeout=PATIENCE), strike if kill else None)
        _proven(self, kill, victim in told["lost"])
        return Outcome(told["seconds"], told["bytes"], told["tasks"], dict(told["pairs"]), tuple(told["stages"]))


class Indexed(Way):
    """A pod for each task, made by the Job controller, with our engine's own tasks."""

    name = "Indexed Job"
    api: Api

    def start(self) -> None:
        self.namespace = f"four-ways-{secrets.token_hex(3)}"
        labels = {MADE_BY: self.namespace}
        made = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": self.namespace, "labels": labels}}
        self.api.apply(made, self.namespace)
        self._stack.callback(self.api.delete, "Namespace", self.namespace)
        until(
            lambda: self.api.get("ServiceAccount", "default", self.namespace),
            f"the account of {self.namespace}",
            timeout=PATIENCE,
        )

    def run(self, kill: bool = False) -> Outcome:
        program = f"{_WORDS.read_text()}\nKILL = {kill}\n{PROGRAM}"
        splits = [[record] for record in enumerate(splits_of(self.lines, SPLITS))]
        job = IndexedJob(self.api, self.namespace, program, splits, workers=WORKERS, reducers=REDUCERS)

        def strike() -> str:
            def holder() -> str:
                names = [pod["metadata"]["name"] for pod in job.pods("map")]
                return next((name for name in names if "held" in job.log(name)), "")

            victim = until(holder, "a task that is held", timeout=PATIENCE, interval=0.1)
            job.kill(victim)
            return victim

        job.prepare()
        try:
            done, seconds, _ = _struck(job.run, strike if kill else None)
        finally:
            job.delete()
        _proven(self, kill, done.failed == 1)
        return Outcome(seconds, done.bytes, done.pods, dict(done.pairs), done.phases)


WAYS: Sequence[type[Way]] = (Ours, SparkHere, SparkInPods, Indexed)

_COLUMNS = (
    ("WAY", lambda row: row["way"]),
    ("JOB", lambda row: f"{row['seconds']:.1f} s"),
    ("A WORKER KILLED", lambda row: f"{row['killed']:.1f} s"),
    ("STAGES", lambda row: " + ".join(map(str, row["stages"]))),
    ("TASKS", lambda row: str(row["tasks"])),
    ("BEGUN AGAIN", lambda row: str(row["again"])),
    ("SHUFFLED", lambda row: f"{row['shuffled']} bytes"),
)


class Ways(Listing):
    """The ways side by side: a table, and in a notebook, above it, bars of the seconds, calm and with a kill."""

    @property
    def html(self) -> str:  # type: ignore[override]
        """The picture, and the table with the same numbers."""
        return still(self.to_svg(), self.text, self.title)["text/html"] + super().html

    def to_svg(self) -> str:
        """Seconds of the job, and those that a killed worker costs more, a row for each way."""
        page, left = Page(), 110.0
        longest = max((max(row["seconds"], row["killed"]) for row in self), default=1.0) or 1.0
        wide = (page.width - left - 130) / longest
        page.text(8, 16, self.title, weight=600)
        for place, row in enumerate(self):
            y = 30 + 34 * place
            page.text(8, y + 17, row["way"])
            for below, (key, colour) in enumerate((("seconds", BLUE), ("killed", ORANGE))):
                page.rect(left, y + 13 * below, wide * row[key], 11, fill=colour, stroke=INK, title=f"{row[key]:.1f} s")
                page.text(left + wide * row[key] + 4, y + 13 * below + 10, f"{row[key]:.1f} s", size=10)
            page.text(page.width - 8, y + 17, f"{row['shuffled'] / 1000:.0f} kB shuffled", size=11, anchor="end")
        low = 40 + 34 * len(self)
        page.legend(low + 8, [(BLUE, "the job"), (ORANGE, "the job with a worker killed")], left)
        return page.document(low + 18, f"{self.title}: {self.text}")


#: Way, seconds, seconds with a worker killed, bytes (to the nearest thousand), tasks begun again.
_RECORDED = (
    ("our engine", 8.4, 10.5, 48_000, 1),
    ("Spark here", 8.8, 14.0, 35_000, 3),
    ("Spark in pods", 8.8, 41.3, 35_000, 3),
    ("Indexed Job", 15.3, 26.0, 48_000, 1),
)


def recorded() -> Ways:
    """All four ways, as `make bench NAME=spark-vs-ours` measured them once with 8,000 lines: the middle of three."""
    same = {"stages": (SPLITS, REDUCERS), "tasks": SPLITS + REDUCERS}
    names = ("way", "seconds", "killed", "shuffled", "again")
    rows = [dict(zip(names, row, strict=True)) | same for row in _RECORDED]
    return Ways(rows, _COLUMNS, "Four ways (recorded: 8,000 lines, two cores)")


def compare(lines: Sequence[str], cluster: str | None = None) -> Ways:
    """Every way, calm and with a worker killed; the ways in pods only with the name of a running `cluster`.

    A first run that warms the caches is not counted. Enables the add-on spark in the cluster. Raises LaboratoryError if
    a way counts wrong, or if a kill met no task.
    """
    right, rows, api = counts(lines), [], None
    if cluster:
        addons.enable("spark", cluster)
        api = Api.connect(clusters.get(cluster).kubeconfig)
    for kind in WAYS if cluster else WAYS[:2]:
        with kind(lines, api) as way:
            first, calm, killed = way.run(), way.run(), way.run(kill=True)
        if not first.counts == calm.counts == killed.counts == right:
            raise LaboratoryError(f"{kind.name} counted the words wrong.")
        row = {"way": kind.name, "seconds": calm.seconds, "killed": killed.seconds, "shuffled": calm.shuffled}
        rows.append(row | {"stages": calm.stages, "tasks": calm.tasks, "again": killed.tasks - calm.tasks})
    return Ways(rows, _COLUMNS, "Ways to count (real run)")


def _struck(
    work: Callable[[], Any], strike: Callable[[], Any] | None, marker: Path | None = None
) -> tuple[Any, float, Any]:
    """What `work` gave, its seconds, and what `strike` gave, which is called beside it.

    `marker`: the file that a held task makes, which `strike` waits for. Neither waits for the other once it has failed.
    """
    if strike is None:
        began = time.perf_counter()
        return work(), time.perf_counter() - began, None

    def blow() -> Any:
        try:
            return strike()
        except BaseException:
            if marker:  # nobody will kill who is held: it goes on
                marker.unlink(missing_ok=True)
            raise

    with ThreadPoolExecutor(1) as pool:
        began = time.perf_counter()
        struck = pool.submit(blow)
        try:
            done, seconds = work(), time.perf_counter() - began
        finally:
            if marker:  # nobody will be held any more
                marker.touch()
        return done, seconds, struck.result()


def _proven(way: Way, kill: bool, met: bool) -> None:
    if kill and not met:
        raise LaboratoryError(f"The kill did not meet a task in hand of {way.name}.", hint="Run it again.")


def _active(context: Any) -> list[str]:
    return [one["id"] for one in rest(context, "executors") if one["isActive"] and one["id"] != "driver"]


def _holder(context: Any, partition: int) -> str:
    """The executor that has the task of a partition in hand."""
    for stage in rest(context, "stages?status=active"):
        running = f"stages/{stage['stageId']}/{stage['attemptId']}/taskList?status=running&length=1000"
        for task in rest(context, running):
            if task["index"] == partition:
                return task["executorId"]
    raise LaboratoryError(f"No executor has partition {partition} in hand.")
