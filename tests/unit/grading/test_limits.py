"""The release says which cell needs longer than the usual limit, and it gets that."""

from __future__ import annotations

import json
from pathlib import Path

from podlab.checks.contract import Exercise, HandIn
from podlab.course import build, manuscript
from podlab.course.inside_spark import asking
from podlab.grading import execution, unboxed, worker
from podlab.grading.execution import Limits

MANUSCRIPT = """# %% [raw]
# ---
# title: T
# chapter: 1
# minutes: 1
# needs: []
# ---

# %%
x = 1

# %% limit=0.5
import time
time.sleep(60)
"""


def test_no_check_is_ended_while_it_waits_for_spark_as_it_may() -> None:
    # Its process starts, then Spark does, then an answer comes.
    assert asking.PATIENCE + asking.START + asking.PATIENCE < worker.LONGEST_CHECK


def test_a_cell_may_have_a_limit_of_its_own(tmp_path: Path) -> None:
    file = tmp_path / "01-x" / "assignment.py"
    file.parent.mkdir()
    file.write_text(MANUSCRIPT)
    made = json.loads(build.notebook_text(manuscript.read(file)))
    cells = [cell for cell in made["cells"] if cell["cell_type"] == "code"]
    assert [cell["metadata"] for cell in cells] == [{}, {"podlab": {"limit": 0.5}}]
    for cell in made["cells"]:
        cell["source"] = "".join(cell["source"])
    exercise = Exercise("01.1", "x", 1, (HandIn("x", "value"),), lambda _answer, _world: None)
    limits = Limits(cell=50, stretch=2)
    text = execution.job(made, [exercise], limits, processes=unboxed.PROCESSES)
    assert [cell["limit"] for cell in json.loads(text)["cells"]] == [0, 1.0]
    found = unboxed.run(text, limits)
    assert [each["text"] for each in found.troubles] == ["The cell did not end within 1 s and was ended."]
    assert found.answers == {"01.1": {"x": 1}}
