"""Believable movies and interactions from a seed: a thousand to ten million ratings in bounded memory.

How it works, so that a lesson can say what is true of the data:

- a movie has a popularity (Zipf-Mandelbrot over ranks) that fades with age, a quality, one to three genres, and a
  place in a space of tastes that depends on its genres;
- a user has an activity (log-normal, at least 20 ratings), a mildness, and a taste that drifts from one point to
  another between the first and the last day; users join over the whole time, in the middle more than at the ends;
- what a user watches follows popularity and taste (a weighted choice without repetition, by Gumbel noise); about two
  of three watched movies are rated; stars follow quality, mildness and taste, and people prefer whole stars;
- the days on which a user comes are bursts (sessions), most of them soon after joining.

Users are made in blocks, each with random numbers of its own: memory does not grow with the number of ratings.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from movies.data.tables import Interactions, Movie
from movies.data.titles import GENRE_SHARES, GENRES, story, title

DAY = 86_400
#: The last moment of the generated history: 2026-01-01 in UTC. Fixed, so that the same seed gives the same table.
END = 1_767_225_600
DAYS = 3 * 365
BEGIN = END - DAYS * DAY

_FACTORS = 8
_BLOCK = 256
_RATED = 0.66
_FLOOR = 20
_FADING = 0.3
_TASTE_IN_CHOICE = 1.3

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Size:
    """How many users and movies; `ratings` is aimed at, not hit exactly (within a few percent)."""

    ratings: int
    users: int
    movies: int

    @classmethod
    def of(cls, ratings: int) -> Size:
        """Users and movies for a number of ratings, on the line through MovieLens 100K and 10M."""
        if not 1_000 <= ratings <= 10_000_000:
            raise ValueError(f"{ratings} ratings: ask for 1,000 to 10,000,000.")
        scale = ratings / 100_000
        return cls(ratings, max(20, round(943 * scale**0.935)), max(120, round(1682 * scale**0.4)))


@dataclass(frozen=True)
class World:
    """Everything about the movies that decides who watches and likes them; `taste` is one row per movie."""

    movies: tuple[Movie, ...]
    appeal: Floats
    quality: Floats
    taste: Floats
    released: Floats


def world(size: Size, seed: int = 0) -> World:
    """The movies of a seed, with ids from 1."""
    rng = np.random.default_rng([seed, 1])
    count = size.movies
    first = rng.choice(len(GENRES), count, p=np.array(GENRE_SHARES) / sum(GENRE_SHARES))
    genre_taste = rng.normal(0, 1, (len(GENRES), _FACTORS))
    rank = rng.permutation(count)
    age_days = np.where(rng.random(count) < 0.15, rng.uniform(-DAYS, 0, count), rng.gamma(1.3, 4_000, count))
    released = np.minimum(BEGIN - age_days * DAY, END - 20 * DAY)
    taken: set[str] = set()
    made, taste = [], np.empty((count, _FACTORS))
    for number in range(count):
        more = rng.choice(len(GENRES), int(rng.integers(0, 3)), replace=False)
        of_movie = list(dict.fromkeys([int(first[number]), *map(int, more)]))
        genres = tuple(GENRES[genre] for genre in of_movie)
        year = max(1925, int(np.datetime64(int(released[number]), "s").astype("datetime64[Y]").astype(int)) + 1970)
        name = title(rng, taken)
        made.append(Movie(number + 1, name, year, genres, story(rng, genres[0]), int(released[number])))
        taste[number] = genre_taste[of_movie].mean(axis=0)
    taste = 0.75 * taste + 0.65 * rng.normal(0, 1, (count, _FACTORS))
    taste /= np.sqrt((taste**2).sum(axis=1).mean())
    quality = rng.normal(0, 0.45, count) - 0.35 * (rank - count / 2) / count
    return World(tuple(made), -1.3 * np.log(rank + 10.0), quality, taste, released)


def catalogue(size: Size, seed: int = 0) -> list[Movie]:
    """The movies of a seed."""
    return list(world(size, seed).movies)


def activity(size: Size, seed: int = 0) -> npt.NDArray[np.int64]:
    """How many movies each user watches: log-normal (sigma 1), at least 20, scaled to the wanted sum."""
    rng = np.random.default_rng([seed, 2])
    most = max(_FLOOR, int(0.6 * size.movies))
    raw = rng.lognormal(0, 1.0, size.users)
    low, high = 0.0, 4.0 * size.ratings / _RATED
    for _ in range(60):  # the scale at which the sum is right, found by halving
        scale = (low + high) / 2
        counts = np.clip(np.round(raw * scale), _FLOOR, most)
        low, high = (scale, high) if counts.sum() < size.ratings / _RATED else (low, scale)
    return counts.astype(np.int64)


def blocks(size: Size, seed: int = 0, made: World | None = None) -> Iterator[Interactions]:
    """The interactions of a seed, a block of users at a time, in no order of time."""
    made = made or world(size, seed)
    counts = activity(size, seed)
    for start in range(0, size.users, _BLOCK):
        yield _block(made, counts[start : start + _BLOCK], start + 1, np.random.default_rng([seed, 3, start]))


def interactions(size: Size, seed: int = 0, made: World | None = None) -> Interactions:
    """All interactions of a seed, sorted by time: about 32 bytes for each."""
    return Interactions.join(blocks(size, seed, made)).ordered()


def _block(made: World, counts: npt.NDArray[np.int64], first: int, rng: np.random.Generator) -> Interactions:
    users, most = len(counts), int(counts.max())
    joined = BEGIN + DAYS * DAY * rng.beta(1.3, 1.2, users) * 0.97
    early = rng.normal(0, 1, (users, _FACTORS))
    drift = 0.6 * rng.normal(0, 1, (users, _FACTORS))
    likes = (early + drift / 2) @ made.taste.T
    change = drift @ made.taste.T
    times = _times(rng, joined, counts, most)
    last = np.where(np.isfinite(times), times, -np.inf).max(axis=1)

    age = np.log1p(np.maximum(joined[:, None] - made.released, 0) / (365 * DAY))
    weight = made.appeal - _FADING * age + _TASTE_IN_CHOICE * likes + rng.gumbel(size=likes.shape)
    weight[made.released > last[:, None] - DAY] = -np.inf
    chosen = np.argpartition(-weight, most - 1, axis=1)[:, :most]
    order = np.argsort(-np.take_along_axis(weight, chosen, 1), axis=1)
    chosen = np.take_along_axis(chosen, order, 1)
    there = (np.arange(most) < counts[:, None]) & np.isfinite(np.take_along_axis(weight, chosen, 1))

    # Movies that fit the later taste come later.
    key = np.where(there, np.take_along_axis(change, chosen, 1) + rng.gumbel(size=chosen.shape), np.inf)
    chosen = np.take_along_axis(chosen, np.argsort(key, axis=1), 1)
    there = np.take_along_axis(there, np.argsort(key, axis=1), 1)
    return _rated(made, chosen, there, times, last, likes, change, joined, first, rng)


def _times(rng: np.random.Generator, joined: Floats, counts: npt.NDArray[np.int64], most: int) -> Floats:
    """For each user ascending seconds, infinite beyond the user's count: bursts in a session, days between them."""
    users = len(joined)
    within = rng.lognormal(5.5, 1.0, (users, most))
    new = rng.random((users, most)) < 0.06
    # Seven in ten sessions follow within days, the others after months.
    between = rng.exponential(1.0, (users, most)) * np.where(rng.random((users, most)) < 0.7, 4 * DAY, 75 * DAY)
    steps = np.cumsum(within + new * between, axis=1)
    lasts = np.take_along_axis(steps, counts[:, None] - 1, 1)
    room = ((END - 60) - joined[:, None]) * rng.uniform(0.3, 1.0, (users, 1))
    times = joined[:, None] + steps * np.minimum(1.0, room / lasts)
    return np.where(np.arange(most) < counts[:, None], times, np.inf)


