"""nbgrader as book-keeper: a course folder with gradebook, autograded notebooks and feedback, and two CSV files.

The folder is an ordinary nbgrader course: formgrader, manual grading and `nbgrader export` work in it. Scores come
from the records; nbgrader executes nothing.
"""

from __future__ import annotations

import contextlib
import csv
import io
import json
import logging
import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import zip_longest
from pathlib import Path
from typing import Any

from podlab import imports, paths
from podlab.errors import GradingError
from podlab.grading import feedback
from podlab.grading.records import Record
from podlab.grading.room import no_room
from podlab.grading.submissions import Submission, Unreadable, read_notebook, source_of
from podlab.grading.term import Term
from podlab.grading.transplant import nbgrader_of, transplant

#: Settings of the course folder: what nbgrader's own commands and formgrader use when started in it.
CONFIGURATION = '''"""nbgrader's settings for a folder of `podlab grade`: scores come from records/, nothing runs."""

import pathlib

from podlab.course.release import settings

c = get_config()  # noqa: F821
here = str(pathlib.Path(__file__).parent.resolve())
c.merge(settings(here))
c.CourseDirectory.course_id = pathlib.Path(here).name
c.Autograde.autograde_preprocessors = [
    "podlab.grading.preprocessors.ExternalGrade",
    "nbgrader.preprocessors.IgnorePattern",
    "nbgrader.preprocessors.LimitOutput",
    "nbgrader.preprocessors.SaveAutoGrades",
    "nbgrader.preprocessors.AssignLatePenalties",
    "nbgrader.preprocessors.CheckCellMetadata",
]
c.ExternalGrade.folder = here
c.AssignLatePenalties.plugin_class = "podlab.grading.preprocessors.LatePenalty"
c.LatePenalty.folder = here
c.GenerateFeedback.exporter_class = "podlab.grading.pages.FeedbackExporter"
c.OverwriteCells.add_missing_cells = True
c.ExecutePreprocessor.skip_cells_with_tag = ""
c.ExecutePreprocessor.timeout = 60
c.ExecutePreprocessor.iopub_timeout = 30
'''


#: Copies of the gradebook that are kept in backups/, those from before a --renew not counted: these stay.
BACKUPS = 10


