"""Recall of the recommender beside popularity, error of the readable ALS, and the time of a training run.

Generated data, split by time: what is judged comes after all that was learned from. The floor of the training time is
the library `implicit` on the same matrix; time is CPU time, so other work on the machine does not count.
"""

from __future__ import annotations

import time

import numpy as np
from common import Figure, announce, finish, interleave, machine, median, options, say, table

from movies import als, artefact, features, training
from movies.data import generate
from movies.data.tables import Interactions
from movies.services.training import train_on
from movies.training import Recipe

GAIN, ERROR, TIMES = 1.3, 0.85, 4.0


def stars_error(rows: Interactions, movies: int) -> tuple[float, float, float]:
    """RMSE of the readable ALS and of the mean of the past, on the last tenth of the time, of users with a past.

    Third, the ratio of both on all ratings of that time: of users without a past nothing can be known but the movie.
    """
    rated = rows.take(rows.rated)
    early = rated.at < np.quantile(rated.at, 0.9)
    past, future = rated.take(early), rated.take(~early)
    users, user = np.unique(rated.user, return_inverse=True)
    stars = past.stars.astype(np.float64)
    fitted = als.explicit(user[early], past.movie - 1, stars, users=len(users), movies=movies)
    wanted = future.stars.astype(np.float64)
    ours = (fitted.predict(user[~early], future.movie - 1) - wanted) ** 2
    mean = (stars.mean() - wanted) ** 2
    known = np.isin(future.user, past.user)
    return (
        float(np.sqrt(ours[known].mean())),
        float(np.sqrt(mean[known].mean())),
        float(np.sqrt(ours.mean() / mean.mean())),
    )


def main() -> None:
    given = options(
        __doc__,
        ratings=(100_000, 20_000, "ratings to generate"),
        seeds=(3, 1, "data sets"),
        repeats=(3, 1, "times that a training run is measured"),
    )
    here = machine()
    announce("ranking", here)
    size = generate.Size.of(given.ratings)
    rows, gains, errors, everybody = [], [], [], []
    for seed in range(given.seeds):
        data = generate.interactions(size, seed)
        ids = list(range(1, size.movies + 1))
        found = training.evaluated(data, ids, Recipe(), int(data.at.max()) + 1)
        if found is None:
            raise SystemExit("There is too little data for an evaluation: ask for more ratings.")
        ours, mean, of_all = stars_error(data, size.movies)
        gains.append(found.gain)
        errors.append(ours / mean)
        everybody.append(of_all)
        rows.append(
            (seed, found.recall_at_10, found.popular_recall_at_10, found.gain, found.users, ours, mean, ours / mean)
        )
        say(f"  data set {seed}: recall {found.gain:.2f} x popularity, error {ours / mean:.2f} x the mean's")
    headings = (
        "data set",
        "recall@10",
        "popularity",
        "gain",
        "users",
        "RMSE",
        "of the mean",
        "ratio",
        "with new users",
    )
    table(f"{given.ratings} ratings, judged on the last tenth of the time", headings, rows)

    table_ = features.matrix(data, ids, int(data.at.max()) + 1)

    def whole() -> float:
        """A run of the service: train, evaluate, write."""
        began = time.process_time()
        artefact.write(train_on(data, ids))
        return time.process_time() - began

    def alone() -> float:
        began = time.process_time()
        training._implicit(table_.strengths, Recipe())
        return time.process_time() - began

    alone()  # imports
    times = interleave(given.repeats, whole=whole, alone=alone)
    ours, floor = median(times["whole"]), median(times["alone"])
    table(
        "A training run",
        ("what", "CPU s"),
        [("with features, evaluation and artefact", ours), ("implicit alone", floor)],
    )
    gain, error = float(np.mean(gains)), float(np.mean(errors))
    met = gain >= GAIN and error <= ERROR and ours <= TIMES * floor
    limit = f"means: recall >= {GAIN} x popularity, RMSE <= {ERROR} x the mean's; training <= {TIMES:g} x implicit"
    more = {"least_gain": round(min(gains), 2), "rmse_ratio": round(error, 3), "most_rmse_ratio": round(max(errors), 3)}
    more |= {"rmse_ratio_with_new_users": round(float(np.mean(everybody)), 3)}
    more |= {"training_ratio": round(ours / floor, 2), "ratings": given.ratings}
    finish(Figure("ranking", gain, "times popularity's recall@10", 1.0, limit, met, more), here)


if __name__ == "__main__":
    main()
