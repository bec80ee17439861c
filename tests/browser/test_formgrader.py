"""The instructor's formgrader in a real browser, as docs/instructors.md starts it: our marks, and a person's own."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from lab_server import PATIENCE, open_at, served

from podlab.grading import records

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from autograder.corpus import notebooks  # noqa: E402 - the corpus is no part of the package

pytestmark = [pytest.mark.browser, pytest.mark.sandbox, pytest.mark.slow]

NAME = notebooks.NAME
NEARLY = {**notebooks.RIGHT, "90.1": "def spread(count, groups):\n    return [count // groups] * groups"}


def podlab(*words: str, at: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "podlab", *words], cwd=at, capture_output=True, text=True, timeout=900, check=False
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]


@pytest.fixture
def term(browser, tmp_path: Path) -> Path:
    """A term's folder with one graded submission, of whose answers the first is wrong."""
    course, folder = notebooks.write_course(tmp_path / "course"), tmp_path / "autumn"
    podlab("course", "init", str(folder), "--course", str(course), at=tmp_path)
    with (folder / "roster.csv").open("a") as roster:
        roster.write("ada,Ada,Lovelace,,,\n")
    podlab("release", NAME, at=folder)
    (folder / "inbox" / "ada.ipynb").write_text(json.dumps(notebooks.answered(NEARLY)))
    podlab("collect", at=folder)
    podlab("grade", at=folder)
    return folder


@pytest.fixture
def page(browser, term: Path, tmp_path: Path):
    """JupyterLab in the term's folder, without any setting of ours; what is elsewhere is not there."""
    command = [sys.executable, "-m", "jupyterlab", *(["--allow-root"] if os.geteuid() == 0 else [])]
    (tmp_path / "lab").mkdir()
    with served(command, tmp_path / "lab", at=term) as server:
        context = browser.new_context(viewport={"width": 1280, "height": 1000})
        context.set_default_timeout(PATIENCE)
        context.route(lambda address: not address.startswith(server["url"]), lambda route: route.abort())
        yield open_at(context.new_page(), server, "lab")
        context.close()


def list_of_submissions(page):
    """Formgrader's list of who has handed in, by JupyterLab's menu: its frame."""
    page.click("text=Nbgrader")
    page.click(".lm-Menu-item:has-text('Formgrader')")
    frame = page.wait_for_selector("iframe[src*=formgrader]").content_frame()
    frame.click("text=Manual Grading")
    frame.click(f"td a:has-text('{NAME}')")
    frame.wait_for_url(f"**/gradebook/{NAME}")
    frame.click(f"td a:has-text('{NAME}')")
    frame.wait_for_url(f"**/gradebook/{NAME}/{NAME}")
    frame.wait_for_selector("td.score")
    return frame


def given(page, frame, field: str, value: str) -> None:
    with page.expect_response(lambda answer: answer.request.method == "PUT") as saved:
        frame.fill(field, value)
        frame.press(field, "Tab")
    assert saved.value.ok


def test_what_a_person_gives_in_formgrader_is_handed_out_and_stays_when_the_class_is_graded_again(page, term: Path):
    (record,) = records.read_all(term, NAME)
    frame = list_of_submissions(page)
    assert frame.inner_text("td.score") == f"{record.score:g} / {record.maximum}" == "30 / 40"
    frame.click("td .glyphicon-eye-open")
    assert frame.inner_text("td.name a.name-shown") == "Lovelace, Ada"

    frame.click("td.name a.name-shown")
    frame.wait_for_selector("#checks-90-1[placeholder]")
    frame.wait_for_selector("#answer-90-1-comment[placeholder]")
    words = frame.inner_text("#notebook")
    assert "Nothing is lost: fail" in words and "likely cause: The remainder is lost or doubled." in words
    assert frame.get_attribute("#checks-90-1", "placeholder") == "0"
    given(page, frame, "#checks-90-1", "7")
    given(page, frame, "#answer-90-1-comment", "Think of the *rest*.")

    for again in (False, True):
        if again:
            podlab("grade", "--regrade", at=term)
        podlab("feedback", at=term)
        podlab("export", "--form", "nbgrader", at=term)
        assert "Think of the <em>rest</em>." in (term / "handed-back" / NAME / "ada" / f"{NAME}.html").read_text()
        with (term / "exports" / NAME / "nbgrader.csv").open(newline="") as file:
            assert [row["score"] for row in csv.DictReader(file)] == ["37"]

    page.reload()
    page.wait_for_function("window.jupyterapp !== undefined")
    page.evaluate("jupyterapp.restored")
    frame = list_of_submissions(page)
    assert frame.inner_text("td.score") == "37 / 40"
    assert frame.inner_text("td.needs-manual-grade") == ""
    frame.click("td.name a.name-hidden")
    frame.wait_for_selector("#checks-90-1")
    frame.wait_for_function("document.querySelector('#checks-90-1').value === '7'")
    frame.wait_for_function("document.querySelector('#answer-90-1-comment').value === 'Think of the *rest*.'")
