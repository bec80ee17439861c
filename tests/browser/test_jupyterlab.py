"""The learner's JupyterLab in a real browser: tiles, the keyboard alone, and pictures that outlive their kernel."""

from __future__ import annotations

import json
import sys

import pytest
from lab_server import PATIENCE, open_at, served

from podlab.commands.lab import JUPYTER
from podlab.course.new_kernel import WORDS
from podlab.lab.chapters import tiles

pytestmark = [pytest.mark.browser, pytest.mark.slow]

CELLS = [
    'from podlab.lab import start\nlab = start("03")',
    'ring = lab.election("Five nodes", seed=7)\nring.until(4)\nring',
]


def notebook(*sources: str) -> str:
    cells = [
        {"cell_type": "code", "id": f"c{at}", "metadata": {}, "execution_count": None, "outputs": [], "source": source}
        for at, source in enumerate(sources)
    ]
    kernel = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}
    return json.dumps({"cells": cells, "metadata": kernel, "nbformat": 4, "nbformat_minor": 5})


@pytest.fixture(scope="module")
def jupyterlab(tmp_path_factory):
    """The address of a JupyterLab as `podlab lab` starts it, on a course whose notebooks are two short cells."""
    folder = tmp_path_factory.mktemp("lab")
    course = folder / "course"
    (course / "manuscript").mkdir(parents=True)
    for tile in tiles():
        path = course / tile["path"]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(notebook(*CELLS))
    command = [sys.executable, "-m", "podlab", "lab", "--no-cluster", f"--course={course}"]
    with served(command, folder) as server:
        yield server


@pytest.fixture
def lab(browser, jupyterlab):
    """lab("lab/tree/notebooks/x.ipynb"): a page of JupyterLab that is ready."""
    context = browser.new_context(viewport={"width": 1280, "height": 1000})
    context.set_default_timeout(PATIENCE)
    page = context.new_page()
    page.problems = []
    page.on("pageerror", lambda error: page.problems.append(str(error)))

    def show(path: str):
        return open_at(page, jupyterlab, path)

    yield show
    context.close()


READY = """async () => {
  const panel = jupyterapp.shell.currentWidget;
  await panel.context.ready;
  await panel.sessionContext.ready;
  await panel.sessionContext.session.kernel.info;
}"""


def lesson(lab, name):
    page = lab(f"lab/tree/notebooks/{name}.ipynb")
    page.wait_for_selector(".jp-Notebook .jp-CodeCell")
    page.evaluate(READY)
    return page


def test_the_launcher_has_a_tile_for_each_lesson_and_for_its_exercises(lab):
    page = lab("lab")
    page.evaluate("jupyterapp.commands.execute('launcher:create')")
    page.wait_for_selector(".jp-LauncherCard")
    offered = tiles()
    labels = page.eval_on_selector_all(".jp-LauncherCard-label", "all => all.map(e => e.textContent)")
    wanted = [tile["title"] if tile["kind"] == "lesson" else f"Exercises {tile['number']}" for tile in offered]
    assert labels[: len(wanted)] == wanted
    page.click(f".jp-LauncherCard:has-text('{wanted[-1]}')")
    page.wait_for_function("path => jupyterapp.shell.currentWidget?.context?.path === path", arg=offered[-1]["path"])
    assert page.problems == []


def test_jupyterlab_has_the_settings_of_the_course(lab):
    page = lab("lab")
    for plugin, wanted in json.loads((JUPYTER / "settings/overrides.json").read_text()).items():
        fetch = "id => jupyterapp.serviceManager.settings.fetch(id).then(all => all.schema.properties)"
        known = page.evaluate(fetch, plugin)
        for name, value in wanted.items():
            found = known[name]["default"]
            assert (found | value if isinstance(value, dict) else value) == found, f"{plugin} {name}"


def test_a_lesson_is_worked_through_by_keyboard_alone(lab):
    page = lab("lab")
    # JupyterLab, once restored, takes the focus: a palette that was opened before would close.
    page.wait_for_function("document.activeElement.closest('#jp-main-dock-panel') !== null")
    page.keyboard.press("Control+Shift+C")
    page.wait_for_selector(".lm-CommandPalette-input:focus")
    page.keyboard.type("lead node lesson")
    page.wait_for_selector(".lm-CommandPalette-item.lm-mod-active:has-text('03 The lead node: lesson')")
    page.keyboard.press("Enter")
    page.wait_for_selector(".jp-Notebook .jp-CodeCell")
    page.evaluate(READY)
    page.keyboard.press("Shift+Enter")
    page.keyboard.press("Shift+Enter")
    page.wait_for_selector(".podlab-replay svg")
    # From the cell's output on, Tab leads through the picture's controls.
    page.focus(".podlab-replay button >> nth=0")
    before = int(page.get_attribute(".podlab-replay", "data-position"))
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "One step back"
    page.keyboard.press("Enter")
    page.wait_for_function(f"+document.querySelector('.podlab-replay').dataset.position === {before - 1}")
    page.keyboard.press("Tab")
    page.keyboard.press("Home")
    page.wait_for_function("+document.querySelector('.podlab-replay').dataset.position === 0")
    # Letters that are commands of a notebook (b: a cell below, x: cut) are not when a control has the focus.
    cells = page.locator(".jp-Notebook .jp-Cell").count()
    page.keyboard.type("bx")
    page.keyboard.press("Shift+Tab")
    assert page.locator(".jp-Notebook .jp-Cell").count() == cells
    assert page.problems == []


def test_a_picture_stays_when_its_kernel_is_gone_and_lives_again_when_the_cells_are_run(lab):
    page = lesson(lab, "05-mapreduce-from-scratch")
    page.evaluate("jupyterapp.commands.execute('notebook:run-all-cells')")
    page.wait_for_selector(".podlab-replay svg")
    page.evaluate("jupyterapp.shell.currentWidget.context.save()")
    page.evaluate("jupyterapp.shell.currentWidget.sessionContext.shutdown()")
    page.reload()
    page.wait_for_function("window.jupyterapp !== undefined")
    page.wait_for_selector(".jp-OutputArea-output img[alt^='Five nodes']")
    assert page.locator("text=Error displaying widget").count() == 0
    assert "when it was saved" in page.inner_text(".jp-OutputArea-output:has(img)")
    page.evaluate(READY)
    page.evaluate("jupyterapp.commands.execute('notebook:run-all-cells')")
    page.wait_for_selector(".podlab-replay svg")


def test_a_kernel_restarted_in_the_middle_is_said_by_the_picture_and_the_cells_can_be_run_again(lab):
    page = lesson(lab, "01-split-and-conquer")
    page.evaluate("jupyterapp.commands.execute('notebook:run-all-cells')")
    page.wait_for_selector(".podlab-replay svg")
    page.evaluate("jupyterapp.shell.currentWidget.sessionContext.session.kernel.restart()")
    page.evaluate(READY)
    page.click("text=One step back")
    page.wait_for_selector("text=Run the cell again")
    # The last cell by itself knows no `lab` now, and says what to run.
    page.evaluate("jupyterapp.commands.execute('notebook:run-cell')")
    page.wait_for_selector(f".jp-OutputArea-output:has-text('{WORDS.split('.')[-2].strip()}')")
    page.evaluate("jupyterapp.commands.execute('notebook:run-all-cells')")
    page.wait_for_selector(".podlab-replay svg")
    position = page.get_attribute(".podlab-replay", "data-position")
    page.click("text=One step back")
    page.wait_for_function("was => document.querySelector('.podlab-replay').dataset.position !== was", arg=position)
    assert page.problems == []
