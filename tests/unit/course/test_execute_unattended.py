"""What papermill calls a success and is none: each of these notebooks must be refused."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor

import pytest
from typer.testing import CliRunner

from podlab.cli import app
from podlab.course import build, execute, measured

pytestmark = pytest.mark.slow


def notebook(tmp_path, *sources, metadata=None):
    cells = [
        {"cell_type": "code", "id": f"c{n}", "metadata": {}, "execution_count": None, "outputs": [], "source": [source]}
        for n, source in enumerate(sources)
    ]
    if metadata:
        cells[-1]["metadata"] = metadata
    path = tmp_path / "x.ipynb"
    path.write_text(json.dumps({"cells": cells, "metadata": build.KERNEL, "nbformat": 4, "nbformat_minor": 5}))
    return path


def grade(points):
    entry = {"grade": True, "grade_id": "g", "points": points, "solution": False, "locked": True}
    return {"nbgrader": {**entry, "schema_version": 3, "task": False}}


def test_a_notebook_that_runs_is_written_without_the_sentinel(tmp_path):
    done = execute.execute(notebook(tmp_path, "a = 1", "a + 1"), tmp_path / "out.ipynb")
    written = json.loads((tmp_path / "out.ipynb").read_text())
    assert done.cells == 2 and len(written["cells"]) == 2
    assert written["cells"][1]["outputs"][0]["data"]["text/plain"] == ["2"]


SLOW_TO_BE_IDLE = """
import time
kernel = get_ipython().kernel
usual = kernel.post_handler_hook
def slowly():
    time.sleep(5)
    usual()
kernel.post_handler_hook = slowly
"""


def test_a_kernel_that_is_slow_to_be_idle_is_waited_for_and_not_interrupted(tmp_path, capfd):
    """On a busy machine a kernel was interrupted at its end, and said so on the terminal."""
    execute.execute(notebook(tmp_path, SLOW_TO_BE_IDLE), tmp_path / "out.ipynb")
    assert "KeyboardInterrupt" not in "".join(capfd.readouterr())


SLOW_TO_LEAVE_ITS_ANSWER = """
import time
handlers = get_ipython().kernel.shell_handlers
usual = handlers["kernel_info_request"]
async def slowly(*message):
    await usual(*message)
    time.sleep(5)
handlers["kernel_info_request"] = slowly
"""


def test_a_kernel_is_not_interrupted_in_its_last_answer(tmp_path, capfd):
    execute.execute(notebook(tmp_path, SLOW_TO_LEAVE_ITS_ANSWER), tmp_path / "out.ipynb")
    assert "KeyboardInterrupt" not in "".join(capfd.readouterr())


@pytest.mark.parametrize(
    ("sources", "words"),
    [
        (["1/0"], "Cell 1 raised ZeroDivisionError"),
        (["import sys; sys.exit(0)", "print('never')"], "SystemExit"),
        (["import os; os._exit(0)", "1"], "did not run to its end"),
        (["import sys; print('x', file=sys.stderr)"], "wrote to stderr"),
        (["import warnings; warnings.warn('w')"], "wrote to stderr"),
    ],
)
def test_a_notebook_that_does_not_run_to_its_end_is_refused(tmp_path, sources, words):
    with pytest.raises(execute.ExecutionFailed, match=words):
        execute.execute(notebook(tmp_path, *sources), tmp_path / "out.ipynb")


def test_a_cell_that_takes_too_long_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(execute, "CELL_TIMEOUT", 2)
    with pytest.raises(execute.ExecutionFailed):
        execute.execute(notebook(tmp_path, "import time; time.sleep(60)", "1"), tmp_path / "out.ipynb")


@pytest.mark.parametrize("source", ["float(3)", "'full'", "None", "float('nan')"])
def test_a_grade_cell_without_full_points_is_refused(tmp_path, source):
    with pytest.raises(execute.ExecutionFailed, match="of 10 points"):
        execute.execute(notebook(tmp_path, source, metadata=grade(10)), tmp_path / "out.ipynb")


def test_a_grade_cell_with_full_points_passes(tmp_path):
    assert execute.execute(notebook(tmp_path, "float(10)", metadata=grade(10)), tmp_path / "out.ipynb").cells == 1


def test_times_are_recorded_where_the_start_page_finds_them_and_the_machine_is_named(tmp_path):
    (tmp_path / "manuscript").mkdir()
    for path, sources in {"notebooks/01-x.ipynb": ["1", "2"], "source/01-x/01-x.ipynb": ["3"]}.items():
        (tmp_path / path).parent.mkdir(parents=True)
        notebook(tmp_path, *sources).rename(tmp_path / path)

    def run(*names):
        command = ["execute", *names, "--record", "--course", str(tmp_path), "--output", str(tmp_path / "out")]
        done = CliRunner().invoke(app, command)
        assert done.exit_code == 0, done.output
        return json.loads((tmp_path / measured.FOLDER / "01.json").read_text())

    first = run()
    assert {part: entry["cells"] for part, entry in first.items()} == {"lesson": 2, "exercises": 1}
    assert all(entry["seconds"] > 0 and "cores (" in entry["machine"] for entry in first.values())
    notebook(tmp_path, "1").rename(tmp_path / "notebooks/01-x.ipynb")
    second = run("notebooks/")
    assert second["lesson"]["cells"] == 1 and second["exercises"] == first["exercises"]


def test_times_of_a_test_run_are_kept_apart_and_leave_the_course_as_it_is(tmp_path):
    course, times = tmp_path / "course", tmp_path / "times"
    for folder in ("manuscript", "notebooks"):
        (course / folder).mkdir(parents=True)
    notebook(tmp_path, "1").rename(course / "notebooks/01-x.ipynb")
    command = ["execute", "--times", str(times), "--course", str(course), "--output", str(tmp_path / "out")]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.output
    assert json.loads((times / measured.FOLDER / "01.json").read_text())["lesson"]["cells"] == 1
    assert not (course / measured.FOLDER).exists()


def test_a_notebook_of_less_than_half_a_second_is_not_said_to_take_none(tmp_path):
    part = tmp_path / "notebooks" / "01-x.ipynb"
    measured.record(tmp_path, [execute.Execution(part, 0.2, 1)])
    assert measured.read(tmp_path, part)["seconds"] == 1


def test_times_that_are_recorded_side_by_side_are_all_kept(tmp_path):
    parts = [tmp_path / "notebooks" / "01-x.ipynb", tmp_path / "source" / "01-x" / "01-x.ipynb"]
    for number in range(20):
        with ThreadPoolExecutor(2) as pool:
            done = [[execute.Execution(part, 1.0, number)] for part in parts]
            list(pool.map(measured.record, [tmp_path] * 2, done))
        assert [measured.read(tmp_path, part)["cells"] for part in parts] == [number] * 2
