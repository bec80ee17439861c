"""Pages as data, composed from several answers at once. Whatever does not answer in time is left out and said so."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from movies.contracts import FeaturesAnswer, HistoryAnswer, Rating, Recommendations, Row
from movies.data.tables import Movie
from movies.errors import Unavailable
from movies.ui.others import Others
from movies.ui.shelf import Shelf

#: How many movies a row of the first page has.
ROW = 12
#: A second reason is given if it weighs at least so much of the first.
_ALSO = 0.6


@dataclass(frozen=True)
class Card:
    """A movie in a list, with what speaks for it, or with the user's own stars."""

    movie: Movie
    because: Sequence[Movie] = ()
    stars: float | None = None
    watched: float | None = None


@dataclass(frozen=True)
class Shelfful:
    """A titled row of movies, and a sentence that says where they come from."""

    title: str
    note: str
    cards: Sequence[Card]


@dataclass
class Front:
    """The first page. `troubles` are sentences about what could not be had."""

    rows: list[Shelfful] = field(default_factory=list)
    troubles: list[str] = field(default_factory=list)
    known: FeaturesAnswer | None = None
    basis: str = ""


@dataclass
class About:
    """The page of one movie: what the user gave it, and what is like it."""

    movie: Movie
    stars: float | None = None
    watched: float | None = None
    similar: Sequence[Card] = ()
    troubles: list[str] = field(default_factory=list)


class Popular:
    """What was popular when serving was last asked: kept for the time when it does not answer."""

    def __init__(self) -> None:
        self._movies: Sequence[int] = ()
        self._at = 0.0

    def note(self, found: Recommendations) -> None:
        """Remember an answer."""
        if found.items:
            self._movies, self._at = [item.movie for item in found.items], time.time()

    def row(self, shelf: Shelf, without: Iterable[int] = ()) -> Shelfful:
        """What was popular, or if that was never known, what is new."""
        left_out = set(without)
        movies = [movie for movie in shelf.pick(self._movies) if movie.id not in left_out]
        if not movies:
            return Shelfful("New on the shelf", "The latest movies of the catalogue.", cards(shelf.newest(ROW)))
        minutes = int((time.time() - self._at) // 60)
        ago = "a moment ago" if minutes < 1 else "a minute ago" if minutes == 1 else f"{minutes} minutes ago"
        return Shelfful("Popular titles", f"What was liked most when we last heard, {ago}.", cards(movies[:ROW]))


def cards(movies: Iterable[Movie]) -> list[Card]:
    """Cards with nothing but the movie."""
    return [Card(movie) for movie in movies]


def _recommended(found: Recommendations, shelf: Shelf) -> list[Card]:
    """Cards with reasons: the liked movie that speaks most for each, and a second one that does about as much."""
    return [
        Card(movie, shelf.pick(one.movie for one in item.because[:2] if one.share >= _ALSO * item.because[0].share))
        for item in found.items
        if (movie := shelf.get(item.movie))
    ]


_FOR_YOU = {
    "history": "Chosen from what you rated and watched, up to your last rating.",
    "model": "Chosen from the last training: your latest ratings could not be looked up just now.",
    "popular": "We know nothing of your taste yet, so these are popular. Rate a few, and come back.",
}


async def front(others: Others, shelf: Shelf, popular: Popular, user: int | None, at_least: int = 0) -> Front:
    """The first page of a user, or of nobody in particular. Takes no longer than the slowest call may."""
    made = Front()
    if user is None:
        _add_popular(made, await others.attempt(others.ask.serving.popular(2 * ROW)), shelf, popular)
        return made
    chosen, liked, history, known = await asyncio.gather(
        others.attempt(others.ask.serving.recommendations(user, ROW + 1, at_least)),
        others.attempt(others.ask.serving.popular(2 * ROW)),
        others.attempt(others.ask.features.history(user, at_least)),
        others.attempt(others.ask.features.features(user)),
    )
    on_top: list[int] = []
    if isinstance(chosen, Unavailable):
        made.troubles.append("Your recommendations cannot be had just now. Here is what is popular instead.")
    else:
        row = Shelfful("For you", _FOR_YOU.get(chosen.basis, ""), _recommended(chosen, shelf))
        made.rows.append(row)
        made.basis, on_top = chosen.basis, [card.movie.id for card in row.cards]
    if isinstance(history, HistoryAnswer):
        on_top += [row.movie for row in history.rows if row.stars is not None]
    _add_popular(made, liked, shelf, popular, on_top)
    if isinstance(history, Unavailable):
        made.troubles.append("What you rated cannot be looked up just now. It is not lost.")
    elif mine := rated(history.rows, shelf):
        made.rows.append(Shelfful("You rated lately", "The latest first.", mine))
    made.known = None if isinstance(known, Unavailable) else known
    return made


def _add_popular(
    made: Front, found: Recommendations | Unavailable, shelf: Shelf, popular: Popular, without: Iterable[int] = ()
) -> None:
    if isinstance(found, Unavailable):
        if not made.troubles:
            made.troubles.append("What is popular cannot be had just now. Here is what we last knew.")
        made.rows.append(popular.row(shelf, without))
        return
    popular.note(found)
    left_out = set(without)
    movies = [movie for movie in shelf.pick(item.movie for item in found.items) if movie.id not in left_out]
    if movies:
        made.rows.append(Shelfful("Popular", "What is liked most of late.", cards(movies[:ROW])))


def rated(rows: Sequence[Row], shelf: Shelf) -> list[Card]:
    """What a user rated, latest first, as far as it fits into a row."""
    found = [
        Card(movie, stars=row.stars, watched=row.watched)
        for row in rows
        if row.stars is not None and (movie := shelf.get(row.movie))
    ]
    return found[:ROW]


async def about(others: Others, shelf: Shelf, movie: Movie, user: int | None, at_least: int = 0) -> About:
    """The page of a movie for a user. Takes no longer than the slowest call may."""
    made = About(movie)
    alike, history = await asyncio.gather(
        others.attempt(others.ask.serving.similar(movie.id, ROW // 2)),
        others.attempt(others.ask.features.history(user, at_least) if user else _nothing()),
    )
    if isinstance(alike, Unavailable):
        made.troubles.append("Similar movies cannot be had just now.")
    elif alike:
        made.similar = cards(shelf.pick(item.movie for item in alike.items))
    if isinstance(history, Unavailable):
        made.troubles.append("Your own rating cannot be looked up just now. You can still rate.")
    elif history:
        mine = next((row for row in history.rows if row.movie == movie.id), None)
        made.stars, made.watched = (mine.stars, mine.watched) if mine else (None, None)
    return made


async def _nothing() -> None:
    return None


def rating(user: int, movie: int, stars: float, nonce: str) -> Rating:
    """A rating from a form; sent twice it has the same id, with other stars another one."""
    return Rating(
        id=f"ui.{user}.{movie}.{stars:g}.{nonce}", kind="rating", user=user, movie=movie, at=None, stars=stars
    )
