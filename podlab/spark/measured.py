"""What a piece of Spark did: its jobs, stages, tasks, shuffled bytes and lost executors, from Spark's REST interface.

Like `local`, this text also goes into boxes: standard library only.
"""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

#: Milliseconds within which Spark has told all that has happened. Not a verdict on speed.
PATIENCE = 120_000


@dataclass(frozen=True)
class Task:
    """One attempt of a task; `begin` and `end` in seconds from the beginning of the run."""

    partition: int
    attempt: int
    executor: str
    status: str
    begin: float
    end: float


@dataclass(frozen=True)
class Rdd:
    """One step of the lineage. `parents`: the RDDs that it is made of, of its own stage or of those that it reads."""

    id: int
    name: str
    cached: bool = False
    parents: Sequence[int] = ()


@dataclass(frozen=True)
class Stage:
    """One attempt of a stage. `parents`: the stages whose shuffled bytes it reads. A skipped one had run before.

    `count`: the partitions that it had to compute; `whole`: all that it has, of which the others were there already.
    """

    id: int
    attempt: int
    name: str
    status: str
    tasks: Sequence[Task]
    count: int
    written: int = 0
    read: int = 0
    result: int = 0
    parents: Sequence[int] = ()
    whole: int = 0
    rdds: Sequence[Rdd] = ()

    @property
    def skipped(self) -> bool:
        """Whether its bytes were there already."""
        return self.status == "SKIPPED"


@dataclass
class Run:
    """What was measured while something ran; `value` is what that gave."""

    value: Any
    jobs: int = 0
    stages: list[Stage] = field(default_factory=list)
    #: Executor -> (seconds, why) of those that were lost meanwhile.
    lost: dict[str, tuple[float, str]] = field(default_factory=dict)
    #: Jobs of which Spark tells nothing any more, or not all: it keeps the last thousand jobs and stages.
    dropped: int = 0

    @property
    def ran(self) -> list[Stage]:
        """The stages that did something."""
        return [stage for stage in self.stages if not stage.skipped]

    @property
    def shuffled(self) -> int:
        """Bytes that were written to be shuffled."""
        return sum(stage.written for stage in self.ran)

    @property
    def stage_sizes(self) -> tuple[int, ...]:
        """How many tasks each attempt of a stage had, in their order."""
        return tuple(stage.count for stage in self.ran)

    @property
    def tasks(self) -> int:
        """Tasks that were begun, repeated ones included."""
        return sum(len(stage.tasks) for stage in self.ran)

    def __repr__(self) -> str:
        told = f"{self.jobs} jobs, {len(self.ran)} stages, {self.tasks} tasks, {self.shuffled} bytes shuffled"
        skipped = len(self.stages) - len(self.ran)
        told += f", {skipped} stages skipped" if skipped else ""
        told += f", executor {' and '.join(self.lost)} lost" if self.lost else ""
        return told + (f", and {self.dropped} jobs of which Spark keeps nothing any more" if self.dropped else "")


def measured(context: Any, work: Callable[[], Any]) -> Run:
    """Call `work` and return what it made Spark do. `context` is a SparkContext (or a session)."""
    context = getattr(context, "sparkContext", context)
    before = jobs_of(context)
    gone = {one["id"] for one in rest(context, "allexecutors") if not one["isActive"]}
    value = work()
    return reported(context, value, before, gone)


def jobs_of(context: Any) -> set[int]:
    """The numbers of all jobs that Spark still knows."""
    return {job["jobId"] for job in _jobs(context)}


def reported(context: Any, value: Any, before: set[int], gone: set[str]) -> Run:
    """The run of all jobs but those in `before`, as Spark reports it now."""
    jobs = sorted((job for job in _jobs(context) if job["jobId"] not in before), key=lambda job: job["jobId"])
    run = Run(value, len(jobs))
    if not jobs:
        return run
    # Their numbers follow each other.
    run.dropped = jobs[-1]["jobId"] - max(before, default=-1) - len(jobs)
    zero = min(_seconds(job["submissionTime"]) for job in jobs)
    everything = rest(context, "stages")
    for job in jobs:
        try:
            run.stages += _stages(context, job, everything, zero)
        except LookupError:
            run.jobs, run.dropped = run.jobs - 1, run.dropped + 1
    for one in rest(context, "allexecutors"):
        if not one["isActive"] and one["id"] not in gone and one["id"] != "driver":
            run.lost[one["id"]] = (_seconds(one["removeTime"]) - zero, one.get("removeReason", ""))
    return run


