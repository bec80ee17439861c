"""The two tables that everything else works on: movies, and interactions of users with them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

#: Half stars from 0.5 to 5.
STARS: tuple[float, ...] = tuple(step / 2 for step in range(1, 11))


@dataclass(frozen=True, slots=True)
class Movie:
    """A movie; `released` in seconds since 1970 is when people could first watch it here."""

    id: int
    title: str
    year: int
    genres: tuple[str, ...]
    about: str = ""
    released: int = 0


@dataclass(frozen=True)
class Interactions:
    """Columns of equal length: what a user did with a movie, and when.

    `stars` is NaN where a movie was watched but not rated; `watched` is the share of it that was seen, NaN where
    that is not known (a table of ratings only). `at` is in seconds since 1970.
    """

    user: npt.NDArray[np.int64]
    movie: npt.NDArray[np.int64]
    stars: npt.NDArray[np.float32]
    watched: npt.NDArray[np.float32]
    at: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.user)

    @classmethod
    def empty(cls) -> Interactions:
        """No interactions."""
        return cls.of([], [], [], [], [])

    @classmethod
    def of(
        cls,
        user: npt.ArrayLike,
        movie: npt.ArrayLike,
        stars: npt.ArrayLike,
        watched: npt.ArrayLike,
        at: npt.ArrayLike,
    ) -> Interactions:
        """Columns from any sequences, in the types above."""
        return cls(
            np.asarray(user, np.int64),
            np.asarray(movie, np.int64),
            np.asarray(stars, np.float32),
            np.asarray(watched, np.float32),
            np.asarray(at, np.int64),
        )

    @classmethod
    def join(cls, parts: Iterable[Interactions]) -> Interactions:
        """All parts, one after the other."""
        kept = list(parts)
        if not kept:
            return cls.empty()
        return cls(*(np.concatenate([getattr(part, name) for part in kept]) for name in COLUMNS))

    def take(self, rows: npt.NDArray[np.bool_] | npt.NDArray[np.int64] | slice) -> Interactions:
        """The chosen rows."""
        return Interactions(*(getattr(self, name)[rows] for name in COLUMNS))

    def ordered(self) -> Interactions:
        """Sorted by time, then user, then movie: one order for any input."""
        return self.take(np.lexsort((self.movie, self.user, self.at)))

    @property
    def rated(self) -> npt.NDArray[np.bool_]:
        """Which rows have stars."""
        return ~np.isnan(self.stars)


COLUMNS: Sequence[str] = ("user", "movie", "stars", "watched", "at")
