"""A term: the folder in which an instructor keeps one class. It is an nbgrader course folder with three things more.

`term.toml` says where the course is, when assignments are due and what being late costs; `roster.csv` who is in the
class; `inbox/` is where submissions may be dropped. What was collected lies in `received/`, with receipts.
"""

from __future__ import annotations

import csv
import tomllib
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from podlab import paths
from podlab.errors import GradingError, UsageError
from podlab.grading.submissions import NAME, usable

FILE = "term.toml"
ROSTER = "roster.csv"
INBOX = "inbox"
COLUMNS = ("learner", "first_name", "last_name", "email", "login", "canvas_id")

TEMPLATE = """# A term of Threads to Pods. Read by `podlab collect`, `grade`, `feedback` and `export` in this folder.

# The folder of the course: the clone with manuscript/, source/ and autograder/.
course = {course}
# Where learners read it, for the links in their feedback; only http and https.
# lessons = "https://courses.example.org/threads-to-pods"

[late]
# Percent of the earned points that each day begun after the deadline costs, and at most all of them together.
percent_per_day = 10
at_most = 50
grace_minutes = 5

[deadlines]
# With the hours from UTC; without them, the time of this machine. An assignment that is not named is never late.
# "01-split-and-conquer" = 2026-10-20T23:59:00+02:00

# Another deadline for one learner:
# [extensions."01-split-and-conquer"]
# ada = 2026-10-27T23:59:00+02:00
"""


