"""Submissions arrive from folders, LMS exports and an exchange; what is hostile is refused by name, nothing is lost."""

from __future__ import annotations

import json
import os
import stat
import zipfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from podlab.errors import GradingError
from podlab.grading import receipts
from podlab.grading.arrivals import label
from podlab.grading.bookkeeping import Books
from podlab.grading.collect import collect
from podlab.grading.handback import hand_back
from podlab.grading.term import Member, Term

NAME = "01-split-and-conquer"
NOW = datetime(2026, 11, 1, 12, 0, tzinfo=UTC)
NOTEBOOK = json.dumps({"cells": []})


@pytest.fixture
def term(tmp_path: Path) -> Term:
    folder = tmp_path / "term"
    folder.mkdir()
    roster = {
        "ada": Member("ada", "Ada", "Lovelace", "ada@example.org", "al", "77"),
        "bob": Member("bob", "Bob", "Müller"),
    }
    due = datetime(2026, 10, 20, 12, 0, tzinfo=UTC)
    return Term(folder, tmp_path, deadlines={NAME: due}, roster=roster)


def packed(path: Path, *entries: tuple[str, str | bytes], when: tuple[int, ...] = (2026, 10, 2, 10, 0, 0)) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in entries:
            archive.writestr(zipfile.ZipInfo(name, when), text, zipfile.ZIP_DEFLATED)
    return path


@pytest.mark.parametrize(
    ("path", "who", "way", "number"),
    [
        ("Ada Lovelace_12_assignsubmission_file_/x.ipynb", "Ada Lovelace", "moodle", "12"),
        ("Ada Lovelace_12_assignsubmission_file_x.ipynb", "Ada Lovelace", "moodle", "12"),
        ("lovelaceada_77_9911_x-1.ipynb", "lovelaceada", "canvas", "77"),
        ("lovelaceada_LATE_77_9911_x_y.ipynb", "lovelaceada", "canvas", "77"),
        (f"ada/{NAME}/{NAME}.ipynb", "ada", "folder", ""),
        (f"ada+{NAME}+2026-10-02 10:00:00 UTC+abc/{NAME}.ipynb", "ada", "exchange", ""),
        ("ada/mine.ipynb", "ada", "folder", ""),
        ("ada.ipynb", "ada", "file", ""),
    ],
)
def test_the_usual_names_are_understood(path: str, who: str, way: str, number: str) -> None:
    found = label(path, NAME)
    assert found is not None
    assert (found.who, found.way, found.number) == (who, way, number)


@pytest.mark.parametrize("path", ["notes.txt", "ada/x/y/z.ipynb", "grades.csv", f"ada/{NAME}/timestamp.txt"])
def test_what_is_no_submission_is_left_alone(path: str) -> None:
    assert label(path, NAME) is None


def test_a_zip_of_moodle_is_taken_in_with_the_times_that_moodle_wrote(term: Term, tmp_path: Path) -> None:
    source = packed(
        tmp_path / "m.zip",
        (f"Ada Lovelace_12_assignsubmission_file_/{NAME}.ipynb", NOTEBOOK),
        ("Bob Müller_13_assignsubmission_file_/x.ipynb", "no notebook"),
    )
    came = collect(term, NAME, source, now=NOW)
    assert (sorted(came.new), came.late, came.unknown) == (["ada", "bob"], [], [])
    found = {each.learner: each for each in receipts.submissions(term.folder, NAME)}
    assert found["ada"].path is not None and found["ada"].path.read_text() == NOTEBOOK
    assert found["ada"].received == datetime(2026, 10, 2, 10, 0).astimezone(UTC)
    assert {each.learner: each.number for each in receipts.read(term.folder, NAME)} == {"ada": "12", "bob": "13"}


def test_canvas_numbers_find_the_learner_and_a_common_folder_is_none(term: Term, tmp_path: Path) -> None:
    source = packed(tmp_path / "c.zip", ("all/x_77_1_a.ipynb", NOTEBOOK), ("all/mullerbob_78_2_b.ipynb", NOTEBOOK))
    assert sorted(collect(term, NAME, source, now=NOW).new) == ["ada", "bob"]