def _stages(context: Any, job: dict[str, Any], everything: list[dict[str, Any]], zero: float) -> list[Stage]:
    """All attempts of the stages of a job; LookupError if Spark no longer has one of them."""
    lineage, found = _lineage(context, job["jobId"]), []
    for number in sorted(job["stageIds"]):
        attempts = rest(context, f"stages/{number}?details=true")
        # A later job has a stage of its own for files that an earlier one wrote. Its last one writes none.
        same = [
            one
            for one in everything
            if one["stageId"] == number
            or (number != max(job["stageIds"]) and set(one["rddIds"]) == set(attempts[0]["rddIds"]))
        ]
        whole = max((one["numTasks"] for one in same), default=0)
        for stage in sorted(attempts, key=lambda stage: stage["attemptId"]):
            found.append(_stage(stage, *lineage.get(number, ((), ())), whole, zero))
    return found


def _stage(told: dict[str, Any], parents: Sequence[int], rdds: Sequence[Rdd], whole: int, zero: float) -> Stage:
    tasks = []
    for task in (told.get("tasks") or {}).values():
        begin = _seconds(task["launchTime"]) - zero
        tasks.append(
            Task(
                task["partitionId"],  # its index counts those of the attempt
                task["attempt"],
                task["executorId"],
                task["status"],
                begin,
                begin + task.get("duration", 0) / 1000,
            )
        )
    return Stage(
        told["stageId"],
        told["attemptId"],
        told["name"].split(" at ")[0],
        told["status"],
        sorted(tasks, key=lambda task: (task.begin, task.partition)),
        told["numTasks"],
        told["shuffleWriteBytes"],
        told["shuffleReadBytes"],
        told["resultSize"],
        tuple(parents),
        whole,
        tuple(rdds),
    )


def _jobs(context: Any) -> list[dict[str, Any]]:
    context._jsc.sc().listenerBus().waitUntilEmpty(PATIENCE)
    return rest(context, "jobs")


def rest(context: Any, path: str) -> Any:
    """What Spark's REST interface says of this application at a path such as "stages"; LookupError if it has it not."""
    address = f"{context.uiWebUrl}/api/v1/applications/{context.applicationId}/{path}"
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with direct.open(address, timeout=60) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as error:
        if error.code != 404:
            raise
        raise LookupError(f"Spark has no {path} any more") from error


def _lineage(context: Any, job: int) -> dict[int, tuple[tuple[int, ...], tuple[Rdd, ...]]]:
    """Stage -> the stages that it reads from, and its RDDs: from the graph that Spark's own page draws.

    The REST interface has it not.
    """
    from py4j.protocol import Py4JJavaError

    try:
        graph = context._jsc.sc().statusStore().operationGraphForJob(job)
    except Py4JJavaError as error:
        if "NoSuchElement" not in str(error.java_exception):
            raise
        raise LookupError(f"Spark has no job {job} any more") from error
    inside: dict[int, list[Any]] = {}
    made_of: dict[int, set[int]] = {}
    incoming: list[tuple[int, int]] = []
    for at in range(graph.size()):
        part = graph.apply(at)
        number = int(part.rootCluster().id().removeprefix("stage_"))
        inside[number] = _nodes(part.rootCluster())
        incoming += [(source, number) for source, _ in _edges(part.incomingEdges())]
        for source, target in [*_edges(part.edges()), *_edges(part.incomingEdges())]:
            made_of.setdefault(target, set()).add(source)
    where = {node.id(): number for number, nodes in inside.items() for node in nodes}
    found = {}
    for number, nodes in inside.items():
        rdds = [Rdd(one.id(), one.name(), one.cached(), tuple(sorted(made_of.get(one.id(), ())))) for one in nodes]
        read = {where[source] for source, reader in incoming if reader == number and source in where}
        found[number] = (tuple(sorted(read)), tuple(sorted(rdds, key=lambda rdd: rdd.id)))
    return found


def _nodes(cluster: Any) -> list[Any]:
    """The RDDs of a stage; those that one operation makes are in a cluster of their own."""
    nodes, clusters = cluster.childNodes(), cluster.childClusters()
    inner = [node for at in range(clusters.size()) for node in _nodes(clusters.apply(at))]
    return [nodes.apply(at) for at in range(nodes.size())] + inner


def _edges(some: Any) -> list[tuple[int, int]]:
    return [(some.apply(at).fromId(), some.apply(at).toId()) for at in range(some.size())]


def _seconds(told: str) -> float:
    """Seconds since 1970 of a time such as 2026-11-26T01:18:20.123GMT."""
    from datetime import datetime

    return datetime.fromisoformat(told.replace("GMT", "+00:00")).timestamp()