@dataclass(frozen=True)
class Late:
    """What being late costs: percent of the earned points by day begun, and the most in percent."""

    percent_per_day: float = 0.0
    at_most: float = 100.0
    grace_minutes: float = 0.0

    def penalty(self, score: float, seconds: float) -> float:
        """The points that `seconds` after the deadline cost a submission with `score` points, to two decimals."""
        if seconds <= self.grace_minutes * 60:
            return 0.0
        days = -(-seconds // 86_400)
        return round(score * min(self.percent_per_day * days, self.at_most, 100.0) / 100, 2)


@dataclass(frozen=True)
class Member:
    """One line of the roster."""

    learner: str
    first_name: str = ""
    last_name: str = ""
    email: str = ""
    login: str = ""
    canvas_id: str = ""

    @property
    def name(self) -> str:
        """The name in full; the learner's name in this folder where no other is known."""
        return " ".join(filter(None, (self.first_name, self.last_name))) or self.learner

    @property
    def names(self) -> set[str]:
        """Everything that the member may be called in the name of a file, plain."""
        both = (self.first_name + self.last_name, self.last_name + self.first_name)
        return {_plain(name) for name in (self.learner, self.email, self.login, *both) if name}


@dataclass(frozen=True)
class Term:
    """What term.toml and roster.csv say."""

    folder: Path
    course: Path
    late: Late = Late()
    deadlines: Mapping[str, datetime] = field(default_factory=dict)
    extensions: Mapping[str, Mapping[str, datetime]] = field(default_factory=dict)
    roster: Mapping[str, Member] = field(default_factory=dict)
    lessons: str = ""

    def deadline(self, assignment: str, learner: str = "") -> datetime | None:
        """When a learner's work is due; None for an assignment without a deadline."""
        return self.extensions.get(assignment, {}).get(learner) or self.deadlines.get(assignment)

    def seconds_late(self, assignment: str, learner: str, received: datetime | None) -> float:
        """Seconds from the deadline to the receipt; 0 for what came in time."""
        due = self.deadline(assignment, learner)
        return 0.0 if due is None or received is None else max(0.0, (received - due).total_seconds())

    def members(self, who: str, number: str = "") -> list[str]:
        """The learners whom a number in an LMS, a name, an address or a login can mean: of namesakes all.

        Without a roster everybody is taken in, under a name that can be a file's.
        """
        if not self.roster:
            return [name] if (name := usable(who)) else []
        # Who has another number is another one, whatever the name.
        possible = [each for each in self.roster.values() if not number or each.canvas_id in ("", number)]
        fitting = (
            [each.learner for each in possible if number and each.canvas_id == number],
            [each.learner for each in possible if each.learner == who],
            [each.learner for each in possible if _plain(who) in each.names],
        )
        return next(filter(None, fitting), [])


def _plain(text: str) -> str:
    """Letters and digits only, without accents and capitals: how an LMS writes names into file names."""
    decomposed = unicodedata.normalize("NFKD", text)
    return "".join(letter for letter in decomposed if letter.isalnum()).casefold()


def make(folder: Path, course: Path) -> list[Path]:
    """Make a term's folder; returns what was written. What is there already stays as it is."""
    folder = paths.private(folder.resolve())
    wanted = {
        folder / FILE: TEMPLATE.format(course=_toml(str(course.resolve()))),
        folder / ROSTER: ",".join(COLUMNS) + "\n",
    }
    written = [path for path in wanted if not path.exists()]
    for path in written:
        path.write_text(wanted[path])
    if not (folder / INBOX).is_dir():
        (folder / INBOX).mkdir(mode=0o700)
        written.append(folder / INBOX)
    return written


def _toml(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def find(start: Path | None = None) -> Path | None:
    """The folder of the term at or above `start`, or None."""
    here = (start or Path.cwd()).resolve()
    return next((folder for folder in (here, *here.parents) if (folder / FILE).is_file()), None)


def load(start: Path | None = None) -> Term:
    """The term at or above `start`; UsageError when there is none, GradingError when its files make no sense."""
    folder = find(start)
    if folder is None:
        raise UsageError(
            f"{(start or Path.cwd()).resolve()} is not inside a term's folder.",
            hint="Make one with `podlab course init FOLDER`, or name it with --term.",
        )
    file = folder / FILE
    try:
        text = tomllib.loads(file.read_text())
        late = Late(**{key: float(value) for key, value in text.get("late", {}).items()})
        deadlines = {name: _moment(value) for name, value in text.get("deadlines", {}).items()}
        extensions = {
            name: {who: _moment(value) for who, value in each.items()}
            for name, each in text.get("extensions", {}).items()
        }
        course, lessons = Path(text["course"]), address(str(text.get("lessons", "")))
    except KeyError as error:
        raise GradingError(f"{file} lacks the entry {error}.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, TypeError, ValueError, AttributeError) as error:
        raise GradingError(
            f"{file} cannot be understood: {error}.", hint="Mend the line, or compare it with a new one."
        ) from error
    return Term(folder, course, late, deadlines, extensions, _roster(folder / ROSTER), lessons)


def address(lessons: str) -> str:
    """`lessons` as it is; ValueError if it is no address that may stand in a page as a link."""
    if lessons and not lessons.startswith(("http://", "https://")):
        raise ValueError(f"lessons = {lessons!r} is no address on the web")
    return lessons


def _moment(value: Any) -> datetime:
    if not isinstance(value, datetime):
        raise ValueError(f"{value!r} is no point in time such as 2026-10-20T23:59:00+02:00")
    return value.astimezone(UTC)


def _roster(file: Path) -> dict[str, Member]:
    if not file.is_file():
        return {}
    found: dict[str, Member] = {}
    with file.open(newline="", encoding="utf-8-sig") as lines:
        reader = csv.DictReader(lines)
        if "learner" not in (reader.fieldnames or ()):
            raise GradingError(f"{file} has no column `learner`.", hint=f"Its columns: {', '.join(COLUMNS)}.")
        for row in reader:
            values = {key: (row.get(key) or "").strip() for key in COLUMNS}
            if not any(values.values()):
                continue
            if not NAME.fullmatch(values["learner"]) or values["learner"] in found:
                raise GradingError(
                    f"{file}, line {reader.line_num}: {values['learner']!r} is no new name for a learner.",
                    hint="Letters, digits, dot, dash, underscore and @; each name once.",
                )
            found[values["learner"]] = Member(**values)
    return found