class Books:
    """The gradebook of one course folder, for one assignment."""

    def __init__(
        self, folder: Path, assignment: str, source: Path, term: Term | None = None, lessons: str = ""
    ) -> None:
        self.folder = folder
        self.assignment = assignment
        self.source = source
        self.term = term
        self._lessons = lessons

    @property
    def lessons(self) -> str:
        """The address under which learners find the lessons; empty where it is not known."""
        from podlab.grading.preprocessors import lessons_of

        return self._lessons or lessons_of(self.folder)

    @property
    def release(self) -> Path:
        """The release that learners of this folder have got."""
        return self.folder / "release" / self.assignment / f"{self.assignment}.ipynb"

    def open(self, renew: bool = False) -> Path:
        """Make the course folder with source, release and gradebook; returns the release notebook's path.

        A damaged or locked gradebook is refused before anything is changed, and so is an assignment that has changed
        since, unless `renew`: then the new version replaces the old one and all of its grades and records,
        which stay in backups/.
        """
        self.check_gradebook()
        inside = self.folder / "source" / self.assignment / self.source.name
        configure(self.folder)
        changed = not inside.is_file() or inside.read_bytes() != self.source.read_bytes()
        if changed and inside.is_file():
            self._changed(inside, renew)
        if changed or not _is_notebook(self.release) or not self._is_in_gradebook():
            inside.parent.mkdir(parents=True, exist_ok=True)
            with paths.whole_file(inside, "wb") as file:
                file.write(self.source.read_bytes())
            with quiet():
                new_gradebook(self.folder)
                self._convert("GenerateAssignment", create_assignment=True, force=True)
        return self.release

    def _is_in_gradebook(self) -> bool:
        """Whether the gradebook knows the assignment; one that was lost is made again from the records."""
        import sqlite3

        if not (file := self.folder / "gradebook.db").exists():
            return False
        with in_words(file), contextlib.closing(sqlite3.connect(file)) as book:
            return book.execute("select 1 from assignment where name = ?", (self.assignment,)).fetchone() is not None

    @contextlib.contextmanager
    def _gradebook(self) -> Iterator[Any]:
        """nbgrader's gradebook; GradingError when it cannot be used."""
        imports.without_extras()
        from nbgrader.api import Gradebook

        file = self.folder / "gradebook.db"
        with in_words(file), Gradebook(f"sqlite:///{file}") as book:
            yield book

    def _changed(self, inside: Path, renew: bool) -> None:
        """Refuse another version of the assignment, or clear the way for it."""
        if not renew:
            raise GradingError(
                f"{self.assignment} has changed since {self.folder} was made: {_differing(inside, self.source)}.",
                hint="Scores of two versions must not mix. With --renew the new version is taken and everything is "
                "graded again (answers are found by their exercise; the old grades stay in backups/); with "
                "--out another folder is used; or take the course back to the version that was released.",
            )
        why = f"before-renew-of-{self.assignment}"
        self._back_up(why)
        # Before the grades go: whatever is cut off, nobody takes records of this version for grades of the next.
        if (old := self.folder / "records" / self.assignment).is_dir():
            shutil.move(old, self._backup(f"{why}-records"))
        with self._gradebook() as book:
            from nbgrader.api import MissingEntry

            with contextlib.suppress(MissingEntry):
                book.remove_assignment(self.assignment)
        self.release.unlink(missing_ok=True)

    def enter(self, submissions: Iterable[Submission], release: Path, received: Path | None) -> None:
        """Put every submission into submitted/, transplanted; keep the file as it came in `received`, if it is new."""
        base = json.loads(release.read_text())
        for submission in submissions:
            folder = self.folder / "submitted" / submission.learner / self.assignment
            folder.mkdir(parents=True, exist_ok=True)
            try:
                notebook = transplant(base, read_notebook(submission.path)).notebook
            except Unreadable:
                notebook = base
            # Whole or not at all: the report of the class reads everybody's, also when one is graded alone.
            with paths.whole_file(folder / f"{self.assignment}.ipynb") as file:
                file.write(json.dumps(notebook, indent=1, sort_keys=True))
            stamp = folder / "timestamp.txt"
            if submission.received is not None:
                stamp.write_text(f"{submission.received.astimezone(UTC):%Y-%m-%d %H:%M:%S.%f} UTC\n")
            else:
                stamp.unlink(missing_ok=True)
            if received is not None:
                _keep(submission, received)

    def set_deadlines(self, learners: Iterable[str]) -> None:
        """Tell the gradebook of members, deadlines and extensions, as the term says them now."""
        if self.term is None:
            return
        from podlab.grading.ledger import submission_of

        due = self.term.deadline(self.assignment)
        with self._gradebook() as book:
            book.update_or_create_assignment(self.assignment, duedate=due and due.astimezone(UTC).replace(tzinfo=None))
            for member in self.term.roster.values():
                facts = {"first_name": member.first_name, "last_name": member.last_name, "email": member.email}
                book.update_or_create_student(member.learner, **{key: value for key, value in facts.items() if value})
            for learner in learners:
                own = self.term.deadline(self.assignment, learner)
                extension = own - due if own and due and own != due else None
                book.update_or_create_student(learner)
                submission_of(book, self.assignment, learner, extension=extension)

    def book(self, records: Iterable[Record]) -> None:
        """Write grades into the gradebook and feedback as HTML, learner by learner, as the records come."""
        from podlab.grading.ledger import Ledger

        ours = Ledger(self.folder, self.assignment, self._configuration(), self.lessons)
        with in_words(self.folder / "gradebook.db"), ours as ledger:
            for record in records:
                try:
                    ledger.book(record)
                except (GradingError, OSError):
                    raise
                except Exception as error:
                    raise GradingError(
                        f"{record.learner}'s grades cannot be entered into {self.folder / 'gradebook.db'}: {error}",
                        hint="What was graded is kept in records/: start the same command again.",
                    ) from error

    def export(self, records: Sequence[Record]) -> tuple[Path, Path]:
        """Write grades.csv (a line each learner) and feedback.csv (a line each check); returns their paths."""
        grades, words = self.folder / "grades.csv", self.folder / "feedback.csv"
        exercises = sorted({name for record in records for name in record.scores})
        head = ("learner", "assignment", "outcome", "score", "max_score", *exercises, "note")
        rows = [
            (
                record.learner,
                record.assignment,
                record.outcome.value,
                _number(record.score),
                record.maximum,
                *(_number(record.scores.get(name)) for name in exercises),
                record.reason,
            )
            for record in records
        ]
        write_csv(grades, head, rows)
        lessons = self.lessons
        rows = [row for record in records for row in feedback.rows(record, lessons)]
        write_csv(words, feedback.COLUMNS, rows)
        return grades, words

    def scores(self) -> dict[str, float]:
        """The scores by learner as the gradebook has them, before penalties."""
        return {learner: booked.score for learner, booked in self.booked().items()}

    def booked(self) -> dict[str, Booked]:
        """What the gradebook says of every submission: an instructor's own marks and comments count.

        What has been entered and not graded yet needs a person. GradingError when the gradebook is lost.
        """
        if not self._is_in_gradebook():
            raise GradingError(
                f"{self.folder / 'gradebook.db'} is lost, or knows nothing of {self.assignment}.",
                hint="`podlab grade` makes it again from records/; marks given by hand are in backups/ only.",
            )
        with self._gradebook() as book:
            return {
                each.student_id: Booked(
                    float(each.score),
                    float(each.max_score),
                    float(each.late_submission_penalty or 0.0),
                    bool(each.needs_manual_grade),
                    each.timestamp,
                    each.duedate,
                )
                for each in book.assignment_submissions(self.assignment)
            }

    def check_gradebook(self) -> None:
        """Back the gradebook up and see that it can be read; GradingError otherwise, with nothing changed.

        One that is damaged is kept as it is in backups/damaged-TIME.db, whatever is done to it next.
        """
        import sqlite3

        file = self.folder / "gradebook.db"
        if not file.exists():
            return
        with in_words(file), contextlib.closing(sqlite3.connect(file, timeout=5)) as book:
            try:
                verdict = book.execute("pragma quick_check").fetchone()[0]
                book.execute("begin immediate").connection.rollback()
                if verdict != "ok":
                    raise sqlite3.DatabaseError(verdict)
            except sqlite3.OperationalError:
                raise
            except sqlite3.DatabaseError:
                if not self._has_copy("damaged-*.db"):
                    shutil.copy2(file, self._backup("damaged", ".db"))
                raise
        if not self._has_copy("[0-9]*.db"):
            copy = self._back_up()
            # Where the clock was set back, the copy of now has not the newest name.
            others = [each for each in sorted((self.folder / "backups").glob("[0-9]*.db")) if each != copy]
            for old in others[: 1 - BACKUPS]:
                old.unlink(missing_ok=True)

    def _has_copy(self, names: str) -> bool:
        """Whether one of these copies in backups/ is of the gradebook as it is now."""
        written = (self.folder / "gradebook.db").stat().st_mtime_ns
        return written in {each.stat().st_mtime_ns for each in (self.folder / "backups").glob(names)}

    def _back_up(self, why: str = "") -> Path | None:
        """Copy the gradebook, if there is one, to backups/TIME.db, or to WHY-TIME.db; returns the copy.

        A copy has the gradebook's own time, which says of what state it is whatever was done to the clock. Where the
        newest dated copy holds the same, though the file was written to since, it gets the new time.
        """
        import sqlite3

        file = self.folder / "gradebook.db"
        if not file.exists():
            return None
        copy = self._backup(why, ".db")
        draft, state = copy.with_suffix(".new"), file.stat()
        newest = None if why else max(copy.parent.glob("[0-9]*.db"), default=None)
        try:
            with (
                in_words(file),
                contextlib.closing(sqlite3.connect(file)) as book,
                contextlib.closing(sqlite3.connect(draft)) as half,
            ):
                book.backup(half)
            if newest is not None and _hold_the_same(newest, draft):
                copy = newest
            else:
                draft.replace(copy)
            os.utime(copy, ns=(state.st_atime_ns, state.st_mtime_ns))
            return copy
        finally:
            draft.unlink(missing_ok=True)

    def _backup(self, why: str, ending: str = "") -> Path:
        """Where in backups/ something is kept from now on."""
        name = f"{why and f'{why}-'}{datetime.now(UTC):%Y%m%dT%H%M%S.%fZ}{ending}"
        return paths.private(self.folder / "backups") / name

    def _convert(self, step: str, **options: Any) -> None:
        """Run one of nbgrader's converters as its own commands do."""
        imports.without_extras()
        from nbgrader import converters
        from nbgrader.coursedir import CourseDirectory

        config = self._configuration()
        directory = CourseDirectory(config=config)
        directory.assignment_id = self.assignment
        converter = getattr(converters, step)(coursedir=directory, config=config, **options)
        said = _Said()
        converter.log = logging.getLogger("podlab.grading.nbgrader")
        converter.log.addHandler(said)
        try:
            converter.start()
        except (Exception, SystemExit) as error:
            raise GradingError(f"nbgrader's step {step} failed: {said.last() or error}") from error
        finally:
            converter.log.removeHandler(said)

    def _configuration(self) -> Any:
        from traitlets.config import PyFileConfigLoader

        return PyFileConfigLoader("nbgrader_config.py", path=str(self.folder)).load_config()