def test_the_later_of_two_counts_and_it_is_said(term: Term, tmp_path: Path) -> None:
    collect(term, NAME, packed(tmp_path / "1.zip", ("ada.ipynb", "late"), when=(2026, 10, 9, 0, 0, 0)), now=NOW)
    came = collect(term, NAME, packed(tmp_path / "2.zip", ("ada/first.ipynb", "early")), now=NOW)
    assert any("ada: 2 versions" in line and "1.zip" in line for line in came.said)
    (counts,) = receipts.submissions(term.folder, NAME)
    assert counts.path is not None and counts.path.read_text() == "late"
    assert len(list((term.folder / "received" / NAME / "versions").iterdir())) == 2


def test_a_later_one_that_is_refused_takes_nothing_away_and_it_is_said(term: Term, tmp_path: Path) -> None:
    collect(term, NAME, packed(tmp_path / "1.zip", ("ada.ipynb", NOTEBOOK)), now=NOW)
    bomb = packed(tmp_path / "2.zip", ("ada.ipynb", "0" * 20_000_000), when=(2026, 10, 9, 0, 0, 0))
    for _ in range(2):
        came = collect(term, NAME, bomb, now=NOW)
        (counts,) = receipts.submissions(term.folder, NAME)
        assert counts.path is not None and counts.path.read_text() == NOTEBOOK and not counts.refused
        assert any("1.zip" in line and "A later one was not taken: It has 20 MB" in line for line in came.said)


def test_collecting_again_changes_nothing_and_keeps_the_earlier_time(term: Term, tmp_path: Path) -> None:
    source = packed(tmp_path / "1.zip", ("ada.ipynb", NOTEBOOK))
    collect(term, NAME, source, now=NOW)
    before = receipts.read(term.folder, NAME)
    came = collect(term, NAME, source, received=NOW, now=NOW)
    assert (came.new, came.known) == ([], ["ada"])
    assert receipts.read(term.folder, NAME) == before


def test_who_is_late_is_said_and_a_time_in_the_future_is_none(term: Term, tmp_path: Path) -> None:
    source = packed(tmp_path / "1.zip", ("ada.ipynb", NOTEBOOK), when=(2099, 1, 1, 0, 0, 0))
    assert collect(term, NAME, source, now=NOW).late == ["ada"]
    assert receipts.read(term.folder, NAME)[0].received == NOW


def test_a_learner_whom_nobody_knows_is_said_and_not_taken(term: Term, tmp_path: Path) -> None:
    came = collect(term, NAME, packed(tmp_path / "1.zip", ("eve.ipynb", NOTEBOOK)), now=NOW)
    assert came.unknown == ["eve"] and "'eve' is not in" in came.said[0]
    assert receipts.read(term.folder, NAME) == []


def test_a_timestamp_that_a_learner_wrote_is_not_believed(term: Term, tmp_path: Path) -> None:
    inside = tmp_path / "in" / "ada" / NAME
    inside.mkdir(parents=True)
    (inside / f"{NAME}.ipynb").write_text(NOTEBOOK)
    (inside / "timestamp.txt").write_text("2020-01-01 00:00:00 UTC")
    os.utime(inside / f"{NAME}.ipynb", (0, 0))
    began = datetime.now(UTC) - timedelta(minutes=1)
    collect(term, NAME, tmp_path / "in")
    assert receipts.read(term.folder, NAME)[0].received > began


def test_an_exchange_is_read_and_a_folder_of_somebody_else_is_not(term: Term, tmp_path: Path) -> None:
    import pwd

    me = pwd.getpwuid(os.getuid()).pw_name
    for who in (me, "ada"):
        folder = tmp_path / "course" / "inbound" / f"{who}+{NAME}+2026-10-02 10:00:00 UTC+x"
        folder.mkdir(parents=True)
        (folder / f"{NAME}.ipynb").write_text(NOTEBOOK)
    term = Term(term.folder, term.course, roster={**term.roster, me: Member(me)})
    came = collect(term, NAME, tmp_path / "course")
    assert came.new == [me]
    assert any(f"belongs to the user {me}, not to ada" in line for line in came.said)


