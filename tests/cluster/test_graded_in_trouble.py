"""Grading when a submission's cluster dies, is harmed or is attacked in mid-check: it is never scored for that."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from podlab import cluster
from podlab.checks import registry
from podlab.checks.world import World
from podlab.course.build import KERNEL
from podlab.grading import kernel_image, worker
from podlab.grading.records import Outcome, Record

pytestmark = [pytest.mark.slow, pytest.mark.embedded("graders make embedded clusters")]

sys.path.insert(0, str(Path(__file__).parents[2]))

from autograder.corpus.notebooks import cell  # noqa: E402 - the corpus is no part of the package

COURSE = Path(__file__).with_name("disturbed")
NAME = "92-disturbed"
MANIFEST = '''manifest_92_1 = """
apiVersion: v1
kind: Pod
metadata: {name: staying}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: staying
    image: podlab/python:latest
    command: [python3, -S, -c, "import signal; signal.signal(signal.SIGTERM, lambda *_: exit(0)); signal.pause()"]
"""'''


def notebook(**answers: str) -> dict[str, Any]:
    """The assignment with these answers (answer_92_1="...")."""
    facts = {"schema_version": 3, "task": False, "grade": False, "locked": False, "solution": True}
    cells = []
    for number in ("1", "2"):
        name = f"answer-92-{number}"
        source = answers.get(name.replace("-", "_"), "# YOUR CODE HERE")
        cells.append(cell("code", source, name, {"nbgrader": {**facts, "grade_id": name}}))
    return {"cells": cells, "metadata": KERNEL, "nbformat": 4, "nbformat_minor": 5}


@pytest.fixture
def chapter(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.setenv(registry.OWN, str(COURSE))
    return registry.module("92")


Grade = Callable[..., Record]


@pytest.fixture
def grade(tmp_path: Path, home: Path, chapter: ModuleType) -> Iterator[Grade]:
    """Grades a notebook with these answers in a fresh cluster, as a worker does."""
    before = cluster.list_clusters()

    def one(**answers: str) -> Record:
        for name, made in (("release", notebook()), ("ada", notebook(**answers))):
            (tmp_path / f"{name}.ipynb").write_text(json.dumps(made))
        job = worker.Job(
            learner="ada",
            assignment=NAME,
            submission=str(tmp_path / "ada.ipynb"),
            release=str(tmp_path / "release.ipynb"),
            hidden=None,
            out=str(tmp_path),
            image=kernel_image.build_image(),
            cluster="in-trouble",
            nodes=1,
        )
        with worker.Grader() as grader:
            return grader.grade(job)

    yield one
    assert cluster.list_clusters() == before


def identity(world: World) -> str:
    """Which cluster it is: the uid of a namespace that only dies with it."""
    found = world.api.get("Namespace", "kube-system")
    assert found is not None
    return found["metadata"]["uid"]


@pytest.mark.parametrize(
    ("deaths", "expected"),
    [(1, (Outcome.GRADED, 10.0, 2)), (99, (Outcome.INFRASTRUCTURE, None, 3))],
    ids=["once", "every time"],
)
def test_a_cluster_that_dies_in_mid_check_is_replaced_at_most_twice_and_never_scored(
    grade: Grade,
    chapter: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    deaths: int,
    expected: tuple[Outcome, float | None, int],
) -> None:
    seen: list[str] = []

    def die(world: World) -> None:
        seen.append(identity(world))
        if len(seen) <= deaths:
            supervisor = next(one.pid for one in cluster.status(world.cluster).components if one.name == "supervisor")
            assert supervisor
            os.kill(supervisor, signal.SIGKILL)

    monkeypatch.setattr(chapter, "disturb", die)
    record = grade(answer_92_1=MANIFEST)
    assert (record.outcome, record.score, record.attempts) == expected, record.reason
    assert len(seen) == len(set(seen)) == record.attempts, "each attempt has a cluster of its own"


#: What a learner's program in its box can try against the cluster that it is graded in; then the answer is right.
ATTACK = (
    """
import os, signal, socket, ssl, urllib.error, urllib.request
tried = {}
own = "/var/run/secrets/kubernetes.io/serviceaccount/"
token = open(own + "token").read()
context = ssl.create_default_context(cafile=own + "ca.crt")
def ask(method, path, body=None):
    request = urllib.request.Request("https://kubernetes.default.svc" + path, body, method=method, headers={
        "Authorization": "Bearer " + token, "Content-Type": "application/json"})
    try:
        return urllib.request.urlopen(request, context=context, timeout=10).status
    except urllib.error.HTTPError as error:
        return error.code
    except OSError as error:
        return repr(error)
for path in ("/api/v1/namespaces/kube-system", "/api/v1/nodes", "/api/v1/nodes/node-1", "/api/v1/namespaces",
             "/apis/rbac.authorization.k8s.io/v1/clusterroles/edit", "/apis/apps/v1/namespaces/kube-system/deployments",
             "/apis/apiregistration.k8s.io/v1/apiservices"):
    tried["DELETE " + path] = ask("DELETE", path)
hook = b\'{"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingWebhookConfiguration", "metadata": \' \\
    b\'{"name": "no"}, "webhooks": []}\'
tried["webhook"] = ask("POST", "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations", hook)
for port in (2379, 2380, 10257, 10259, 10250):
    for host in ("127.0.0.1", os.environ.get("KUBERNETES_SERVICE_HOST"), "10.244.1.1"):
        try:
            socket.create_connection((host, port), 0.5).close()
        except OSError:
            pass
os.kill(1, signal.SIGKILL)
assert not {name for name, status in tried.items() if status == 200}, tried
"""
    + MANIFEST
)
#: Where a function looks that must not see the grader's files, and tries to leave something.
FUNCTION = """
import os
def where():
    found = [os.path.exists({folder!r}), os.getuid(), "PODLAB_HOME" in os.environ and os.environ["PODLAB_HOME"]]
    try:
        open({folder!r} + "/left-behind", "w").close()
    except OSError:
        pass
    return found
"""


def test_killed_parts_and_a_learners_attack_change_no_mark_and_functions_are_called_in_a_box(
    grade: Grade, chapter: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    killed: list[str] = []

    def kill_parts(world: World) -> None:
        if not killed:
            for part in ("etcd", "kube-apiserver"):
                cluster.get(world.cluster).components.kill(part)
                killed.append(part)

    monkeypatch.setattr(chapter, "disturb", kill_parts)
    function = FUNCTION.format(folder=str(tmp_path))
    record = grade(answer_92_1=ATTACK, answer_92_2=function)
    told = record.reason, record.reports
    assert killed == ["etcd", "kube-apiserver"]
    assert (record.outcome, record.score) == (Outcome.GRADED, 20.0), told
    assert record.attempts + record.reports["92.1"].attempts > 2, "the run that was disturbed proved nothing"
    assert record.reports["92.2"].result("value").observed == repr([False, 65534, "/tmp/podlab"])
    assert not (tmp_path / "left-behind").exists()
