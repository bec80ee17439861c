"""Reading the user's own ratings: MovieLens in each of its forms, or any table with a header.

    ml-latest, ml-25m, ml-32m   ratings.csv and movies.csv, with commas and a header
    ml-1m, ml-10m               ratings.dat and movies.dat, `1::1193::5::978300760`
    ml-100k                     u.data and u.item, with tabs and bars
    a table of your own         a .csv or .tsv with a header; see COLUMN_NAMES

In a table of your own users and movies may be named by text: a column that is not all numbers is numbered in the order
in which its texts come, and a movie is called by its text, or as a column of titles says. Its ratings may go to another
number than 5, or be no halves: say to which. Without a column of times, all ratings count as of the moment of loading.

Every line is checked. A file with faults is refused as a whole, and the first faults are told with their line numbers.
MovieLens data are GroupLens' and may not be passed on: they are read where the user has put them, and copied nowhere.
"""

from __future__ import annotations

import csv
import re
import time
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt

from movies.data.tables import STARS, Interactions, Movie
from movies.errors import DataError

#: What a column of a table may be called, in any case and with any of "_- " in between.
COLUMN_NAMES = {
    "user": ("user", "userid", "customer", "customerid", "reviewer"),
    "movie": ("movie", "movieid", "item", "itemid", "film", "title"),
    "stars": ("rating", "stars", "score"),
    "at": ("timestamp", "at", "time", "date", "ratedat"),
    "title": ("title", "movietitle"),
}
_SHOWN = 10
_LARGEST = 2**53
_DAY = 86_400
#: Seconds since 1970 reach this in the year 5138, milliseconds have reached it in 1973.
_MILLISECONDS = 10**11
#: Programs that know only floating-point numbers in a column with gaps write ids so.
_NUMBER = re.compile(r"([0-9]+)(?:\.0+)?")
_YEAR = re.compile(r"^(.*?)\s*\((\d{4})\)\s*$")


@dataclass(frozen=True)
class Loaded:
    """What was read: `notes` tell what was changed on the way (names became numbers, ratings were given twice)."""

    movies: list[Movie]
    interactions: Interactions
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Form:
    """A file format: how lines become rows, whether the first names the columns, and the encoding if not UTF-8."""

    rows: Callable[[Iterable[str]], Iterator[list[str]]]
    header: bool = False
    otherwise: str = ""

    def encoding(self, path: Path) -> str:
        """UTF-8, unless the file is none and may be in another: ml-1m's titles are Latin-1, those of ml-10m UTF-8."""
        if self.otherwise:
            try:
                path.read_text("utf-8")
            except ValueError:
                return self.otherwise
        return "utf-8"


def _split(separator: str) -> Callable[[Iterable[str]], Iterator[list[str]]]:
    return lambda lines: (line.rstrip("\r\n").split(separator) for line in lines)


def _csv(delimiter: str) -> Callable[[Iterable[str]], Iterator[list[str]]]:
    return lambda lines: csv.reader(lines, delimiter=delimiter)


#: Name of the file -> its form; ratings first, then movies.
_RATINGS = {
    "ratings.csv": _Form(_csv(","), header=True),
    "ratings.dat": _Form(_split("::")),
    "u.data": _Form(_split("\t")),
}
_MOVIES = {
    "movies.csv": _Form(_csv(","), header=True),
    "movies.dat": _Form(_split("::"), otherwise="latin-1"),
    "u.item": _Form(_split("|"), otherwise="latin-1"),
}
_GENRES_100K = (
    "unknown", "Action", "Adventure", "Animation", "Children", "Comedy", "Crime", "Documentary", "Drama", "Fantasy",
    "Film-Noir", "Horror", "Musical", "Mystery", "Romance", "Sci-Fi", "Thriller", "War", "Western",
)  # fmt: skip


