"""A term's folder: who is in the class, when work is due, and what being late costs."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from podlab.errors import PodlabError
from podlab.grading import term
from podlab.grading.submissions import usable
from podlab.grading.term import Late, Member, Term

DAY = 86_400
NAME = "01-split-and-conquer"


@pytest.mark.parametrize(
    ("seconds", "penalty"),
    [(0, 0), (300, 0), (301, 2), (DAY, 2), (DAY + 1, 4), (4 * DAY, 8), (40 * DAY, 10)],
)
def test_each_day_begun_costs_its_part_up_to_the_most(seconds: float, penalty: float) -> None:
    assert Late(percent_per_day=10, at_most=50, grace_minutes=5).penalty(20, seconds) == penalty


def test_a_penalty_is_never_more_than_the_score() -> None:
    assert Late(percent_per_day=500, at_most=900).penalty(7.3, 1) == 7.3


def made(tmp_path: Path, roster: str = "", toml: str = "") -> Path:
    folder = tmp_path / "term"
    term.make(folder, tmp_path / "course")
    with (folder / term.ROSTER).open("a") as file:
        file.write(roster)
    if toml:
        (folder / term.FILE).write_text(f'course = "{tmp_path}"\n{toml}')
    return folder


def test_a_new_term_can_be_read_and_making_it_again_changes_nothing(tmp_path: Path) -> None:
    folder = made(tmp_path, "ada,Ada,Lovelace,,,\n")
    assert term.make(folder, tmp_path / "another") == []
    found = term.load(folder / "inbox")
    assert (found.folder, found.course) == (folder, tmp_path / "course")
    assert found.late == Late(10, 50, 5)
    assert list(found.roster) == ["ada"]


def test_an_extension_counts_for_one_learner(tmp_path: Path) -> None:
    text = (
        f'[deadlines]\n"{NAME}" = 2026-10-20T23:59:00+02:00\n[extensions."{NAME}"]\nada = 2026-10-22T23:59:00+02:00\n'
    )
    found = term.load(made(tmp_path, toml=text))
    when = datetime(2026, 10, 21, 21, 59, tzinfo=UTC)
    assert found.seconds_late(NAME, "bob", when) == DAY
    assert found.seconds_late(NAME, "ada", when) == 0
    assert found.seconds_late("15-self-healing", "bob", when) == 0


@pytest.mark.parametrize(
    "toml",
    ["[late", "[late]\nper_century = 3", '[deadlines]\nx = "tomorrow"', "late = 3", '[late]\nat_most = "much"'],
)
def test_a_file_that_makes_no_sense_is_refused_by_name(tmp_path: Path, toml: str) -> None:
    with pytest.raises(PodlabError, match=r"term\.toml"):
        term.load(made(tmp_path, toml=toml))


@pytest.mark.parametrize("roster", ["../evil,,,,,\n", "ada,,,,,\nada,,,,,\n", "a/b,,,,,\n", ",Ada,,,,\n"])
def test_a_roster_with_a_name_that_no_file_can_have_is_refused(tmp_path: Path, roster: str) -> None:
    with pytest.raises(PodlabError, match=r"roster\.csv, line"):
        term.load(made(tmp_path, roster))


ROSTER = {
    "ada": Member("ada", "Ada", "Lovelace", "al@example.org", "al1", "4711"),
    "bob": Member("bob", "Bob", "Müller"),
}


@pytest.mark.parametrize(
    ("who", "number", "learner"),
    [
        ("ada", "", "ada"),
        ("al1", "", "ada"),
        ("AL@example.org", "", "ada"),
        ("Ada Lovelace", "", "ada"),
        ("lovelaceada", "", "ada"),
        ("whoever", "4711", "ada"),
        ("Bob Muller", "", "bob"),
        ("mullerbob", "", "bob"),
        ("eve", "", None),
        ("", "", None),
    ],
)
def test_a_learner_is_known_by_every_name_of_his(who: str, number: str, learner: str | None) -> None:
    assert Term(Path("/t"), Path("/c"), roster=ROSTER).members(who, number) == ([learner] if learner else [])


def test_without_a_roster_everybody_is_taken_in() -> None:
    assert Term(Path("/t"), Path("/c")).members("Ada Lovelace") == ["ada-lovelace"]


ANNAS = {
    "anna": Member("anna", "Anna", "Smith", canvas_id="1"),
    "anna2": Member("anna2", "Anna", "Smith", canvas_id="2"),
}


@pytest.mark.parametrize(
    ("who", "number", "fitting"),
    [
        ("smithanna", "2", ["anna2"]),
        ("smithanna", "1", ["anna"]),
        ("anna", "2", ["anna2"]),
        ("Anna Smith", "", ["anna", "anna2"]),
        ("anna", "", ["anna"]),
        ("smithanna", "3", []),
    ],
)
def test_of_namesakes_the_number_decides_and_without_it_nobody_guesses(
    who: str, number: str, fitting: list[str]
) -> None:
    assert Term(Path("/t"), Path("/c"), roster=ANNAS).members(who, number) == fitting


@pytest.mark.parametrize("who", ["../../etc/passwd", "..", ".", "/", "a\0b", "Ünï cödé", "-x", "x" * 300, "a\nb"])
def test_a_usable_name_is_one_file_name(who: str) -> None:
    name = usable(who)
    assert "/" not in name and "\0" not in name and name not in (".", "..") and len(name) <= 64
    assert not name.startswith(("-", "."))
