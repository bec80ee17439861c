"""The movies as the site shows them: by number, by genre, by words of the title. In memory, stocked by features."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from movies.data.tables import Movie

Order = Literal["new", "title"]
#: Characters that turn the direction of the text around them, and so could make one title look like another.
_TURNING = frozenset("\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
UNTITLED = "Untitled"
_LONGEST_TITLE = 300


@dataclass(frozen=True)
class Page:
    """Some of many movies: page `number` of `pages`, from 1."""

    movies: Sequence[Movie]
    number: int
    pages: int
    total: int


class Shelf:
    """All movies; empty until it is stocked."""

    def __init__(self, movies: Iterable[Movie] = ()) -> None:
        self.stock(movies)

    def stock(self, movies: Iterable[Movie]) -> None:
        """Replace what is on the shelf."""
        found = [replace(movie, title=_cut(shown(movie.title)), about=shown(movie.about, "")) for movie in movies]
        self._by_id = {movie.id: movie for movie in found}
        self._new = sorted(found, key=lambda movie: (-movie.year, -movie.released, movie.id))
        self._titles = sorted(found, key=lambda movie: (folded(movie.title), movie.id))
        self._words = {movie.id: _searched(movie) for movie in found}
        counts = Counter(genre for movie in found for genre in movie.genres)
        self.genres: Sequence[tuple[str, int]] = sorted(counts.items())

    def __len__(self) -> int:
        return len(self._by_id)

    def get(self, movie: int) -> Movie | None:
        """A movie; None if there is none of that number."""
        return self._by_id.get(movie)

    def pick(self, movies: Iterable[int]) -> list[Movie]:
        """Those of the numbers that are on the shelf, in their order."""
        return [self._by_id[movie] for movie in movies if movie in self._by_id]

    def newest(self, n: int) -> list[Movie]:
        """The latest movies."""
        return self._new[:n]

    def browse(self, genre: str = "", order: Order = "new", number: int = 1, size: int = 24) -> Page:
        """A page of the movies of a genre, or of all; the last one if there are not so many pages."""
        chosen = self._new if order == "new" else self._titles
        return paged([movie for movie in chosen if not genre or genre in movie.genres], number, size)

    def search(self, text: str, number: int = 1, size: int = 24) -> Page:
        """A page of the movies that have all words of `text` in title, year or genres; best matches first."""
        words = folded(text).split()[:12]
        if not words:
            return Page((), 1, 1, 0)
        found = [movie for movie in self._titles if all(word in self._words[movie.id] for word in words)]
        whole = " ".join(words)
        return paged(sorted(found, key=lambda movie: _distance(folded(movie.title), whole)), number, size)


def paged(movies: Sequence[Movie], number: int, size: int) -> Page:
    """One page of many movies."""
    pages = max(1, -(-len(movies) // size))
    number = min(max(1, number), pages)
    return Page(movies[(number - 1) * size : number * size], number, pages, len(movies))


def folded(text: str) -> str:
    """Text for comparing: without case and accents, one space between words."""
    apart = unicodedata.normalize("NFKD", text.casefold())
    return " ".join("".join(one for one in apart if not unicodedata.combining(one)).split())


def shown(text: str, otherwise: str = UNTITLED) -> str:
    """Text that can stand in a page and in a poster: no control characters, none that turn the text around."""
    kept = "".join(
        " " if one in "\t\r\n" else one
        for one in text
        if one in "\t\r\n" or (unicodedata.category(one) not in ("Cc", "Cs", "Cn") and one not in _TURNING)
    )
    return " ".join(kept.split()) or otherwise


def _cut(title: str) -> str:
    return title if len(title) <= _LONGEST_TITLE else f"{title[:_LONGEST_TITLE].rstrip()} …"


def _searched(movie: Movie) -> str:
    return folded(f"{movie.title} {movie.year or ''} {' '.join(movie.genres)}")


def _distance(title: str, wanted: str) -> int:
    """0 for the title itself, then: begins so, has a word that begins so, all else."""
    if title == wanted:
        return 0
    if title.startswith(wanted):
        return 1
    return 2 if f" {wanted}" in f" {title}" else 3
