"""The map of the course as the learner sees it: parts, chapters, what they need, how long, and how far one has come."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from html import escape
from typing import Any

from podlab.lab.chapters import PARTS, Chapter
from podlab.lab.progress import Progress
from podlab.lab.show import Shown, plain_table

HEADS = ("NO.", "CHAPTER", "ITS QUESTION", "NEEDS", "LESSON", "EXERCISES", "PASSED")


@dataclass(frozen=True)
class Row:
    """One chapter's line. Minutes are for reading and trying; `passed` of `exercises` are done.

    `running` are the seconds that the machine takes for lesson and exercises, as far as they have been measured.
    """

    part: str
    chapter: Chapter
    needs: str
    minutes: int
    exercise_minutes: int
    exercises: int
    passed: int
    running: Mapping[str, int]

    @property
    def ready(self) -> bool:
        """Whether the chapter is there."""
        return self.minutes > 0

    @property
    def words(self) -> list[str]:
        """The line's cells."""
        if not self.ready:
            return [self.chapter.number, self.chapter.title, self.chapter.question, "", "to come", "", ""]
        exercises = "none"
        if self.exercises:
            exercises = f"{self.exercises} in {self._minutes('exercises', self.exercise_minutes)}"
        passed = f"{self.passed} of {self.exercises}" if self.exercises else ""
        return [
            self.chapter.number,
            self.chapter.title,
            self.chapter.question,
            self.needs,
            self._minutes("lesson", self.minutes),
            exercises,
            passed,
        ]

    def _minutes(self, part: str, all_in_all: int) -> str:
        running = self.running.get(part)
        if running is None:
            return f"{all_in_all} min"
        return f"{all_in_all} min ({running} s)" if running < 90 else f"{all_in_all} min ({running / 60:.0f} min)"


class CourseMap(Shown):
    """All chapters; those that are there link to lesson and exercises, relative to a notebook in `notebooks/`."""

    def __init__(self) -> None:
        self.rows = list(_rows())

    @property
    def summary(self) -> str:
        """How much there is, and how far the learner has come."""
        there = [row for row in self.rows if row.ready and row.chapter.number != "00"]
        total, passed = sum(row.exercises for row in self.rows), sum(row.passed for row in self.rows)
        minutes = sum(row.minutes + row.exercise_minutes for row in there)
        return (
            f"{len(there)} of {len(self.rows) - 1} chapters are ready, about {minutes / 60:.0f} hours; "
            f"you have passed {passed} of {total} exercises." + self._measured()
        )

    def _measured(self) -> str:
        machines = {entry["machine"] for row in self.rows for entry in row.chapter.measured.values()}
        if not machines:
            return ""
        return (
            " In brackets: what of it the machine takes to run all cells, exercises with their solutions. Measured on "
            f"{' and '.join(sorted(machines))}."
        )

    @property
    def text(self) -> str:  # type: ignore[override]
        """The map in plain text."""
        return f"{self.summary}\n{plain_table(HEADS, [row.words for row in self.rows])}"

    @property
    def html(self) -> str:  # type: ignore[override]
        """The map in HTML, a table with one body for each part."""
        cell = '<td style="text-align:left;vertical-align:top">{}</td>'
        head = "".join(f'<th scope="col" style="text-align:left">{escape(word.capitalize())}</th>' for word in HEADS)
        bodies = []
        for part in PARTS:
            rows = [row for row in self.rows if row.part == part]
            title = f'<tr><th scope="rowgroup" colspan="{len(HEADS)}" style="text-align:left">{escape(part)}</th></tr>'
            lines = "".join(f"<tr>{''.join(map(cell.format, _linked(row)))}</tr>" for row in rows)
            bodies.append(f"<tbody>{title}{lines}</tbody>")
        caption = f'<caption style="text-align:left">{escape(self.summary)}</caption>'
        return f"<table>{caption}<thead><tr>{head}</tr></thead>{''.join(bodies)}</table>"


def _linked(row: Row) -> list[str]:
    """The line's cells as HTML, with links to what there is."""
    cells = [escape(word) for word in row.words]
    name = row.chapter.card.get("notebook")
    if row.ready and name:
        cells[1] = f'<a href="{name}.ipynb">{cells[1]}</a>'
        if row.exercises:
            cells[5] = f'<a href="../release/{name}/{name}.ipynb">{cells[5]}</a>'
            bar = (
                f'<progress max="{row.exercises}" value="{row.passed}" aria-hidden="true" style="width:3em"></progress>'
            )
            cells[6] = f'{bar} <span style="white-space:nowrap">{cells[6]}</span>'
    return cells


def _rows() -> Iterator[Row]:
    for part, chapters in PARTS.items():
        for chapter in chapters:
            card: Any = chapter.card
            exercises = card.get("exercises", [])
            done = Progress(chapter.number).read()["exercises"] if exercises else {}
            yield Row(
                part,
                chapter,
                card.get("needs", ""),
                card.get("minutes", 0),
                card.get("exercise_minutes", 0),
                len(exercises),
                sum(bool(done.get(each["id"], {}).get("passed_at")) for each in exercises),
                {part: entry["seconds"] for part, entry in chapter.measured.items()},
            )
