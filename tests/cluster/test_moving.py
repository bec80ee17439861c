"""A chapter begun on one cluster and finished on others: what a learner has comes along, and the first is not needed.

It is begun on an embedded cluster; the others are the one under test (`make test-kind`: kind), and the same by its
kubeconfig, as one that somebody else runs.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from kernels import Kernel

from podlab import cluster as clusters
from podlab import paths
from podlab.checks import registry
from podlab.checks.api import Api
from podlab.checks.world import MADE_BY, PYTHON_IMAGE
from podlab.cluster import Cluster
from podlab.course import manuscript, workspace
from podlab.waiting import until

COURSE = Path(__file__).parents[2]
CHAPTER = "14-cluster-and-api"
#: What the learner has written beside the notebook.
MINE = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: mine}
spec:
  selector: {matchLabels: {app: mine}}
  template:
    metadata: {labels: {app: mine}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - {name: mine, image: podlab/python:3, imagePullPolicy: IfNotPresent, command: [sleep, "3600"]}
"""


class Learner:
    """Somebody with a copy of the course in work/, and one kernel at a time."""

    def __init__(self, course: Path) -> None:
        workspace.prepare(course)
        self.folder = course / "work" / "release" / CHAPTER
        self.kernel: Kernel | None = None

    def uses(self, name: str) -> None:
        """`podlab cluster use NAME` in a terminal."""
        command = [sys.executable, "-m", "podlab", "cluster", "use", name]
        subprocess.run(command, check=True, capture_output=True, timeout=120)

    def opens(self) -> str:
        """Open the notebook with a new kernel and run its first cell."""
        self.closes()
        self.kernel = Kernel(self.folder)
        return self.runs("")

    def closes(self) -> None:
        """End the kernel as JupyterLab does."""
        if self.kernel:
            self.kernel.end()
        self.kernel = None

    def runs(self, cell: str) -> str:
        """Run the notebook's cell of that name ("": the first one) and return what it shows."""
        return self.types(self._cells()[cell])

    def types(self, code: str) -> str:
        """Run a cell of one's own; whatever raises fails the test."""
        assert self.kernel
        shown = self.kernel.run(code)
        assert "Error" not in shown, shown
        return shown

    def answers(self, exercise: str) -> None:
        """Write the right answer into the notebook."""
        document = manuscript.read(COURSE / "manuscript" / CHAPTER / "assignment.py")
        notebook = json.loads(self._file.read_text())
        for cell in notebook["cells"]:
            if _name(cell) == f"answer-{exercise.replace('.', '-')}":
                cell["source"] = document.answer(exercise).source
        self._file.write_text(json.dumps(notebook))

    def checks(self, exercise: str) -> float:
        """Run the answer's cell and the one that checks it; the points."""
        number = exercise.replace(".", "-")
        self.runs(f"answer-{number}")
        shown = self.runs(f"checks-{number}")
        points = re.search(r"\d+\.\d+$", shown)
        assert points, shown
        return float(points[0])

    def progress(self, exercise: str) -> tuple[int, int, bool]:
        """How often it was checked, how many hints were taken, whether it is passed, as the lab shows it."""
        line = next(row for row in self.types("print(lab.progress().text)").splitlines() if row.startswith(exercise))
        found = re.search(r" (\d+) +(\d+) *(passed)?\s*$", line)
        assert found, line
        return int(found[1]), int(found[2]), bool(found[3])

    @property
    def _file(self) -> Path:
        return self.folder / f"{CHAPTER}.ipynb"

    def _cells(self) -> dict[str, str]:
        cells = [cell for cell in json.loads(self._file.read_text())["cells"] if cell["cell_type"] == "code"]
        found = {_name(cell): "".join(cell["source"]) for cell in cells}
        return found | {"": "".join(cells[0]["source"])}


def _name(cell: dict[str, Any]) -> str:
    return str(cell["metadata"].get("nbgrader", {}).get("grade_id", ""))


