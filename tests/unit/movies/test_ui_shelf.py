"""The shelf of the site: browsing, searching, and titles as strange as people make them."""

from __future__ import annotations

import pytest

from movies.data.posters import poster
from movies.data.tables import Movie
from movies.ui.shelf import UNTITLED, Shelf, folded, paged, shown
from movies.ui.visitor import number

MOVIES = [
    Movie(1, "Zoë and the Sparrow", 1962, ("Fantasy",)),
    Movie(2, "The Sparrow", 2004, ("Drama", "Fantasy"), released=10),
    Movie(3, "Sparrowhawk", 2004, ("Drama",), released=20),
    Movie(4, "A Lantern", 1999, ("War",)),
    Movie(5, "STRASSE and Straße", 0, ()),
]


@pytest.fixture
def shelf() -> Shelf:
    return Shelf(MOVIES)


def _ids(movies: object) -> list[int]:
    return [movie.id for movie in movies]  # type: ignore[attr-defined]


def test_a_genre_has_its_movies_the_latest_first(shelf: Shelf) -> None:
    assert _ids(shelf.browse("Drama").movies) == [3, 2]
    assert _ids(shelf.browse("Fantasy", "title").movies) == [2, 1]
    assert dict(shelf.genres) == {"Drama": 2, "Fantasy": 2, "War": 1}


def test_pages_hold_every_movie_once(shelf: Shelf) -> None:
    pages = [shelf.browse(number=number, size=2) for number in (1, 2, 3)]
    assert sorted(one for page in pages for one in _ids(page.movies)) == [1, 2, 3, 4, 5]
    assert {page.pages for page in pages} == {3}


@pytest.mark.parametrize(("asked", "given"), [(-5, 1), (0, 1), (2, 2), (10**12, 3)])
def test_a_page_that_is_not_there_is_the_nearest(asked: int, given: int) -> None:
    assert paged(MOVIES, asked, 2).number == given


def test_nothing_is_one_empty_page() -> None:
    found = Shelf().browse()
    assert (found.total, found.pages, list(found.movies)) == (0, 1, [])


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("sparrow", [3, 2, 1]),  # begins so, then has the word
        ("THE SPARROW", [2, 1]),
        ("zoe", [1]),
        ("  zoë   sparrow ", [1]),
        ("strasse", [5]),
        ("drama 2004", [3, 2]),
        ("nothing like it", []),
        ("", []),
        ("' OR 1=1 --", []),
        ("%", []),
    ],
)
def test_search_finds_all_words_whatever_case_and_accents(shelf: Shelf, words: str, found: list[int]) -> None:
    assert _ids(shelf.search(words).movies) == found


def test_a_title_that_is_the_words_comes_first(shelf: Shelf) -> None:
    assert _ids(shelf.search("the sparrow").movies)[0] == 2


def test_restocking_replaces_everything(shelf: Shelf) -> None:
    shelf.stock([Movie(9, "New", 2020, ("War",))])
    assert len(shelf) == 1
    assert shelf.get(1) is None
    assert _ids(shelf.pick([9, 1, 9])) == [9, 9]


@pytest.mark.parametrize(
    ("title", "kept"),
    [
        ("a\x00b\x1bc\ud800d", "abcd"),
        ("evil \u202egnp.exe", "evil gnp.exe"),
        ("two\nlines\tand\r\nmore", "two lines and more"),
        ("", UNTITLED),
        ("\x07", UNTITLED),
        ("映画 🎬 فيلم", "映画 🎬 فيلم"),
        ("👩‍🚀 (joined)", "👩‍🚀 (joined)"),
    ],
)
def test_titles_lose_what_cannot_be_shown_and_nothing_else(title: str, kept: str) -> None:
    assert shown(title) == kept
    assert Shelf([Movie(1, title, 2000, ())]).browse().movies[0].title == kept


@pytest.mark.parametrize("title", ["<script>", "x" * 3000, "a & b", "\x00", "]]>", "映画 🎬 فيلم", "'\""])
def test_every_title_gives_a_poster_that_is_well_formed(title: str) -> None:
    from xml.etree import ElementTree

    (movie,) = Shelf([Movie(1, title, 2000, ("Drama",))]).newest(1)
    tree = ElementTree.fromstring(poster(movie))
    assert tree.tag.endswith("svg")
    assert not [one for one in tree.iter() if one.tag.endswith("script")]


@pytest.mark.parametrize(
    ("text", "value"),
    [("1", 1), (" 123 ", 123), ("9007199254740991", 2**53 - 1)]
    + [(bad, None) for bad in ("", "0", "-1", "1.5", "1e3", "9007199254740992", "१२", "1'--", "９", "9" * 400)],
)
def test_numbers_of_users_are_whole_and_exact(text: str, value: int | None) -> None:
    assert number(text) == value


def test_folding_ignores_case_accents_and_space() -> None:
    assert folded("  Émile\u00a0 SØREN ") == "emile søren"
