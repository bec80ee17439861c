"""Generate notebooks from the manuscript: the same bytes every time, no outputs, stable cell ids."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from podlab.checks import registry
from podlab.course.manuscript import Cell, Document, documents
from podlab.errors import UsageError

KERNEL = {
    "kernelspec": {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"},
    "language_info": {"file_extension": ".py", "mimetype": "text/x-python", "name": "python"},
}
#: Where the cards of the chapters are, for the start page; one file each.
CARDS = Path("podlab", "course", "cards")
#: nbgrader's version of its own cell metadata.
NBGRADER_SCHEMA = 3


def root(start: Path | None = None) -> Path:
    """The folder of the course: the nearest one at or above `start` that has a manuscript."""
    here = (start or Path.cwd()).resolve()
    for folder in (here, *here.parents):
        if (folder / "manuscript").is_dir():
            return folder
    raise UsageError(f"{here} is not inside a course.", hint="Change to the folder that you cloned.")


def build(course: Path) -> dict[Path, str]:
    """The text of every generated file by path relative to `course`: notebooks, and a card for each chapter."""
    made, cards = {}, dict[str, dict[str, Any]]()
    for document in documents(course / "manuscript"):
        made[target(document)] = notebook_text(document)
        cards.setdefault(str(document.about["chapter"]), {}).update(_card(document))
    for chapter, card in cards.items():
        made[CARDS / f"{chapter}.json"] = json.dumps(card, indent=1, sort_keys=True) + "\n"
    return made


def _card(document: Document) -> dict[str, Any]:
    """What the start page says of a chapter."""
    about = document.about
    if document.part == "lesson":
        more = {key: about[key] for key in ("programs", "packages", "disruptive") if key in about}
        return {"notebook": document.name, "minutes": about["minutes"], "needs": about["needs"], **more}
    exercises = [registry.exercise(id) for id in document.exercises]
    return {
        "exercises": [{"id": each.id, "title": each.title, "points": each.points} for each in exercises],
        "exercise_minutes": about["minutes"],
    }


def target(document: Document) -> Path:
    """Where the notebook of a manuscript belongs, relative to the course."""
    file = f"{document.name}.ipynb"
    return Path("notebooks", file) if document.part == "lesson" else Path("source", document.name, file)


def write(course: Path, made: Mapping[Path, str]) -> list[Path]:
    """Write the notebooks that differ from what is there; returns their paths."""
    changed = []
    for path, text in made.items():
        file = course / path
        if not file.is_file() or file.read_text() != text:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
            changed.append(path)
    return changed


def notebook_text(document: Document) -> str:
    """The notebook of one manuscript as the text of its file."""
    cells, seen = [], Counter[str]()
    for cell in document.cells:
        if cell.mark in ("alternative", "wrong"):
            continue
        made = _cell(cell)
        made["id"] = _cell_id(document, made, seen)
        cells.append(made)
    return text_of({"cells": cells, "metadata": KERNEL, "nbformat": 4, "nbformat_minor": 5})


def text_of(notebook: Mapping[str, Any]) -> str:
    """A notebook as JSON text in Jupyter's own form."""
    return json.dumps(notebook, indent=1, ensure_ascii=False, sort_keys=True) + "\n"


def _cell(cell: Cell) -> dict[str, Any]:
    source = checks_source(cell.exercise) if cell.mark == "checks" else cell.source
    made: dict[str, Any] = {"cell_type": cell.kind, "metadata": _metadata(cell), "source": _lines(source)}
    if cell.limit:
        made["metadata"]["podlab"] = {"limit": cell.limit}
    if cell.kind == "code":
        made.update(execution_count=None, outputs=[])
    return made


def checks_source(exercise: str) -> str:
    """The grade cell of an exercise. It ends in a float: nbgrader takes any other output for full marks."""
    return f'# Checks exercise {exercise}. Run it as often as you like.\nfloat(lab.score("{exercise}"))'


def _metadata(cell: Cell) -> dict[str, Any]:
    number = cell.exercise.replace(".", "-")
    base = {"schema_version": NBGRADER_SCHEMA, "task": False}
    if cell.mark == "answer":
        return {"nbgrader": {**base, "grade": False, "grade_id": f"answer-{number}", "locked": False, "solution": True}}
    if cell.mark == "checks":
        points = registry.exercise(cell.exercise).points
        return {
            "nbgrader": {
                **base,
                "grade": True,
                "grade_id": f"checks-{number}",
                "locked": True,
                "points": points,
                "solution": False,
            }
        }
    return {}


def _lines(source: str) -> list[str]:
    return source.splitlines(keepends=True)


def _cell_id(document: Document, cell: Mapping[str, Any], seen: Counter[str]) -> str:
    """An id that depends on the notebook and the cell's text only, so that an inserted cell changes no other."""
    grade_id = cell["metadata"].get("nbgrader", {}).get("grade_id")
    text = grade_id or f"{cell['cell_type']}\n{''.join(cell['source'])}"
    digest = hashlib.sha256(f"{document.part}/{document.name}\n{text}".encode()).hexdigest()[:12]
    seen[digest] += 1
    return digest if seen[digest] == 1 else f"{digest}-{seen[digest]}"
