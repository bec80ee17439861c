"""Turns of graders to start a cluster: as many at a time as there are cores."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from podlab.checks import faults
from podlab.grading import own_cluster
from podlab.waiting import until

_HOLD = """
from podlab.grading.own_cluster import turn
with turn():
    print("mine", flush=True)
    input()
"""


@pytest.fixture
def turns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Turns of a machine with two cores, of which nobody has one."""
    monkeypatch.setenv("PODLAB_HOME", str(tmp_path))
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: {0, 1})
    return tmp_path / "data" / "locks"


def free(turns: Path) -> int:
    """How many turns nobody has."""
    files = [(turns / f"turn-{number}").open() for number in range(2)]
    found = sum(faults.lock(file.fileno(), fcntl.LOCK_EX) for file in files)
    for file in files:
        file.close()
    return found


def test_each_turn_is_given_once_and_given_back(turns: Path) -> None:
    with own_cluster.turn():
        assert free(turns) == 1
        with own_cluster.turn():
            assert free(turns) == 0
        assert free(turns) == 1
    assert free(turns) == 2


def test_who_waits_for_long_goes_on_without_a_turn(turns: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(own_cluster, "PATIENCE", 0.0)
    with own_cluster.turn(), own_cluster.turn(), own_cluster.turn():
        assert free(turns) == 0


def test_the_turn_of_a_killed_grader_is_free(turns: Path) -> None:
    holder = subprocess.Popen([sys.executable, "-c", _HOLD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    with holder:
        assert holder.stdout and holder.stdout.readline() == "mine\n"
        with own_cluster.turn():
            assert free(turns) == 0
            holder.send_signal(signal.SIGKILL)
            until(lambda: free(turns) == 1, "the end of its turn", timeout=60)
