"""Read the manuscript: lessons and assignments as py:percent text, the only form that people edit.

An assignment's cells may carry one mark in their header:
`answer="15.1"` the cell in which the learner writes, with the reference between BEGIN and END SOLUTION;
`checks="15.1"` the place of the checks, whose text the builder writes;
`alternative="15.1" title="..."` another right answer; `wrong="15.1" title="..."` a wrong one.
The last two are run after the answer's cell, in its names, and never enter a notebook. Where they are the reference but
for a few lines, they may say just these: lines `# - old` and then `# + new`, as often as needed.
"""

from __future__ import annotations

import functools
import hashlib
import linecache
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml

from podlab.errors import UsageError

MARKS = ("answer", "checks", "alternative", "wrong")
BEGIN, END = "### BEGIN SOLUTION", "### END SOLUTION"
#: What stands in the release in place of a solution.
STUB = "# YOUR CODE HERE"

CaseKind = Literal["start", "reference", "alternative", "wrong"]


@dataclass(frozen=True)
class Cell:
    """One cell: `kind` markdown or code; `mark` and `exercise` where its header has one.

    `limit`: seconds that the grader gives it, where that is not the usual.
    """

    kind: Literal["markdown", "code"]
    source: str
    mark: str = ""
    exercise: str = ""
    title: str = ""
    limit: float = 0.0


@dataclass(frozen=True)
class Document:
    """A lesson or an assignment. `name` is the notebook's, such as 15-self-healing."""

    path: Path
    name: str
    part: Literal["lesson", "assignment"]
    about: Mapping[str, Any]
    cells: tuple[Cell, ...]

    @property
    def exercises(self) -> list[str]:
        """The ids of the exercises, in order."""
        return [cell.exercise for cell in self.cells if cell.mark == "answer"]

    def answer(self, exercise: str) -> Cell:
        """The cell with the reference of an exercise."""
        for cell in self.cells:
            if cell.mark == "answer" and cell.exercise == exercise:
                return cell
        raise UsageError(f"{self.path} has no answer cell for {exercise}.")


@dataclass(frozen=True)
class Case:
    """One answer that the tests run: the start state, the reference, an alternative, or a wrong answer.

    `fails` says for a wrong answer which checks must fail, and words that their report must contain.
    """

    exercise: str
    kind: CaseKind
    title: str
    names: Mapping[str, Any]
    fails: Mapping[str, str]


def read(path: Path) -> Document:
    """Read one manuscript file; UsageError names the file and what is wrong in it."""
    cells = list(_cells(path.read_text()))
    about: dict[str, Any] = {}
    if cells and cells[0].cell_type == "raw":
        about = yaml.safe_load(cells.pop(0).source.strip().strip("-")) or {}
    for need in ("title", "chapter", "minutes", "needs"):
        if need not in about:
            raise UsageError(f"{path} does not say its {need}.", hint="Write it in the header between # --- lines.")
    part: Literal["lesson", "assignment"] = "assignment" if path.stem == "assignment" else "lesson"
    return Document(path, path.parent.name, part, about, tuple(_cell(path, cell) for cell in cells))


@functools.lru_cache(maxsize=256)
def _cells(text: str) -> tuple[Any, ...]:
    """The cells of a text, to be looked at only. All texts take a second, and `podlab check` reads them three times."""
    import jupytext

    return tuple(jupytext.reads(text, fmt="py:percent").cells)


def _cell(path: Path, cell: Any) -> Cell:
    if cell.cell_type not in ("markdown", "code"):
        raise UsageError(f"{path} has a {cell.cell_type} cell.", hint="Only markdown and code cells are used.")
    marks = {key: value for key, value in cell.metadata.items() if key in MARKS}
    if len(marks) > 1:
        raise UsageError(f"A cell of {path} has the marks {', '.join(marks)}.", hint="One mark per cell.")
    mark, exercise = next(iter(marks.items()), ("", ""))
    title, limit = cell.metadata.get("title", ""), cell.metadata.get("limit", 0.0)
    return Cell(cell.cell_type, cell.source, mark, exercise, title, limit)


