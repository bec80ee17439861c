"""Every benchmark runs through in its small mode, ends with its line of JSON and leaves no cluster."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from podlab import cluster

pytestmark = [pytest.mark.embedded("these benchmarks are of the embedded cluster")]

FOLDER = Path(__file__).parents[2] / "benchmarks"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["cluster_up", "cluster_memory", "cluster_cycles", "pods_100"])
def test_a_benchmark_in_small(name: str) -> None:
    before = cluster.list_clusters()
    done = subprocess.run(
        [sys.executable, str(FOLDER / f"{name}.py"), "--small"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    line = json.loads(done.stdout.splitlines()[-1])
    assert line["name"] == name.replace("_", "-")
    assert {"value", "unit", "floor", "ratio", "machine"} <= set(line)
    assert line["value"] > 0 or name == "cluster_cycles"
    assert cluster.list_clusters() == before
