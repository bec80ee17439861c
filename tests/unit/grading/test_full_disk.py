"""A disk that gets full while the books are written is recognised as that, wherever the error comes up."""

from __future__ import annotations

import errno
import sqlite3
from pathlib import Path

import pytest
import sqlalchemy
from typer.testing import CliRunner

from podlab.commands.course_new import app
from podlab.errors import GradingError
from podlab.grading import bookkeeping
from podlab.grading.room import no_room

COURSE = Path(__file__).parents[3]


def full_database(path: Path) -> sqlalchemy.exc.SQLAlchemyError:
    """What SQLAlchemy raises when SQLite finds no room for one more page."""
    engine = sqlalchemy.create_engine(f"sqlite:///{path}")
    with engine.connect() as connection:
        connection.exec_driver_sql("create table words (word text)")
        connection.exec_driver_sql("pragma max_page_count = 2")
        with pytest.raises(sqlalchemy.exc.OperationalError) as caught:
            connection.exec_driver_sql("insert into words values (?)", ("x" * 100_000,))
    engine.dispose()
    return caught.value


def test_a_database_without_room_is_a_full_disk(tmp_path: Path) -> None:
    assert no_room(full_database(tmp_path / "book.db")) == "database or disk is full"


def test_a_file_without_room_is_named_also_below_another_error() -> None:
    error = GradingError("The step failed.")
    error.__cause__ = OSError(errno.ENOSPC, "No space left on device", "/class/feedback.html")
    assert no_room(error) == "/class/feedback.html"


def test_a_terms_folder_for_which_there_is_no_room_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    error = full_database(tmp_path / "book.db")

    def full(_folder: Path) -> bool:
        raise error

    monkeypatch.setattr(bookkeeping, "new_gradebook", full)
    with pytest.raises(GradingError, match=r"no room left where .*autumn is"):
        CliRunner().invoke(app, ["init", str(tmp_path / "autumn"), "--course", str(COURSE)], catch_exceptions=False)


def test_other_errors_are_none(tmp_path: Path) -> None:
    assert no_room(OSError(errno.EACCES, "Permission denied")) is None
    with pytest.raises(sqlite3.OperationalError) as caught:
        sqlite3.connect(tmp_path / "empty.db").execute("select * from nowhere")
    assert no_room(caught.value) is None