def _rated(
    made: World,
    chosen: npt.NDArray[np.int64],
    there: npt.NDArray[np.bool_],
    times: Floats,
    last: Floats,
    likes: Floats,
    change: Floats,
    joined: Floats,
    first: int,
    rng: np.random.Generator,
) -> Interactions:
    users = len(chosen)
    late = np.where(there, (times - joined[:, None]) / np.maximum(last - joined, 1)[:, None], 0.0)
    taste = np.take_along_axis(likes, chosen, 1) + (late - 0.5) * np.take_along_axis(change, chosen, 1)
    mild = rng.normal(0, 0.40, (users, 1))
    raw = 3.1 + mild + made.quality[chosen] + 0.5 * taste + rng.normal(0, 0.75, chosen.shape)
    at = np.where(there, times, 0.0)
    early = at < made.released[chosen]  # nobody watches before the release
    span = last[:, None] - made.released[chosen]
    at = np.where(early, made.released[chosen] + rng.random(chosen.shape) * span, at)
    watched = np.clip(0.55 + 0.18 * (raw - 3.0) + rng.normal(0, 0.2, chosen.shape), 0.03, 1.0)
    rated = rng.random(chosen.shape) < _RATED
    number = np.broadcast_to(np.arange(first, first + users)[:, None], chosen.shape)
    return Interactions.of(
        number[there],
        chosen[there] + 1,
        np.where(rated, stars(raw, rng), np.nan)[there],
        watched[there].round(2),
        at[there],
    )


def stars(raw: Floats, rng: np.random.Generator) -> Floats:
    """Half stars from an opinion on the same scale: three of five halves go to the nearer whole star."""
    half = np.round(raw * 2) / 2
    is_half = half != np.floor(half)
    whole = np.where(raw >= half, np.ceil(raw), np.floor(raw))
    shown = np.where(is_half & (rng.random(raw.shape) < 0.62), whole, half)
    return np.clip(shown, 0.5, 5.0)
