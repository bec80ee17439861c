"""A term from its first day to its last, by the commands of docs/instructors.md, with boxes and no cluster."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from nbgrader.api import Gradebook

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from autograder.corpus import notebooks  # noqa: E402 - the corpus is no part of the package

pytestmark = [pytest.mark.sandbox, pytest.mark.slow]

NAME = notebooks.NAME
TERM = f"""
lessons = "https://example.org/course"
[late]
percent_per_day = 10
[deadlines]
"{NAME}" = 2026-10-02T12:00:00
"""


def podlab(*words: str, at: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "podlab", *words], cwd=at, capture_output=True, text=True, timeout=900, check=False
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert "Traceback" not in done.stderr
    return done.stdout


def moodle(path: Path, who: str, number: int, text: str, day: int) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        entry = zipfile.ZipInfo(f"{who}_{number}_assignsubmission_file_/{NAME}.ipynb", (2026, 10, day, 10, 0, 0))
        archive.writestr(entry, text)
    return path


def grades(folder: Path, form: str) -> dict[str, dict[str, str]]:
    with (folder / "exports" / NAME / f"{form}.csv").open(newline="") as file:
        return {row.get("student_id") or row.get("Full name", ""): row for row in csv.DictReader(file)}


def test_a_term_from_the_first_day_to_the_last(tmp_path: Path) -> None:
    course, folder = notebooks.write_course(tmp_path / "course"), tmp_path / "autumn"
    right = json.dumps(notebooks.answered(notebooks.RIGHT))
    podlab("course", "init", str(folder), "--course", str(course), at=tmp_path)
    assert {"term.toml", "roster.csv", "inbox", "nbgrader_config.py", "gradebook.db"} <= {
        each.name for each in folder.iterdir()
    }
    assert "already" in podlab("course", "init", str(folder), "--course", str(course), at=tmp_path)
    (folder / "term.toml").write_text(f'course = "{course}"\n{TERM}')
    with (folder / "roster.csv").open("a") as roster:
        roster.write("ada,Ada,Lovelace,,,\nbob,Bob,Brown,,,\ncyd,Cyd,Charisse,,,\ndan,Dan,Dare,,,\n")

    assert str(folder / "release" / NAME / f"{NAME}.ipynb") in podlab("release", NAME[:2], at=folder)
    (folder / "inbox" / "eve.ipynb").write_text(right)
    assert "1 of nobody in the roster" in podlab("collect", at=folder)
    assert "1 new, 0 known already, 0 late" in podlab(
        "collect", str(moodle(tmp_path / "1.zip", "Ada Lovelace", 7, right, day=1)), at=folder
    )
    assert "1 new, 0 known already, 1 late" in podlab(
        "collect", str(moodle(tmp_path / "2.zip", "Bob Brown", 8, right, day=4)), at=folder
    )
    said = podlab("grade", at=folder)
    assert "2 of 2" in said and "Report:" in said
    podlab("collect", str(moodle(tmp_path / "3.zip", "Dan Dare", 9, right, day=5)), at=folder)

    assert "2 pages" in podlab("feedback", at=folder)
    with zipfile.ZipFile(folder / "handed-back" / f"{NAME}.zip") as archive:
        assert "Ada Lovelace_7_assignsubmission_file_/90-corpus.html" in archive.namelist()
    assert "has not graded their work: dan" in podlab("export", at=folder)
    assert {who: row["score"] for who, row in grades(folder, "nbgrader").items()} == {
        "ada": "40", "bob": "32", "cyd": "0", "dan": ""
    }  # fmt: skip
    assert grades(folder, "moodle")["Bob Brown"]["Identifier"] == "Participant 8"

    assert "(1 of 1)" in podlab("grade", at=folder), "what has a record is not graded again"
    podlab("export", "--form", "nbgrader", at=folder)
    assert grades(folder, "nbgrader")["dan"]["score"] == "28"
    with Gradebook(f"sqlite:///{folder / 'gradebook.db'}") as book:
        notebook = book.find_submission(NAME, "bob").notebooks[0]
        next(each for each in notebook.grades if each.name == "checks-90-1").manual_score = 5
        next(each for each in notebook.comments if each.name == "answer-90-1").manual_comment = "Well put."
        book.db.commit()
    podlab("feedback", at=folder)
    podlab("export", "--form", "nbgrader", at=folder)
    assert "Well put." in (folder / "handed-back" / NAME / "bob" / f"{NAME}.html").read_text()
    assert grades(folder, "nbgrader")["bob"]["score"] == "28", "being late costs a fifth of what a person has given"
    reports = {each.name for each in (folder / "reports" / NAME).iterdir()}
    assert {"report.html", "checks.csv", "distribution.csv", "submissions.csv", "flakes.csv"} <= reports


def test_a_disk_that_is_full_while_work_is_collected_loses_none_of_it(tmp_path: Path) -> None:
    course = notebooks.write_course(tmp_path / "course")
    source = moodle(tmp_path / "1.zip", "Ada Lovelace", 7, json.dumps(notebooks.answered(notebooks.RIGHT)), day=1)
    script = f"""
    podlab() {{ "{sys.executable}" -m podlab "$@"; }}
    mount -t tmpfs -o size=8m none "$0" && podlab course init "$0/autumn" --course "{course}" || exit 8
    cd "$0/autumn" && podlab release {NAME[:2]} || exit 8
    dd if=/dev/zero of="$0/fill" bs=4k 2>/dev/null
    podlab collect "{source}" && exit 9
    rm "$0/fill"
    podlab collect "{source}"
    """
    (tmp_path / "small").mkdir()
    done = subprocess.run(
        ["unshare", "-Urm", "sh", "-c", script, str(tmp_path / "small")],
        cwd=ROOT, capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert "Traceback" not in done.stderr and "room" in done.stderr
    assert "1 new, 0 known already" in done.stdout
