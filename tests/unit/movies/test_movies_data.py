"""Generated data and the user's own: the same from a seed, believable in numbers, faults told by line."""

from __future__ import annotations

import csv
import sys
import time
import tracemalloc
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
from movies.services.training import train_on


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


def test_tastes_drift() -> None:
    """What a user watches early and late differs by more than two halves taken at random do."""
    size = generate.Size.of(20_000)
    world = generate.world(size)
    rows = generate.interactions(size, made=world)
    rng = np.random.default_rng(0)

    def apart(chosen: np.ndarray) -> float:
        halves = np.array_split(world.taste[chosen - 1], 2)
        return float(((halves[0].mean(axis=0) - halves[1].mean(axis=0)) ** 2).sum())

    of_users = [rows.movie[rows.user == user] for user in range(1, size.users + 1)]  # in the order of time
    drifted, shuffled = (sum(map(apart, users)) for users in (of_users, [rng.permutation(one) for one in of_users]))
    assert drifted > 1.3 * shuffled


def test_users_come_in_sessions_and_users_and_movies_join_over_the_whole_time() -> None:
    size = generate.Size.of(20_000)
    movies, rows = generate.world(size).movies, generate.interactions(size)
    of_users = [rows.at[rows.user == user] for user in range(1, size.users + 1)]
    gaps = np.concatenate([np.diff(one) for one in of_users])
    assert (gaps < 3_600).mean() > 0.8 and 0.01 < (gaps > generate.DAY).mean() < 0.2
    span = generate.END - generate.BEGIN
    joined = np.array([(one[0] - generate.BEGIN) / span for one in of_users])
    assert ((joined[:, None] > [0, 0.25, 0.5, 0.75]) & (joined[:, None] < [0.25, 0.5, 0.75, 1])).sum(axis=0).min() > 10
    released = [movie for movie in movies if movie.released > generate.BEGIN]
    assert len(released) > 50 and {movie.id for movie in released} & set(rows.movie.tolist())


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


def test_titles_are_read_in_utf_8_and_else_in_latin_1(tmp_path: Path) -> None:
    (tmp_path / "ratings.dat").write_text("1::2::3.5::100\n")
    for encoding in ("utf-8", "latin-1"):
        (tmp_path / "movies.dat").write_bytes("2::Amélie (2001)::Drama\n".encode(encoding))
        assert [movie.title for movie in load.load(tmp_path).movies] == ["Amélie"]


def test_the_oldest_movielens_has_tabs_bars_and_flags(tmp_path: Path) -> None:
    (tmp_path / "u.data").write_text("196\t2\t3\t881250949\n196\t3\t4\t881250950\n")
    flags = ["0"] * 19
    flags[8] = flags[17] = "1"
    about = ["2", "Voyage, The (1995)", "01-Jan-1995", "", "http://example.org/"]
    (tmp_path / "u.item").write_bytes("|".join([*about, *flags]).encode() + b"\n")
    found = load.load(tmp_path)
    assert found.movies == [Movie(2, "Voyage, The", 1995, ("Drama", "War")), Movie(3, "Movie 3", 0, ())]
    assert found.interactions.at.tolist() == [881250949, 881250950]
    assert found.notes == ("1 rated movies have no title; they are called by their number.",)


def test_a_table_with_tabs_and_a_byte_order_mark_whose_ratings_were_given_twice(tmp_path: Path) -> None:
    rows = [
        "User\tItem ID\tScore\tRated_at",
        "1\t2\t3\t2024-05-02",
        "1\t2\t5\t2024-05-01",
        "1\t3\t1\t2024-05-01T12:00:00Z",
    ]
    (tmp_path / "mine.tsv").write_text("\n".join(rows), encoding="utf-8-sig")
    found = load.load(tmp_path / "mine.tsv")
    assert found.interactions.movie.tolist() == [3, 2] and found.interactions.stars.tolist() == [1, 3]
    assert found.notes == ("1 ratings were given twice; the latest counts.",)


