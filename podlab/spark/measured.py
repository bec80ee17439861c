"""What a piece of Spark did: its jobs, stages, tasks, shuffled bytes and lost executors, from Spark's REST interface.

Like `local`, this text also goes into boxes: standard library only.
"""

from __future__ import annotations

import json
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
class Stage:
    """One attempt of a stage. `parents`: the stages whose shuffled bytes it reads. A skipped one had run before."""

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
        return told + (f", executor {' and '.join(self.lost)} lost" if self.lost else "")


def measured(context: Any, work: Callable[[], Any]) -> Run:
    """Call `work` and return what it made Spark do. `context` is a SparkContext (or a session)."""
    context = getattr(context, "sparkContext", context)
    before = {job["jobId"] for job in _jobs(context)}
    gone = {one["id"] for one in rest(context, "allexecutors") if not one["isActive"]}
    value = work()
    return reported(context, value, before, gone)


def reported(context: Any, value: Any, before: set[int], gone: set[str]) -> Run:
    """The run of all jobs but those in `before`, as Spark reports it now."""
    jobs = sorted((job for job in _jobs(context) if job["jobId"] not in before), key=lambda job: job["jobId"])
    run = Run(value, len(jobs))
    if not jobs:
        return run
    zero = min(_seconds(job["submissionTime"]) for job in jobs)
    for job in jobs:
        parents = _parents(context, job["jobId"])
        for number in sorted(job["stageIds"]):
            attempts = rest(context, f"stages/{number}?details=true")
            for stage in sorted(attempts, key=lambda stage: stage["attemptId"]):
                run.stages.append(_stage(stage, parents.get(number, ()), zero))
    for one in rest(context, "allexecutors"):
        if not one["isActive"] and one["id"] not in gone and one["id"] != "driver":
            run.lost[one["id"]] = (_seconds(one["removeTime"]) - zero, one.get("removeReason", ""))
    return run


def _stage(told: dict[str, Any], parents: Sequence[int], zero: float) -> Stage:
    tasks = []
    for task in (told.get("tasks") or {}).values():
        begin = _seconds(task["launchTime"]) - zero
        tasks.append(
            Task(
                task["index"],
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
    )


def _jobs(context: Any) -> list[dict[str, Any]]:
    context._jsc.sc().listenerBus().waitUntilEmpty(PATIENCE)
    return rest(context, "jobs")


def rest(context: Any, path: str) -> Any:
    """What Spark's REST interface says of this application at a path such as "stages"."""
    address = f"{context.uiWebUrl}/api/v1/applications/{context.applicationId}/{path}"
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with direct.open(address, timeout=60) as answer:
        return json.load(answer)


def _parents(context: Any, job: int) -> dict[int, tuple[int, ...]]:
    """Which stage reads from which, from the graph that Spark's own page draws; the REST interface has it not."""
    graph = context._jsc.sc().statusStore().operationGraphForJob(job)
    where: dict[int, int] = {}
    incoming: list[tuple[int, int]] = []
    for at in range(graph.size()):
        part = graph.apply(at)
        number = int(part.rootCluster().id().removeprefix("stage_"))
        for edge in _edges(part.edges()):
            where |= dict.fromkeys(edge, number)
        for source, target in _edges(part.incomingEdges()):
            incoming.append((source, number))
            where.setdefault(target, number)
    found: dict[int, set[int]] = {}
    for source, number in incoming:
        if source in where:
            found.setdefault(number, set()).add(where[source])
    return {number: tuple(sorted(some)) for number, some in found.items()}


def _edges(some: Any) -> list[tuple[int, int]]:
    return [(some.apply(at).fromId(), some.apply(at).toId()) for at in range(some.size())]


def _seconds(told: str) -> float:
    """Seconds since 1970 of a time such as 2026-11-26T01:18:20.123GMT."""
    from datetime import datetime

    return datetime.fromisoformat(told.replace("GMT", "+00:00")).timestamp()