class _Faults:
    """Faults of one file, by line; the first few are kept."""

    def __init__(self, path: Path) -> None:
        self._path, self._told, self._count = path, list[str](), 0

    def add(self, line: int, what: str) -> None:
        self._count += 1
        if len(self._told) < _SHOWN:
            self._told.append(f"  line {line}: {what}")

    def raise_if_any(self) -> None:
        if self._count:
            more = f"\n  and {self._count - _SHOWN} more" if self._count > _SHOWN else ""
            lines = "1 line" if self._count == 1 else f"{self._count} lines"
            raise DataError(f"{self._path} was not loaded: {lines} cannot be used.\n" + "\n".join(self._told) + more)


def load(path: Path, scale: int | None = None) -> Loaded:
    """Read a MovieLens folder, or a file of ratings with the movies beside it; DataError names every fault.

    With `scale`, the best rating of the table, ratings are made stars, the nearest half; without, what is not from
    0.5 to 5 in halves is a fault.
    """
    ratings, form = find(path)
    table = _Table(ratings, form, scale)
    interactions, notes = table.read()
    movies, titles = _movies(ratings.parent) if table.movielens else [], table.titles()
    known = {movie.id for movie in movies}
    missing = sorted(set(np.unique(interactions.movie).tolist()) - known)
    movies += [Movie(number, titles.get(number) or f"Movie {number}", 0, ()) for number in missing]
    if missing and known:
        notes += (f"{len(missing)} rated movies have no title; they are called by their number.",)
    return Loaded(movies, interactions.ordered(), notes)


def find(path: Path) -> tuple[Path, _Form]:
    """The file of ratings that is meant, and its form; DataError if there is none."""
    if path.is_dir():
        for name, form in _RATINGS.items():
            if (path / name).is_file():
                return path / name, form
        raise DataError(f"{path} holds no ratings: one of {', '.join(_RATINGS)} was expected.")
    if not path.exists():
        raise DataError(f"There is no {path}.")
    if path.name in _RATINGS:
        return path, _RATINGS[path.name]
    if path.suffix in (".csv", ".tsv"):
        return path, _Form(_csv("," if path.suffix == ".csv" else "\t"), header=True)
    raise DataError(f"{path} has no known form: give a MovieLens folder, a .csv or a .tsv with a header.")


def _lines(path: Path, form: _Form) -> Iterator[tuple[int, list[str]]]:
    """(line number, fields) of every line, the header too; DataError if it cannot be read."""
    line = 0
    try:
        with path.open(encoding=form.encoding(path), newline="") as file:
            text = (line.removeprefix("\ufeff") if number == 0 else line for number, line in enumerate(file))
            reader = form.rows(text)
            for number, row in enumerate(reader, 1):
                line = getattr(reader, "line_num", number)
                yield line, row
    except UnicodeDecodeError as error:
        where = _not_utf_8(path)
        raise DataError(f"{path} line {where} is not written in UTF-8: save the table as UTF-8 first.") from error
    except csv.Error as error:
        raise DataError(f"{path} line {line + 1}: {error}. Is a quotation mark left open there?") from error
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}.") from error


def _not_utf_8(path: Path) -> int:
    """The number of the first line that is not UTF-8: the reader decodes many lines at once, and does not know it."""
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            try:
                line.decode()
            except UnicodeDecodeError:
                return number
    return 1


def _rows(path: Path, form: _Form) -> Iterator[tuple[int, list[str]]]:
    """(line number, fields) of every line that is not empty, the header left out."""
    for number, (line, row) in enumerate(_lines(path, form)):
        if any(field.strip() for field in row) and not (form.header and number == 0):
            yield line, row


def _header(path: Path, form: _Form) -> Sequence[int]:
    """Positions of user, movie, stars, time and title (-1: there is none) in a table with a header."""
    _, names = next(_lines(path, form), (1, []))
    plain = [re.sub(r"[\s_\-]", "", name).lower() for name in names]
    found = {
        column: next((plain.index(name) for name in known if name in plain), -1)
        for column, known in COLUMN_NAMES.items()
    }
    missing = [column for column in ("user", "movie", "stars") if found[column] < 0]
    if missing:
        wanted = "; ".join(f"{column} ({', '.join(COLUMN_NAMES[column][:3])})" for column in missing)
        raise DataError(f"{path} line 1: no column for {wanted}. Its columns: {', '.join(names) or 'none'}.")
    return [found[column] for column in COLUMN_NAMES]