def test_users_and_movies_of_ones_own_table_may_be_named_by_text(tmp_path: Path) -> None:
    path = tmp_path / "mine.csv"
    path.write_text("user,title,rating\nZoë,Überfahrt,5\nAl,The Voyage,4\nZoë,The Voyage,3\n")
    found = load.load(path)
    assert [(movie.id, movie.title) for movie in found.movies] == [(1, "Überfahrt"), (2, "The Voyage")]
    assert found.interactions.user.tolist() == [1, 1, 2] and len(found.notes) == 3 and "'Zoë' is 1" in found.notes[0]
    with path.open("a") as file:
        file.write("Bo,Another,2\n")
    assert load.load(path).movies[:2] == found.movies, "a name keeps its number when rows are added"
    path.write_text("user,movie,rating\nAl,The Voyage,5\nAl,,5\n")
    with pytest.raises(DataError, match="line 3: there is no name of a movie"):
        load.load(path)


@pytest.mark.parametrize("rows", ["A,1917,5\nB,Up,4\n", "A,Up,4\nB,1917,5\n"], ids=["number first", "name first"])
def test_a_column_with_one_name_has_names_wherever_that_is(tmp_path: Path, rows: str) -> None:
    (tmp_path / "mine.csv").write_text("user,title,rating\n" + rows)
    found = load.load(tmp_path / "mine.csv")
    assert [movie.title for movie in found.movies] == [line.split(",")[1] for line in rows.splitlines()]
    assert [movie.id for movie in found.movies] == [1, 2] and "2 movies are named by text" in found.notes[1]


def test_a_column_of_nothing_but_numbers_has_numbers_also_if_they_are_written_with_a_point(tmp_path: Path) -> None:
    path = tmp_path / "mine.csv"
    path.write_text("user,movie,title,rating\n1.0,12,Überfahrt,5\n7.0,12.0,Überfahrt,4\n7,3,,4\n")
    found = load.load(path)
    assert found.movies == [Movie(3, "Movie 3", 0, ()), Movie(12, "Überfahrt", 0, ())]
    assert sorted(found.interactions.user.tolist()) == [1, 7, 7] and len(found.notes) == 1
    path.write_text("user,movie,rating\n1.5,12,5\n")
    assert "1 users are named by text" in load.load(path).notes[0]


def test_no_movie_is_called_by_a_column_of_names(tmp_path: Path) -> None:
    (tmp_path / "mine.csv").write_text("user,name,movie,rating\n1,Zoë,12,5\n")
    assert load.load(tmp_path / "mine.csv").movies == [Movie(12, "Movie 12", 0, ())]


def test_ratings_to_another_number_become_stars(tmp_path: Path) -> None:
    path = tmp_path / "mine.csv"
    path.write_text("user,movie,rating\n1,1,10\n1,2,7\n1,3,1\n1,4,0\n")
    found = load.load(path, 10)
    assert found.interactions.stars.tolist() == [5, 3.5, 0.5, 0.5]
    assert found.notes[0] == "Ratings to 10 became stars, the nearest half."
    with pytest.raises(DataError, match=r"a rating of 10 is not .* --scale 10"):
        load.load(path)
    with pytest.raises(DataError, match="line 2: a rating of 10 is not on the scale to 7"):
        load.load(path, 7)
    path.write_text("user,movie,rating\n1,1,4.3\n1,2,0.1\n1,3,4.5\n")
    assert load.load(path, 5).interactions.stars.tolist() == [4.5, 0.5, 4.5]
    with pytest.raises(DataError, match=r"a rating of 4\.3 is not .* to round: --scale 5"):
        load.load(path)
    (tmp_path / "ratings.csv").write_text(path.read_text())
    with pytest.raises(DataError, match="goes to 5"):
        load.load(tmp_path / "ratings.csv", 10)


