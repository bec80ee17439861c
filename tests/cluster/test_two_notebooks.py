"""Two notebooks of one chapter open on one cluster, and one of them takes a node away: who is told what, who waits."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest
from kernels import Kernel

from podlab.checks import faults
from podlab.checks.api import Api
from podlab.cluster import Cluster
from podlab.waiting import until

BEGIN = "from podlab.lab import start\nlab = start('15')"
APPLY = """
lab.apply('''
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 3
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      terminationGracePeriodSeconds: 1
      topologySpreadConstraints:
      - {maxSkew: 1, topologyKey: kubernetes.io/hostname, whenUnsatisfiable: DoNotSchedule, nodeTaintsPolicy: Honor,
         labelSelector: {matchLabels: {app: web}}}
      containers:
      - {name: web, image: podlab/python:3, imagePullPolicy: IfNotPresent, command: [sleep, "3600"]}
''')
lab.rollout("web", within=200)
print(lab.namespace)
"""


@pytest.fixture
def kernels(shared: Cluster, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Kernel, Kernel]]:
    """Two kernels with a lab of chapter 15 each."""
    monkeypatch.setenv("PODLAB_CLUSTER", shared.name)
    with contextlib.ExitStack() as stack:
        pair = Kernel(), Kernel()
        for kernel in pair:
            stack.callback(kernel.end)
            assert "Chapter 15 is open" in kernel.run(BEGIN)
        yield pair
    faults.mend(shared.name)


def test_who_takes_a_node_away_is_told_of_the_others_pods_and_they_of_who_took_it(
    kernels: tuple[Kernel, Kernel], worker: str
) -> None:
    one, two = kernels
    namespace = two.run(APPLY).split()[-1]
    mine = one.run("print(lab.namespace)").strip()
    shown = one.run(f"lab.kill_node({worker!r})")
    assert f"{worker} has lost its power" in shown and f"go with it: {namespace}" in shown
    assert mine in two.run("lab.wait(lambda: False, 'what cannot be', within=1)")
    assert mine in two.run(BEGIN)
    harm = two.begin(f"lab.kill_node({worker!r})")
    assert mine in two.read(harm, "Waiting")
    assert f"{worker} is back" in one.run(f"lab.rejoin_node({worker!r})")
    assert f"{worker} has lost its power" in two.read(harm)
    assert f"{worker} is back" in two.run(f"lab.rejoin_node({worker!r})")
    assert "harmed" not in one.run(BEGIN)


def test_a_node_that_a_killed_notebook_took_away_is_brought_back_by_the_next(
    kernels: tuple[Kernel, Kernel], shared: Cluster, worker: str
) -> None:
    one, two = kernels
    assert "has lost its power" in one.run(f"lab.kill_node({worker!r})")
    one.kill()
    shown = two.run(BEGIN)
    assert "Chapter 15 is open" in shown and "harmed" not in shown
    api = Api.connect(shared.kubeconfig)
    until(lambda: worker in faults.ready_nodes(api), f"{worker} being Ready again", timeout=120)
