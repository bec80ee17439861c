"""What should user 123 watch: ranking, reasons and cold start, from a model and what the user has done so far.

A user's factors are made anew from the history at every request (see movies.als.fold_in), so that a rating counts at
once and users who came after the training are served. Without a history, what is popular is recommended; if the
history cannot be had, the factors of the training are used.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from movies.als import fold_in
from movies.features import strength
from movies.training import Model

Basis = Literal["history", "model", "popular"]


@dataclass(frozen=True)
class History:
    """What one user has done: a row for each movie, positions are not assumed known to the model."""

    movies: npt.NDArray[np.int64]
    stars: npt.NDArray[np.float32]
    watched: npt.NDArray[np.float32]


@dataclass(frozen=True)
class Because:
    """A liked movie that speaks for a recommendation; `share` of all that speaks for it, 0 to 1."""

    movie: int
    share: float


@dataclass(frozen=True)
class Recommendation:
    """A movie, its score (higher is better, 1 is what a surely liked movie gets), and what speaks for it."""

    movie: int
    score: float
    because: tuple[Because, ...]


class Recommender:
    """Answers from one model; makes nothing but small arrays per request, so that threads can share it."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self._factors = model.movie_factors.astype(np.float64)
        self._gram = self._factors.T @ self._factors
        self._identity = np.eye(self._factors.shape[1])
        lengths = np.linalg.norm(self._factors, axis=1)
        self._directions = self._factors / np.maximum(lengths, 1e-12)[:, None]

    def recommend(self, user: int, history: History | None, n: int = 10) -> tuple[Basis, list[Recommendation]]:
        """Up to `n` unseen movies, best first, and what they rest on. `history` None: it could not be had."""
        if history is None:
            return self._from_training(user, n)
        places = self._places(history.movies)
        known = places >= 0
        seen = places[known]
        likes = strength(history.stars, history.watched)[known]
        liked, likes = seen[likes > 0], likes[likes > 0]
        if not len(liked):
            return "popular", self._popular(seen, n)
        alpha, regularization = self.model.recipe.alpha, self.model.recipe.regularization
        ours = fold_in(self._gram, self._factors[liked], likes, alpha, regularization)
        found = self._best(self._factors @ ours, seen, n)
        weights = self._because(liked, likes)
        return "history", [self._explained(place, score, liked, weights) for place, score in found]

    def similar(self, movie: int, n: int = 10) -> list[Recommendation]:
        """Movies liked by the same people; none for a movie that the model does not know."""
        (place,) = self._places(np.array([movie]))
        if place < 0 or not self._factors[place].any():
            return []
        found = self._best(self._directions @ self._directions[place], np.array([place]), n)
        return [self._plain(other, score) for other, score in found]

    def popular(self, n: int = 10) -> list[Recommendation]:
        """What is liked most of late."""
        return self._popular(np.empty(0, np.int64), n)

    def _from_training(self, user: int, n: int) -> tuple[Basis, list[Recommendation]]:
        row = int(np.searchsorted(self.model.users, user))
        if row >= len(self.model.users) or self.model.users[row] != user:
            return "popular", self.popular(n)
        seen = self.model.seen.indices[self.model.seen.indptr[row] : self.model.seen.indptr[row + 1]]
        scores = self._factors @ self.model.user_factors[row].astype(np.float64)
        return "model", [self._plain(place, score) for place, score in self._best(scores, seen, n)]

    def _popular(self, seen: npt.NDArray[np.int64], n: int) -> list[Recommendation]:
        scores = self.model.popularity.astype(np.float64) / max(float(self.model.popularity.max()), 1e-12)
        return [self._plain(place, score) for place, score in self._best(scores, seen, n)]

    def _plain(self, place: int, score: float) -> Recommendation:
        return Recommendation(int(self.model.movies[place]), round(score, 4), ())

    def _places(self, movies: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Positions in the model; -1 for movies that it does not know."""
        place = np.searchsorted(self.model.movies, movies)
        inside = np.minimum(place, len(self.model.movies) - 1)
        return np.where(self.model.movies[inside] == movies, inside, -1)

    @staticmethod
    def _best(scores: npt.NDArray[np.float64], seen: npt.NDArray[np.int64], n: int) -> list[tuple[int, float]]:
        scores = scores.copy()
        scores[seen] = -np.inf
        n = min(n, int(np.isfinite(scores).sum()))
        if n <= 0:
            return []
        best = np.argpartition(-scores, n - 1)[:n]
        best = best[np.lexsort((best, -scores[best]))]
        return [(int(place), float(scores[place])) for place in best]

    def _because(self, liked: npt.NDArray[np.int64], likes: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
        """One column for each liked movie: a score is the sum over columns of factors · column.

        The folded-in factors are linear in the likes given the confidences (Hu, Koren and Volinsky, section 5), so
        every score comes apart into what each liked movie adds.
        """
        recipe = self.model.recipe
        known = self._factors[liked]
        extra = recipe.alpha * likes.astype(np.float64)
        square = self._gram + (known.T * extra) @ known + recipe.regularization * self._identity
        return np.linalg.solve(square, known.T) * (1 + extra)

    def _explained(
        self, place: int, score: float, liked: npt.NDArray[np.int64], weights: npt.NDArray[np.float64]
    ) -> Recommendation:
        parts = self._factors[place] @ weights
        total = np.maximum(parts, 0).sum()
        best = np.argsort(-parts)[:3]
        because = tuple(
            Because(int(self.model.movies[liked[one]]), round(float(parts[one] / total), 3))
            for one in best
            if total > 0 and parts[one] > 0
        )
        return Recommendation(int(self.model.movies[place]), round(score, 4), because)
