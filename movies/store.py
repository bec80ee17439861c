"""Interactions in SQLite: made from the data set and the log, with the position of the log in the same transaction."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from movies.data.tables import COLUMNS, Interactions
from movies.errors import StorageFull, Unavailable

#: id (None in the data set), user, movie, stars, watched, at
Row = tuple[str | None, int, int, float | None, float | None, int]

_TABLES = """
CREATE TABLE IF NOT EXISTS event (
    number INTEGER PRIMARY KEY, id TEXT, user INTEGER NOT NULL, movie INTEGER NOT NULL,
    stars REAL, watched REAL, at INTEGER NOT NULL);
CREATE UNIQUE INDEX IF NOT EXISTS event_id ON event (id) WHERE id IS NOT NULL;
CREATE INDEX IF NOT EXISTS event_user ON event (user, movie, stars, watched, at);
CREATE TABLE IF NOT EXISTS user (user INTEGER PRIMARY KEY);
CREATE TABLE IF NOT EXISTS state (key TEXT PRIMARY KEY, value TEXT NOT NULL);
"""
_INSERT = "INSERT OR IGNORE INTO event (id, user, movie, stars, watched, at) VALUES (?, ?, ?, ?, ?, ?)"
_INSERT_USER = "INSERT OR IGNORE INTO user VALUES (?)"
_COLUMNS = "SELECT user, movie, stars, watched, at FROM event"
_CHUNK = 50_000


class Store:
    """One writer and any number of readers; a reader never waits for the writer (write-ahead log)."""

    def __init__(self, path: Path) -> None:
        self._path = path
        # SQLite takes the process down if a connection is closed while another thread uses it.
        self._writing, self._reading = threading.Lock(), threading.Lock()
        #: Whether somebody closes the file: nothing new is begun.
        self.closing = False
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            self._writer, self._reader = self._connect(), self._connect()
            self._writer.executescript(_TABLES)
        except sqlite3.Error as error:
            raise Unavailable(f"The store {path} cannot be opened: {error}.") from error
        path.chmod(0o600)

    def _connect(self) -> sqlite3.Connection:
        made = sqlite3.connect(self._path, check_same_thread=False, isolation_level=None, timeout=10)
        made.execute("PRAGMA journal_mode=WAL")
        made.execute("PRAGMA synchronous=NORMAL")  # what a power cut takes is read from the log again
        return made

    def close(self) -> None:
        """Close the file, after what is being written; filling it ends at once, with nothing changed."""
        self.closing = True
        with self._writing:
            self._writer.close()
        with self._reading:
            self._reader.close()

    @property
    def position(self) -> int:
        """All events of the log up to here are in."""
        return int(self._state("position") or 0)

    @property
    def dataset(self) -> str | None:
        """The version of the data set that is in; None if none is, or not all of it."""
        return self._state("dataset")

    def _state(self, key: str) -> str | None:
        rows = self._read("SELECT value FROM state WHERE key = ?", key)
        return rows[0][0] if rows else None

    def _read(self, query: str, *values: object) -> list[Any]:
        with self._reading:
            try:
                return self._reader.execute(query, values).fetchall()
            except sqlite3.Error as error:
                raise Unavailable(f"The store {self._path} cannot be read: {error}.") from error

    def restart(self, dataset: str, blocks: Iterable[Interactions]) -> None:
        """Forget everything and begin with a data set: all of it, or nothing is changed."""
        with self._transaction() as writer:
            writer.execute("DELETE FROM event")
            writer.execute("DELETE FROM user")
            writer.execute("DELETE FROM state")
            for block in blocks:
                if self.closing:
                    raise Unavailable(f"The store {self._path} was closed while it was filled.")
                columns = (block.user, block.movie, block.stars.astype(float), block.watched.astype(float), block.at)
                writer.executemany(_INSERT, zip([None] * len(block), *(one.tolist() for one in columns), strict=True))
                writer.executemany(_INSERT_USER, ((user,) for user in np.unique(block.user).tolist()))
            _keep(writer, "dataset", dataset)

    def add(self, rows: Sequence[Row], position: int) -> int:
        """Add events of the log up to a position; returns how many were new (the others had a known id)."""
        with self._transaction() as writer:
            before = writer.total_changes
            writer.executemany(_INSERT, rows)
            new = writer.total_changes - before
            writer.executemany(_INSERT_USER, {(row[1],) for row in rows})
            _keep(writer, "position", str(position))
        return new

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        """All or nothing; a full disk is told as StorageFull."""
        with self._writing:
            if self.closing:
                raise Unavailable(f"The store {self._path} is closed.")
            writer = self._writer
            try:
                writer.execute("BEGIN IMMEDIATE")
                yield writer
                writer.execute("COMMIT")
            except BaseException as error:
                if writer.in_transaction:
                    writer.execute("ROLLBACK")
                if isinstance(error, sqlite3.OperationalError) and "full" in str(error):
                    raise StorageFull(f"There is no room left for {self._path}.") from error
                if isinstance(error, sqlite3.Error):
                    raise Unavailable(f"The store {self._path} cannot be written: {error}.") from error
                raise

    def of_user(self, user: int) -> Interactions:
        """What one user did."""
        return _table(self._read(f"{_COLUMNS} WHERE user = ?", user))

    def counts(self) -> tuple[int, int]:
        """(events, users)."""
        # Nothing is ever deleted, so the last number is the count.
        [row] = self._read("SELECT COALESCE(MAX(number), 0), (SELECT COUNT(*) FROM user) FROM event")
        return int(row[0]), int(row[1])

    def everything(self) -> tuple[Interactions, int]:
        """All rows in the order in which they came, and the position up to which they are complete."""
        reader = self._connect()
        try:
            reader.execute("BEGIN")  # rows and position of one moment
            row = reader.execute("SELECT value FROM state WHERE key = 'position'").fetchone()
            (count,) = reader.execute("SELECT COUNT(*) FROM event").fetchone()
            cursor = reader.execute(f"{_COLUMNS} ORDER BY number")
            return _filled(count, iter(lambda: cursor.fetchmany(_CHUNK), [])), int(row[0]) if row else 0
        finally:
            reader.close()


def _keep(writer: sqlite3.Connection, key: str, value: str) -> None:
    writer.execute("INSERT OR REPLACE INTO state VALUES (?, ?)", (key, value))


def _filled(count: int, blocks: Iterable[Sequence[Any]]) -> Interactions:
    """A table of so many rows, filled block by block: parts put together at the end would be there twice."""
    empty = Interactions.empty()
    made = Interactions(*(np.empty_like(getattr(empty, name), shape=count) for name in COLUMNS))
    start = 0
    for block in map(_table, blocks):
        for name in COLUMNS:
            getattr(made, name)[start : start + len(block)] = getattr(block, name)
        start += len(block)
    return made


def _table(rows: Sequence[tuple[int, int, float | None, float | None, int]]) -> Interactions:
    if not rows:
        return Interactions.empty()
    user, movie, stars, watched, at = zip(*rows, strict=True)
    return Interactions.of(user, movie, np.array(stars, np.float32), np.array(watched, np.float32), at)
