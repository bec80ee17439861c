"""The quick benchmarks of clusters run through in their small mode, end with their line of JSON, leave no cluster."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from podlab import cluster

pytestmark = [pytest.mark.embedded("these benchmarks are of the embedded cluster")]

FOLDER = Path(__file__).parents[2] / "benchmarks"
FAST = ["idle_100", "memory_limit", "endpoint_latency", "pod_latency"]


@pytest.mark.slow
@pytest.mark.parametrize("name", [*FAST, "cluster_up", "cluster_memory", "cluster_cycles", "pods_100"])
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