@dataclass(frozen=True)
class Booked:
    """One line of the gradebook. Times are UTC, without saying so, as nbgrader keeps them."""

    score: float
    max_score: float
    penalty: float
    needs_person: bool
    received: datetime | None
    due: datetime | None

    @property
    def final(self) -> float:
        """The score less what being late costs."""
        return round(max(0.0, self.score - self.penalty), 2)


@contextlib.contextmanager
def in_words(file: Path) -> Iterator[None]:
    """Turn what SQLite says of the gradebook `file` into a GradingError: it is locked or damaged, or has no room."""
    import sqlite3

    imports.without_extras()
    from sqlalchemy.exc import DBAPIError

    try:
        yield
    except (sqlite3.Error, DBAPIError) as error:
        cause = error.orig if isinstance(error, DBAPIError) else error
        if no_room(error):
            raise
        if isinstance(cause, sqlite3.OperationalError):
            raise GradingError(
                f"The gradebook {file} cannot be used: {cause}.",
                hint="Close formgrader and other graders that use it, then start the same command again.",
            ) from error
        raise GradingError(
            f"The gradebook {file} is damaged: {cause}.",
            hint=f"Copies are in {file.parent / 'backups'} under their times: put the newest in its place (damaged-* "
            "is the one that is there now). Without one, move the gradebook away: `podlab grade` makes it again from "
            "records/, but for marks given by hand.",
        ) from error