def test_ratings_without_a_time_still_count_after_the_first_live_one(tmp_path: Path) -> None:
    pairs = [(user, movie) for user in range(1, 21) for movie in range(1, 9) if (user + movie) % 3]
    path = tmp_path / "mine.csv"
    path.write_text("user,movie,rating\n" + "".join(f"{user},{movie},5\n" for user, movie in pairs))
    found = load.load(path)
    assert found.notes == ("No column says when: all ratings count as of now.",)
    live = Interactions.of([1], [1], [4], [np.nan], [time.time() + 60])
    model = train_on(Interactions.join([found.interactions, live]), list(range(1, 9)))
    assert (model.popularity > 1).all()
    assert model.evaluation is None, "ratings of one moment have no before and after"


async def test_what_was_changed_on_the_way_is_told_and_where_something_is_nothing_is_read(tmp_path: Path) -> None:
    (tmp_path / "mine.csv").write_text("user,movie,rating\n1,1,4\n1,1,5\n")
    bus = connect(f"file:{tmp_path / 'bus'}")
    await bus.open()
    told: list[str] = []
    try:
        first = await seed.loaded(bus, tmp_path / "mine.csv", say=told.append)
        (tmp_path / "mine.csv").unlink()
        assert await seed.loaded(bus, tmp_path / "mine.csv", say=told.append) == first
    finally:
        await bus.close()
    assert told[1] == "1 ratings were given twice; the latest counts." and "was not read" in told[2]


def test_faults_are_told_by_line_and_nothing_is_loaded(tmp_path: Path) -> None:
    path = tmp_path / "mine.csv"
    path.write_text("user,movie,rating,date\n1,2,4,100\n1,,4,100\n1,3,9,100\n")
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
        (
            "ratings.csv",
            b'userId,movieId,rating\n1,2,3\n1,2,"' + b"x" * 200_000 + b'"\n',
            "line 3: field larger than field limit",
        ),
        ("mine.csv", b"userId," + b"x" * 200_000 + b"\n1,2\n", "line 1: field larger than field limit"),
        ("mine.csv", "user,movie,rating\n1,2,3\n1,Amélie,3\n".encode("latin-1"), "line 3 is not written in UTF-8"),
        ("mine.csv", "né,film,note\n1,2,3\n".encode("latin-1"), "line 1 is not written in UTF-8"),
        ("ratings.csv", b"userId,movieId,rating\n1,2\n", "3 fields were expected, there are 2"),
        ("ratings.csv", b"userId,movieId,rating\n9999999999999999999,2,3\n", "line 2"),
        ("ratings.csv", b"userId,movieId,rating,timestamp\n1,2,3,tomorrow\n", "'tomorrow' is no time"),
        (
            "ratings.csv",
            b"userId,movieId,rating,timestamp\n1,2,3,1717236000000\n",
            "line 2: the time 1717236000000 is far",
        ),
        ("ratings.csv", b"userId,movieId,rating,timestamp\n1,2,3," + b"9" * 30 + b"\n", "divide by 1000"),
        (
            "ratings.csv",
            b"userId,movieId,rating,timestamp\n1,2,3,8589934592\n",
            "line 2: the time 8589934592 is in the",
        ),
        (
            "ratings.csv",
            b"userId,movieId,rating,timestamp\n1,2,3,1969-12-31\n",
            "line 2: the time 1969-12-31 is before",
        ),
        ("ratings.csv", b"userId,movieId,rating,timestamp\n1,2,3,-5\n", "line 2: the time -5 is before 1970"),
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


@pytest.mark.skipif(sys.platform != "linux", reason="needs a file in /proc that can be opened but not read")
@pytest.mark.parametrize("name", ["mine.csv", "ratings.dat"])
def test_a_table_that_cannot_be_read_is_named(tmp_path: Path, name: str) -> None:
    (tmp_path / name).symlink_to("/proc/self/mem")
    with pytest.raises(DataError, match=rf"{name} cannot be read: "):
        load.load(tmp_path / name)


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


def test_the_generator_holds_one_block_of_users_at_a_time() -> None:
    def most(users: int) -> int:
        size = generate.Size(ratings=users * 100, users=users, movies=400)
        made = generate.world(size)
        tracemalloc.start()
        try:
            assert sum(len(block.user) for block in generate.blocks(size, 0, made)) > users * 100
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    assert most(4_096) < 1.3 * most(512)