@pytest.mark.parametrize(
    "path",
    [
        "bob/x.ipynb",
        f"bob/{NAME}/{NAME}.ipynb",
        "bob.ipynb",
        "Bob Müller_12_assignsubmission_file_/x.ipynb",
        f"bob+{NAME}+2026-10-02 10:00:00 UTC/other.ipynb",
    ],
)
@pytest.mark.parametrize("inbound", ["", "inbound"])
def test_in_an_exchange_nobody_hands_in_as_somebody_else_by_another_form_of_name(
    term: Term, tmp_path: Path, path: str, inbound: str
) -> None:
    for each in (path, "bob+02-another+2026-10-02 10:00:00 UTC/02-another.ipynb"):
        file = tmp_path / "course" / "inbound" / each
        file.parent.mkdir(parents=True)
        file.write_text(NOTEBOOK)
    came = collect(term, NAME, tmp_path / "course" / inbound)
    assert (came.new, receipts.read(term.folder, NAME)) == ([], [])
    (said,) = came.said
    assert path in said and "not taken" in said and "may be anybody's" in said


def test_a_file_that_several_fit_is_named_and_left_where_it_is(term: Term, tmp_path: Path) -> None:
    annas = {name: Member(name, "Anna", "Smith") for name in ("anna1", "anna2")}
    term = Term(term.folder, term.course, roster={**term.roster, **annas})
    source = packed(
        tmp_path / "m.zip",
        ("Anna Smith_12_assignsubmission_file_/x.ipynb", NOTEBOOK),
        ("Anna Smith_13_assignsubmission_file_/x.ipynb", "another"),
        ("anna2.ipynb", NOTEBOOK),
    )
    came = collect(term, NAME, source, now=NOW)
    assert came.new == ["anna2"]
    assert sum("'Anna Smith' may be anna1 or anna2" in line for line in came.said) == 2


@pytest.mark.parametrize("rostered", [True, False])
def test_two_of_one_name_whom_only_the_lms_can_tell_apart_do_not_become_one(
    term: Term, tmp_path: Path, rostered: bool
) -> None:
    term = term if rostered else Term(term.folder, term.course)
    entries = [(f"Bob Müller_{number}_assignsubmission_file_/x.ipynb", number) for number in ("12", "13")]
    for _ in range(2):
        came = collect(term, NAME, packed(tmp_path / "m.zip", *entries), now=NOW)
        assert len(came.said) == 1 and "has the number 13 here, and had 12 before" in came.said[0]
        assert [each.number for each in receipts.read(term.folder, NAME)] == ["12"]


def test_a_number_that_the_roster_has_counts_whoever_came_before_under_the_name(term: Term, tmp_path: Path) -> None:
    name = "lovelaceada"
    unnumbered = Term(term.folder, term.course, roster={"ada": Member("ada", "Ada", "Lovelace")})
    collect(unnumbered, NAME, packed(tmp_path / "1.zip", (f"{name}_78_1_x.ipynb", "another's")), now=NOW)
    came = collect(term, NAME, packed(tmp_path / "2.zip", (f"{name}_77_2_x.ipynb", NOTEBOOK)), now=NOW)
    assert came.new == ["ada"]


def test_feedback_goes_to_the_learners_own_folder_of_moodle_whatever_the_file_is_called(
    term: Term, tmp_path: Path
) -> None:
    mark = "assignsubmission_file_"
    source = packed(
        tmp_path / "m.zip",
        (f"Ada Lovelace_123_{mark}/Bob Müller_124_{mark}.ipynb", NOTEBOOK),
        (f"Bob Müller_124_{mark}/x.ipynb", "another"),
    )
    assert sorted(collect(term, NAME, source, now=NOW).new) == ["ada", "bob"]
    for learner in ("ada", "bob"):
        page = term.folder / "feedback" / learner / NAME / f"{NAME}.html"
        page.parent.mkdir(parents=True)
        page.write_text(learner)
    done = hand_back(Books(term.folder, NAME, tmp_path / "source.ipynb", term), tmp_path / "back")
    with zipfile.ZipFile(done.archive) as archive:
        pages = {name: archive.read(name).decode() for name in archive.namelist()}
    assert pages == {
        f"Ada Lovelace_123_{mark}/{NAME}.html": "ada",
        f"Bob Müller_124_{mark}/{NAME}.html": "bob",
    }


