"""Grade the same submissions again and again at full load: all copies of one come to the same marks.

Chapter 01: its reference solution has full marks each time, the release as it is has none, and a mixture of right
and wrong answers has the same marks each time. None needs a cluster, on which one submission takes minutes:
grade_class grades such ones, whose marks it knows.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path

from common import Figure, announce, finish, machine, options, say, table

from podlab.course.manuscript import read
from podlab.grading import classes, queue
from podlab.grading.transplant import nbgrader_of

COURSE = Path(__file__).parents[1]
NAME = "01-split-and-conquer"
#: The rest is dropped.
WRONG = """
def split(items, parts):
    size = len(items) // parts
    return [items[n * size : (n + 1) * size] for n in range(parts)]
"""


def submissions() -> dict[str, str]:
    """The notebooks that are copied, by name."""
    document = read(COURSE / "manuscript" / NAME / "assignment.py")
    right = {id: document.answer(id).source for id in document.exercises}
    return {
        "reference": notebook(right),
        "empty": notebook({}),
        "mixed": notebook({"01.1": WRONG, "01.3": right["01.3"]}),
    }


def notebook(answers: Mapping[str, str]) -> str:
    """The release with these answers."""
    made = json.loads((COURSE / "release" / NAME / f"{NAME}.ipynb").read_text())
    for cell in made["cells"]:
        parts = str(nbgrader_of(cell).get("grade_id", "")).split("-")
        if parts[0] == "answer" and (id := ".".join(parts[1:])) in answers:
            cell["source"] = answers[id]
    return json.dumps(made)


def main() -> None:
    """Grade and compare."""
    given = options(
        __doc__, reference=(100, 2, "copies of the reference"), empty=(100, 3, "of the release"), mixed=(20, 2, "mixed")
    )
    here = machine()
    announce("grade-repeat", here)
    counts = {name: getattr(given, name) for name in ("reference", "empty", "mixed")}
    with tempfile.TemporaryDirectory(prefix="podlab-bench-") as scratch:
        folder = Path(scratch, "class")
        folder.mkdir()
        for name, text in submissions().items():
            for number in range(counts[name]):
                (folder / f"{name}-{number:03}.ipynb").write_text(text)

        def progress(step: queue.Progress) -> None:
            if step.record is not None:
                say(f"  {step.learner}: {step.record.score} ({step.record.outcome.value})")

        graded = classes.grade_class(classes.Settings(folder, NAME, Path(scratch, "out"), COURSE), progress)
    whole = max(record.maximum for record in graded.records)
    found: dict[str, list[str]] = {name: [] for name in counts}
    for record in graded.records:
        found[record.learner.rpartition("-")[0]].append(json.dumps(record.scores))
    expected = {"reference": float(whole), "empty": 0.0}
    rows, odd = [], 0
    for name, marks in found.items():
        most = max(set(marks), key=marks.count)
        total = sum(json.loads(most).values())
        others = sum(each != most for each in marks) if total == expected.get(name, total) else len(marks)
        odd += others
        rows.append((name, len(marks), total, others))
    table(f"{len(graded.records)} submissions", ("", "copies", "marks", "that differ"), rows)
    tried = sum(record.attempts > 1 for record in graded.records)
    figure = Figure("grade-repeat", float(odd), "different results", None, "0", odd == 0)
    figure.more = {"submissions": len(graded.records), "tried_again": tried}
    finish(figure, here)


if __name__ == "__main__":
    main()
