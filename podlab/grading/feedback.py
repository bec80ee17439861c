"""What a learner reads about one exercise: the same words in the notebook, in HTML and in CSV."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape

from podlab.checks import registry
from podlab.errors import PodlabError
from podlab.grading.records import Outcome, Record
from podlab.lab.show import ReportView

#: Columns of feedback.csv.
COLUMNS = (
    "learner", "exercise", "check", "verdict", "weight", "expected", "observed", "likely cause", "next step", "to read",
)  # fmt: skip


def of_exercise(record: Record, exercise: str, lessons: str = "") -> tuple[str, str]:
    """The feedback on one exercise as (plain text, HTML). Everything that came from outside is escaped.

    `lessons` is the address before the lesson's own, under which learners find the course; without, it is no link.
    """
    debrief, lesson = _about(exercise)
    if report := record.reports.get(exercise):
        view = ReportView(report, debrief, lesson)
        return view.text, _linked(view.html, lesson, lessons)
    again = f" To read: {lesson}." if lesson and record.outcome is not Outcome.INFRASTRUCTURE else ""
    for each in record.unanswered:
        if each.exercise == exercise:
            if record.outcome is Outcome.INFRASTRUCTURE:
                text = f"Exercise {exercise}, {each.title}: not judged. {each.reason}"
            else:
                text = f"Exercise {exercise}, {each.title}: 0 of {each.points} points. {each.reason}{again}"
            return text, _linked(f"<p><strong>{escape(text)}</strong></p>", lesson, lessons)
    text = f"Exercise {exercise}: there is no record of it."
    return text, f"<p>{escape(text)}</p>"


def _linked(html: str, lesson: str, lessons: str) -> str:
    """The lesson's address in a page as a link."""
    if not lesson or not lessons:
        return html
    address = escape(_address(lesson, lessons))
    return html.replace(escape(lesson), f'<a href="{address}">{escape(lesson)}</a>')


def _address(lesson: str, lessons: str) -> str:
    """Where a lesson's section is: on the web, or in the folder of the course where that is not known."""
    return f"{lessons.rstrip('/')}/{lesson}" if lesson and lessons else lesson


def rows(record: Record, lessons: str = "") -> Iterator[tuple[str, ...]]:
    """The lines of feedback.csv for one submission, in the order of COLUMNS; `lessons` as for of_exercise."""
    for id in record.scores:
        report = record.reports.get(id)
        to_read = _address(_about(id)[1], lessons)
        if report is None:
            reason = next((each.reason for each in record.unanswered if each.exercise == id), "")
            yield (record.learner, id, "", "unanswered", "", "", reason, "", "", to_read)
            continue
        for line in report.lines:
            result = line.result
            yield (
                record.learner,
                id,
                line.title,
                result.verdict.value,
                str(line.weight),
                result.expected,
                result.observed,
                result.cause,
                result.next_step,
                to_read,
            )


def _about(exercise: str) -> tuple[str, str]:
    try:
        found = registry.exercise(exercise)
    except PodlabError:
        return "", ""
    return found.debrief, found.lesson