def _hold_the_same(one: Path, other: Path) -> bool:
    """Whether two gradebooks have the same rows; not where one of them cannot be read."""
    import sqlite3

    with (
        contextlib.suppress(sqlite3.Error),
        contextlib.closing(sqlite3.connect(one)) as first,
        contextlib.closing(sqlite3.connect(other)) as second,
    ):
        return all(left == right for left, right in zip_longest(first.iterdump(), second.iterdump()))
    return False


def configure(folder: Path) -> bool:
    """Write nbgrader's settings into a course folder; returns whether they were not there, or other ones."""
    file = folder / "nbgrader_config.py"
    if file.is_file() and file.read_text() == CONFIGURATION:
        return False
    with paths.whole_file(file) as stream:
        stream.write(CONFIGURATION)
    return True


def new_gradebook(folder: Path) -> bool:
    """Make the gradebook of a course folder, whole or not at all: nbgrader cannot use one that was half made.

    Returns whether there was none.
    """
    imports.without_extras()
    from nbgrader.api import Gradebook

    file, draft = folder / "gradebook.db", folder / "gradebook.new.db"
    if file.exists():
        return False
    draft.unlink(missing_ok=True)
    _say_version(draft)
    with Gradebook(f"sqlite:///{draft}"):
        pass
    draft.replace(file)
    return True


