"""Features, training, artefacts and ranking as functions: no leak, no order, nothing taken from a damaged file."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from parts import data

from movies import als, artefact, features
from movies.data.tables import Interactions
from movies.errors import ModelRefused, NotEnoughData
from movies.recommender import History, Recommender
from movies.services.training import train_on
from movies.training import Model, recall, train

GENRES = {1: ("Drama",), 2: ("Comedy", "Drama"), 3: ()}
_event = st.tuples(
    st.integers(1, 4),
    st.integers(1, 5),
    st.sampled_from([float("nan"), 0.5, 1, 2.5, 3, 4, 5]),
    st.sampled_from([float("nan"), 0.0, 0.4, 0.5, 1.0]),
    st.integers(0, 30),
)
_events = st.lists(_event, max_size=30)


def table(events: list[tuple[int, int, float, float, int]]) -> Interactions:
    """Times in days."""
    if not events:
        return Interactions.empty()
    user, movie, stars, watched, day = zip(*events, strict=True)
    return Interactions.of(user, movie, stars, watched, np.array(day) * features.DAY)


@cache
def model() -> Model:
    movies, rows = data()
    return train_on(rows, [movie.id for movie in movies])


def same(left: Interactions, right: Interactions) -> bool:
    return all(
        np.array_equal(getattr(left, name), getattr(right, name), equal_nan=True)
        for name in ("user", "movie", "stars", "watched", "at")
    )


@given(_events, _events, st.integers(0, 30))
def test_nothing_after_a_moment_changes_the_features_of_that_moment(
    before: list[tuple[int, int, float, float, int]], more: list[tuple[int, int, float, float, int]], day: int
) -> None:
    as_of = day * features.DAY
    later = [(*event[:4], day + event[4]) for event in more]
    rows, with_later = table(before), table(before + later)
    assert features.user_features(1, rows, GENRES, as_of) == features.user_features(1, with_later, GENRES, as_of)
    columns = np.arange(1, 6)
    assert np.array_equal(features.popularity(rows, columns, as_of), features.popularity(with_later, columns, as_of))
    one, other = features.matrix(rows, columns, as_of), features.matrix(with_later, columns, as_of)
    assert np.array_equal(one.users, other.users) and (one.strengths != other.strengths).nnz == 0


@given(_events, st.randoms(use_true_random=False))
def test_the_order_of_arrival_and_repetition_do_not_matter(
    events: list[tuple[int, int, float, float, int]], random: object
) -> None:
    shuffled = events + events[:3]
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    one, other = features.collapse(table(events)), features.collapse(table(shuffled))
    assert same(one, other)
    pairs = list(zip(one.user.tolist(), one.movie.tolist(), strict=True))
    assert pairs == sorted(set(pairs))


def test_strength_says_how_much_a_movie_was_liked() -> None:
    nan = float("nan")
    stars, watched = [5, 3, 2.5, 0.5, nan, nan, nan, 1], [nan, 1, 1, nan, 1, 0.5, 0.4, 1]
    assert features.strength(stars, watched).tolist() == [3, 1, 0, 0, 1, 0.5, 0, 0]


@given(st.data())
@settings(max_examples=60)
def test_a_model_file_that_was_touched_is_refused(draw: st.DataObject) -> None:
    whole = artefact.write(model())
    if draw.draw(st.booleans()):
        bad = whole[: draw.draw(st.integers(0, len(whole) - 1))]
    else:
        place = draw.draw(st.integers(0, len(whole) - 1))
        header = len(whole) - len(whole.split(b"\n", 2)[2])
        if 15 <= place < header:  # the JSON line is not under the digest, but under the name: see models.fetch
            place = header
        bad = whole[:place] + bytes([whole[place] ^ 0x55]) + whole[place + 1 :]
    with pytest.raises(ModelRefused):
        artefact.read(bad)


def test_a_model_comes_back_as_it_was() -> None:
    read = artefact.read(artefact.write(model()))
    assert artefact.write(read) == artefact.write(model())
    assert read.evaluation == model().evaluation and read.recipe == model().recipe


@pytest.mark.parametrize(
    "first", [b"", b"GIF89a\n", b"movies-model 2\n{}\n", b"movies-model 1\n", b"movies-model 1\n{}\nx"]
)
def test_what_is_no_model_is_refused(first: bytes) -> None:
    with pytest.raises(ModelRefused):
        artefact.read(first)


def test_too_little_data_says_how_little() -> None:
    with pytest.raises(NotEnoughData, match="1 users"):
        train_on(Interactions.of([1], [1], [5], [1], [10]), [1, 2, 3])
    with pytest.raises(NotEnoughData, match="nothing to train on"):
        train_on(Interactions.empty(), [1])


def test_training_sees_nothing_of_the_future() -> None:
    movies, rows = data()
    ids = [movie.id for movie in movies]
    cut = int(np.quantile(rows.at, 0.8))
    with_future = train(rows, ids, as_of=cut)
    without = train(rows.take(rows.at < cut), ids, as_of=cut)
    assert artefact.write(with_future) == artefact.write(without)


def test_recall_is_the_share_of_what_was_wanted() -> None:
    import scipy.sparse as sparse

    scores = np.array([[5.0, 4, 3, 2, 1], [1.0, 2, 3, 4, 5]])
    seen = sparse.csr_matrix(np.array([[1, 0, 0, 0, 0], [0, 0, 0, 0, 0]]))
    wanted = sparse.csr_matrix(np.array([[0, 1, 0, 0, 1], [0, 0, 0, 0, 1]]))
    assert recall(scores, seen, wanted, n=2) == pytest.approx((0.5 + 1) / 2)


@pytest.mark.parametrize("movies", [5, 8, 10, 11])
def test_a_table_of_few_movies_is_trained_on_and_evaluated(movies: int) -> None:
    rng = np.random.default_rng(movies)
    user, movie = (part.ravel() for part in np.meshgrid(np.arange(1, 41), np.arange(1, movies + 1)))
    some = rng.random(len(user)) < 0.7
    at = rng.integers(1, 100, len(user)) * features.DAY
    rows = Interactions.of(user[some], movie[some], [5.0] * some.sum(), [np.nan] * some.sum(), at[some])
    found = train_on(rows, list(range(1, movies + 1)))
    assert len(found.movies) == movies and found.evaluation is not None
    assert 0 < found.evaluation.recall_at_10 <= 1


def test_reasons_add_up_and_are_what_was_liked() -> None:
    recommender = Recommender(model())
    liked = History(np.array([3, 5, 9]), np.array([5, 4, 1], np.float32), np.full(3, np.nan, np.float32))
    basis, found = recommender.recommend(9_001, liked, 10)
    assert basis == "history" and len(found) == 10
    for one in found:
        assert one.movie not in {3, 5, 9}
        assert {reason.movie for reason in one.because} <= {3, 5}, "what was disliked speaks for nothing"
        assert sum(reason.share for reason in one.because) <= 1.01


def test_somebody_who_dislikes_everything_gets_what_is_popular_and_unseen() -> None:
    recommender = Recommender(model())
    best = recommender.popular(3)
    hated = History(np.array([best[0].movie, 4_711]), np.array([0.5, 1], np.float32), np.full(2, np.nan, np.float32))
    basis, found = recommender.recommend(9_001, hated, 2)
    assert basis == "popular" and [one.movie for one in found] == [best[1].movie, best[2].movie]


def test_somebody_who_has_seen_everything_gets_nothing() -> None:
    everything = model().movies
    seen = History(everything, np.full(len(everything), 4, np.float32), np.full(len(everything), np.nan, np.float32))
    assert Recommender(model()).recommend(1, seen, 10) == ("history", [])


def test_folding_in_gives_the_factors_of_the_training() -> None:
    rng = np.random.default_rng(0)
    import scipy.sparse as sparse

    likes = sparse.csr_matrix((rng.random((30, 20)) < 0.2) * rng.integers(1, 4, (30, 20)).astype(float))
    fitted = als.implicit(likes, factors=4, iterations=30)
    gram = fitted.movie_factors.T @ fitted.movie_factors
    row = likes[7]
    ours = als.fold_in(gram, fitted.movie_factors[row.indices], row.data, 10.0, 2.0)
    assert np.allclose(ours, fitted.user_factors[7], atol=0.02)


def test_explicit_factors_predict_better_than_the_mean() -> None:
    rng = np.random.default_rng(1)
    users, movies = rng.normal(0, 1, (80, 2)), rng.normal(0, 1, (60, 2))
    user, movie = (part.ravel() for part in np.meshgrid(np.arange(80), np.arange(60), indexing="ij"))
    stars = np.clip(3 + (users[user] * movies[movie]).sum(1) + rng.normal(0, 0.2, len(user)), 0.5, 5)
    known = rng.random(len(user)) < 0.5
    fitted = als.explicit(user[known], movie[known], stars[known], users=80, movies=60, factors=3, regularization=1.0)
    error = np.sqrt(((fitted.predict(user[~known], movie[~known]) - stars[~known]) ** 2).mean())
    assert error < 0.5 * stars[~known].std()
