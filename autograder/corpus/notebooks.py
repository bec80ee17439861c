"""The corpus' assignment as a notebook, and the means to bend it."""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from podlab.course.build import KERNEL, text_of

NAME = "90-corpus"
COURSE = Path(__file__).with_name("course")

Notebook = dict[str, Any]

#: Right answers, by exercise.
RIGHT = {
    "90.1": (
        "def spread(count, groups):\n"
        "    whole, rest = divmod(count, groups)\n"
        "    return [whole + (number < rest) for number in range(groups)]"
    ),
    "90.2": (
        "class Counter:\n"
        "    def __init__(self):\n"
        "        self.seen = {}\n"
        "    def add(self, key, amount):\n"
        "        self.seen.setdefault(key, amount)\n"
        "        return sum(self.seen.values())"
    ),
    "90.3": 'choice_90_3 = "b"',
    "90.4": "value_90_4 = 42",
}
#: What stands in the release.
STUB = {
    "90.1": "def spread(count, groups):\n    # YOUR CODE HERE\n    return []",
    "90.2": "class Counter:\n    # YOUR CODE HERE\n    pass",
    "90.3": 'choice_90_3 = "?"  # YOUR CODE HERE',
    "90.4": "value_90_4 = None  # YOUR CODE HERE",
}
ALL = tuple(RIGHT)


def cell(kind: str, source: str, name: str, metadata: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """One cell of a notebook."""
    made: dict[str, Any] = {"cell_type": kind, "id": name, "metadata": dict(metadata or {}), "source": source}
    if kind == "code":
        made |= {"execution_count": None, "outputs": []}
    return made


def release(stub: Mapping[str, str] = STUB) -> Notebook:
    """The assignment as learners get it (and as instructors have it: it holds no solutions)."""
    base = {"schema_version": 3, "task": False}
    cells = [cell("markdown", "# The corpus", "title"), cell("code", "import math\nimport os", "setup")]
    for exercise in stub:
        number = exercise.replace(".", "-")
        answer = {"grade": False, "grade_id": f"answer-{number}", "locked": False, "solution": True, **base}
        checks = {
            "grade": True,
            "grade_id": f"checks-{number}",
            "locked": True,
            "points": 10,
            "solution": False,
            **base,
        }
        cells.append(cell("code", stub[exercise], f"answer-{number}", {"nbgrader": answer}))
        cells.append(cell("code", "float(0)", f"checks-{number}", {"nbgrader": checks}))
    return {"cells": cells, "metadata": copy.deepcopy(KERNEL), "nbformat": 4, "nbformat_minor": 5}


def answered(answers: Mapping[str, str], stub: Mapping[str, str] = STUB) -> Notebook:
    """The release with these answers (by exercise, or "setup" for the cell before them)."""
    notebook = release(stub)
    for each in notebook["cells"]:
        for exercise, source in answers.items():
            if each["id"] == (exercise if exercise == "setup" else f"answer-{exercise.replace('.', '-')}"):
                each["source"] = source
    return notebook


def write_course(folder: Path, name: str = NAME, stub: Mapping[str, str] = STUB) -> Path:
    """Make the corpus' course in `folder` and return it: exercises, hidden checks, the assignment's source notebook."""
    shutil.copytree(COURSE, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
    source = folder / "source" / name / f"{name}.ipynb"
    source.parent.mkdir(parents=True, exist_ok=True)
    source.write_text(text_of(release(stub)))
    # Marks the folder as a course, and names its assignments.
    (folder / "manuscript").mkdir(exist_ok=True)
    shutil.copytree(folder / "source", folder / "release", dirs_exist_ok=True)
    return folder


def write(notebook: Any, path: Path) -> None:
    """Write a notebook, or whatever it is, as JSON."""
    path.write_text(json.dumps(notebook))
