"""nbgrader's books, kept open for a whole class: what its `autograde` and `generate_feedback` would write, at once.

nbgrader's converters open the gradebook a dozen times for each learner, and read, check and copy the notebook as
often. Here the gradebook is opened once, and cells that are the same for everybody are rendered once. The tests hold
the two against each other: tables, autograded notebooks and pages.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from types import TracebackType
from typing import Any

import nbformat
from nbgrader import converters, utils
from nbgrader.api import Gradebook
from nbgrader.coursedir import CourseDirectory
from nbgrader.preprocessors import AssignLatePenalties, GetGrades

from podlab import paths
from podlab.grading.pages import FeedbackExporter
from podlab.grading.preprocessors import write_outputs
from podlab.grading.records import Outcome, Record


class Ledger:
    """The books of one assignment of the course folder `folder`, which has `config`; used by one thread."""

    def __init__(self, folder: Path, assignment: str, config: Any, lessons: str = "") -> None:
        self.folder = folder
        self.assignment = assignment
        self._lessons = lessons
        self._directory = CourseDirectory(config=config)
        self._late = AssignLatePenalties(config=config)
        self._late.init_plugin()
        self._exporter = _exporter(self._directory, config)

    def __enter__(self) -> Ledger:
        self._book = Gradebook(f"sqlite:///{self.folder / 'gradebook.db'}")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._book.close()

    def book(self, record: Record) -> None:
        """Enter one submission's grades, and write its autograded notebook and its page of feedback."""
        submitted = self._file("submitted", record.learner, "ipynb")
        notebook = nbformat.from_dict(nbformat.v4.reads(submitted.read_text()))
        write_outputs(notebook, record, self._lessons)
        entry = self._entry(record.learner)
        self._grade(entry, notebook, record)
        text = nbformat.v4.writes(notebook)
        self._write("autograded", record.learner, "ipynb", text if text.endswith("\n") else f"{text}\n", 0o444)
        self._write("feedback", record.learner, "html", self._page(entry, notebook, record.learner), 0o644)

    def _entry(self, learner: str) -> Any:
        """The gradebook's entry of the learner's notebook, made if need be, with the receipt time as it is now."""
        received = self._directory.get_existing_timestamp(str(self.folder / "submitted" / learner / self.assignment))
        self._book.update_or_create_student(learner)
        times = {"timestamp": received} if received else {}
        submission = submission_of(self._book, self.assignment, learner, **times)
        return next(each for each in submission.notebooks if each.name == self.assignment)

    def _grade(self, entry: Any, notebook: Any, record: Record) -> None:
        """Points and comments of every cell, as nbgrader's SaveAutoGrades gives them, then what being late costs.

        A grade that the machine kept from being judged waits for a person; it is no zero. One that a person has marked
        waits again only when what the checks say has changed since.
        """
        cells = {cell.metadata.nbgrader["grade_id"]: cell for cell in notebook.cells if "nbgrader" in cell.metadata}
        for grade in entry.grades:
            exercise = ".".join(grade.name.split("-")[1:3])
            before = grade.auto_score
            if record.outcome is Outcome.INFRASTRUCTURE or record.scores.get(exercise) is None:
                grade.auto_score = None
            else:
                grade.auto_score, _ = utils.determine_grade(cells[grade.name])
            if grade.manual_score is None:
                grade.needs_manual_grade = grade.auto_score is None
            elif grade.auto_score != before:
                grade.needs_manual_grade = True
        for comment in entry.comments:
            cell = cells[comment.name]
            untouched = cell.metadata.nbgrader.get("checksum") == utils.compute_checksum(cell)
            comment.auto_comment = "No response." if untouched and not utils.is_task(cell) else None
        self._book.db.commit()
        penalty = None
        if (late := entry.assignment.total_seconds_late) > 0:
            penalty = self._late.plugin_inst.late_submission_penalty(record.learner, entry.score, late)
        # Set once, at the end: a page that is made again is no other state of the gradebook.
        entry.late_submission_penalty = None if penalty is None else self._late._check_late_penalty(entry, penalty)
        self._book.db.commit()

    def _page(self, entry: Any, notebook: Any, learner: str) -> str:
        """The page of feedback; `notebook` gets the gradebook's scores and comments, a person's own ones too."""
        grades = {grade.name: grade for grade in entry.grades}
        comments = {comment.name: comment for comment in entry.comments}
        for cell in notebook.cells:
            facts = cell.metadata.get("nbgrader", {})
            if comment := comments.get(facts.get("grade_id")):
                facts["comment"] = comment.comment
            if grade := grades.get(facts.get("grade_id")):
                facts["score"], facts["points"] = grade.score, grade.max_score
        penalty = entry.late_submission_penalty or 0
        about = {
            "student": learner,
            "assignment": self.assignment,
            "notebook": self.assignment,
            "score": entry.score - penalty,
            "max_score": entry.max_score,
            "late_penalty": penalty,
        }
        return self._exporter.page(notebook, about, self._file("autograded", learner, "ipynb").parent)

    def _file(self, step: str, learner: str, ending: str) -> Path:
        return self.folder / step / learner / self.assignment / f"{self.assignment}.{ending}"

    def _write(self, step: str, learner: str, ending: str, text: str, mode: int) -> None:
        """Write one step's only file, with the receipt time beside it, as nbgrader does."""
        file = self._file(step, learner, ending)
        file.parent.mkdir(parents=True, exist_ok=True)
        stamp = self._file("submitted", learner, "ipynb").with_name("timestamp.txt")
        copy = file.with_name(stamp.name)
        copy.unlink(missing_ok=True)
        if stamp.exists():
            shutil.copyfile(stamp, copy)
            copy.chmod(mode)
        with paths.whole_file(file) as stream:
            stream.write(text)
        file.chmod(mode)


def submission_of(book: Gradebook, assignment: str, learner: str, **facts: Any) -> Any:
    """The gradebook's entry of a submission, made if need be, with these facts.

    nbgrader builds the entry while it asks for the assignment's parts: flushing what is half built warns of it.
    """
    with book.db.no_autoflush:
        return book.update_or_create_submission(assignment, learner, **facts)


def _exporter(directory: CourseDirectory, config: Any) -> FeedbackExporter:
    """The exporter of nbgrader's generate_feedback, without the step that asks the gradebook."""
    converter = converters.GenerateFeedback(coursedir=directory, config=config)
    exporter = FeedbackExporter(parent=converter, config=converter.config)
    for each in converter.preprocessors:
        if each is not GetGrades:
            exporter.register_preprocessor(each)
    return exporter
