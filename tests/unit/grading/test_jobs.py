"""How many submissions are graded at a time when nobody says it."""

from __future__ import annotations

import pytest

from podlab.grading import queue

GIB = 1024**3


@pytest.mark.parametrize(
    ("cores", "memory", "cluster", "expected"),
    [
        (2, 22 * GIB, False, 2),
        (2, 22 * GIB, True, 4),
        (8, 64 * GIB, False, 8),
        (8, 64 * GIB, True, 16),
        # Memory is the bound.
        (2, 5 * GIB, True, 2),
        (8, 3 * GIB, False, 3),
        (2, GIB // 2, True, 1),
        (2, GIB // 2, False, 1),
    ],
)
def test_what_waits_shares_a_core_as_far_as_memory_goes(cores, memory, cluster, expected):
    assert queue.jobs(cores, memory, cluster) == expected
