"""The report of a class: report.html to read, and its tables as CSV to work with."""

from __future__ import annotations

import json
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from podlab import paths
from podlab.checks import registry
from podlab.grading import figures
from podlab.grading.bookkeeping import Books, write_csv
from podlab.grading.exports import Facts
from podlab.grading.figures import CheckFigures
from podlab.grading.records import Record
from podlab.grading.suspicion import Suspicion, suspicions
from podlab.lab.show import html_table

CHECK_COLUMNS = (
    "exercise", "check", "title", "hidden", "weight", "tried", "failed", "failure_rate", "not_gradable",
    "infrastructure", "median_seconds",
)  # fmt: skip
SUBMISSION_COLUMNS = ("learner", "outcome", "score", "late_penalty", "final", "max_score", "seconds", "attempts")
STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 70em; margin: 2em auto; padding: 0 1em; color: #1a1a1a; }
table { border-collapse: collapse; margin: .5em 0 1.5em; } caption { text-align: left; font-weight: 600; }
th, td { padding: .2em .8em .2em 0; border-bottom: 1px solid #ddd; vertical-align: top; }
td { overflow-wrap: anywhere; } h2 { margin-top: 2em; } .quiet { color: #555; }
svg text { font: 12px system-ui, sans-serif; fill: #1a1a1a; }
"""


def write(books: Books, facts: Facts) -> Path:
    """Write the report of an assignment into its course folder; returns the page's path."""
    records = list(facts.records.values())
    folder = books.folder / "reports" / books.assignment
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    release = json.loads(books.release.read_text())
    exercises = registry.chapter(books.assignment[:2])
    found = suspicions(records, _notebooks(books, records), release, exercises)
    lines = figures.checks(records)
    for name, (head, rows) in tables(records, facts, lines, found).items():
        write_csv(folder / name, head, rows)
    with paths.whole_file(folder / "report.html") as file:
        file.write(page(books.assignment, records, facts, lines, found))
    return folder / "report.html"


def tables(
    records: Sequence[Record],
    facts: Facts,
    lines: Sequence[CheckFigures],
    found: Sequence[Suspicion],
) -> dict[str, tuple[Sequence[str], Sequence[Sequence[Any]]]]:
    """What the page shows, as (columns, rows) by file name. Times in seconds; no score where nothing was judged.

    What is final is what the exports say."""
    scores, maximum = _scores(records)
    counts = figures.distribution(scores, maximum)
    step = maximum / len(counts)
    return {
        "checks.csv": (CHECK_COLUMNS, [_check_row(each) for each in lines]),
        "distribution.csv": (
            ("from", "to", "submissions"),
            [(f"{n * step:g}", f"{(n + 1) * step:g}", count) for n, count in enumerate(counts)],
        ),
        "submissions.csv": (SUBMISSION_COLUMNS, [_submission_row(each, facts) for each in records]),
        "flakes.csv": (
            ("learner", "exercise", "what"),
            [tuple(vars(each).values()) for each in figures.flakes(records)],
        ),
        "suspicions.csv": (("learner", "exercise", "sign"), [tuple(vars(each).values()) for each in found]),
    }


def _scores(records: Sequence[Record]) -> tuple[list[float], int]:
    """All scores that there are, and the points that could be earned."""
    scores = [record.score for record in records if record.score is not None]
    return scores, max((record.maximum for record in records), default=0)


def _submission_row(record: Record, facts: Facts) -> tuple[Any, ...]:
    booked, final = facts.booked.get(record.learner), facts.final(record.learner)
    score = "" if record.score is None else f"{record.score:g}"
    penalty = f"{booked.penalty:g}" if booked else ""
    return record.learner, record.outcome.value, score, penalty, final, record.maximum, record.seconds, record.attempts


def _notebooks(books: Books, records: Sequence[Record]) -> dict[str, Mapping[str, Any]]:
    """The graded notebooks by learner."""
    name = f"{books.assignment}.ipynb"
    files = {each.learner: books.folder / "submitted" / each.learner / books.assignment / name for each in records}
    return {learner: json.loads(file.read_text()) for learner, file in files.items() if file.is_file()}


def page(
    assignment: str,
    records: Sequence[Record],
    facts: Facts,
    lines: Sequence[CheckFigures],
    found: Sequence[Suspicion],
) -> str:
    """The report as one HTML page that needs nothing else; everything that came from outside is escaped."""
    scores, maximum = _scores(records)
    seconds = sorted((record.seconds, record.learner) for record in records)
    parts = [
        f"<h1>{escape(assignment)}</h1>",
        f"<p>{len(records)} submissions: {escape(_counted(records))}.</p>",
        "<h2>Distribution</h2>",
        _scores_in_words(scores, maximum),
        histogram(figures.distribution(scores, maximum), maximum),
        "<h2>Checks</h2>",
        html_table(
            ("exercise", "check", "failed", "of", "rate", "not gradable", "not measured", "median time"),
            [_check_cells(each) for each in sorted(lines, key=lambda one: -(one.failure_rate or 0))],
            "The hardest first",
        ),
        "<h2>Time</h2>",
        _times(seconds),
        "<h2>Flakes</h2>",
        _table(("learner", "exercise", "what"), [tuple(vars(each).values()) for each in figures.flakes(records)]),
        "<h2>To look at</h2>",
        "<p>Signs, not verdicts: none of them has changed a score.</p>",
        _table(("learner", "exercise", "sign"), [tuple(vars(each).values()) for each in found]),
        "<h2>Submissions</h2>",
        html_table(
            ("learner", "outcome", "score", "late penalty", "final", "of", "time"),
            [_learner_cells(record, facts) for record in records],
        ),
    ]
    head = f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(assignment)}: report</title>'
    policy = "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">"
    return f"{head}{policy}<style>{STYLE}</style></head><body>{''.join(parts)}</body></html>\n"


def _counted(records: Sequence[Record]) -> str:
    counted = Counter(record.outcome.value for record in records)
    return ", ".join(f"{number} {outcome}" for outcome, number in counted.most_common()) or "none"


def _scores_in_words(scores: Sequence[float], maximum: float) -> str:
    if not scores:
        return "<p>Nothing has a score.</p>"
    return (
        f"<p>Of {maximum:g} points: mean {statistics.fmean(scores):.1f}, median {statistics.median(scores):.1f}, "
        f"lowest {min(scores):g}, highest {max(scores):g}.</p>"
    )


def histogram(counts: Sequence[int], maximum: float) -> str:
    """A histogram as SVG, and as a table for those who cannot see it."""
    most, width, height = max([*counts, 1]), 54, 140
    step = maximum / len(counts)
    names = [f"{number * step:g}–{(number + 1) * step:g}" for number in range(len(counts))]
    bars = []
    for number, (count, name) in enumerate(zip(counts, names, strict=True)):
        tall = round(count / most * (height - 20))
        left = number * width
        bars.append(f'<rect x="{left + 4}" y="{height - tall}" width="{width - 8}" height="{tall}" fill="#0072b2"/>')
        bars.append(f'<text x="{left + width / 2}" y="{height - tall - 4}" text-anchor="middle">{count}</text>')
        bars.append(f'<text x="{left + width / 2}" y="{height + 16}" text-anchor="middle">{name}</text>')
    said = "; ".join(f"{name} points: {count}" for name, count in zip(names, counts, strict=True))
    size = f'width="{width * len(counts)}" height="{height + 24}"'
    return f'<svg role="img" {size} aria-label="Scores. {escape(said)}">{"".join(bars)}</svg>'


def _check_row(each: CheckFigures) -> tuple[Any, ...]:
    rate = "" if each.failure_rate is None else f"{each.failure_rate:.3f}"
    return (
        each.exercise, each.check, each.title, "yes" if each.hidden else "no", each.weight, each.tried, each.failed,
        rate, each.not_gradable, each.infrastructure, f"{each.seconds:g}",
    )  # fmt: skip


def _check_cells(each: CheckFigures) -> list[str]:
    rate = "" if each.failure_rate is None else f"{each.failure_rate:.0%}"
    title = f"{each.title} (hidden)" if each.hidden else each.title
    counts = (each.failed, each.tried, rate, each.not_gradable, each.infrastructure)
    return [each.exercise, title, *map(str, counts), f"{each.seconds:g} s"]


def _times(seconds: Sequence[tuple[float, str]]) -> str:
    if not seconds:
        return "<p>Nothing was graded.</p>"
    middle = statistics.median(each for each, _ in seconds)
    slowest = ", ".join(f"{escape(who)} {each:.0f} s" for each, who in list(reversed(seconds))[:5])
    return (
        f"<p>{sum(each for each, _ in seconds):.0f} s of grading in all; the middle submission took {middle:.1f} s. "
        f"Slowest: {slowest}.</p>"
    )


def _learner_cells(record: Record, facts: Facts) -> list[str]:
    booked = facts.booked.get(record.learner)
    score = "not judged" if record.score is None else f"{record.score:g}"
    penalty = f"{booked.penalty:g}" if booked and booked.penalty else ""
    waits = "to be graded" if facts.is_ungraded(record.learner) else "waits for a person"
    final = facts.final(record.learner) or waits
    return [record.learner, record.outcome.value, score, penalty, final, str(record.maximum), f"{record.seconds:.1f} s"]


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return html_table(head, rows) if rows else "<p>None.</p>"
