"""Reading the user's own ratings: MovieLens in each of its forms, or any table with a header.

    ml-latest, ml-25m, ml-32m   ratings.csv and movies.csv, with commas and a header
    ml-1m, ml-10m               ratings.dat and movies.dat, `1::1193::5::978300760`
    ml-100k                     u.data and u.item, with tabs and bars
    a table of your own         a .csv or .tsv with a header; see COLUMN_NAMES

Every line is checked. A file with faults is refused as a whole, and the first faults are told with their line numbers.
MovieLens data are GroupLens' and may not be passed on: they are read where the user has put them, and copied nowhere.
"""

from __future__ import annotations

import csv
import re
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from movies.data.tables import STARS, Interactions, Movie
from movies.errors import DataError

#: What a column of a table may be called, in any case and with any of "_- " in between.
COLUMN_NAMES = {
    "user": ("user", "userid", "customer", "customerid", "reviewer"),
    "movie": ("movie", "movieid", "item", "itemid", "film"),
    "stars": ("rating", "stars", "score"),
    "at": ("timestamp", "at", "time", "date", "ratedat"),
}
_SHOWN = 10
_LARGEST = 2**53
_YEAR = re.compile(r"^(.*?)\s*\((\d{4})\)\s*$")


@dataclass(frozen=True)
class Loaded:
    """What was read: `notes` tell what was put right on the way (ratings given twice, movies without a title)."""

    movies: list[Movie]
    interactions: Interactions
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Form:
    """A file format: how lines become rows, and where the columns are (None: in the header)."""

    rows: Callable[[Iterable[str]], Iterator[list[str]]]
    header: bool = False
    encoding: str = "utf-8"


def _split(separator: str) -> Callable[[Iterable[str]], Iterator[list[str]]]:
    return lambda lines: (line.rstrip("\r\n").split(separator) for line in lines)


def _csv(delimiter: str) -> Callable[[Iterable[str]], Iterator[list[str]]]:
    return lambda lines: csv.reader(lines, delimiter=delimiter)


#: Name of the file -> its form; ratings first, then movies.
_RATINGS = {
    "ratings.csv": _Form(_csv(","), header=True),
    "ratings.dat": _Form(_split("::"), encoding="latin-1"),
    "u.data": _Form(_split("\t")),
}
_MOVIES = {
    "movies.csv": _Form(_csv(","), header=True),
    "movies.dat": _Form(_split("::"), encoding="latin-1"),
    "u.item": _Form(_split("|"), encoding="latin-1"),
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


def load(path: Path) -> Loaded:
    """Read a MovieLens folder, or a file of ratings with the movies beside it; DataError names every fault."""
    ratings, form = _find(path)
    interactions, notes = _ratings(ratings, form)
    movies = _movies(ratings.parent) if ratings.name in _RATINGS else []
    known = {movie.id for movie in movies}
    missing = sorted(set(np.unique(interactions.movie).tolist()) - known)
    movies += [Movie(number, f"Movie {number}", 0, ()) for number in missing]
    if missing and known:
        notes += (f"{len(missing)} rated movies have no title; they are called by their number.",)
    return Loaded(movies, interactions.ordered(), notes)


def _find(path: Path) -> tuple[Path, _Form]:
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


def _rows(path: Path, form: _Form) -> Iterator[tuple[int, list[str]]]:
    """(line number, fields) of every line that is not empty, the header left out."""
    try:
        with path.open(encoding=form.encoding, newline="") as file:
            text = (line.removeprefix("\ufeff") if number == 0 else line for number, line in enumerate(file))
            reader = form.rows(text)
            for number, row in enumerate(reader, 1):
                line = getattr(reader, "line_num", number)
                if any(field.strip() for field in row) and not (form.header and number == 1):
                    yield line, row
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not written in {form.encoding}: {error}.") from error
    except (OSError, csv.Error) as error:
        raise DataError(f"{path} cannot be read: {error}.") from error


def _header(path: Path, form: _Form) -> Sequence[int]:
    """Positions of user, movie, stars and time (-1: there is none) in a table with a header."""
    with path.open(encoding=form.encoding, errors="replace", newline="") as file:
        names = next(iter(form.rows(file)), [])
    plain = [re.sub(r"[\s_\-\ufeff]", "", name).lower() for name in names]
    found = {
        column: next((plain.index(name) for name in known if name in plain), -1)
        for column, known in COLUMN_NAMES.items()
    }
    missing = [column for column in ("user", "movie", "stars") if found[column] < 0]
    if missing:
        wanted = "; ".join(f"{column} ({', '.join(COLUMN_NAMES[column][:3])})" for column in missing)
        raise DataError(f"{path} line 1: no column for {wanted}. Its columns: {', '.join(names) or 'none'}.")
    return [found[column] for column in COLUMN_NAMES]


def _ratings(path: Path, form: _Form) -> tuple[Interactions, tuple[str, ...]]:
    places = _header(path, form) if form.header else (0, 1, 2, 3)
    faults = _Faults(path)
    users, movies, times = array("q"), array("q"), array("q")
    given = array("f")
    for line, row in _rows(path, form):
        try:
            user, movie, stars, at = _rating(row, places)
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
    table = Interactions.of(users, movies, given, np.full(len(users), np.nan), times)
    kept = _latest(table)
    again = len(table) - len(kept)
    return kept, (f"{again} ratings were given twice; the latest counts.",) if again else ()


def _rating(row: Sequence[str], places: Sequence[int]) -> tuple[int, int, float, int]:
    if len(row) <= max(places):
        raise ValueError(f"{max(places) + 1} fields were expected, there are {len(row)}: {_short(row)}")
    user, movie = (_number(row[place], what) for place, what in zip(places[:2], ("user", "movie"), strict=True))
    text = row[places[2]].strip()
    try:
        stars = float(text)
    except ValueError:
        raise ValueError(f"{text[:40]!r} is no rating") from None
    if stars not in STARS:
        raise ValueError(f"a rating of {text[:40]} is not on the scale of 0.5 to 5 in halves")
    return user, movie, stars, _time(row[places[3]].strip()) if places[3] >= 0 else 0


def _number(text: str, what: str) -> int:
    text = text.strip()
    if not text.isascii() or not text.isdigit() or not 0 < int(text) < _LARGEST:
        raise ValueError(f"{text[:40]!r} is no number of a {what}")
    return int(text)


def _time(text: str) -> int:
    """Seconds since 1970 from a number, or from a date such as 2024-05-01 or 2024-05-01T12:00:00Z."""
    try:
        if text.lstrip("-").isdigit():
            return int(text)
        moment = datetime.fromisoformat(text)
        return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp())
    except ValueError:
        raise ValueError(f"{text[:40]!r} is no time: seconds since 1970 or a date was expected") from None


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
