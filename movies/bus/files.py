"""The bus of a monolith: SQLite in the same process. Every publication is on disk before it is acknowledged."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sqlite3
import threading
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from movies.bus import ARRIVALS, REFUSED, Message, Stored
from movies.errors import BrokerError, StorageFull

T = TypeVar("T")
_BATCH = 500
_IDLE = 1.0
#: Messages of what was refused that are kept, the latest.
_REFUSED = 1000
#: Positions are never given twice: the last message of a stream is not removed.
_FORGET = """
DELETE FROM message WHERE stream = ?1 AND position <
    (SELECT position FROM message WHERE stream = ?1 ORDER BY position DESC LIMIT 1 OFFSET ?2)
"""
_DONE = "DELETE FROM message WHERE stream = ?1 AND position < (SELECT MIN(position) FROM worker WHERE stream = ?1)"
_TABLES = """
CREATE TABLE IF NOT EXISTS message (
    position INTEGER PRIMARY KEY, stream TEXT NOT NULL, id TEXT, data BLOB NOT NULL, headers TEXT NOT NULL);
CREATE UNIQUE INDEX IF NOT EXISTS message_id ON message (stream, id) WHERE id IS NOT NULL;
CREATE INDEX IF NOT EXISTS message_stream ON message (stream, position);
CREATE TABLE IF NOT EXISTS object (name TEXT PRIMARY KEY, data BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS pointer (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS worker (stream TEXT, name TEXT, position INTEGER, PRIMARY KEY (stream, name));
"""


class FileBus:
    """See movies.bus.Bus."""

    def __init__(self, folder: Path, stream_bytes: int = 2**30) -> None:
        self._path = folder / "bus.sqlite"
        self._limit = stream_bytes
        self._database: sqlite3.Connection | None = None
        self._lock = asyncio.Lock()
        # An action goes on in its thread when whoever asked for it has given up; the file is closed after it.
        self._using = threading.Lock()
        self._news = asyncio.Event()

    async def open(self) -> None:
        """Open the file, and make it if it is missing."""

        def connect() -> sqlite3.Connection:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            made = sqlite3.connect(self._path, check_same_thread=False, isolation_level=None)
            self._path.chmod(0o600)
            made.execute("PRAGMA journal_mode=WAL")
            made.execute("PRAGMA synchronous=FULL")
            made.executescript(_TABLES)
            page = made.execute("PRAGMA page_size").fetchone()[0]
            made.execute(f"PRAGMA max_page_count={max(64, 3 * self._limit // page)}")
            return made

        try:
            self._database = await asyncio.to_thread(connect)
        except (OSError, sqlite3.Error) as error:
            raise BrokerError(f"The log {self._path} cannot be opened: {error}.") from error

    async def close(self) -> None:
        """Close the file; whoever follows a stream goes home empty-handed."""
        async with self._lock:
            database, self._database = self._database, None
            if database:
                await asyncio.to_thread(self._alone, sqlite3.Connection.close, database)
        self._tell()

    def connected(self) -> bool:
        """Whether the file is open."""
        return self._database is not None

    def _tell(self) -> None:
        self._news.set()
        self._news = asyncio.Event()

    async def _do(self, action: Callable[[sqlite3.Connection], T]) -> T:
        async with self._lock:
            if self._database is None:
                raise BrokerError(f"The log {self._path} is closed.")
            try:
                return await asyncio.to_thread(self._alone, action, self._database)
            except sqlite3.OperationalError as error:
                if "full" in str(error):
                    raise StorageFull(f"There is no room left for {self._path}.") from error
                raise BrokerError(f"The log {self._path} cannot be used: {error}.") from error

    def _alone(self, action: Callable[[sqlite3.Connection], T], database: sqlite3.Connection) -> T:
        with self._using:
            return action(database)

    async def publish(
        self, stream: str, data: bytes, *, id: str | None = None, headers: Mapping[str, str] | None = None
    ) -> Stored:
        """Return when the message is on disk."""

        def insert(database: sqlite3.Connection) -> Stored:
            row = (stream, id, data, json.dumps(dict(headers or {})))
            try:
                done = database.execute("INSERT INTO message (stream, id, data, headers) VALUES (?, ?, ?, ?)", row)
                position = int(done.lastrowid or 0)
                if stream == REFUSED:
                    database.execute(_FORGET, (stream, _REFUSED - 1))
                return Stored(position)
            except sqlite3.IntegrityError:
                found = database.execute("SELECT position FROM message WHERE stream = ? AND id = ?", (stream, id))
                return Stored(found.fetchone()[0], duplicate=True)

        stored = await self._do(insert)
        self._tell()
        return stored

    async def _after(self, stream: str, after: int) -> list[Message]:
        query = (
            "SELECT position, data, headers FROM message WHERE stream = ? AND position > ? ORDER BY position LIMIT ?"
        )
        rows = await self._do(lambda database: database.execute(query, (stream, after, _BATCH)).fetchall())
        return [Message(position, data, json.loads(headers)) for position, data, headers in rows]

    async def follow(self, stream: str, after: int = 0) -> AsyncIterator[list[Message]]:
        """Messages after a position, then new ones as they come."""
        while self._database is not None:
            news = self._news
            found = await self._after(stream, after)
            if found:
                after = found[-1].position
            else:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_IDLE):
                        await news.wait()
            if self._database is not None:
                yield found

    async def work(self, stream: str, name: str) -> AsyncIterator[list[_Delivery]]:
        """Messages for the only worker of that name; its position is kept in the file."""
        query = "SELECT position FROM worker WHERE stream = ? AND name = ?"
        row = await self._do(lambda database: database.execute(query, (stream, name)).fetchone())
        async for batch in self.follow(stream, row[0] if row else 0):
            yield [_Delivery(message, self, stream, name) for message in batch]

    async def worked(self, stream: str, name: str, position: int) -> None:
        """Keep the position of a worker; arrivals that are dealt with are removed."""

        def keep(database: sqlite3.Connection) -> None:
            database.execute("INSERT OR REPLACE INTO worker VALUES (?, ?, ?)", (stream, name, position))
            if stream == ARRIVALS:
                database.execute(_DONE, (stream,))

        await self._do(keep)

    async def last(self, stream: str) -> int:
        """The position of the last message."""
        query = "SELECT COALESCE(MAX(position), 0) FROM message WHERE stream = ?"
        return await self._do(lambda database: database.execute(query, (stream,)).fetchone()[0])

    async def tail(self, stream: str, count: int) -> list[Message]:
        """The last messages, latest first."""
        query = "SELECT position, data, headers FROM message WHERE stream = ? ORDER BY position DESC LIMIT ?"
        rows = await self._do(lambda database: database.execute(query, (stream, count)).fetchall())
        return [Message(position, data, json.loads(headers)) for position, data, headers in rows]

    async def put(self, name: str, data: bytes) -> None:
        """Keep an object."""
        await self._do(lambda database: database.execute("INSERT OR REPLACE INTO object VALUES (?, ?)", (name, data)))

    async def get(self, name: str) -> bytes | None:
        """An object."""
        query = "SELECT data FROM object WHERE name = ?"
        row = await self._do(lambda database: database.execute(query, (name,)).fetchone())
        return row[0] if row else None

    async def names(self) -> list[str]:
        """Names of all objects."""
        query = "SELECT name FROM object ORDER BY name"
        return [name for (name,) in await self._do(lambda database: database.execute(query).fetchall())]

    async def drop(self, name: str) -> None:
        """Forget an object."""
        await self._do(lambda database: database.execute("DELETE FROM object WHERE name = ?", (name,)))

    async def point(self, key: str, value: str, expected: str | None) -> bool:
        """Move a pointer if nobody else did."""

        def move(database: sqlite3.Connection) -> bool:
            if expected is None:
                done = database.execute("INSERT OR IGNORE INTO pointer VALUES (?, ?)", (key, value))
            else:
                done = database.execute(
                    "UPDATE pointer SET value = ? WHERE key = ? AND value = ?", (value, key, expected)
                )
            return done.rowcount == 1

        moved = await self._do(move)
        self._tell()
        return moved

    async def pointed(self, key: str) -> str | None:
        """What a key points at."""
        query = "SELECT value FROM pointer WHERE key = ?"
        row = await self._do(lambda database: database.execute(query, (key,)).fetchone())
        return row[0] if row else None

    async def watch(self, key: str) -> AsyncIterator[str]:
        """What a key points at, now and after every change."""
        told = None
        while self._database is not None:
            news = self._news
            value = await self.pointed(key)
            if value is not None and value != told:
                told = value
                yield value
            else:
                await news.wait()


@dataclass(frozen=True)
class _Delivery:
    message: Message
    bus: FileBus
    stream: str
    name: str

    async def done(self) -> None:
        await self.bus.worked(self.stream, self.name, self.message.position)