class _Column:
    """A column of users or movies: numbers if each of its values is one; else names, numbered from 1 as they come.

    What it holds shows only at its end, so what is read of a value at first is its place in the order of coming.
    """

    def __init__(self, what: str, *, may_be_names: bool) -> None:
        self._what, self._may_be_names = what, may_be_names
        self._places: dict[str, int] = {}

    def read(self, text: str) -> int:
        """The place of a text, or its number where only numbers may be; ValueError if it can have none."""
        text = text.strip()
        if not self._may_be_names:
            return _number(text, self._what)
        if not text:
            raise ValueError(f"there is no name of a {self._what}")
        return self._places.setdefault(text, len(self._places))

    @cached_property
    def _numbers(self) -> npt.NDArray[np.int64] | None:
        """Of each place; None if they are names."""
        try:
            return np.array([_number(text, self._what) for text in self._places], np.int64)
        except ValueError:
            return None

    def numbers(self, read: Sequence[int] | array[int]) -> npt.NDArray[np.int64]:
        """The numbers of what was read."""
        found = np.asarray(read, np.int64)
        if not self._may_be_names:
            return found
        return found + 1 if self._numbers is None else self._numbers[found]

    def names(self) -> list[str]:
        """The names of all places; empty if they are numbers."""
        return list(self._places) if self._numbers is None else []

    def note(self) -> tuple[str, ...]:
        """What to tell of it."""
        if not (names := self.names()):
            return ()
        return (f"{len(names)} {self._what}s are named by text and were numbered from 1: {names[0]!r} is 1.",)


class _Table:
    """A file of ratings."""

    def __init__(self, path: Path, form: _Form, scale: int | None) -> None:
        self._path, self._form, self._scale = path, form, scale
        self.movielens = path.name in _RATINGS
        if self.movielens and scale not in (None, 5):
            raise DataError(f"{path} is MovieLens', whose scale goes to 5: {scale} is for a table of your own.")
        self._users = _Column("user", may_be_names=not self.movielens)
        self._movies = _Column("movie", may_be_names=not self.movielens)
        self._now = int(time.time())
        #: Of movies, by what was read of them.
        self._said: dict[int, str] = {}

    def read(self) -> tuple[Interactions, tuple[str, ...]]:
        """Its rows, and notes; DataError names every fault."""
        path, form = self._path, self._form
        places = _header(path, form) if form.header else (0, 1, 2, 3, -1)
        faults = _Faults(path)
        users, movies, times = array("q"), array("q"), array("q")
        given = array("f")
        for line, row in _rows(path, form):
            try:
                user, movie, stars, at = self._rating(row, places)
            except ValueError as error:
                faults.add(line, str(error))
                continue
            users.append(user)
            movies.append(movie)
            given.append(stars)
            times.append(at)
        faults.raise_if_any()
        if not users:
            raise DataError(
                f"{path} holds no ratings: there are no lines after the header."
                if form.header
                else f"{path} holds no ratings: it is empty."
            )
        numbers = self._users.numbers(users), self._movies.numbers(movies)
        table = Interactions.of(*numbers, given, np.full(len(users), np.nan), times)
        kept = _latest(table)
        again = len(table) - len(kept)
        notes = self._users.note() + self._movies.note()
        notes += (f"Ratings to {self._scale} became stars, the nearest half.",) if self._scale is not None else ()
        notes += () if places[3] >= 0 else ("No column says when: all ratings count as of now.",)
        notes += (f"{again} ratings were given twice; the latest counts.",) if again else ()
        return kept, notes

    def _rating(self, row: Sequence[str], places: Sequence[int]) -> tuple[int, int, float, int]:
        if len(row) <= max(places):
            raise ValueError(f"{max(places) + 1} fields were expected, there are {len(row)}: {_short(row)}")
        user = self._users.read(row[places[0]])
        movie = self._movies.read(row[places[1]])
        stars = self._stars(row[places[2]].strip())
        at = self._time(row[places[3]].strip()) if places[3] >= 0 else self._now
        if places[4] >= 0:
            self._said.setdefault(movie, row[places[4]].strip())
        return user, movie, stars, at

    def titles(self) -> dict[int, str]:
        """Of movies, by number, where the table says it: by a column of titles, or by their names."""
        said = dict(enumerate(self._movies.names())) | {read: title for read, title in self._said.items() if title}
        return dict(zip(self._movies.numbers(list(said)).tolist(), said.values(), strict=True))

    def _stars(self, text: str) -> float:
        try:
            stars = float(text)
        except ValueError:
            raise ValueError(f"{text[:40]!r} is no rating") from None
        if self._scale is not None:
            if not 0 <= stars <= self._scale:
                raise ValueError(f"a rating of {text[:40]} is not on the scale to {self._scale}")
            stars = max(0.5, round(stars * 10 / self._scale) / 2)
        if stars not in STARS:
            other = "" if self.movielens else " (for one to 10: --scale 10; to round: --scale 5)"
            raise ValueError(f"a rating of {text[:40]} is not on the scale of 0.5 to 5 in halves{other}")
        return stars

    def _time(self, text: str) -> int:
        """Seconds since 1970 from a number, or from a date such as 2024-05-01 or 2024-05-01T12:00:00Z."""
        try:
            if text.lstrip("-").isdigit():
                found = int(text)
            else:
                moment = datetime.fromisoformat(text)
                found = int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp())
        except (ValueError, OverflowError):
            raise ValueError(f"{text[:40]!r} is no time: seconds since 1970 or a date was expected") from None
        if found >= _MILLISECONDS:
            raise ValueError(
                f"the time {text[:40]} is far too late for seconds: if it is in milliseconds, divide by 1000"
            )
        if not 0 <= found < self._now + _DAY:
            raise ValueError(f"the time {text[:40]} is {'before 1970' if found < 0 else 'in the future'}")
        return found