def documents(folder: Path) -> list[Document]:
    """All lessons and assignments under `folder`, in the order of their names."""
    found = [path for name in ("lesson", "assignment") for path in folder.glob(f"*/{name}.py")]
    if not found:
        raise UsageError(f"There is no manuscript under {folder}.", hint="Run this in the folder of the course.")
    return [read(path) for path in sorted(found, key=lambda path: (path.parent.name, path.stem != "lesson"))]


def without_solutions(source: str) -> str:
    """The text with each region between BEGIN and END SOLUTION replaced by the stub, as nbgrader does it."""
    lines, inside = [], False
    for line in source.split("\n"):
        if "BEGIN SOLUTION" in line:
            inside = True
            lines.append(line[: len(line) - len(line.lstrip())] + STUB)
        elif "END SOLUTION" in line:
            inside = False
        elif not inside:
            lines.append(line)
    return "\n".join(lines)


def cases(document: Document) -> list[Case]:
    """Every answer in an assignment, run to its names: start state, reference, alternatives and wrong answers."""
    found = []
    for exercise in document.exercises:
        source = document.answer(exercise).source
        found.append(Case(exercise, "start", "the start state", _run(document, without_solutions(source), {}), {}))
        found.append(Case(exercise, "reference", "the reference", _run(document, source, {}), {}))
    for cell in document.cells:
        if cell.mark in ("alternative", "wrong"):
            source = document.answer(cell.exercise).source
            reference = _run(document, source, {})
            names = _run(document, patched(document, source, cell), reference)
            if names == reference:
                raise UsageError(f"{document.path}: {cell.mark} {cell.title!r} does not change the answer.")
            kind: CaseKind = "wrong" if cell.mark == "wrong" else "alternative"
            fails = dict(re.findall(r"^# fails ([a-z0-9-]+): (.+)$", cell.source, re.MULTILINE))
            if bool(fails) != (kind == "wrong"):
                raise UsageError(
                    f"{document.path}: {cell.mark} {cell.title!r} has {len(fails)} lines `# fails CHECK: words`.",
                    hint="A wrong answer needs at least one, an alternative none.",
                )
            found.append(Case(cell.exercise, kind, cell.title, names, fails))
    return found


def patched(document: Document, source: str, cell: Cell) -> str:
    """What an alternative or a wrong answer is: its own text, or the reference's `source` with its changes."""
    changes = re.findall(r"((?:^# -.*\n)+)((?:^# \+.*\n)*)", f"{cell.source}\n", re.MULTILINE)
    source, found = f"{source}\n", []
    for old, new in changes:
        wanted, instead = (re.sub(r"^# [-+] ?", "", part, flags=re.MULTILINE) for part in (old, new))
        if source.count(wanted) != 1:
            raise UsageError(
                f"{document.path}: {cell.mark} {cell.title!r} changes lines that are {source.count(wanted)} times "
                f"in the reference: {wanted.strip()[:120]}",
                hint="Write as many whole lines as it takes to be there once.",
            )
        found.append((source.index(wanted), wanted, instead))
    for at, wanted, instead in sorted(found, reverse=True):
        source = source[:at] + instead + source[at + len(wanted) :]
    return source if changes else cell.source


def _run(document: Document, source: str, names: Mapping[str, Any]) -> dict[str, Any]:
    """The names that a cell binds, starting from `names`; only plain values are kept."""
    space: dict[str, Any] = {"__name__": "__main__", **names}
    # As a notebook's cell: whoever asks for the source of a function gets it.
    file = f"<{document.name} {hashlib.sha256(source.encode()).hexdigest()[:16]}>"
    linecache.cache[file] = (len(source), None, source.splitlines(keepends=True), file)
    exec(compile(source, file, "exec"), space)
    return {key: value for key, value in space.items() if not key.startswith("__")}
