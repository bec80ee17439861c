"""The transplant: a learner's answers put into the instructor's notebook.

Nothing of the submitted notebook is used but the text of its solution cells, found by grade_id. Metadata, tags,
kernels, added, changed or deleted cells and stored outputs of the submission never reach the grader.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from podlab.grading.submissions import source_of

#: An answer longer than this is cut off: no exercise needs more than a few kilobytes.
LONGEST_ANSWER = 256 * 1024


@dataclass(frozen=True)
class Transplanted:
    """A notebook to be graded, and what was noticed on the way, in words for the instructor."""

    notebook: dict[str, Any]
    answered: tuple[str, ...]
    unanswered: tuple[str, ...]
    missing: tuple[str, ...]
    notes: tuple[str, ...]


def nbgrader_of(cell: Any) -> Mapping[str, Any]:
    """Return a cell's nbgrader metadata, or an empty mapping."""
    metadata = cell.get("metadata") if isinstance(cell, dict) else None
    entry = metadata.get("nbgrader") if isinstance(metadata, dict) else None
    return entry if isinstance(entry, dict) else {}


def is_solution(cell: Any) -> bool:
    """Return whether the cell is one in which the learner writes an answer."""
    return nbgrader_of(cell).get("solution") is True


def is_grade(cell: Any) -> bool:
    """Return whether the cell carries points."""
    return nbgrader_of(cell).get("grade") is True


def transplant(release: Mapping[str, Any], submitted: Mapping[str, Any]) -> Transplanted:
    """Return `release` with the solution cells' sources of `submitted`; neither argument is changed.

    A solution cell that is missing keeps the release's text. Of several cells with one grade_id the first counts:
    the one that a reader meets first.
    """
    answers, notes = _answers(submitted)
    notebook = copy.deepcopy(dict(release))
    answered, unanswered, missing = [], [], []
    known = set()
    for cell in notebook["cells"]:
        cell["source"] = source_of(cell) or ""
        if cell.get("cell_type") == "code":
            cell["outputs"], cell["execution_count"] = [], None
        if not is_solution(cell):
            continue
        name = nbgrader_of(cell).get("grade_id")
        known.add(name)
        if name not in answers:
            missing.append(str(name))
        elif answers[name].strip() == (source_of(cell) or "").strip():
            unanswered.append(str(name))
        else:
            answered.append(str(name))
            cell["source"] = answers[name]
    notes += _tampered(release, submitted)
    for name in sorted(set(answers) - known):
        notes.append(f"The submission has a solution cell {name!r} that the assignment has not; it was ignored.")
    return Transplanted(notebook, tuple(answered), tuple(unanswered), tuple(missing), tuple(notes))


def _answers(submitted: Mapping[str, Any]) -> tuple[dict[str, str], list[str]]:
    answers: dict[str, str] = {}
    notes: list[str] = []
    for cell in submitted.get("cells", []):
        if not is_solution(cell):
            continue
        name, source = nbgrader_of(cell).get("grade_id"), source_of(cell)
        if not isinstance(name, str) or source is None:
            notes.append("A solution cell without a usable name or source was ignored.")
        elif name in answers:
            notes.append(f"The cell {name!r} occurs more than once; the first one counts.")
        elif len(source) > LONGEST_ANSWER:
            notes.append(f"The answer in {name!r} is longer than {LONGEST_ANSWER} characters; it was not used.")
        else:
            # Halves of characters cannot be written to a file.
            answers[name] = source.encode("utf-8", "replace").decode()
    return answers, notes


def _tampered(release: Mapping[str, Any], submitted: Mapping[str, Any]) -> list[str]:
    """What was done to grade cells, in words. It had no effect: they are never taken over."""
    theirs: dict[str, Any] = {}
    for cell in submitted.get("cells", []):
        name = nbgrader_of(cell).get("grade_id")
        if isinstance(name, str):
            theirs.setdefault(name, cell)
    notes = []
    for cell in release["cells"]:
        name = nbgrader_of(cell).get("grade_id")
        if not is_grade(cell) or is_solution(cell) or name not in theirs:
            continue
        other = theirs[name]
        changes = {
            "its text": (source_of(other) or "").strip() != (source_of(cell) or "").strip(),
            "its points and flags": dict(nbgrader_of(other)) != dict(nbgrader_of(cell)),
            "its tags": other["metadata"].get("tags") != cell["metadata"].get("tags"),
        }
        if any(changes.values()):
            what = ", ".join(name for name, changed in changes.items() if changed)
            notes.append(f"The grade cell {name!r} came changed ({what}); it was not used.")
    return notes