@pytest.fixture
def learner(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Learner]:
    monkeypatch.setenv("PODLAB_PROGRESS", str(tmp_path / "progress"))
    monkeypatch.setenv("PODLAB_LAB_IMAGE", PYTHON_IMAGE)  # no node of the tests reaches a registry
    shutil.copytree(COURSE / "release" / CHAPTER, tmp_path / "course" / "release" / CHAPTER)
    found = Learner(tmp_path / "course")
    yield found
    found.closes()
    (paths.data() / "cluster-in-use").unlink(missing_ok=True)


@pytest.fixture
def begun(home: Path) -> Iterator[Cluster]:
    """The embedded cluster on which the chapter is begun."""
    with clusters.up("begun", nodes=1) as made:
        yield made


def labs(cluster: Cluster) -> set[str]:
    """The namespaces there that labs and checks have made, and that are not on their way out."""
    found = [one["metadata"] for one in Api.connect(cluster.kubeconfig).list("Namespace", labelSelector=MADE_BY)]
    return {one["name"] for one in found if "deletionTimestamp" not in one}


def test_a_chapter_is_finished_on_other_clusters(
    learner: Learner, begun: Cluster, shared: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUBECONFIG", str(begun.kubeconfig))  # as `podlab lab` gave it to JupyterLab
    first, second = (registry.exercise(name) for name in ("14.3", "14.1"))  # the quickest of the chapter
    others = labs(shared)
    (learner.folder / "mine.yaml").write_text(MINE)
    learner.uses("begun")
    assert "cluster begun (" in learner.opens()
    learner.types('lab.predict("pods", 2)')
    learner.answers(first.id)
    assert learner.checks(first.id) == first.points
    assert "?" in learner.types(f'lab.hint("{second.id}")')
    learner.types('lab.apply(open("mine.yaml").read())\nlab.rollout("mine")')
    assert "svg" in learner.types('lab.save(lab.map("Begun"), "begun.json")\nlab.snapshot()')
    notes = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "notes"}, "data": {"of": "mine"}}
    Api.connect(begun.kubeconfig).apply(notes, "default")
    assert learner.kernel
    learner.kernel.kill()
    left = labs(begun)
    assert left
    clusters.stop("begun")  # from here on nothing of it can be asked

    with ExitStack() as stack:
        lender = str(shared.kubeconfig)
        made = clusters.up("borrowed", provider_name="existing", kubeconfig=lender, confirmed="podlab-shared")
        borrowed = stack.enter_context(made)
        for there, exercise in ((shared, second), (borrowed, first)):
            learner.uses(there.name)
            assert f"cluster {there.name} (" in learner.opens()
            assert f"podlab-{there.name}" in learner.types("!$PODLAB_KUBECTL config current-context")
            assert "is 2." in learner.types('lab.predict("pods", None)')
            assert "Begun" in learner.types('print(lab.replay("begun.json").to_text())')
            learner.types('lab.apply(open("mine.yaml").read())\nlab.rollout("mine")')
            assert learner.progress(first.id) == (1, 0, True)
            learner.answers(exercise.id)
            assert learner.checks(exercise.id) == exercise.points
            assert learner.progress(second.id) == (1, 1, True)
        assert learner.progress(first.id) == (2, 0, True)
        assert "predicted 2:" in learner.types('lab.reconcile("pods", 2)')
        learner.closes()
        until(lambda: not labs(shared) - others, "the labs' namespaces being given up", timeout=60, interval=0.2)

    clusters.start("begun")
    learner.uses("begun")
    assert "cluster begun (" in learner.opens()
    assert learner.progress(first.id) == (2, 0, True) and learner.progress(second.id) == (1, 1, True)
    assert not left & labs(begun), "what the killed kernel left is being deleted"
    kept = Api.connect(begun.kubeconfig).get("ConfigMap", "notes", "default")
    assert kept and kept["data"] == {"of": "mine"}, "what is the learner's own stays"
