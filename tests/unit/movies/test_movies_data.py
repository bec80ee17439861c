"""Generated data and the user's own: the same from a seed, believable in numbers, faults told by line."""

from __future__ import annotations

import csv
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from parts import SIZE, data

from movies import dataset, seed
from movies.bus import connect
from movies.data import generate, load
from movies.data.posters import poster
from movies.data.statistics import statistics
from movies.data.tables import STARS, Interactions, Movie
from movies.errors import DataError
from movies.seed import gathered


def test_the_same_seed_gives_the_same_data_and_another_other() -> None:
    one, again, other = (generate.interactions(SIZE, seed) for seed in (1, 1, 2))
    assert np.array_equal(one.movie, again.movie) and np.array_equal(one.at, again.at)
    assert not np.array_equal(one.movie[:100], other.movie[:100])


def test_nobody_watches_before_the_release_or_twice_and_all_stars_exist() -> None:
    movies, rows = data()
    released = np.array([0, *(movie.released for movie in movies)])
    assert (rows.at >= released[rows.movie]).all() and (rows.at < generate.END).all()
    assert len({*zip(rows.user.tolist(), rows.movie.tolist(), strict=True)}) == len(rows)
    assert set(rows.stars[rows.rated].tolist()) <= set(STARS)
    assert (np.diff(rows.at) >= 0).all()


def test_popularity_is_uneven_and_activity_is_skewed() -> None:
    size = generate.Size.of(20_000)
    found = statistics(generate.interactions(size), size.movies)
    assert abs(found.ratings / 20_000 - 1) < 0.1
    assert 3.2 < found.mean < 3.8 and 0.9 < found.deviation < 1.2
    assert found.top_tenth_of_movies > 0.3 and found.gini > 0.35
    assert found.ratings_per_user_most > 3 * found.ratings_per_user_median


@pytest.mark.parametrize("ratings", [999, 10_000_001])
def test_sizes_out_of_range_are_refused(ratings: int) -> None:
    with pytest.raises(ValueError, match=r"1,000 to 10,000,000"):
        generate.Size.of(ratings)


def test_blocks_are_put_together_without_loss() -> None:
    blocks = list(generate.blocks(SIZE, 1))
    together = list(gathered(blocks, least=1_000))
    assert sum(map(len, together)) == sum(map(len, blocks))
    assert list(gathered([])) == []


def test_statistics_of_nothing_are_refused() -> None:
    with pytest.raises(ValueError, match="no ratings"):
        statistics(Interactions.empty())


def test_movielens_in_each_form_is_the_same_table(tmp_path: Path) -> None:
    forms = {
        "latest": ("ratings.csv", "userId,movieId,rating,timestamp\n1,2,3.5,100\n", "movies.csv",
                   'movieId,title,genres\n2,"Voyage, The (1999)",Drama|War\n'),
        "million": ("ratings.dat", "1::2::3.5::100\n", "movies.dat", "2::Voyage, The (1999)::Drama|War\n"),
    }  # fmt: skip
    for folder, (ratings, rows, movies, titles) in forms.items():
        (tmp_path / folder).mkdir()
        (tmp_path / folder / ratings).write_text(rows)
        (tmp_path / folder / movies).write_text(titles)
        found = load.load(tmp_path / folder)
        assert found.movies == [Movie(2, "Voyage, The", 1999, ("Drama", "War"))]
        assert found.interactions.stars.tolist() == [3.5] and found.interactions.at.tolist() == [100]


def test_faults_are_told_by_line_and_nothing_is_loaded(tmp_path: Path) -> None:
    path = tmp_path / "mine.csv"
    path.write_text("user,movie,rating,date\n1,2,4,100\n1,x,4,100\n1,3,9,100\n")
    with pytest.raises(DataError) as caught:
        load.load(path)
    text = str(caught.value)
    assert "line 3" in text and "line 4" in text and "line 2:" not in text


@pytest.mark.parametrize(
    "title", ["<script>alert(1)</script>", "]]>&\"'", "é" * 5_000, "日本語の長い題名" * 20, "", "\u202e"]
)
def test_a_poster_is_well_formed_whatever_the_title(title: str) -> None:
    root = ElementTree.fromstring(poster(Movie(7, title, 1999, ("Drama",))))
    assert root.tag.endswith("svg") and not [one for one in root.iter() if one.tag.endswith("script")]


@pytest.mark.parametrize(
    ("name", "data", "says"),
    [
        ("ratings.csv", b"", "no column for user"),
        ("ratings.csv", b"userId,movieId,rating,timestamp\n", "no lines after the header"),
        ("ratings.csv", b"who,what\n1,2\n", "Its columns: who, what"),
        ("ratings.csv", b"\xff\xfe\x00 no text", "ratings.csv"),
        ("ratings.csv", b'userId,movieId,rating\n1,2,"' + b"x" * 200_000 + b'"\n', "field larger than field limit"),
        ("ratings.csv", b"userId,movieId,rating\n1,2\n", "3 fields were expected, there are 2"),
        ("ratings.csv", b"userId,movieId,rating\n9999999999999999999,2,3\n", "line 2"),
        ("ratings.csv", b"userId,movieId,rating,timestamp\n1,2,3,tomorrow\n", "'tomorrow' is no time"),
        ("ratings.dat", b"", "it is empty"),
        ("ratings.dat", b"1,2,3,4\n", "line 1"),
        ("ratings.txt", b"1,2,3\n", "no known form"),
    ],
)
def test_what_holds_no_ratings_is_refused_with_its_name_and_reason(
    tmp_path: Path, name: str, data: bytes, says: str
) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(DataError) as caught:
        load.load(tmp_path / name)
    assert name in str(caught.value) and says in str(caught.value)


def test_where_nothing_is_it_says_so(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="There is no"):
        load.load(tmp_path / "nothing")
    with pytest.raises(DataError, match="holds no ratings"):
        load.load(tmp_path)


HOSTILE = ["映画 🎬 فيلم", "x" * 20_000, "'; DROP TABLE event; --", "<script>alert(1)</script>", 'a, "quoted" title']


async def test_titles_of_ones_own_data_go_through_the_log_as_they_are(tmp_path: Path) -> None:
    with (tmp_path / "movies.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["movieId", "title", "genres"])
        table.writerows([number, title, "Drama"] for number, title in enumerate(HOSTILE, 1))
    rows = "\n".join(f"1,{number},4,100" for number in range(1, len(HOSTILE) + 1))
    (tmp_path / "ratings.csv").write_text(f"userId,movieId,rating,timestamp\n{rows}\n")
    bus = connect(f"file:{tmp_path / 'bus'}")
    await bus.open()
    try:
        await seed.loaded(bus, tmp_path)
        found = await dataset.find(bus)
    finally:
        await bus.close()
    assert found is not None and [movie.title for movie in found.movies] == HOSTILE
