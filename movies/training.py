"""From a snapshot of interactions to an evaluated model. Same rows, same settings and seed: the same model."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.sparse as sparse

from movies import features
from movies.data.tables import Interactions
from movies.errors import NotEnoughData

#: Fewer users, movies or likes than this give nothing worth publishing.
LEAST = {"users": 5, "movies": 5, "likes": 50}
#: Users and pairs looked at in an evaluation: enough for two digits, and bounded on large data.
_EVALUATED_USERS = 5_000


@dataclass(frozen=True)
class Recipe:
    """The settings of a training run; `alpha` and `regularization` as in movies.als.implicit."""

    factors: int = 16
    alpha: float = 2.0
    regularization: float = 20.0
    iterations: int = 12
    seed: int = 0


@dataclass(frozen=True)
class Evaluation:
    """Recall of the first 10 on the last tenth of the time, beside recommending what is popular."""

    recall_at_10: float
    popular_recall_at_10: float
    users: int
    cut: int

    @property
    def gain(self) -> float:
        """How many times better than popularity; 0 if popularity finds nothing."""
        return self.recall_at_10 / self.popular_recall_at_10 if self.popular_recall_at_10 else 0.0


@dataclass(frozen=True)
class Model:
    """Everything that serving needs: factors by movie and user, popularity, and what each user had seen."""

    movies: npt.NDArray[np.int64]
    movie_factors: npt.NDArray[np.float32]
    users: npt.NDArray[np.int64]
    user_factors: npt.NDArray[np.float32]
    popularity: npt.NDArray[np.float32]
    seen: sparse.csr_matrix
    recipe: Recipe
    as_of: int
    rows: int
    evaluation: Evaluation | None = None

    def describe(self) -> dict[str, object]:
        """What people want to know of a model, as JSON."""
        return {
            "as_of": self.as_of,
            "rows": self.rows,
            "users": len(self.users),
            "movies": len(self.movies),
            "recipe": asdict(self.recipe),
            "evaluation": asdict(self.evaluation) | {"gain": self.evaluation.gain} if self.evaluation else None,
        }


def train(
    rows: Interactions, movies: Iterable[int], *, recipe: Recipe | None = None, as_of: int, evaluate: bool = True
) -> Model:
    """Train on all rows before `as_of`, after an evaluation on a time split of them; NotEnoughData if too few."""
    recipe, columns = recipe or Recipe(), list(movies)
    evaluation = evaluated(rows, columns, recipe, as_of) if evaluate else None
    return replace(fit(rows, columns, recipe, as_of), evaluation=evaluation)


def fit(rows: Interactions, movies: list[int], recipe: Recipe, as_of: int) -> Model:
    """A model of all rows before `as_of`, not evaluated."""
    rows = rows.take(rows.at < as_of).ordered()
    table = features.matrix(rows, movies, as_of)
    _check(table)
    user_factors, movie_factors = _implicit(table.strengths, recipe)
    popularity = features.popularity(rows, table.movies, as_of).astype(np.float32)
    return Model(
        table.movies, movie_factors, table.users, user_factors, popularity, table.seen, recipe, as_of, len(rows)
    )


def _check(table: features.Matrix) -> None:
    found = {"users": len(table.users), "movies": len(table.movies), "likes": table.strengths.nnz}
    short = [f"{found[name]} {name} ({least} needed)" for name, least in LEAST.items() if found[name] < least]
    if short:
        raise NotEnoughData(f"There is too little to train on: {', '.join(short)}.")


def _implicit(strengths: sparse.csr_matrix, recipe: Recipe) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Factors by the library `implicit`, on one thread: with more, sums are added in no fixed order."""
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    from implicit.cpu.als import AlternatingLeastSquares
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1, "blas"):
        model = AlternatingLeastSquares(
            factors=recipe.factors,
            alpha=recipe.alpha,
            regularization=recipe.regularization,
            iterations=recipe.iterations,
            random_state=recipe.seed,
            num_threads=1,
            calculate_training_loss=False,
        )
        model.fit(strengths.astype(np.float32), show_progress=False)
    return np.asarray(model.user_factors, np.float32), np.asarray(model.item_factors, np.float32)


def evaluated(rows: Interactions, movies: list[int], recipe: Recipe, as_of: int) -> Evaluation | None:
    """Trained on the first nine tenths of the time, judged on the rest; None if the rest says nothing."""
    rows = rows.take(rows.at < as_of)
    if not len(rows):
        return None
    cut = int(np.quantile(rows.at, 0.9))
    try:
        early = fit(rows, movies, recipe, cut)
    except NotEnoughData:
        return None
    later = features.matrix(rows.take(rows.at >= cut), movies, as_of)
    known, in_early, in_later = np.intersect1d(early.users, later.users, return_indices=True)
    if not len(known):
        return None
    chosen = np.random.default_rng(recipe.seed).permutation(len(known))[:_EVALUATED_USERS]
    seen = early.seen[in_early[chosen]]
    # Recall counts only what could have been recommended: liked later and not seen before.
    wanted = later.strengths[in_later[chosen]]
    wanted.data[:] = 1
    wanted = wanted - wanted.multiply(seen)
    wanted.eliminate_zeros()
    counts = features.counts(rows, early.movies, cut)
    ours = recall(early.user_factors[in_early[chosen]] @ early.movie_factors.T, seen, wanted)
    # The better of two baselines: liked most often ever, and liked most of late.
    popular = max(
        recall(np.broadcast_to(score, (len(chosen), len(score))).copy(), seen, wanted)
        for score in (counts, early.popularity)
    )
    return Evaluation(ours, popular, int((wanted.getnnz(axis=1) > 0).sum()), cut)


def recall(scores: npt.NDArray[Any], seen: sparse.csr_matrix, wanted: sparse.csr_matrix, n: int = 10) -> float:
    """Mean over users of the share of the wanted movies that are among the n best unseen ones."""
    rows, columns = seen.nonzero()
    scores[rows, columns] = -np.inf
    best = np.argpartition(-scores, min(n, scores.shape[1] - 1), axis=1)[:, :n]
    hits = np.asarray(np.take_along_axis(wanted.toarray(), best, 1)).sum(axis=1)
    sizes = np.minimum(wanted.getnnz(axis=1), n)
    asked = sizes > 0
    return float((hits[asked] / sizes[asked]).mean()) if asked.any() else 0.0
