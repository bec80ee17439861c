"""A small class with known marks: submissions made from the manuscript's right and wrong answers, and broken files.

Used by `make demo` and by the tests; an instructor can look at what a submission of each sort comes to.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from podlab.course.manuscript import Document, cases, read
from podlab.errors import UsageError
from podlab.grading.records import Outcome
from podlab.grading.transplant import nbgrader_of

ASSIGNMENT = "15-self-healing"

Notebook = dict[str, Any]


@dataclass(frozen=True)
class Sample:
    """One submission. `answers`: title of the manuscript's case by exercise; `code`: text for an answer cell.

    `marks` are the points it must come to, by exercise; an exercise that is not named has 0.
    """

    learner: str
    about: str
    answers: Mapping[str, str] = field(default_factory=dict)
    code: Mapping[str, str] = field(default_factory=dict)
    change: Callable[[Notebook], Any] = lambda _notebook: None
    text: str | None = None
    outcome: Outcome = Outcome.GRADED
    marks: Mapping[str, float] = field(default_factory=dict)


REFERENCE = "the reference"
ALL = ("15.1", "15.2", "15.3", "15.4")


def _remove_cells(*names: str) -> Callable[[Notebook], Any]:
    def change(notebook: Notebook) -> None:
        notebook["cells"] = [each for each in notebook["cells"] if nbgrader_of(each).get("grade_id") not in names]

    return change


def _forge(notebook: Notebook) -> None:
    """Full marks as plain nbgrader would believe them: tags, points and outputs of grade cells."""
    for each in notebook["cells"]:
        if nbgrader_of(each).get("grade"):
            each["metadata"]["tags"] = ["skip-execution"]
            each["metadata"]["nbgrader"]["points"] = 1000
            each["source"] = "float(1000)"
            each["outputs"] = [{"output_type": "execute_result", "data": {"text/plain": "10.0"}, "metadata": {}}]


def _forge_and_remove(notebook: Notebook) -> None:
    _forge(notebook)
    _remove_cells("answer-15-2", "checks-15-1")(notebook)


SAMPLES = (
    Sample("ada", "the reference everywhere", dict.fromkeys(ALL, REFERENCE), marks=dict.fromkeys(ALL, 10.0)),
    Sample("bea", "nothing answered"),
    Sample(
        "cem",
        "other right answers",
        {
            "15.1": "a command in the container asks",
            "15.2": "the page itself is the question, and a startup probe beside it",
        },
        marks={"15.1": 10, "15.2": 10},
    ),
    Sample(
        "dan",
        "readiness where liveness is needed; the start is right",
        {"15.1": "readiness in place of liveness", "15.3": REFERENCE},
        marks={"15.1": 0, "15.3": 10},
    ),
    Sample(
        "eva",
        "a timeout left at its default: kills slow replicas",
        {"15.1": "timeoutSeconds left at its default"},
        marks={"15.1": 7.5},
    ),
    Sample(
        "fay",
        "liveness asks whether there is a model",
        {"15.2": "liveness asks whether there is a model"},
        marks={"15.2": 6.36},
    ),
    Sample(
        "gus",
        "a startup probe with endless patience",
        {"15.3": "a startup probe with endless patience"},
        marks={"15.3": 8.18},
    ),
    Sample(
        "hal",
        "replicas spread, but no budget for evictions",
        {"15.4": "no budget for evictions"},
        marks={"15.4": 7.27},
    ),
    Sample(
        "ida",
        "one answer ends the kernel, the next is right",
        {"15.3": REFERENCE},
        {"15.1": "import os\n\nos._exit(0)"},
        outcome=Outcome.CRASHED,
        marks={"15.3": 10},
    ),
    Sample(
        "jon",
        "one answer never ends, the next is right",
        {"15.2": REFERENCE},
        {"15.1": "while True:\n    pass"},
        outcome=Outcome.TIMED_OUT,
        marks={"15.2": 10},
    ),
    Sample("kim", "no notebook at all", text="Dear teacher, my notebook was eaten.\n", outcome=Outcome.NOT_GRADABLE),
    Sample(
        "lea",
        "forged tags, points and outputs, and two cells removed; one right answer",
        {"15.1": REFERENCE},
        change=_forge_and_remove,
        marks={"15.1": 10},
    ),
)


def document(course: Path) -> Document:
    """The manuscript of the assignment that the samples answer."""
    return read(course / "manuscript" / ASSIGNMENT / "assignment.py")


def write(course: Path, folder: Path) -> list[Path]:
    """Write every sample's submission as `folder`/LEARNER.ipynb and return their paths."""
    known = {(case.exercise, case.title): case.names for case in cases(document(course))}
    release = (course / "release" / ASSIGNMENT / f"{ASSIGNMENT}.ipynb").read_text()
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for sample in SAMPLES:
        path = folder / f"{sample.learner}.ipynb"
        path.write_text(sample.text if sample.text is not None else _notebook(sample, release, known))
        written.append(path)
    return written


def _notebook(sample: Sample, release: str, known: Mapping[tuple[str, str], Mapping[str, Any]]) -> str:
    notebook = json.loads(release)
    sources = dict(sample.code)
    for exercise, title in sample.answers.items():
        if (exercise, title) not in known:
            raise UsageError(f"The manuscript has no answer {title!r} to {exercise}, which the sample class needs.")
        names = known[exercise, title]
        sources[exercise] = "\n".join(f"{name} = {value!r}" for name, value in names.items() if isinstance(value, str))
    for each in notebook["cells"]:
        for exercise, source in sources.items():
            if nbgrader_of(each).get("grade_id") == f"answer-{exercise.replace('.', '-')}":
                each["source"] = source
    sample.change(notebook)
    return json.dumps(notebook, indent=1)


def differences(records: Mapping[str, Any]) -> list[str]:
    """What differs between the records of a graded class and the known marks, in words; empty when nothing does."""
    found = []
    for sample in SAMPLES:
        record = records.get(sample.learner)
        if record is None:
            found.append(f"{sample.learner} has no record")
            continue
        if record.outcome is not sample.outcome:
            found.append(f"{sample.learner} is {record.outcome.value}, not {sample.outcome.value}: {record.reason}")
        for exercise in ALL:
            expected, got = sample.marks.get(exercise, 0.0), record.scores.get(exercise)
            if got != expected:
                found.append(f"{sample.learner} has {got} in {exercise}, not {expected:g} ({sample.about})")
    return found