def _number(text: str, what: str) -> int:
    text = text.strip()
    found = _NUMBER.fullmatch(text)
    if not found or not 0 < int(found[1]) < _LARGEST:
        raise ValueError(f"{text[:40]!r} is no number of a {what}")
    return int(found[1])


def _short(row: Sequence[str]) -> str:
    text = " | ".join(row)
    return text if len(text) <= 60 else text[:57] + "..."


def _latest(table: Interactions) -> Interactions:
    """One row for each user and movie: the latest, and of equals the last in the file."""
    order = np.lexsort((np.arange(len(table)), table.at, table.movie, table.user))
    user, movie = table.user[order], table.movie[order]
    last = np.append((user[1:] != user[:-1]) | (movie[1:] != movie[:-1]), True)
    return table.take(np.sort(order[last]))


def _movies(folder: Path) -> list[Movie]:
    for name, form in _MOVIES.items():
        if (folder / name).is_file():
            return list(_titles(folder / name, form))
    return []


def _titles(path: Path, form: _Form) -> Iterator[Movie]:
    faults = _Faults(path)
    seen: set[int] = set()
    for line, row in _rows(path, form):
        try:
            if len(row) < 3:
                raise ValueError(f"3 fields were expected, there are {len(row)}: {_short(row)}")
            number = _number(row[0], "movie")
            if number in seen:
                raise ValueError(f"movie {number} is there already")
        except ValueError as error:
            faults.add(line, str(error))
            continue
        seen.add(number)
        title, year = row[1].strip(), 0
        if match := _YEAR.match(title):
            title, year = match[1], int(match[2])
        yield Movie(number, title or f"Movie {number}", year, _genres(path.name, row))
    faults.raise_if_any()


def _genres(name: str, row: Sequence[str]) -> tuple[str, ...]:
    if name == "u.item":
        return tuple(genre for genre, flag in zip(_GENRES_100K[1:], row[6:], strict=False) if flag.strip() == "1")
    return tuple(genre for genre in row[2].strip().split("|") if genre and genre != "(no genres listed)")
