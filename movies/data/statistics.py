"""What a table of ratings looks like in numbers, to be held beside published ones."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np

from movies.data.tables import STARS, Interactions


@dataclass(frozen=True)
class Statistics:
    """Counts, shape and time of a table of ratings. Shares are of 1; `distribution` is by stars 0.5 to 5."""

    ratings: int
    users: int
    movies: int
    density: float
    mean: float
    deviation: float
    distribution: dict[float, float]
    ratings_per_user_median: float
    ratings_per_user_most: int
    #: Of all ratings, those of the tenth of the movies that is rated most.
    top_tenth_of_movies: float
    movies_with_few: float
    #: How unevenly ratings fall on movies: 0 all alike, 1 all on one (the coefficient of Gini).
    gini: float
    #: Of the variance of stars, what the means of movies and of users account for.
    movie_share_of_variance: float
    user_share_of_variance: float
    days: float

    def write(self) -> dict[str, object]:
        """As JSON."""
        return asdict(self)


def statistics(table: Interactions, movies: int | None = None) -> Statistics:
    """Statistics of the rated rows; `movies` is the size of the catalogue if some of it was never rated.

    ValueError if nothing is rated.
    """
    rated = table.take(table.rated)
    if not len(rated):
        raise ValueError("There are no ratings.")
    _, user, per_user = np.unique(rated.user, return_inverse=True, return_counts=True)
    _, movie, per_movie = np.unique(rated.movie, return_inverse=True, return_counts=True)
    stars = rated.stars.astype(np.float64)
    catalogue = max(movies or 0, len(per_movie))
    counts = np.zeros(catalogue, np.int64)
    counts[: len(per_movie)] = np.sort(per_movie)[::-1]
    return Statistics(
        ratings=len(rated),
        users=len(per_user),
        movies=catalogue,
        density=len(rated) / len(per_user) / catalogue,
        mean=float(stars.mean()),
        deviation=float(stars.std()),
        distribution={step: float((stars == step).mean()) for step in STARS},
        ratings_per_user_median=float(np.median(per_user)),
        ratings_per_user_most=int(per_user.max()),
        top_tenth_of_movies=float(counts[: max(1, catalogue // 10)].sum() / len(rated)),
        movies_with_few=float((counts < 5).mean()),
        gini=_gini(counts),
        movie_share_of_variance=_explained(stars, movie, per_movie),
        user_share_of_variance=_explained(stars, user, per_user),
        days=float((rated.at.max() - rated.at.min()) / 86_400),
    )


def _gini(counts: np.ndarray) -> float:
    rising = np.sort(counts)
    rank = np.arange(1, len(rising) + 1)
    return float(2 * (rank * rising).sum() / (len(rising) * rising.sum()) - (len(rising) + 1) / len(rising))


def _explained(stars: np.ndarray, group: np.ndarray, sizes: np.ndarray) -> float:
    """Share of the variance between groups, less what chance alone would put there."""
    total = stars.var()
    if not total or len(stars) <= len(sizes):
        return 0.0
    means = np.bincount(group, stars) / sizes
    within = ((stars - means[group]) ** 2).sum() / (len(stars) - len(sizes))
    return float(max(0.0, 1 - within / total))
