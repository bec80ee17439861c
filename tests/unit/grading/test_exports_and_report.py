"""What others read: grades in the forms of LMSs, and the report of the class. Nothing that learners wrote is markup."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from xml.etree import ElementTree

import pytest

from podlab.checks.contract import Exercise, HandIn, Line, Report, Result, Verdict, failed, passed
from podlab.grading import exports, figures, report, suspicion
from podlab.grading.bookkeeping import Booked
from podlab.grading.exports import Facts
from podlab.grading.receipts import Receipt
from podlab.grading.records import Outcome, Record, Unanswered
from podlab.grading.term import Member

NAME = "01-split-and-conquer"
HOSTILE = "<script>alert(1)</script>"
WHEN = datetime(2026, 10, 2, tzinfo=UTC)


def ran(exercise: str, *verdicts: Verdict, attempts: int = 1) -> Report:
    made = {
        Verdict.PASS: passed("a sum", "a sum"),
        Verdict.FAIL: failed("a sum", f"{HOSTILE}\x00\ud800", cause="=1+1", next_step="look"),
        Verdict.NOT_GRADABLE: Result(Verdict.NOT_GRADABLE, "a node", "none"),
        Verdict.INFRASTRUCTURE: Result(Verdict.INFRASTRUCTURE, "a node", "slow"),
    }
    lines = [Line(f"c{n}", f"check {n}", 1, n == 1, made[each], n + 1.0) for n, each in enumerate(verdicts)]
    return Report(exercise, "Split", 10, tuple(lines), 7, "abc", attempts)


P, F, N, I = Verdict.PASS, Verdict.FAIL, Verdict.NOT_GRADABLE, Verdict.INFRASTRUCTURE  # noqa: E741
NOTHING = (Unanswered("01.1", "Split", 10, f"nothing {HOSTILE}"),)
RECORDS = {
    "ada": Record("ada", NAME, Outcome.GRADED, reports={"01.1": ran("01.1", P, P)}, seconds=3),
    "bob": Record(
        "bob", NAME, Outcome.GRADED, reports={"01.1": ran("01.1", P, F, N, attempts=2)}, digest="0", seconds=9
    ),
    "cyd": Record("cyd", NAME, Outcome.NOT_GRADABLE, f"no notebook {HOSTILE}", unanswered=NOTHING),
    "dan": Record("dan", NAME, Outcome.INFRASTRUCTURE, "slow", reports={"01.1": ran("01.1", I)}, attempts=3),
}
BOOKED = {
    "ada": Booked(10, 10, 0, False, WHEN, None),
    "bob": Booked(5, 10, 1.5, False, WHEN, None),
    "cyd": Booked(0, 10, 0, False, None, None),
    "dan": Booked(0, 10, 0, True, None, None),
}
MEMBERS = {
    "ada": Member("ada", "Ada", "Lovelace, Countess", "ada@example.org", "al", "77"),
    **{who: Member(who) for who in ("bob", "cyd", "dan", "eve", "fay", "gus")},
}
RECEIPTS = {
    "bob": Receipt("bob", WHEN, "0", "m.zip:Bob_12_assignsubmission_file_/x.ipynb", "x.ipynb", number="12"),
    "gus": Receipt("gus", WHEN, "1", "gus.ipynb", "gus.ipynb"),
}
FACTS = Facts(NAME, BOOKED, RECORDS, MEMBERS, RECEIPTS, closed=("fay", "gus"))


def table(form: str, tmp_path: Path) -> list[dict[str, str]]:
    name, write = exports.FORMS[form]
    write(FACTS, tmp_path / name)
    with (tmp_path / name).open(newline="") as file:
        return list(csv.DictReader(file))


def test_canvas_gets_points_possible_and_empty_grades_where_there_are_none(tmp_path: Path) -> None:
    rows = table("canvas", tmp_path)
    assert list(rows[0]) == ["Student", "ID", "SIS User ID", "SIS Login ID", "Section", NAME]
    assert (rows[0]["Student"].strip(), rows[0][NAME]) == ("Points Possible", "10")
    assert {row["SIS Login ID"]: row[NAME] for row in rows[1:]} == {
        "al": "10", "bob": "3.5", "cyd": "0", "dan": "", "eve": "", "fay": "0", "gus": ""
    }  # fmt: skip
    assert (rows[1]["Student"], rows[1]["ID"]) == ("Lovelace, Countess, Ada", "77")


def test_moodle_gets_participants_by_its_own_numbers(tmp_path: Path) -> None:
    rows = {row["Full name"]: row for row in table("moodle", tmp_path)}
    assert (rows["bob"]["Identifier"], rows["bob"]["Grade"]) == ("Participant 12", "3.5")
    assert "late: -1.5" in rows["bob"]["Feedback comments"]
    assert (rows["Ada Lovelace, Countess"]["Identifier"], rows["dan"]["Grade"]) == ("", "")
    notes = {who: rows[who]["Feedback comments"] for who in ("fay", "gus")}
    assert notes == {"fay": "Nothing was handed in.", "gus": "Not graded yet."}


def test_nbgraders_columns_are_all_there(tmp_path: Path) -> None:
    rows = {row["student_id"]: row for row in table("nbgrader", tmp_path)}
    bob = rows["bob"]
    assert (bob["raw_score"], bob["late_submission_penalty"], bob["score"], bob["max_score"]) == (
        "5", "1.5", "3.5", "10"
    ) or (float(bob["raw_score"]), float(bob["score"])) == (5.0, 3.5)  # fmt: skip
    assert rows["ada"]["last_name"] == "Lovelace, Countess"
    assert {who: row["score"] for who, row in rows.items() if who not in ("ada", "bob", "cyd")} == {
        "dan": "", "eve": "", "fay": "0", "gus": ""
    }  # fmt: skip


def test_junit_counts_what_it_holds_and_survives_odd_characters(tmp_path: Path) -> None:
    exports.junit_xml(FACTS, tmp_path / "junit.xml")
    suites = {suite.get("name"): suite for suite in ElementTree.parse(tmp_path / "junit.xml").getroot()}
    counts = {
        name: tuple(suite.get(key) for key in ("tests", "failures", "errors", "skipped"))
        for name, suite in suites.items()
    }
    assert counts == {
        "ada": ("2", "0", "0", "0"),
        "bob": ("3", "1", "0", "1"),
        "cyd": ("1", "1", "0", "0"),
        "dan": ("1", "0", "1", "0"),
    }
    assert HOSTILE in (suites["bob"].findtext(".//failure") or "")


def test_json_has_everybody_and_no_grade_for_what_waits(tmp_path: Path) -> None:
    exports.as_json(FACTS, tmp_path / "grades.json")
    learners = json.loads((tmp_path / "grades.json").read_text())["learners"]
    assert {who: each["final"] for who, each in learners.items()} == {
        "ada": 10, "bob": 3.5, "cyd": 0, "dan": None, "eve": None, "fay": 0, "gus": None
    }  # fmt: skip


def test_failure_rates_count_only_what_came_to_a_verdict() -> None:
    found = {each.check: each for each in figures.checks(list(RECORDS.values()))}
    assert (found["c0"].tried, found["c0"].failed, found["c0"].infrastructure) == (2, 0, 1)
    assert (found["c1"].failure_rate, found["c1"].hidden) == (0.5, True)
    assert (found["c2"].failure_rate, found["c2"].not_gradable) == (None, 1)


@pytest.mark.parametrize(
    ("scores", "expected"),
    [([], [0] * 10), ([0, 0.99, 1, 9.99, 10], [2, 1, 0, 0, 0, 0, 0, 0, 0, 2]), ([5], [0] * 5 + [1] + [0] * 4)],
)
def test_a_distribution_puts_every_score_into_one_part(scores: list[float], expected: list[int]) -> None:
    assert figures.distribution(scores, 10) == expected


def test_flakes_are_named() -> None:
    assert {(each.learner, each.exercise) for each in figures.flakes(list(RECORDS.values()))} == {
        ("bob", "01.1"),
        ("dan", ""),
    }


def solution(id: str, source: str) -> dict[str, object]:
    name = f"answer-{id.replace('.', '-')}"
    return {"cell_type": "code", "metadata": {"nbgrader": {"solution": True, "grade_id": name}}, "source": source}


LONG = "def split(items, parts):\n    size = len(items) // parts\n    " + "\n    ".join(
    f"x{n} = {n}" for n in range(30)
)
EXERCISES = {"01.1": Exercise("01.1", "Split", 10, (HandIn("split", "function"),), lambda _a, _w: None, cluster=False)}


def suspects(**sources: str) -> set[tuple[str, str]]:
    release = {"cells": [solution("01.1", "# YOUR CODE HERE")]}
    notebooks = {who: {"cells": [solution("01.1", source)]} for who, source in sources.items()}
    return {(each.learner, each.sign) for each in suspicion.suspicions([], notebooks, release, EXERCISES)}


def test_the_same_answer_in_other_clothes_is_found() -> None:
    dressed = "# all my own work\n" + LONG.replace(" = ", "=") + "   # really\n\n"
    assert suspects(ada=LONG, bob=dressed, cyd=LONG.replace("size", "piece")) == {
        ("ada", "same answer as bob"),
        ("bob", "same answer as ada"),
    }


def test_short_answers_and_the_start_state_are_nobodys_copies() -> None:
    assert suspects(ada="x = 1", bob="x = 1", cyd="# YOUR CODE HERE", dan="# YOUR CODE HERE ") == set()


@pytest.mark.parametrize(
    "code",
    [
        "get_ipython().ast_transformers.append(x)",
        "import builtins\nbuiltins.len = None",
        "class Y: __eq__ = lambda *_: True",
        "import os\nos._exit(0)",
        "open('/proc/1/mem')",
    ],
)
def test_signs_of_attacks_are_listed(code: str) -> None:
    assert len(suspects(eve=code)) >= 1


def test_ordinary_answers_bear_no_signs() -> None:
    assert suspects(ada=LONG, bob="import heapq\nfrom concurrent.futures import ProcessPoolExecutor") == set()


def test_the_tables_of_the_report_say_as_csv_what_the_page_says() -> None:
    everybody = list(RECORDS.values())
    found = report.tables(everybody, FACTS, figures.checks(everybody), [])
    assert found["distribution.csv"][1][5] == ("5", "6", 1) and sum(row[2] for row in found["distribution.csv"][1]) == 3
    head, rows = found["submissions.csv"]
    assert dict(zip(head, rows[1], strict=True)) == {
        "learner": "bob", "outcome": "graded", "score": "5", "late_penalty": "1.5", "final": "3.5", "max_score": 10,
        "seconds": 9, "attempts": 1,
    }  # fmt: skip
    assert rows[3][2] == rows[3][4] == ""
    assert [row[0] for row in found["flakes.csv"][1]] == ["bob", "dan"]
    assert report.tables([], Facts(NAME, {}, {}, {}, {}), [], [])["distribution.csv"][1][0] == ("0", "0", 0)


def test_a_later_version_that_nobody_has_graded_has_no_final_grade_in_the_report_either() -> None:
    receipts = {**RECEIPTS, "bob": replace(RECEIPTS["bob"], digest="newer")}
    facts, everybody = replace(FACTS, receipts=receipts), list(RECORDS.values())
    head, rows = report.tables(everybody, facts, [], [])["submissions.csv"]
    finals = {row[0]: row[head.index("final")] for row in rows}
    assert finals == {who: facts.final(who) for who in RECORDS} and finals["bob"] == ""
    assert "to be graded" in report.page(NAME, everybody, facts, [], [])


def test_the_page_shows_everybody_and_no_markup_of_theirs() -> None:
    found = [suspicion.Suspicion("cyd", "01.1", HOSTILE)]
    text = report.page(NAME, list(RECORDS.values()), FACTS, figures.checks(list(RECORDS.values())), found)
    assert HOSTILE not in text and "<script" not in text
    for word in ("ada", "bob", "cyd", "dan", "waits for a person", "check 1 (hidden)", "50%", "2 graded"):
        assert word in text
