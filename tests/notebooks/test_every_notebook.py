"""Every notebook from a fresh kernel to its end, unattended, twice, beside others, leaving nothing behind.

Beside them plain `nbgrader autograde` works on the same files, as for an instructor without our grader.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from podlab.checks import registry
from podlab.checks.api import Api
from podlab.checks.world import MADE_BY
from podlab.cluster import Cluster
from podlab.course import build as builder
from podlab.course import manuscript, needs
from podlab.lab import chapters
from podlab.waiting import until

# A test may wait for notebooks that are far behind in the queue.
pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.timeout(3600)]

COURSE = Path(__file__).parents[2]
#: Notebook -> programs that it needs and that are not here.
MISSING = {builder.target(each): needs.missing(each.about) for each in manuscript.documents(COURSE / "manuscript")}
LESSONS, SOURCES = (
    [path for path in sorted(COURSE.glob(where)) if not MISSING[path.relative_to(COURSE)]]
    for where in ("notebooks/*.ipynb", "source/*/*.ipynb")
)
#: Every notebook once (0), and every lesson a second time on the same cluster (1).
TURNS = [*((path, 0) for path in [*LESSONS, *SOURCES]), *((path, 1) for path in LESSONS)]
#: Jobs side by side: some wait for nodes that are theirs alone, the others mostly for what they watch.
AT_ONCE = 6
#: The assignment that plain nbgrader grades. It and its lesson switch nodes off.
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


def switches_nodes_off(key: Any) -> bool:
    """Whether a job takes nodes away from others."""
    return key == PLAIN or key[0].stem == PLAIN


def is_lesson(key: Any) -> bool:
    """Whether a job is a lesson, which has pods all the time, and not a series of checks, which keep to the locks."""
    return key != PLAIN and key[0].parent.name == "notebooks"


def needs_whole_nodes(key: Any) -> bool:
    """Whether a job has pods of its own on nodes that another one might switch off."""
    return not switches_nodes_off(key) and chapters.needs_cluster(key[0].stem[:2])


class Work:
    """Long jobs by key, some at a time: those that the selected tests ask for are begun together.

    Those that need whole nodes begin when all that switch nodes off are done, and a lesson that switches nodes off has
    them for itself.
    """

    def __init__(self, pool: ThreadPoolExecutor, jobs: dict[Any, Callable[[], Any]]) -> None:
        self._pool, self._jobs = pool, jobs
        self._begun: dict[Any, Future[Any]] = {}

    def begin(self, key: Any) -> None:
        if key not in self._begun:
            breaking = {other: one for other, one in self._begun.items() if switches_nodes_off(other)}
            before: Iterable[Future[Any]] = ()
            if needs_whole_nodes(key):
                before = list(breaking.values())
            elif switches_nodes_off(key):
                before = [one for other, one in breaking.items() if is_lesson(other)]
            self._begun[key] = self._pool.submit(self._do, key, before)

    def _do(self, key: Any, before: Iterable[Future[Any]]) -> Any:
        wait(before)
        return self._jobs[key]()

    def result(self, key: Any) -> Any:
        self.begin(key)
        return self._begun[key].result()

    def finish(self) -> None:
        """Wait for all that was begun."""
        wait(self._begun.values())


def execute(notebook: Path, output: Path) -> Run:
    """Run a notebook as a user would, from a fresh kernel."""
    short = notebook.relative_to(COURSE)
    command = [sys.executable, "-m", "podlab", "execute", str(short), "--output", str(output)]
    done = subprocess.run(command, cwd=COURSE, capture_output=True, text=True, timeout=1500, check=False)
    return Run(done.returncode, done.stdout, done.stderr, output / short)


def nbgrader(folder: Path, *arguments: str) -> None:
    command = [sys.executable, "-m", "nbgrader", *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=1500, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]


def marks_by_plain_nbgrader(folder: Path) -> dict[str, float]:
    """Release the assignment, hand in the reference as ada and the release itself as bob, and autograde both."""
    from nbgrader.api import Gradebook

    shutil.copytree(COURSE / "source", folder / "source")
    (folder / "nbgrader_config.py").write_text(CONFIG)
    nbgrader(folder, "generate_assignment", PLAIN)
    released = folder / "release" / PLAIN / f"{PLAIN}.ipynb"
    document = manuscript.read(COURSE / "manuscript" / PLAIN / "assignment.py")
    perfect = json.loads(released.read_text())
    for cell in perfect["cells"]:
        grade_id = cell["metadata"].get("nbgrader", {}).get("grade_id", "")
        if grade_id.startswith("answer-"):
            exercise = grade_id.removeprefix("answer-").replace("-", ".")
            cell["source"] = document.answer(exercise).source
    for who, text in (("ada", json.dumps(perfect)), ("bob", released.read_text())):
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
    request: pytest.FixtureRequest, notebook_cluster: Cluster, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Work]:
    """Plain nbgrader, every notebook once, and every lesson once more; whoever looks at one waits for it."""
    folder = tmp_path_factory.mktemp("executed")
    jobs: dict[Any, Callable[[], Any]] = {PLAIN: partial(marks_by_plain_nbgrader, tmp_path_factory.mktemp("plain"))}
    for path, number in TURNS:
        output = folder / f"{number}" / path.parent.name / path.stem
        jobs[path, number] = partial(execute, path, output)
    asked = {item.callspec.params.get("job") for item in request.session.items if hasattr(item, "callspec")}
    with ThreadPoolExecutor(AT_ONCE) as pool:
        found = Work(pool, jobs)
        for key in sorted(jobs, key=lambda key: (needs_whole_nodes(key), not switches_nodes_off(key), not is_lesson(key))):
            if key in asked:
                found.begin(key)
        yield found


def name_of(turn: tuple[Path, int]) -> str:
    path, number = turn
    return f"{path.parent.name}/{path.stem}" + (" again" if number else "")


@pytest.mark.parametrize("job", TURNS, ids=name_of)
def test_a_notebook_runs_to_its_end_beside_others(job: tuple[Path, int], work: Work) -> None:
    """The lesson that loses a node waits for those that must not be disturbed, and they for it."""
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


@pytest.mark.parametrize("path", [path for path, lacks in MISSING.items() if lacks], ids=lambda path: path.stem)
def test_a_notebook_that_needs_more_is_passed_over(path: Path) -> None:
    pytest.skip(needs.told(MISSING[path]))


@pytest.mark.parametrize("job", [PLAIN])
def test_plain_nbgrader_gives_full_marks_to_the_reference_and_none_to_the_release(job: str, work: Work) -> None:
    marks = work.result(job)
    points = sum(exercise.points for exercise in registry.chapter(PLAIN[:2]).values())
    assert marks == {"ada": float(points), "bob": 0.0}


def test_nothing_is_left_by_all_of_them(notebook_cluster: Cluster, work: Work) -> None:
    work.finish()
    nothing_is_left(notebook_cluster)
