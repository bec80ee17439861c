"""What nbgrader runs for us: outside verdicts are put into the notebook, so that nbgrader keeps the books.

nbgrader reads a grade cell's outputs as the grade. Here they are written from the record and nothing is executed.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from nbformat.v4 import new_output
from nbgrader.plugins import BasePlugin
from nbgrader.preprocessors import NbGraderPreprocessor
from nbgrader.utils import is_grade
from traitlets import Unicode

from podlab.errors import GradingError
from podlab.grading import feedback, records, term


class ExternalGrade(NbGraderPreprocessor):
    """Replaces the outputs of grade cells with the verdicts of `records/ASSIGNMENT/LEARNER.json`."""

    folder = Unicode(".", help="The course folder that holds records/").tag(config=True)

    def preprocess(self, nb: Any, resources: Any) -> tuple[Any, Any]:
        """Write the outputs of every grade cell; GradingError when the submission has no record."""
        names = resources["nbgrader"]
        record = records.read(Path(self.folder), names["assignment"], names["student"])
        if record is None:
            raise GradingError(
                f"{names['student']}'s submission of {names['assignment']} has not been graded.",
                hint="Run `podlab grade` first: it runs the checks; nbgrader keeps the books.",
            )
        write_outputs(nb, record, lessons_of(Path(self.folder)))
        return nb, resources


class LatePenalty(BasePlugin):
    """What being late costs, as term.toml says; nothing in a folder without it."""

    folder = Unicode(".", help="The term's folder").tag(config=True)

    def late_submission_penalty(self, student_id: str, score: float, total_seconds_late: float) -> float | None:
        """The points that the delay costs; None for none."""
        if not (Path(self.folder) / term.FILE).is_file():
            return None
        return term.load(Path(self.folder)).late.penalty(score, total_seconds_late) or None


def lessons_of(folder: Path) -> str:
    """The address under which the learners of a course folder find the lessons; empty where it is not known."""
    return term.load(folder).lessons if (folder / term.FILE).is_file() else ""


def write_outputs(notebook: Any, record: records.Record, lessons: str) -> None:
    """Write the verdicts of a record into the outputs of every grade cell."""
    for cell in notebook.cells:
        if is_grade(cell) and cell.cell_type == "code":
            cell.outputs = outputs(record, cell.metadata.nbgrader["grade_id"], lessons)
            cell.execution_count = 1


def outputs(record: records.Record, grade_id: str, lessons: str = "") -> list[Any]:
    """The outputs of one grade cell: what the learner reads, and a float, which nbgrader takes as the grade.

    Where nothing could be judged the last output is an error, which is 0 points for nbgrader; bookkeeping then
    marks the grade as needing a person.
    """
    exercise = ".".join(grade_id.split("-")[1:3])
    text, html = feedback.of_exercise(record, exercise, lessons)
    shown = new_output("display_data", {"text/plain": text, "text/html": html})
    score = record.scores.get(exercise)
    if score is None or record.outcome is records.Outcome.INFRASTRUCTURE:
        return [shown, new_output("error", ename="NotJudged", evalue=record.reason[:300], traceback=[])]
    return [shown, new_output("execute_result", {"text/plain": repr(float(score))}, execution_count=1)]
