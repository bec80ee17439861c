"""Real processes: faults bite and prove it, output and errors can be read, and nobody survives the harness."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from podlab import waiting
from podlab.distributed.harness import Harness, announce, process_state
from podlab.errors import LaboratoryError, UsageError, WaitTimeout, WorkerFailed


@pytest.fixture
def harness() -> Iterator[Harness]:
    with Harness() as opened:
        yield opened


def forever() -> None:
    announce("waiting for ever")
    while True:
        signal.pause()


def spin() -> None:
    while True:
        pass


def test_a_function_returns_from_another_process(harness: Harness) -> None:
    local = 20
    workers = [harness.spawn(lambda n: (os.getpid(), n + local), n, name=f"w{n}") for n in range(3)]
    results = [worker.result() for worker in workers]
    assert [value for _, value in results] == [20, 21, 22]
    assert {pid for pid, _ in results} == {worker.pid for worker in workers}
    assert os.getpid() not in {pid for pid, _ in results}


def test_a_program_and_its_output(harness: Harness, tmp_path: Path) -> None:
    program = harness.run(
        ["sh", "-c", "pwd; echo $TOLD; echo bad >&2; exit 3"], environment={"TOLD": "x"}, folder=tmp_path
    )
    assert program.wait() == 3
    assert program.output().split() == [str(tmp_path), "x", "bad"]
    assert "exit status 3" in program.describe()


def raises() -> None:
    print("about to fail")
    raise ValueError("no such word")


def exits() -> None:
    sys.exit("gave up")


def leaves() -> None:
    os._exit(0)


def dies() -> None:
    os.kill(os.getpid(), signal.SIGUSR1)


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (raises, ["exit status 1", "about to fail", "ValueError: no such word"]),
        (exits, ["exit status 1", "gave up"]),
        (leaves, ["left before its function returned"]),
        (dies, ["killed by SIGUSR1", "it wrote nothing"]),
        (lambda: lambda: 1, ["exit status 1", "pickle"]),
    ],
    ids=["raises", "exits", "leaves", "dies", "unpicklable"],
)
def test_errors_show_status_and_last_lines(harness: Harness, function: object, words: list[str]) -> None:
    worker = harness.spawn(function, name="w")  # type: ignore[arg-type]
    with pytest.raises(WorkerFailed) as caught:
        worker.result()
    for word in words:
        assert word in str(caught.value)


def test_only_the_end_of_a_flood_is_kept_in_an_error(harness: Harness) -> None:
    def flood() -> None:
        for number in range(50_000):
            print("line", number)
        raise RuntimeError("enough")

    worker = harness.spawn(flood)
    with pytest.raises(WorkerFailed) as caught:
        worker.result()
    assert "enough" in str(caught.value) and len(str(caught.value)) < 5000


def test_kill_proves_itself(harness: Harness) -> None:
    worker = harness.spawn(forever)
    waiting.until(lambda: worker.task, "the worker at work", timeout=60)
    proof = worker.kill()
    assert proof and proof.before in "SR" and proof.after == "gone" and proof.task == "waiting for ever"
    assert worker.status == -signal.SIGKILL
    again = worker.kill()
    assert not again and "did not bite" in str(again)


def test_kill_in_flight_waits_for_the_task(harness: Harness) -> None:
    def tasks() -> None:
        for number in range(1_000_000):
            announce(f"task {number}")
            announce(None)

    worker = harness.spawn(tasks)
    proof = worker.kill_in_flight("5")
    assert proof and proof.before == "T" and proof.task and "5" in proof.task
    idle = harness.spawn(signal.pause)
    with pytest.raises(WaitTimeout, match="in the hands of"):
        idle.kill_in_flight(timeout=0.05)
    ended = harness.spawn(int)
    ended.wait()
    with pytest.raises(LaboratoryError, match="before it could be killed"):
        ended.kill_in_flight()


def test_stop_and_resume_prove_themselves(harness: Harness) -> None:
    worker = harness.spawn(spin)
    proof = worker.stop()
    assert proof and proof.after == "T" and "is stopped" in repr(worker)
    assert worker.running()
    assert worker.resume() and worker.state != "T"
    assert not worker.resume()
    with harness.stopped(worker) as proofs:
        assert all(proofs) and worker.state == "T"
    assert worker.state == "R" or worker.state == "S"


def test_pause_uses_no_processor(harness: Harness) -> None:
    worker = harness.spawn(spin)
    assert worker.pause(0.05)
    worker.kill()
    assert not worker.pause(0.0)


def test_wait_times_out_with_the_state(harness: Harness) -> None:
    worker = harness.spawn(forever, name="slow-one")
    with pytest.raises(WaitTimeout, match=r"slow-one .* is running"):
        worker.wait(timeout=0.01)


def test_leaving_ends_workers_and_their_children() -> None:
    with pytest.raises(RuntimeError, match="in the block"), Harness() as harness:
        frozen = harness.spawn(forever)
        frozen.stop()
        parent = harness.run(["sh", "-c", "sleep 1000 & echo $!; wait"])
        child = int(waiting.until(lambda: parent.output().strip(), "the child's number", timeout=60))
        raise RuntimeError("in the block")
    assert process_state(frozen.pid) == process_state(parent.pid) == "gone"
    waiting.until(lambda: process_state(child) in ("gone", "Z"), "the end of the grandchild", timeout=60)
    with pytest.raises(UsageError, match="not open"):
        harness.spawn(forever)


def test_workers_die_with_the_process_that_started_them() -> None:
    program = (
        "import os, signal\n"
        "from podlab.distributed.harness import Harness\n"
        "harness = Harness().__enter__()\n"
        "print(harness.spawn(signal.pause).pid, flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert told.returncode == -signal.SIGKILL
    pid = int(told.stdout)
    waiting.until(lambda: process_state(pid) in ("gone", "Z"), "the end of the worker", timeout=60)


def test_misuse_is_refused(harness: Harness) -> None:
    with pytest.raises(UsageError):
        harness.run("ls -l")
    with pytest.raises(LaboratoryError, match="no program"):
        harness.run(["no-such-program-anywhere"])
    announce("outside a worker this does nothing")