def link(name: str) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name)
    entry.external_attr = (stat.S_IFLNK | 0o777) << 16
    return entry


def test_what_is_hostile_in_a_zip_is_refused_by_name_and_the_rest_is_taken(term: Term, tmp_path: Path) -> None:
    path = tmp_path / "h.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("ada/mine.ipynb", NOTEBOOK)
        archive.writestr("../../../outside.ipynb", NOTEBOOK)
        archive.writestr("/absolute.ipynb", NOTEBOOK)
        archive.writestr(link("bob/link.ipynb"), "/etc/passwd")
        archive.writestr(link("readme"), "/etc/passwd")
    before = {each for each in tmp_path.rglob("*") if "term" not in each.parts}
    came = collect(term, NAME, path, now=NOW)
    said = "\n".join(came.said)
    assert "h.zip:../../../outside.ipynb: not taken. Its path leads out of the archive." in said
    assert "h.zip:/absolute.ipynb: not taken" in said
    assert "h.zip:bob/link.ipynb: not taken. It is a link" in said
    assert "h.zip:readme: not taken" in said
    assert {each for each in tmp_path.rglob("*") if "term" not in each.parts} == before
    found = {each.learner: each for each in receipts.submissions(term.folder, NAME)}
    assert found["ada"].path is not None
    assert found["bob"].path is None and "link" in found["bob"].refused


@pytest.mark.parametrize(
    ("text", "words"), [("0" * 5_000_000, "zip bomb"), ("0" * 20_000_000, "20 MB; at most 8 MB are accepted")]
)
def test_a_bomb_is_not_unpacked(term: Term, tmp_path: Path, text: str, words: str) -> None:
    came = collect(term, NAME, packed(tmp_path / "b.zip", ("ada.ipynb", text)), now=NOW)
    assert words in came.said[0]
    (found,) = receipts.submissions(term.folder, NAME)
    assert found.path is None and words in found.refused


def test_an_entry_that_lies_about_its_size_is_refused(term: Term, tmp_path: Path) -> None:
    path = packed(tmp_path / "l.zip", ("ada.ipynb", "0" * 50_000), ("bob.ipynb", NOTEBOOK))
    data = path.read_bytes()
    size = (50_000).to_bytes(4, "little")
    path.write_bytes(data.replace(size, (10).to_bytes(4, "little")))
    came = collect(term, NAME, path, now=NOW)
    assert "ada" in {each.learner for each in receipts.submissions(term.folder, NAME) if each.refused}, came.said
    assert "bob" in came.new


@pytest.mark.parametrize("data", [b"", b"PK\x03\x04 and no more", b"no archive"])
def test_what_is_no_zip_is_said(term: Term, tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "x.zip"
    path.write_bytes(data)
    with pytest.raises(GradingError, match=r"x\.zip"):
        collect(term, NAME, path, now=NOW)


def test_an_empty_source_names_what_is_understood(term: Term, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(GradingError, match="nothing that can be a submission"):
        collect(term, NAME, tmp_path / "empty", now=NOW)


def test_a_link_and_a_pipe_in_a_folder_are_recorded_as_refused(term: Term, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "ada.ipynb").symlink_to("/etc/passwd")
    os.mkfifo(folder / "bob.ipynb")
    collect(term, NAME, folder)
    found = {each.learner: each for each in receipts.submissions(term.folder, NAME)}
    assert set(found) == {"ada", "bob"}
    assert all(each.path is None and each.refused for each in found.values())


def test_damaged_receipts_are_refused(term: Term) -> None:
    file = term.folder / "received" / NAME / "receipts.json"
    file.parent.mkdir(parents=True)
    file.write_text('{"schema": 1}')
    with pytest.raises(GradingError, match="damaged"):
        receipts.read(term.folder, NAME)
