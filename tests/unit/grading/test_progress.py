"""What `podlab grade` shows while it runs: the time that is left, plain lines, and a board in a terminal."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest

from podlab.commands import grade_progress
from podlab.commands.grade_progress import Board, Lines, left
from podlab.grading.queue import Progress
from podlab.grading.records import Outcome, Record, Unanswered

ADA = Record("ada", "15-x", Outcome.GRADED, unanswered=[Unanswered("15.1", "T", 10, "nothing")])
BOB = Record("bob", "15-x", Outcome.INFRASTRUCTURE, "slow", unanswered=[Unanswered("15.1", "T", 10, "slow")])


@pytest.mark.parametrize(
    ("done", "elapsed", "words"),
    [
        (0, 50, ""),
        (4, 50, ""),
        (1, 10, "about 30 s left"),
        (3, 90, "about 30 s left"),
        (1, 40, "about 2 min left"),
        (2, 3_600, "about 60 min left"),
    ],
)
def test_the_time_that_is_left_follows_from_what_is_done(done: int, elapsed: float, words: str) -> None:
    assert left(Progress("ada", "", done=done, total=4), elapsed) == words


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time of a clock that a test sets."""
    now = [100.0]
    monkeypatch.setattr(grade_progress, "time", SimpleNamespace(monotonic=lambda: now[0]))
    return now


def test_plain_lines_say_who_is_at_what_and_what_came_of_it(
    capsys: pytest.CaptureFixture[str], clock: list[float]
) -> None:
    with Lines() as shown:
        shown.say("Opening the gradebook.")
        shown(Progress("ada", "Running the notebook.", total=3))
        shown(Progress("ada", "Check 1 of 5: It answers.", total=3))
        clock[0] += 20
        shown(Progress("ada", "graded", ADA, 1, 3))
        shown(Progress("bob", "infrastructure error", BOB, 2, 3))
        shown(Progress("cyd", "graded", ADA, 3, 3))
    assert capsys.readouterr().out.splitlines() == [
        "Opening the gradebook.",
        "     0 s  ada                  Running the notebook.",
        "    20 s  ada                  graded: 0 of 10 (1 of 3, about 40 s left)",
        "    20 s  bob                  infrastructure error: not judged (2 of 3, about 10 s left)",
        "    20 s  ada                  graded: 0 of 10 (3 of 3)",
    ]


def test_the_board_has_a_line_for_each_who_is_being_graded_and_takes_no_text_for_markup(
    capsys: pytest.CaptureFixture[str], clock: list[float]
) -> None:
    with Board() as board:
        board.say("[red]Opening[/red]")
        assert board._shown.tasks[0].description == r"\[red]Opening\[/red]"
        board(Progress("ada", "Running [1/2]", total=2))
        board(Progress("bob", "Running", total=2))
        assert len(board._shown.tasks) == 3
        clock[0] += 30
        board(Progress("ada", "graded", ADA, 1, 2))
        whole, bob = board._shown.tasks
        assert (whole.description, whole.completed, whole.total) == ("Grading, about 30 s left", 1, 2)
        assert bob.description.strip() == "bob: Running"
        board(Progress("cyd", "graded", ADA, 2, 2))  # one of which nothing was said before
        assert board._shown.tasks[0].description == "Grading"
    assert "ada                  graded: 0 of 10" in capsys.readouterr().out


@pytest.mark.parametrize(("terminal", "kind"), [(True, Board), (False, Lines)])
def test_a_terminal_gets_the_board_and_everything_else_lines(
    monkeypatch: pytest.MonkeyPatch, terminal: bool, kind: type
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: terminal, raising=False)
    assert isinstance(grade_progress.shown(), kind)
