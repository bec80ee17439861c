"""Reports as JSON, and back: checked against a schema, bounded in size, nothing but plain values."""

from __future__ import annotations

import json
from typing import Any

from podlab.checks import schemas
from podlab.checks.contract import Line, Report, Result, Verdict
from podlab.errors import GradingError

#: No text of a result is longer, and no report's JSON larger (characters).
LONGEST_TEXT = 2_000
LARGEST_EVIDENCE = 20_000
LARGEST_REPORT = 1_000_000


def to_json(report: Report) -> dict[str, Any]:
    """The report as plain values that fit the schema and LARGEST_REPORT.

    Long texts are cut, unfit evidence is dropped, and all of it where there is too much.
    """
    made = _to_json(report)
    if len(json.dumps(made, ensure_ascii=False)) > LARGEST_REPORT:
        for line in made["lines"]:
            line["evidence"] = {}
    return made


def _to_json(report: Report) -> dict[str, Any]:
    return {
        "schema": 1,
        "exercise": report.exercise,
        "title": report.title,
        "points": report.points,
        "score": report.score,
        "passed": report.passed,
        "seed": report.seed,
        "nonce": report.nonce,
        "attempts": report.attempts,
        "seconds": report.seconds,
        "notes": [_cut(note) for note in report.notes],
        "lines": [_line(line) for line in report.lines],
    }


def from_json(text: str | dict[str, Any]) -> Report:
    """The report in `text`; GradingError if it does not fit the schema. The score is computed again, not read."""
    size = len(text if isinstance(text, str) else json.dumps(text, ensure_ascii=False))
    if size > LARGEST_REPORT:
        raise GradingError(f"A report of checks has {size} characters; {LARGEST_REPORT} are the most.")
    try:
        data: Any = json.loads(text) if isinstance(text, str) else text
    except ValueError as error:
        raise GradingError(f"A report of checks is not JSON: {error}.") from error
    validate(data)
    lines = [
        Line(
            row["check"],
            row["title"],
            row["weight"],
            row["hidden"],
            Result(
                Verdict(row["verdict"]),
                row["expected"],
                row["observed"],
                row["cause"],
                row["next_step"],
                row["evidence"],
            ),
            row["seconds"],
        )
        for row in data["lines"]
    ]
    return Report(
        data["exercise"],
        data["title"],
        data["points"],
        tuple(lines),
        data["seed"],
        data["nonce"],
        data["attempts"],
        data["seconds"],
        tuple(data["notes"]),
    )


def validate(data: Any) -> None:
    """GradingError if `data` is not a report as to_json makes it."""
    if wrong := schemas.misfit("podlab.checks", "report.schema.json", data):
        raise GradingError(f"A report of checks is malformed {wrong}.")


def _line(line: Line) -> dict[str, Any]:
    result = line.result
    return {
        "check": line.check,
        "title": line.title,
        "weight": line.weight,
        "hidden": line.hidden,
        "verdict": result.verdict.value,
        "expected": _cut(result.expected),
        "observed": _cut(result.observed),
        "cause": _cut(result.cause),
        "next_step": _cut(result.next_step),
        "evidence": _evidence(result),
        "seconds": line.seconds,
    }


def _cut(text: str) -> str:
    # Half a character, which no file can hold, is longer written out: first that, then the cut.
    text = text.encode("utf-8", "backslashreplace").decode()
    return text if len(text) <= LONGEST_TEXT else f"{text[: LONGEST_TEXT - 20]} … (cut)"


def _evidence(result: Result) -> dict[str, Any]:
    try:
        text = json.dumps(dict(result.evidence), allow_nan=False)
    except (TypeError, ValueError):
        return {}
    return json.loads(text) if len(text) <= LARGEST_EVIDENCE else {}
