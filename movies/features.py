"""Features: one definition for what is served now (online) and for what is trained on (offline).

Everything is a function of interactions strictly before a moment `as_of`: what happened later cannot leak in,
whoever asks and whenever. The features service calls these functions with what it has stored, training with a
snapshot of the same rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import scipy.sparse as sparse

from movies.data.tables import Interactions, Movie

DAY = 86_400
#: Before a user has said anything: stars as on average, with the weight of five ratings.
PRIOR_STARS, PRIOR_WEIGHT = 3.5, 5.0
#: A popularity of today counts twice one of this many days ago.
HALF_LIFE_DAYS = 90.0


def strength(stars: npt.ArrayLike, watched: npt.ArrayLike) -> npt.NDArray[np.float32]:
    """How strongly an interaction says that the movie was liked: 0 (not at all) to 3.

    Stars decide where there are any: 3 stars give 1, 5 give 3, below 3 nothing. Otherwise a movie that was seen to
    the end gives 1, one that was left before half of it nothing.
    """
    stars = np.asarray(stars, np.float32)
    watched = np.asarray(watched, np.float32)
    from_stars = np.where(stars >= 3, stars - 2, 0)
    from_watching = np.where(np.nan_to_num(watched) >= 0.5, np.nan_to_num(watched), 0)
    return np.where(np.isnan(stars), from_watching, from_stars).astype(np.float32)


def collapse(events: Interactions) -> Interactions:
    """One row for each user and movie: the latest stars, the most that was watched, and the latest time."""
    if not len(events):
        return events
    # Of events at the same second the better rating counts, so that the order of arrival does not matter.
    order = np.lexsort((np.nan_to_num(events.stars, nan=-1.0), events.at, events.movie, events.user))
    rows = events.take(order)
    starts = np.flatnonzero(np.append(True, (np.diff(rows.user) != 0) | (np.diff(rows.movie) != 0)))
    ends = np.append(starts[1:], len(rows)) - 1
    last_rated = np.maximum.reduceat(np.where(rows.rated, np.arange(len(rows)), -1), starts)
    stars = np.where(last_rated >= 0, rows.stars[np.maximum(last_rated, 0)], np.nan)
    watched = np.fmax.reduceat(rows.watched, starts)
    return Interactions.of(rows.user[starts], rows.movie[starts], stars, watched, rows.at[ends])


@dataclass(frozen=True)
class UserFeatures:
    """What is known of a user before a moment; `genres` are leanings in stars against the user's own mean."""

    user: int
    as_of: int
    ratings: int
    watched: int
    mean_stars: float
    days_since_last: float | None
    last_30_days: int
    genres: Mapping[str, float]

    def vector(self, genres: Sequence[str]) -> npt.NDArray[np.float64]:
        """As numbers in a fixed order, for a model."""
        last = -1.0 if self.days_since_last is None else self.days_since_last
        head = [self.ratings, self.watched, self.mean_stars, last, self.last_30_days]
        return np.array([*head, *(self.genres.get(genre, 0.0) for genre in genres)], np.float64)


def user_features(user: int, rows: Interactions, genres: Mapping[int, Sequence[str]], as_of: int) -> UserFeatures:
    """Features of one user from that user's rows; rows at or after `as_of` and of other users are not looked at."""
    rows = collapse(rows.take((rows.at < as_of) & (rows.user == user)))
    rated = rows.take(rows.rated)
    stars = rated.stars.astype(np.float64)
    mean = float((stars.sum() + PRIOR_STARS * PRIOR_WEIGHT) / (len(stars) + PRIOR_WEIGHT))
    return UserFeatures(
        user=user,
        as_of=as_of,
        ratings=len(rated),
        watched=len(rows),
        mean_stars=mean,
        days_since_last=float((as_of - rows.at.max()) / DAY) if len(rows) else None,
        last_30_days=int((rows.at >= as_of - 30 * DAY).sum()),
        genres=_leanings(rated, stars - mean, genres),
    )


def _leanings(
    rated: Interactions, above: npt.NDArray[np.float64], genres: Mapping[int, Sequence[str]]
) -> dict[str, float]:
    sums: dict[str, float] = {}
    counts: dict[str, int] = {}
    for movie, value in zip(rated.movie.tolist(), above.tolist(), strict=True):
        for genre in genres.get(movie, ()):
            sums[genre] = sums.get(genre, 0.0) + value
            counts[genre] = counts.get(genre, 0) + 1
    return {genre: sums[genre] / (counts[genre] + PRIOR_WEIGHT) for genre in sorted(sums)}


def popularity(rows: Interactions, movies: npt.NDArray[np.int64], as_of: int) -> npt.NDArray[np.float64]:
    """How much each of `movies` (ascending ids) was liked before `as_of`, with old likes fading."""
    rows = collapse(rows.take(rows.at < as_of))
    weight = strength(rows.stars, rows.watched) * 0.5 ** ((as_of - rows.at) / DAY / HALF_LIFE_DAYS)
    return _sum_by_movie(rows, weight, movies)


def counts(rows: Interactions, movies: npt.NDArray[np.int64], as_of: int) -> npt.NDArray[np.float64]:
    """How often each of `movies` (ascending ids) was liked before `as_of`, old likes as much as new ones."""
    rows = collapse(rows.take(rows.at < as_of))
    return _sum_by_movie(rows, (strength(rows.stars, rows.watched) > 0).astype(np.float64), movies)


def _sum_by_movie(
    rows: Interactions, weight: npt.NDArray[np.floating], movies: npt.NDArray[np.int64]
) -> npt.NDArray[np.float64]:
    place = np.searchsorted(movies, rows.movie)
    known = (place < len(movies)) & (movies[np.minimum(place, len(movies) - 1)] == rows.movie)
    return np.bincount(place[known], weight[known], len(movies)).astype(np.float64)


@dataclass(frozen=True)
class Matrix:
    """Users by movies: `strengths` for training and `seen` (also what was disliked); ids by row and column."""

    users: npt.NDArray[np.int64]
    movies: npt.NDArray[np.int64]
    strengths: sparse.csr_matrix
    seen: sparse.csr_matrix


def matrix(rows: Interactions, movies: Iterable[int], as_of: int) -> Matrix:
    """The training matrix of all interactions before `as_of`; every one of `movies` has a column."""
    rows = collapse(rows.take(rows.at < as_of))
    columns = np.unique(np.fromiter(movies, np.int64))
    rows = rows.take(np.isin(rows.movie, columns))
    users, row = np.unique(rows.user, return_inverse=True)
    column = np.searchsorted(columns, rows.movie)
    shape = (len(users), len(columns))
    values = strength(rows.stars, rows.watched)
    seen = sparse.csr_matrix((np.ones(len(rows), np.float32), (row, column)), shape)
    seen.data[:] = 1
    liked = values > 0
    strengths = sparse.csr_matrix((values[liked], (row[liked], column[liked])), shape)
    return Matrix(users, columns, strengths, seen)


def genres_of(movies: Iterable[Movie]) -> dict[int, tuple[str, ...]]:
    """Genres by the number of the movie."""
    return {movie.id: movie.genres for movie in movies}
