"""What processes use, and which belong together, read from this machine's own /proc."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

import psutil
import pytest

from podlab.cluster.embedded import usage


@pytest.fixture
def family() -> Iterator[int]:
    """A process with one child; both wait."""
    code = (
        "import subprocess, sys\n"
        "child = subprocess.Popen([sys.executable, '-c', 'input()'], stdin=0)\n"
        "print('ready', flush=True)\n"
        "child.wait()"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout
    process.stdout.readline()
    yield process.pid
    process.communicate(b"\n")


def test_descendants_come_after_their_parents(family: int) -> None:
    found = usage.descendants(family)
    assert found[0] == family
    assert len(found) == 2
    assert psutil.Process(found[1]).ppid() == family
    assert family in usage.descendants(os.getpid())


def test_usage_agrees_with_psutil(family: int) -> None:
    resident, cpu = usage.usage([family])
    theirs = psutil.Process(family)
    # The kernel counts pages in batches per processor: two looks differ a little.
    assert resident == pytest.approx(theirs.memory_info().rss, rel=0.2)
    assert cpu == pytest.approx(sum(theirs.cpu_times()[:2]), abs=0.05)


def test_ended_processes_count_nothing() -> None:
    ended = subprocess.Popen(["true"])
    ended.wait()
    assert usage.usage([ended.pid]) == (0, 0.0)
    assert usage.numbers(ended.pid) == []
    assert usage.namespace(ended.pid) is None


def test_numbers_in_our_own_namespace_are_our_own(family: int) -> None:
    assert usage.outer_numbers(family)[usage.numbers(family)[-1]] == family
    assert usage.namespace(family) == usage.namespace(os.getpid())
