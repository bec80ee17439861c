"""Grade a class: several submissions at a time, by worker processes that each grade one after the other.

What is graded is on disk at once, so that a grader that was killed goes on where it was. A worker that dies or hangs
costs its submission an attempt, and no other submission anything.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import signal
import sys
import tempfile
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from podlab.checks import registry
from podlab.grading import own_cluster, records, worker
from podlab.grading.records import Outcome, Record, Unanswered
from podlab.grading.worker import ATTEMPTS, Job

#: Seconds that one worker may take for one submission, all of its attempts included, before it is ended.
LONGEST = 1_800.0
#: Submissions at a time for each core. One that has a cluster mostly waits: for pods, probes and what checks look at.
EACH_CORE = 1
EACH_CORE_WITH_CLUSTER = 2
#: Bytes of memory that one worker is reckoned to need: with its box, or with its cluster and its pods.
MEMORY_EACH = 1 * 1024**3
MEMORY_WITH_CLUSTER = 2 * 1024**3
#: Bytes of one line that a worker says.
LONGEST_LINE = 1_000_000


@dataclass(frozen=True)
class Progress:
    """One step of one submission; `record` when it has ended. `done` of `total` submissions have."""

    learner: str
    text: str
    record: Record | None = None
    done: int = 0
    total: int = 0


def default_jobs(cluster: bool = True) -> int:
    """How many submissions this machine grades at a time; `cluster`: whether each has a cluster of its own."""
    import psutil

    return jobs(len(os.sched_getaffinity(0)), psutil.virtual_memory().available, cluster)


def jobs(cores: int, memory: float, cluster: bool) -> int:
    """How many submissions are best graded at a time with so many cores and bytes of free memory; 1 at least."""
    each_core, each = (EACH_CORE_WITH_CLUSTER, MEMORY_WITH_CLUSTER) if cluster else (EACH_CORE, MEMORY_EACH)
    return max(1, min(cores * each_core, int(memory / each)))


def grade_all(jobs: Sequence[Job], workers: int, progress: Callable[[Progress], None]) -> list[Record]:
    """Grade all jobs, `workers` at a time, and return their records in the order of the jobs."""
    return asyncio.run(_grade_all(jobs, workers, progress))


async def _grade_all(jobs: Sequence[Job], workers: int, progress: Callable[[Progress], None]) -> list[Record]:
    waiting = deque(jobs)
    done: dict[str, Record] = {}

    numbers = itertools.count(1)

    def counted(step: Progress) -> None:
        progress(replace(step, done=len(done), total=len(jobs)))

    async def one_after_the_other() -> None:
        async with _Worker(counted, next(numbers)) as slot:
            while waiting:
                job = waiting.popleft()
                record = done[job.learner] = await slot.grade(job)
                counted(Progress(job.learner, record.outcome.value, record))

    tasks = [asyncio.ensure_future(one_after_the_other()) for _ in range(min(workers, len(jobs)))]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    return [done[job.learner] for job in jobs]


class _Worker:
    """One worker process, replaced when it dies or hangs."""

    def __init__(self, progress: Callable[[Progress], None], number: int) -> None:
        self._progress = progress
        self._number = number
        self._attempt = 1
        self._process: asyncio.subprocess.Process | None = None
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 - closed at exit

    async def __aenter__(self) -> _Worker:
        return self

    async def __aexit__(self, *_error: object) -> None:
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.close()
            try:
                async with asyncio.timeout(30):
                    await self._process.wait()
            except (TimeoutError, asyncio.CancelledError):
                await self._kill()
        self._stderr.close()

    async def grade(self, job: Job) -> Record:
        """The record of one job: the worker's own, or that the machine was in the way."""
        if job.pooled:
            job = replace(job, cluster=f"{job.cluster}-{self._number}")  # one cluster for each worker
        out = Path(job.out)
        why = ""
        while job.attempt <= ATTEMPTS:
            why = await self._ask(job)
            if not why and (record := records.read(out, job.assignment, job.learner)):
                return record
            await self._kill()
            await asyncio.to_thread(own_cluster.sweep, job.cluster)
            job = replace(job, attempt=self._attempt + 1)
            self._progress(Progress(job.learner, f"{why}.{' Once more.' if job.attempt <= ATTEMPTS else ''}"))
        record = _lost(job, why)
        records.write(out, record)
        return record

    async def _ask(self, job: Job) -> str:
        """Have a worker grade the job; returns why it did not, or nothing.

        Afterwards `_attempt` is the last one that it has begun. An earlier record stays until it has written a new one.
        """
        self._attempt = job.attempt
        process = await self._running()
        assert process.stdin is not None and process.stdout is not None
        try:
            async with asyncio.timeout(LONGEST):
                process.stdin.write(worker.to_json(job).encode() + b"\n")
                await process.stdin.drain()
                while line := await process.stdout.readline():
                    fact = json.loads(line)
                    if "done" in fact:
                        return ""
                    if "attempt" in fact:
                        self._attempt = int(fact["attempt"])
                        continue
                    self._progress(Progress(job.learner, str(fact.get("say", ""))))
                await process.wait()
                return f"Its worker ended with status {process.returncode}. {self._last_words()}".strip()
        except TimeoutError:
            return f"Its worker did not end within {LONGEST:g} s"
        except (ValueError, ConnectionError) as error:
            return f"Its worker cannot be understood: {error}"

    async def _running(self) -> asyncio.subprocess.Process:
        if self._process is None or self._process.returncode is not None:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "podlab.grading.worker",
                str(os.getpid()),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=self._stderr,
                start_new_session=True,
                limit=LONGEST_LINE,
            )
        return self._process

    async def _kill(self) -> None:
        process, self._process = self._process, None
        if process is not None and process.returncode is None:
            try:
                os.killpg(process.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
            await process.wait()

    def _last_words(self) -> str:
        self._stderr.seek(0, os.SEEK_END)
        self._stderr.seek(max(0, self._stderr.tell() - 600))
        return self._stderr.read().decode("utf-8", "replace").strip()


def _lost(job: Job, reason: str) -> Record:
    exercises = registry.chapter(job.chapter).values()
    unjudged = [Unanswered(each.id, each.title, each.points, reason) for each in exercises]
    path = Path(job.submission) if job.submission else None
    return Record(
        job.learner,
        job.assignment,
        Outcome.INFRASTRUCTURE,
        reason,
        unanswered=unjudged,
        digest=job.digest or worker.digest(path),
        attempts=ATTEMPTS,
        basis=job.basis,
    )
