"""MapReduce as Indexed Jobs: the sequential loop's pairs, also when a pod is killed with its task in hand."""

from __future__ import annotations

import threading

import pytest

from podlab.checks.api import Api
from podlab.checks.indexed_job import IndexedJob
from podlab.cluster import Cluster
from podlab.distributed.mapreduce import Job, order, sequential, splits_of
from podlab.errors import LaboratoryError, UsageError
from podlab.waiting import until

pytestmark = pytest.mark.slow

#: Not a verdict on speed.
PATIENCE = 300
LINES = [f"line {number} has the word {number % 7}" for number in range(60)]
SPLITS = splits_of(LINES, 4)
PROGRAM = """
import os, time
from mapreduce_tasks import Job

def words(line):
    if line == HELD and os.environ["ATTEMPT"] == "0":
        print("held", flush=True)
        time.sleep(36000)
    return [(word, 1) for word in line.split()]

job = Job(words, lambda word, numbers: sum(numbers))
"""
RIGHT = sequential(Job(lambda line: [(word, 1) for word in line.split()], lambda _, some: sum(some)), SPLITS)


@pytest.fixture
def api(shared: Cluster) -> Api:
    return Api.connect(shared.kubeconfig)


def test_a_pod_that_is_killed_with_its_task_in_hand_is_replaced_and_the_pairs_are_the_same(
    api: Api, namespace: str
) -> None:
    job = IndexedJob(api, namespace, f"HELD = {SPLITS[2][0]!r}\n{PROGRAM}", SPLITS, workers=2, reducers=2)
    job.prepare()
    struck: list[str] = []

    def strike() -> None:
        def holder() -> str:
            names = [pod["metadata"]["name"] for pod in job.pods("map")]
            return next((name for name in names if "held" in job.log(name)), "")

        struck.append(until(holder, "a task that is held", timeout=PATIENCE, interval=0.2))
        job.kill(struck[0])

    thread = threading.Thread(target=strike)
    thread.start()
    done = job.run(PATIENCE)
    thread.join()
    assert sorted(done.pairs, key=lambda pair: order(pair[0])) == RIGHT
    assert "-map-2-" in struck[0] and done.failed == 1 and done.pods == len(SPLITS) + 2 + 1
    assert done.bytes > 0
    job.delete()
    until(lambda: not job.pods("map") + job.pods("reduce"), "the pods going", timeout=PATIENCE, interval=0.3)


def test_a_program_that_raises_fails_at_once_with_its_last_lines(api: Api, namespace: str) -> None:
    program = "from mapreduce_tasks import Job\njob = Job(lambda line: {}['no such film'], len)"
    job = IndexedJob(api, namespace, program, SPLITS)
    job.prepare()
    with pytest.raises(LaboratoryError, match=r"(?s)map failed.*KeyError: 'no such film'"):
        job.run(PATIENCE)
    job.delete()


def test_splits_that_no_configmap_holds_are_refused(api: Api, namespace: str) -> None:
    with pytest.raises(UsageError, match="which holds 1000000"):
        IndexedJob(api, namespace, PROGRAM, [["x" * 1_000_000]]).prepare()
