"""Every notebook from a fresh kernel to its end, unattended, twice, beside others, leaving nothing behind.

Beside them plain `nbgrader autograde` works on the same files, as for an instructor without our grader.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from answered import COURSE, answered
from conftest import CALM, FAULTS
from exported import troubles
from turnstile import Turnstile

from podlab.checks import registry
from podlab.checks.api import Api
from podlab.checks.world import MADE_BY
from podlab.cluster import Cluster
from podlab.course import build as builder
from podlab.course import manuscript, measured, needs
from podlab.lab import chapters
from podlab.waiting import until

# A test may wait for notebooks that are far behind in the queue.
pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.timeout(3600)]

#: Where the times of the runs are kept, beside the tests' own reports.
TIMES = COURSE / "build" / "tests" / "times"
#: Notebook -> why it is passed over: programs that it needs and that are not here; "" for the others.
MISSING = {
    builder.target(each): needs.told(lacks) if (lacks := needs.missing(each.about)) else ""
    for each in manuscript.documents(COURSE / "manuscript")
}
LESSONS, SOURCES = (
    [path for path in sorted(COURSE.glob(where)) if not MISSING[path.relative_to(COURSE)]]
    for where in ("notebooks/*.ipynb", "source/*/*.ipynb")
)
#: Lessons whose pages are looked at in a browser: the models for the others.
PAGES = [path for path in LESSONS if path.stem[:2] in ("00", "01", "03", "05", "14", "15", "16")]
#: Every notebook once (0), and every lesson a second time on the same cluster (1).
TURNS = [*((path, 0) for path in [*LESSONS, *SOURCES]), *((path, 1) for path in LESSONS)]
#: Jobs side by side on each cluster; they mostly wait for what they watch.
AT_ONCE = {CALM: 6, FAULTS: 2}
#: The assignment that plain nbgrader grades.
PLAIN = "15-self-healing"
CONFIG = """
c = get_config()
c.ClearSolutions.code_stub = {"python": "# YOUR CODE HERE"}
c.ExecutePreprocessor.timeout = 600
c.ExecutePreprocessor.iopub_timeout = 60
"""


@dataclass(frozen=True)
class Run:
    """How one run of a notebook ended, and where its executed copy is."""

    returncode: int
    stdout: str
    stderr: str
    copy: Path


def cluster_of(key: Any) -> str:
    """The cluster for a job: those that take nodes away would take them from the others."""
    name = key if key == PLAIN else key[0].stem
    return FAULTS if chapters.find(name[:2]).disruptive else CALM


def is_lesson(key: Any) -> bool:
    """Whether a job is a lesson, which has pods all the time, and not a series of checks, which keep to the locks."""
    return key != PLAIN and key[0].parent.name == "notebooks"


def rank(key: Any) -> tuple[bool, int, float]:
    """When a job's turn is: lessons come first, each once before one comes again, and of these what takes longest."""
    notebook, turn = (COURSE / "source" / PLAIN / f"{PLAIN}.ipynb", 0) if key == PLAIN else key
    return not is_lesson(key), turn, -measured.read(COURSE, notebook).get("seconds", 0)


class Work:
    """Long jobs by key, some at a time on each cluster: those that the selected tests ask for are begun together.

    A lesson has the nodes that it takes away for itself: who comes after it waits for its end.
    """

    def __init__(self, pools: dict[str, ThreadPoolExecutor], jobs: dict[Any, Callable[[], Any]]) -> None:
        self._pools, self._jobs, self._turnstile = pools, jobs, Turnstile()
        self._begun: dict[Any, Future[Any]] = {}

    def begin(self, key: Any) -> None:
        if key not in self._begun:
            name = cluster_of(key)
            before = [
                one for other, one in self._begun.items() if name == cluster_of(other) == FAULTS and is_lesson(other)
            ]
            self._begun[key] = self._pools[name].submit(self._do, key, before)

    def _do(self, key: Any, before: Iterable[Future[Any]]) -> Any:
        wait(before)
        with self._turnstile.passed(str(key)):
            return self._jobs[key]()

    def result(self, key: Any) -> Any:
        self.begin(key)
        return self._begun[key].result()

    def finish(self) -> None:
        """Wait for all that was begun."""
        wait(self._begun.values())


def execute(notebook: Path, output: Path, cluster: str) -> Run:
    """Run a notebook as a user would, from a fresh kernel."""
    short = notebook.relative_to(COURSE)
    options = ["--output", str(output), "--cluster", cluster, "--times", str(TIMES)]
    command = [sys.executable, "-m", "podlab", "execute", str(short), *options]
    done = subprocess.run(command, cwd=COURSE, capture_output=True, text=True, timeout=1500, check=False)
    return Run(done.returncode, done.stdout, done.stderr, output / short)


def nbgrader(folder: Path, *arguments: str) -> None:
    command = [sys.executable, "-m", "nbgrader", *arguments]
    surroundings = os.environ | {"PODLAB_CLUSTER": FAULTS}
    done = subprocess.run(
        command, cwd=folder, env=surroundings, capture_output=True, text=True, timeout=1500, check=False
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]


