"""What a notebook shows is whole on a page that was exported, and on paper, where nobody can scroll."""

from __future__ import annotations

import nbformat
import pytest
from exported import troubles
from nbclient import NotebookClient

pytestmark = [pytest.mark.browser, pytest.mark.slow]

#: A table as lab.events gives it.
EVENTS = (
    ["LAST SEEN", "TYPE", "REASON", "OBJECT", "COUNT", "MESSAGE"],
    ["3s", "Warning", "Unhealthy", "Pod/serving-66fb797d69-48zss", "3", 'Get "http://10.244.2.3:8080/healthz": late'],
)
CELLS = [
    'from podlab.lab import start\n\nlab = start("01")',
    'long = ["a line that is as long as lines of code in this course may be, and longer than paper is wide", "and on"]',
    "lab.course()",
    f"from podlab.lab.learning import columns\nfrom podlab.lab.show import Listing\n"
    f"Listing([{{'row': {EVENTS[1]}}}], columns(*{EVENTS[0]}))",
    "lab.planner(workers=4, chunk=2)",
]


def test_code_tables_and_pictures_are_whole_on_paper(browser, axe, tmp_path, monkeypatch):
    monkeypatch.setenv("PODLAB_PROGRESS", str(tmp_path / "progress"))
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in CELLS])
    NotebookClient(book, timeout=600, store_widget_state=False).execute()
    path = tmp_path / "page.ipynb"
    nbformat.write(book, path)
    assert troubles(browser, axe, path) == []
