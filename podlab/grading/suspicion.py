"""What an instructor should look at: signs of attacks in a submission, and answers that are the same.

None of this changes a score. A sign is a reason to read the answer, not a verdict.
"""

from __future__ import annotations

import ast
import hashlib
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from podlab.checks.contract import Exercise
from podlab.grading.records import Outcome, Record
from podlab.grading.submissions import source_of
from podlab.grading.transplant import is_solution, nbgrader_of

#: Signs in the text of an answer, and what they are signs of.
SIGNS = (
    (r"(ast|input)_transformers|run_cell|displayhook|\.compile\s*=", "changes the notebook's kernel"),
    (r"\bbuiltins\.\w+\s*=|\bsys\.modules\b|\b__import__\s*=", "replaces what Python itself provides"),
    (r"__(eq|ne|hash|len|repr)__\s*=\s*lambda", "makes an object that lies about itself"),
    (r"_getframe|get_objects\(|inspect\.stack|gettrace|settrace", "looks into the code that called it"),
    (r"/proc/|gradebook|autograder|\.ipynb\b|HIDDEN", "looks for the grader's files"),
    (r"os\._exit|os\.kill\(|\bkillpg\(|SIG_IGN", "ends or disturbs processes"),
    (r"os\.fork\(|setsid|start_new_session", "leaves processes behind"),
    (r"\bctypes\b|\bptrace\b|\bunshare\b|\bmount\(", "calls the kernel of the system"),
    (r"169\.254\.169\.254|metadata\.google", "asks for a cloud's credentials"),
    (r"os\.write\(|closerange|/dev/fd", "writes to descriptors that are not its own"),
)
#: Answers shorter than this, without comments and spaces, are often the same for good reasons.
LONG_ENOUGH = 160


@dataclass(frozen=True)
class Suspicion:
    """One thing to look at."""

    learner: str
    exercise: str
    sign: str


def answers(notebook: Mapping[str, Any]) -> dict[str, str]:
    """The text of every solution cell, by exercise."""
    return {
        ".".join(str(nbgrader_of(cell).get("grade_id")).split("-")[1:3]): source_of(cell) or ""
        for cell in notebook.get("cells", [])
        if is_solution(cell)
    }


def suspicions(
    records: Sequence[Record],
    notebooks: Mapping[str, Mapping[str, Any]],
    release: Mapping[str, Any],
    exercises: Mapping[str, Exercise],
) -> list[Suspicion]:
    """Everything that is worth a look, by learner; `notebooks` are the graded ones, by learner."""
    stubs = answers(release)
    given = {learner: answers(notebook) for learner, notebook in notebooks.items()}
    own = {
        learner: {id: text for id, text in each.items() if text.strip() != stubs.get(id, "").strip()}
        for learner, each in given.items()
    }
    found = [each for record in records for each in _of_record(record)]
    found += [each for learner, texts in own.items() for each in _of_text(learner, texts)]
    found += _same(own, exercises)
    return sorted(found, key=lambda each: (each.learner, each.exercise, each.sign))


def _of_record(record: Record) -> Iterator[Suspicion]:
    for note in record.notes:
        yield Suspicion(record.learner, "", note)
    if record.outcome is Outcome.NOT_GRADABLE:
        yield Suspicion(record.learner, "", record.reason)


def _of_text(learner: str, texts: Mapping[str, str]) -> Iterator[Suspicion]:
    for exercise, text in texts.items():
        for pattern, sign in SIGNS:
            if found := re.search(pattern, text):
                yield Suspicion(learner, exercise, f"{sign}: {found.group(0)[:60]}")


def _same(own: Mapping[str, Mapping[str, str]], exercises: Mapping[str, Exercise]) -> Iterable[Suspicion]:
    groups: dict[tuple[str, str], list[str]] = defaultdict(list)
    for learner, texts in own.items():
        for id, text in texts.items():
            if id in exercises and (bare := bare_text(text)) and len(bare) >= LONG_ENOUGH:
                groups[id, hashlib.sha256(bare.encode()).hexdigest()].append(learner)
    for (id, _), learners in groups.items():
        if len(learners) > 1:
            for learner in learners:
                others = [each for each in sorted(learners) if each != learner]
                more = f" and {len(others) - 5} others" if len(others) > 5 else ""
                yield Suspicion(learner, id, f"same answer as {', '.join(others[:5])}{more}")


def bare_text(text: str) -> str:
    """An answer without comments, spacing and blank lines: what stays the same when it is copied and dressed up."""
    try:
        return ast.unparse(ast.parse(text))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return re.sub(r"\s+", " ", text).strip()