def marks_by_plain_nbgrader(folder: Path) -> dict[str, float]:
    """Release the assignment, hand in the reference as ada and the release itself as bob, and autograde both."""
    from nbgrader.api import Gradebook

    shutil.copytree(COURSE / "source", folder / "source")
    (folder / "nbgrader_config.py").write_text(CONFIG)
    nbgrader(folder, "generate_assignment", PLAIN)
    released = (folder / "release" / PLAIN / f"{PLAIN}.ipynb").read_text()
    for who, text in (("ada", answered(PLAIN, released)), ("bob", released)):
        place = folder / "submitted" / who / PLAIN / f"{PLAIN}.ipynb"
        place.parent.mkdir(parents=True)
        place.write_text(text)
    nbgrader(folder, "autograde", PLAIN)
    with Gradebook(f"sqlite:///{folder / 'gradebook.db'}") as book:
        return {who: book.find_submission(PLAIN, who).score for who in ("ada", "bob")}


def nothing_is_left(cluster: Cluster) -> None:
    api = Api.connect(cluster.kubeconfig)

    def gone() -> bool:
        return not api.list("Namespace", labelSelector=MADE_BY)

    until(gone, "the namespaces of the notebooks being gone", timeout=120, interval=0.5)
    assert all(node.get("spec", {}).get("unschedulable") is not True for node in api.list("Node"))


@pytest.fixture(scope="module")
def work(
    request: pytest.FixtureRequest, notebook_clusters: dict[str, Cluster], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Work]:
    """Plain nbgrader, every notebook once, and every lesson once more; whoever looks at one waits for it."""
    folder = tmp_path_factory.mktemp("executed")
    jobs: dict[Any, Callable[[], Any]] = {PLAIN: partial(marks_by_plain_nbgrader, tmp_path_factory.mktemp("plain"))}
    for path, number in TURNS:
        output = folder / f"{number}" / path.parent.name / path.stem
        jobs[path, number] = partial(execute, path, output, cluster_of((path, number)))
    asked = {item.callspec.params.get("job") for item in request.session.items if hasattr(item, "callspec")}
    with ExitStack() as stack:
        found = Work({name: stack.enter_context(ThreadPoolExecutor(most)) for name, most in AT_ONCE.items()}, jobs)
        for key in sorted(jobs, key=rank):
            if key in asked:
                found.begin(key)
        yield found


def name_of(turn: tuple[Path, int]) -> str:
    path, number = turn
    return f"{path.parent.name}/{path.stem}" + (" again" if number else "")


@pytest.mark.parametrize("job", TURNS, ids=name_of)
def test_a_notebook_runs_to_its_end_beside_others(job: tuple[Path, int], work: Work) -> None:
    run = work.result(job)
    assert run.returncode == 0, run.stdout + run.stderr


@pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem)
def test_a_lesson_has_pictures_with_words(path: Path, work: Work) -> None:
    run = work.result((path, 1))
    if run.returncode:
        pytest.skip("it did not run to its end, which is another test's to say")
    bundles = [
        output["data"]
        for cell in json.loads(run.copy.read_text())["cells"]
        for output in cell.get("outputs", ())
        if "data" in output
    ]
    pictures = [bundle for bundle in bundles if "data:image/svg+xml" in "".join(bundle.get("text/html", ""))]
    assert pictures
    for bundle in pictures:
        assert '<img alt="' in "".join(bundle["text/html"]) and "".join(bundle["text/plain"]).strip()


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_a_lesson_as_a_page_and_on_paper_is_whole_without_network(
    path: Path, work: Work, browser: Any, axe: str
) -> None:
    run = work.result((path, 1))
    if run.returncode:
        pytest.skip("it did not run to its end, which is another test's to say")
    assert troubles(browser, axe, run.copy) == []


@pytest.mark.parametrize("path", [path for path, lacks in MISSING.items() if lacks], ids=lambda path: path.stem)
def test_a_notebook_that_needs_more_is_passed_over(path: Path) -> None:
    pytest.skip(MISSING[path])


@pytest.mark.parametrize("job", [PLAIN])
def test_plain_nbgrader_gives_full_marks_to_the_reference_and_none_to_the_release(job: str, work: Work) -> None:
    marks = work.result(job)
    points = sum(exercise.points for exercise in registry.chapter(PLAIN[:2]).values())
    assert marks == {"ada": float(points), "bob": 0.0}


def test_chapters_that_take_nodes_away_are_executed_on_another_cluster(
    notebook_clusters: dict[str, Cluster], tmp_path: Path
) -> None:
    (tmp_path / "manuscript").mkdir()
    (tmp_path / "notebooks").mkdir()
    cell = {"cell_type": "code", "id": "c", "metadata": {}, "execution_count": None, "outputs": []}
    cell["source"] = 'import os\nprint(os.environ["PODLAB_CLUSTER"])'
    notebook = builder.text_of({"cells": [cell], "metadata": builder.KERNEL, "nbformat": 4, "nbformat_minor": 5})
    for name in ("14-x", PLAIN):
        (tmp_path / "notebooks" / f"{name}.ipynb").write_text(notebook)
    command = [sys.executable, "-m", "podlab", "execute", "--cluster", CALM, "--output", "out"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    for name, cluster in {"14-x": CALM, PLAIN: FAULTS}.items():
        (cell,) = json.loads((tmp_path / "out" / "notebooks" / f"{name}.ipynb").read_text())["cells"]
        assert "".join(cell["outputs"][0]["text"]).strip() == cluster


def test_nothing_is_left_by_all_of_them(notebook_clusters: dict[str, Cluster], work: Work) -> None:
    work.finish()
    for cluster in notebook_clusters.values():
        nothing_is_left(cluster)
