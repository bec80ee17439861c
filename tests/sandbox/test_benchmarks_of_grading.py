"""Benchmarks of grading that need no cluster run through in their small mode and end with their line of JSON."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "benchmarks"

pytestmark = [pytest.mark.sandbox, pytest.mark.slow]


@pytest.mark.parametrize(
    ("name", "unit"),
    [
        ("sandbox_overhead", "s"),
        ("grade_cpu", "submissions/min"),
        ("grade_repeat", "different results"),
        ("grade_kills", "different gradebooks"),
        ("self_check", "s"),
    ],
)
def test_a_benchmark_in_small(name: str, unit: str) -> None:
    done = subprocess.run(
        [sys.executable, str(FOLDER / f"{name}.py"), "--small"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    line = json.loads(done.stdout.splitlines()[-1])
    assert (line["name"], line["unit"]) == (name.replace("_", "-"), unit)
    assert {"value", "floor", "ratio", "machine"} <= set(line)
