"""A full disk, in words: what lies where there is no room left, and that what was written before is whole."""

from __future__ import annotations

import errno
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from podlab.errors import GradingError


@contextmanager
def room_in(folder: Path) -> Iterator[None]:
    """Turn an error of the block that came of a full disk into a GradingError that names `folder`."""
    try:
        yield
    except Exception as error:
        if (what := no_room(error)) is None:
            raise
        raise GradingError(
            f"There is no room left where {folder} is ({what}).",
            hint="Make room and start the same command again: what is graded is kept.",
        ) from error


def no_room(error: BaseException | None) -> str | None:
    """What could not be written, if an error came of a full disk: of a file, or of the gradebook's database."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            return str(error.filename or error.strerror)
        if isinstance(error, sqlite3.Error) and getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_FULL:
            return str(error)
        error = error.__cause__ or error.__context__
    return None