def _is_notebook(path: Path) -> bool:
    """Whether there is a whole notebook; nbgrader writes in place, and may have been ended meanwhile."""
    try:
        return isinstance(json.loads(path.read_text()), dict)
    except (OSError, ValueError):
        return False


def _differing(old: Path, new: Path) -> str:
    """Which exercises, or which other cells, differ between two versions of an assignment, in words."""
    before, after = (_cells(path) for path in (old, new))
    names = sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))
    exercises = sorted({".".join(name.split("-")[1:3]) for name in names if name.count("-") == 2})
    if exercises:
        return f"exercise {', '.join(exercises)}"
    return f"{len(names)} cells that are no exercise" if names else "the notebook's settings"


def _cells(path: Path) -> dict[str, Any]:
    """What is in each cell, by its grade_id or, for text, its id."""
    cells = json.loads(path.read_text())["cells"]
    named = [(str(nbgrader_of(cell).get("grade_id") or cell.get("id")), cell) for cell in cells]
    return {name: (source_of(cell), nbgrader_of(cell)) for name, cell in named}


def _say_version(file: Path) -> None:
    """Make a gradebook that has nothing but the version of its tables, which nbgrader asks a command for otherwise."""
    import sqlite3

    imports.without_extras()
    import nbgrader
    from alembic.script import ScriptDirectory

    (head,) = ScriptDirectory(str(Path(nbgrader.__file__).parent / "alembic")).get_heads()
    with contextlib.closing(sqlite3.connect(file)) as book, book:
        book.execute("create table alembic_version (version_num varchar(32) not null)")
        book.execute("insert into alembic_version values (?)", (head,))


class _Said(logging.Handler):
    """Keeps what nbgrader logs as errors, since its exceptions only point there."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep one line, and the last line of its traceback."""
        self.lines.append(record.getMessage())
        if record.exc_info and record.exc_info[1] is not None:
            self.lines.append(repr(record.exc_info[1]))

    def last(self) -> str:
        """The end of what was said."""
        return " ".join(self.lines)[-800:]


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep nbgrader's log lines off the terminal; its errors end in a GradingError."""
    logger = logging.getLogger("podlab.grading.nbgrader")
    logger.setLevel(logging.ERROR)
    logger.addHandler(logging.NullHandler())
    logger.propagate = False
    with contextlib.redirect_stderr(io.StringIO()):
        yield


def _keep(submission: Submission, received: Path) -> None:
    """Keep the submitted bytes beside the graded ones, if they are an ordinary file of bearable size."""
    path = submission.path
    if path is None or path.is_symlink() or not path.is_file() or path.stat().st_size > 100_000_000:
        return
    received.mkdir(parents=True, exist_ok=True, mode=0o700)
    shutil.copyfile(path, received / f"{submission.learner}.ipynb")


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:g}"


def write_csv(path: Path, head: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Write a table whole or not at all; no cell is a formula to a spreadsheet."""
    with paths.whole_file(path, newline="") as file:
        writer = csv.writer(file)
        writer.writerow(head)
        writer.writerows([_harmless(cell) for cell in row] for row in rows)


def _harmless(cell: Any) -> Any:
    """A cell that no spreadsheet takes for a formula (CSV injection)."""
    if isinstance(cell, str) and cell[:1] in ("=", "+", "-", "@", "\t", "\r"):
        return f"'{cell}"
    return cell
