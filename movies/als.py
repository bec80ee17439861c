"""Alternating least squares in NumPy, written to be read. The services train with the library `implicit`.

explicit    factors and biases for stars, after Koren, Bell and Volinsky (2009), "Matrix Factorization Techniques
            for Recommender Systems"
implicit    factors for likes of varying confidence, after Hu, Koren and Volinsky (2008), "Collaborative Filtering
            for Implicit Feedback Datasets"

The idea of both: with the movies' factors held still, the best factors of a user are the answer to a small linear
system; then users are held still and movies are solved for. Each half can only lower the loss.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import scipy.sparse as sparse

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Explicit:
    """Predicted stars are mean + user_bias + movie_bias + user_factors · movie_factors."""

    mean: float
    user_bias: Floats
    movie_bias: Floats
    user_factors: Floats
    movie_factors: Floats

    def predict(self, user: Ints, movie: Ints) -> Floats:
        """Stars for pairs of positions, kept to the scale of 0.5 to 5."""
        taste = np.einsum("ij,ij->i", self.user_factors[user], self.movie_factors[movie])
        return np.clip(self.mean + self.user_bias[user] + self.movie_bias[movie] + taste, 0.5, 5.0)


def explicit(
    user: Ints,
    movie: Ints,
    stars: Floats,
    *,
    users: int,
    movies: int,
    factors: int = 8,
    regularization: float = 10.0,
    bias_regularization: float = 3.0,
    iterations: int = 8,
    seed: int = 0,
) -> Explicit:
    """Fit stars of (user, movie) positions; those that never occur keep biases and factors of about 0."""
    rng = np.random.default_rng(seed)
    mean = float(stars.mean())
    user_bias, movie_bias = np.zeros(users), np.zeros(movies)
    user_factors = np.zeros((users, factors))
    movie_factors = rng.normal(0, 0.1, (movies, factors))
    by_user, by_movie = _groups(user, users), _groups(movie, movies)
    for _ in range(iterations):
        for rows, here, other, bias, other_bias, factors_here, factors_other in (
            (by_user, user, movie, user_bias, movie_bias, user_factors, movie_factors),
            (by_movie, movie, user, movie_bias, user_bias, movie_factors, user_factors),
        ):
            left = stars - mean - other_bias[other] - np.einsum("ij,ij->i", factors_here[here], factors_other[other])
            sums, sizes = np.bincount(here, left, len(bias)), np.bincount(here, minlength=len(bias))
            bias[:] = sums / (sizes + bias_regularization)
            left = stars - mean - other_bias[other] - bias[here]
            for one, places in rows:
                known = factors_other[other[places]]
                square = known.T @ known + regularization * np.eye(factors)
                factors_here[one] = np.linalg.solve(square, known.T @ left[places])
    return Explicit(mean, user_bias, movie_bias, user_factors, movie_factors)


def _groups(here: Ints, count: int) -> list[tuple[int, Ints]]:
    """(number, places where it occurs) of every number that occurs."""
    order = np.argsort(here, kind="stable")
    ends = np.cumsum(np.bincount(here, minlength=count))
    starts = np.append(0, ends[:-1])
    return [(one, order[starts[one] : ends[one]]) for one in range(count) if ends[one] > starts[one]]


@dataclass(frozen=True)
class Implicit:
    """The higher user_factors · movie_factors, the more likely the user likes the movie."""

    user_factors: Floats
    movie_factors: Floats


def implicit(
    strengths: sparse.csr_matrix,
    *,
    factors: int = 32,
    alpha: float = 10.0,
    regularization: float = 2.0,
    iterations: int = 10,
    seed: int = 0,
) -> Implicit:
    """Fit a matrix of likes (users by movies): every cell is a wish for 1 or 0, with confidence 1 + alpha * like."""
    rng = np.random.default_rng(seed)
    users, movies = strengths.shape
    user_factors = rng.normal(0, 0.01, (users, factors))
    movie_factors = rng.normal(0, 0.01, (movies, factors))
    by_user, by_movie = strengths.tocsr(), strengths.T.tocsr()
    for _ in range(iterations):
        _solve(by_user, user_factors, movie_factors, alpha, regularization)
        _solve(by_movie, movie_factors, user_factors, alpha, regularization)
    return Implicit(user_factors, movie_factors)


def _solve(likes: sparse.csr_matrix, ours: Floats, theirs: Floats, alpha: float, regularization: float) -> None:
    """The best `ours`, row by row, with `theirs` held still."""
    gram = theirs.T @ theirs
    for row in range(likes.shape[0]):
        span = slice(likes.indptr[row], likes.indptr[row + 1])
        ours[row] = fold_in(gram, theirs[likes.indices[span]], likes.data[span], alpha, regularization)


def fold_in(gram: Floats, known: Floats, likes: npt.ArrayLike, alpha: float, regularization: float) -> Floats:
    """Factors of someone who likes some movies: the row of the least-squares system for one user.

    `gram` is the movies' factors times themselves, `known` the factors of the liked movies, `likes` how much.
    The cells that are not known count with confidence 1, all of them by `gram` at once: that is the trick of the paper.
    """
    extra = alpha * np.asarray(likes, np.float64)
    square = gram + (known.T * extra) @ known + regularization * np.eye(gram.shape[0])
    return np.asarray(np.linalg.solve(square, known.T @ (1 + extra)), np.float64)
