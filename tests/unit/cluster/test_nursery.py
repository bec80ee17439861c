"""What a cluster's first process holds for as long as the cluster runs: the agent is loaded by the nursery alone."""

from __future__ import annotations

import subprocess
import sys

_LOAD = """
import sys
from types import SimpleNamespace
from podlab.cluster.embedded import supervisor
from podlab.cluster.embedded.processes import Reaper

plane = SimpleNamespace(record=SimpleNamespace(nodes=3), look=lambda: None)
nursery = supervisor.load(plane, Reaper())
spared = {"podlab.node.agent", "yaml", "importlib.metadata"}
print(nursery.open, sorted(spared & sys.modules.keys()))
nursery.close()
"""


def test_the_supervisor_holds_no_modules_that_it_does_not_need() -> None:
    done = subprocess.run([sys.executable, "-c", _LOAD], capture_output=True, text=True, timeout=120, check=False)
    assert (done.stdout.split(), done.stderr) == (["True", "[]"], "")
