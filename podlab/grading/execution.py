"""What goes into a box and what comes out of it: the job for `inside.py`, and its facts read without trust."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from podlab.checks import finite
from podlab.checks.contract import Exercise
from podlab.errors import PodlabError
from podlab.grading.transplant import is_grade, is_solution, nbgrader_of

#: Characters of a box's output that are looked at; `inside.py` hands out less.
LARGEST_RESULT = 8_000_000
#: Troubles that are kept, and characters of one.
MOST_TROUBLES, LONGEST_TROUBLE = 40, 400
#: How a box has ended that was not ended by others: in order, or as Python ends when it cannot even say what failed.
BY_ITSELF = ("0", "1")


class BoxError(PodlabError):
    """The box could not be started or read: the machine's trouble, not the learner's."""


@dataclass(frozen=True)
class Limits:
    """Seconds for one cell and for the whole notebook on an idle machine; this one is slower by `stretch`."""

    cell: float = 60.0
    notebook: float = 300.0
    stretch: float = 1.0

    @property
    def whole(self) -> float:
        """Seconds after which a box is ended from outside, whatever it says of itself."""
        return self.notebook * self.stretch + 60


@dataclass(frozen=True)
class Executed:
    """What came out of the box: answers by exercise, what went wrong, outputs by answer cell."""

    answers: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    troubles: tuple[Mapping[str, str], ...] = ()
    outputs: Mapping[str, list[Any]] = field(default_factory=dict)

    def why_nothing(self, cell: str) -> str:
        """Why an answer cell handed in nothing, in words; empty where that is not known."""
        for trouble in self.troubles:
            if trouble["cell"] == cell:
                return trouble["text"]
        for output in self.outputs.get(cell, ()):
            if isinstance(output, dict) and output.get("output_type") == "error":
                return f"The answer cell raised {output.get('ename')}: {str(output.get('evalue'))[:300]}"
        return "The answer cell defines none of the names that are asked for."


def job(
    notebook: Mapping[str, Any],
    exercises: Iterable[Exercise],
    limits: Limits,
    *,
    processes: int = 256,
    disk: int = 256 * 1024**2,
) -> str:
    """The job as the text of its file: every code cell that is no grade cell, and the names that are asked for."""
    cells = [
        {
            "name": str(nbgrader_of(cell).get("grade_id", "")),
            "source": cell["source"],
            "answer": is_solution(cell),
            "limit": _own_limit(cell) * limits.stretch,
        }
        for cell in notebook["cells"]
        if cell.get("cell_type") == "code" and not (is_grade(cell) and not is_solution(cell))
    ]
    return json.dumps(
        {
            "cells": cells,
            "handed_in": {each.id: [[item.name, item.kind] for item in each.handed_in] for each in exercises},
            "cell_limit": limits.cell * limits.stretch,
            "whole_limit": limits.notebook * limits.stretch,
            "processes": processes,
            "disk": disk,
        }
    )


def _own_limit(cell: Mapping[str, Any]) -> float:
    """The seconds that the release gives to one cell, in its metadata's `podlab.limit`; 0 if it has the usual ones."""
    limit = cell.get("metadata", {}).get("podlab", {}).get("limit", 0)
    return float(limit) if isinstance(limit, int | float) else 0.0


def executed(output: str, ended: str) -> Executed:
    """What a box's output says; `ended` is how it ended as seen from outside: with a status, or why.

    BoxError when the program that runs notebooks has failed, or when a part of what it said is lost (on a full disk,
    say): neither is the learner's doing.
    """
    answers: dict[str, dict[str, Any]] = {}
    outputs: dict[str, list[Any]] = {}
    troubles: list[dict[str, str]] = []
    count, told = 0, None
    for fact in _facts(output):
        if isinstance(given := fact.get("answers"), dict):
            answers.update({id: answer for id, answer in given.items() if isinstance(answer, dict)})
        elif isinstance(trouble := fact.get("trouble"), dict):
            troubles.append({key: str(trouble.get(key, ""))[:LONGEST_TROUBLE] for key in ("kind", "cell", "text")})
        elif isinstance(shown := fact.get("outputs"), list) and len(shown) == 2 and isinstance(shown[1], list):
            outputs[str(shown[0])] = shown[1]
        elif "failed" in fact:
            raise BoxError(f"The program that runs notebooks failed: {str(fact['failed'])[-600:]}")
        elif fact.get("end") is True:
            told = fact.get("told")
            break
        count += 1
    if told != count and (told is not None or ended in BY_ITSELF):
        raise BoxError(f"Some of what the notebook's box said is lost: {count} of {told or 'all'} facts have arrived.")
    if told is None:
        kind = "timed out" if ended == "timed out" else "crashed"
        troubles.append({"kind": kind, "cell": "", "text": f"The notebook's box ended early ({ended})."})
    return Executed(answers, tuple(troubles[:MOST_TROUBLES]), outputs)


def _facts(output: str) -> Iterable[dict[str, Any]]:
    for line in output.splitlines():
        try:
            fact = finite.read(line)
        except RecursionError:
            fact = {}  # it has arrived, and says nothing
        except ValueError:
            continue
        if isinstance(fact, dict):
            yield fact
