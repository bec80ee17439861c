"""The site over HTTP: what people see, and what they see when the others are away."""

from __future__ import annotations

import asyncio
import html
import re
from collections.abc import AsyncIterator

import httpx
import pytest
from house import House, Visit

from movies.contracts import Refused, SiteStatus
from movies.data.tables import Movie
from movies.errors import Unavailable

USER = 3
EVIL = '<script>alert("1")</script><img src=x onerror=alert(1)>'


@pytest.fixture
def house() -> House:
    return House()


@pytest.fixture
async def visit(house: House) -> AsyncIterator[Visit]:
    async with Visit(house, call_seconds=0.2) as made:
        yield made


def _text(answer: httpx.Response) -> str:
    """The words of a page, without marks."""
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", answer.text)).split())


def _row(answer: httpx.Response, title: str) -> list[int]:
    """The movies of a row of the first page, in order."""
    match = re.search(rf"<h2[^>]*>{title}</h2>(.*?)</section>", answer.text, re.DOTALL)
    assert match, f"no row {title}"
    return list(dict.fromkeys(int(one) for one in re.findall(r'class="cover" href="[^"]*movies/(\d+)"', match[1])))


async def test_a_user_sees_what_serving_recommends_with_reasons(visit: Visit, house: House) -> None:
    page = await visit.get("/", params={"user": USER})
    _basis, wanted = house.recommender.recommend(USER, _history(house), 13)
    assert page.status_code == 200
    # The first is shown apart, larger.
    assert _row(page, "For you") == [one.movie for one in wanted[1:]]
    assert f"What should user {USER} watch?" in _text(page)
    first = next(movie for movie in house.movies if movie.id == wanted[0].because[0].movie)
    assert f"Because you liked {first.title}" in _text(page)


def _history(house: House) -> object:
    from movies.recommender import History

    mine = house.of(USER)
    return History(mine.movie, mine.stars, mine.watched)


async def test_the_choice_of_a_user_is_remembered_and_can_be_taken_back(visit: Visit) -> None:
    await visit.get("/", params={"user": USER})
    assert f"What should user {USER} watch?" in _text(await visit.get("/"))
    await visit.get("/", params={"user": ""})
    assert "What should you watch tonight?" in _text(await visit.get("/"))


@pytest.mark.parametrize("bad", ["abc", "-1", "0", "1 OR 1=1", EVIL, "9" * 30, "\u0661"])
async def test_a_bad_user_is_told_so_and_the_last_one_stays(visit: Visit, bad: str) -> None:
    await visit.get("/", params={"user": USER})
    page = await visit.get("/", params={"user": bad})
    assert page.status_code == 200
    assert "is no user" in _text(page)
    assert f"user {USER}" in _text(page)
    assert "<script>alert" not in page.text


async def test_somebody_without_history_sees_what_is_popular(visit: Visit, house: House) -> None:
    page = await visit.get("/", params={"user": 99_999})
    assert "popular" in _text(page)
    assert _row(page, "For you")[0] == house.recommender.popular(13)[1].movie


async def test_a_rating_is_kept_and_shown_and_changes_what_is_recommended(visit: Visit, house: House) -> None:
    before = _row(await visit.get("/", params={"user": USER}), "For you")
    movie = before[0]
    page = await visit.rate(movie, "4.5", str(USER))
    assert page.status_code == 200
    assert page.url.path == f"/movies/{movie}"
    assert "Kept: ★★★★½" in _text(page)
    assert [(event.user, event.movie, event.stars) for event in house.events] == [(USER, movie, 4.5)]
    assert 'value="4.5" required checked' in page.text
    after = await visit.get("/")
    assert movie not in _row(after, "For you")
    assert _row(after, "You rated lately")[0] == movie


async def test_the_same_form_twice_is_one_rating_and_other_stars_are_another(visit: Visit, house: House) -> None:
    form = {"user": str(USER), "stars": "4", "nonce": "abc123"}
    for _ in range(3):
        await visit.client.post("/movies/5/rating", data=form)
    assert len(house.events) == 1
    await visit.client.post("/movies/5/rating", data=form | {"stars": "2"})
    assert [event.stars for event in house.events] == [4.0, 2.0]


@pytest.mark.parametrize(
    ("form", "says"),
    [
        ({"user": "3"}, "no stars"),
        ({"user": "3", "stars": "nan"}, "no stars"),
        ({"user": "3", "stars": "6"}, "no stars"),
        ({"user": "3", "stars": "4.3"}, "no stars"),
        ({"user": "3", "stars": "-1"}, "no stars"),
        ({"stars": "4"}, "who rates"),
        ({"user": "0", "stars": "4"}, "who rates"),
        ({"user": "x" * 500, "stars": "4"}, "does not fit"),
        ({}, "who rates"),
    ],
)
async def test_a_form_that_is_wrong_gets_a_page_and_nothing_is_kept(
    visit: Visit, house: House, form: dict[str, str], says: str
) -> None:
    page = await visit.client.post("/movies/5/rating", data=form)
    assert page.status_code == 422
    assert says in _text(page)
    assert "<h1>" in page.text
    assert house.events == []


async def test_a_nonce_from_elsewhere_cannot_name_an_event_badly(visit: Visit, house: House) -> None:
    await visit.client.post("/movies/5/rating", data={"user": "3", "stars": "4", "nonce": "a b\n\r{}"})
    assert re.fullmatch(r"ui\.3\.5\.4\.[0-9a-f]{16}", house.events[0].id)


async def test_another_site_cannot_rate_in_somebodys_name(visit: Visit, house: House) -> None:
    form = {"user": "3", "stars": "4", "nonce": "a"}
    page = await visit.client.post("/movies/5/rating", data=form, headers={"Sec-Fetch-Site": "cross-site"})
    assert page.status_code == 403
    assert house.events == []


async def test_a_refused_rating_says_why(visit: Visit, house: House) -> None:
    house.refusal = Refused(id="x", reason="unknown-movie", detail="There is no movie 5.")
    page = await visit.rate(5, "4")
    assert page.status_code == 422
    assert "There is no movie 5." in _text(page)


@pytest.mark.parametrize("trouble", ["away", "hanging"])
async def test_a_rating_that_is_not_known_to_be_kept_can_be_sent_once_more(
    visit: Visit, house: House, trouble: str
) -> None:
    house.trouble["ingestion"] = trouble
    page = await visit.rate(5, "3.5")
    assert page.status_code == 503
    assert page.headers["retry-after"] == "1"
    assert "not kept yet" in _text(page)
    again = dict(re.findall(r'type="hidden" name="(\w+)" value="([^"]+)"', page.text))
    house.trouble.clear()
    done = await visit.client.post("/movies/5/rating", data=again)
    assert "Kept: ★★★½" in _text(done)
    assert [event.stars for event in house.events] == [3.5]


@pytest.mark.parametrize("trouble", ["away", "hanging"])
@pytest.mark.parametrize("service", ["serving", "features", "training", "ingestion"])
async def test_every_page_answers_whoever_is_away(visit: Visit, house: House, service: str, trouble: str) -> None:
    await visit.get("/", params={"user": USER})
    house.trouble[service] = trouble
    for path in ("/", "/browse", "/search?q=the", "/movies/5", "/status"):
        page = await visit.get(path)
        assert page.status_code == 200, path
        assert "<h1" in page.text


async def test_hanging_services_are_waited_for_together_not_one_after_the_other(visit: Visit, house: House) -> None:
    await visit.get("/", params={"user": USER})
    house.trouble |= {"serving": "hanging", "features": "hanging"}
    house.calls.clear()
    page = asyncio.create_task(visit.get("/"))
    while len(house.calls) < 4:
        await asyncio.sleep(0)
    assert house.given_up == 0, "the last call began after the first was given up"
    assert (await page).status_code == 200
    assert house.given_up == 4


async def test_without_serving_the_last_popular_titles_stand_in(visit: Visit, house: House) -> None:
    known = await visit.get("/")
    house.trouble["serving"] = "away"
    page = await visit.get("/", params={"user": USER})
    assert "cannot be had just now" in _text(page)
    shown = _row(page, "Popular titles")
    assert shown
    assert set(shown) <= {one.movie for one in house.recommender.popular(24)}
    assert _row(known, "Popular")


async def test_without_serving_from_the_start_the_latest_movies_stand_in(house: House) -> None:
    house.trouble["serving"] = "away"
    async with Visit(house, call_seconds=0.2) as visit:
        page = await visit.get("/")
        assert len(_row(page, "New on the shelf")) == 11  # and one apart


async def test_all_comes_back_when_the_service_does(visit: Visit, house: House) -> None:
    house.trouble["serving"] = "hanging"
    assert "cannot be had" in _text(await visit.get("/", params={"user": USER}))
    house.trouble.clear()
    page = await visit.get("/")
    assert "cannot be had" not in _text(page)
    assert _row(page, "For you")


async def test_the_status_page_names_who_is_in_trouble(visit: Visit, house: House) -> None:
    well = _text(await visit.get("/status"))
    assert "All 4 parts behind this site are ready" in well
    assert "better than popularity 1.62 times" in well
    assert "3 events" in well
    house.trouble["serving"] = "no model yet"
    ill = _text(await visit.get("/status"))
    assert "Serving is in trouble" in ill
    assert "no model yet" in ill


async def test_the_status_for_programs_is_what_its_contract_says(visit: Visit, house: House) -> None:
    house.trouble["serving"] = "away"
    answer = await visit.get("/status", headers={"Accept": "application/json"})
    told = SiteStatus.model_validate_json(answer.content)
    assert [part.name for part in told.parts] == ["ingestion", "features", "training", "serving"]
    assert told.parts[1].facts and told.parts[3].troubles
    described = visit.frame.api.openapi()["paths"]["/status"]["get"]["responses"]["200"]["content"]
    assert described["application/json"]["schema"]["$ref"].endswith("/SiteStatus") and "text/html" in described


@pytest.mark.parametrize(
    "title", [EVIL, "a & b <c>", "'\"><b>", "{{ 7 * 7 }}", "映画 🎬 فيلم", "x" * 5000, "\u202eevil"]
)
async def test_titles_are_text_whatever_is_in_them(title: str) -> None:
    house = House(extra=[Movie(9_001, title, 2031, ("Drama", EVIL), EVIL)])
    async with Visit(house) as visit:
        for path in ("/browse", "/movies/9001", f"/search?q={title[:20]}", f"/browse?genre={EVIL}"):
            page = await visit.get(path)
            assert page.status_code == 200
            for mark in ("<script>alert", "<img src=x", "<b>", "<c>", "\u202e"):
                assert mark not in page.text
        shown = visit.ui.shelf.get(9_001)
        assert shown
        assert html.escape(shown.title) in (await visit.get("/movies/9001")).text.replace("&#34;", "&quot;").replace(
            "&#39;", "&#x27;"
        )


@pytest.mark.parametrize(
    ("path", "status", "says"),
    [
        ("/movies/0", 404, "no movie"),
        ("/movies/999999", 404, "no movie"),
        ("/movies/abc", 404, "no movie"),
        (f"/movies/{EVIL[:8]}", 404, "no movie"),
        ("/nothing/here", 404, "Not on the shelf"),
        ("/browse?genre=Nothing", 404, "no genre"),
        ("/browse?page=x", 422, "does not fit"),
        ("/browse?order=x", 422, "does not fit"),
    ],
)
async def test_what_is_not_there_gets_a_page_with_a_way_on(visit: Visit, path: str, status: int, says: str) -> None:
    page = await visit.get(path)
    assert page.status_code == status
    assert says in _text(page)
    assert "To the first page" in _text(page)
    assert EVIL[:8] not in page.text


async def test_programs_get_problems_as_json(visit: Visit) -> None:
    answer = await visit.get("/nothing", headers={"Accept": "application/json"})
    assert answer.json() == {"detail": "Not Found"}


async def test_too_many_at_once_get_a_page_that_says_when_to_come_back(house: House) -> None:
    async with Visit(house, call_seconds=1, max_in_flight=2) as visit:
        house.trouble["serving"] = "hanging"
        waiting = [asyncio.create_task(visit.get("/")) for _ in range(2)]
        while len(house.calls) < 3:  # the catalogue, and both
            await asyncio.sleep(0)
        page = await visit.get("/")
        assert page.status_code == 429
        assert page.headers["retry-after"] == "1"
        assert "The house is full" in _text(page)
        for one in waiting:
            assert (await one).status_code == 200


async def test_an_error_of_ours_is_a_page_without_its_details(visit: Visit, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("secret detail")

    monkeypatch.setattr(visit.ui.shelf, "search", broken)
    transport = httpx.ASGITransport(visit.app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://site") as client:
        page = await client.get("/search?q=a", headers={"Accept": "text/html"})
    assert page.status_code == 500
    assert "Something broke" in _text(page)
    assert "secret" not in page.text


async def test_pages_allow_no_foreign_code_and_are_not_stored(visit: Visit) -> None:
    page = await visit.get("/", params={"user": USER})
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert page.headers["cache-control"] == "no-store"
    assert "httponly" in page.headers["set-cookie"].lower()
    assert not re.search(r"<script(?! src)", page.text)
    assert not re.search(r'\son\w+="|\sstyle="', page.text)
    assert "http://" not in page.text
    assert "https://" not in page.text


@pytest.mark.parametrize("path", ["/", "/browse", "/search?q=the", "/movies/5", "/status", "/nothing/deep/down"])
async def test_all_links_are_relative_and_lead_somewhere(visit: Visit, path: str) -> None:
    page = await visit.get(path)
    found = set(re.findall(r'(?:href|src|action)="([^"]+)"', page.text))
    assert found
    for address in found:
        assert not address.startswith("/"), "a link from the root leaves the prefix of a proxy"
        target = httpx.URL(f"http://site{path}").join(html.unescape(address))
        if not target.path.endswith("/rating") and not address.startswith("#"):
            answer = await visit.get(str(target))
            assert answer.status_code == 200, f"{path} leads to {target}"


async def test_a_poster_is_a_picture_that_can_run_nothing(visit: Visit) -> None:
    answer = await visit.get("/movies/5/poster.svg")
    assert answer.headers["content-type"].startswith("image/svg+xml")
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert (await visit.get("/movies/0/poster.svg")).status_code == 404
    assert (await visit.get("/static/..%2fpart.py")).status_code == 404


async def test_the_site_is_not_ready_before_it_knows_the_movies(house: House) -> None:
    visit = Visit(house)
    assert visit.ui.unready()
    async with visit:
        assert visit.ui.unready() is None
        assert (await visit.get("/readyz")).status_code == 200


async def test_features_that_know_no_movies_do_not_empty_the_shelf(visit: Visit, house: House) -> None:
    house.movies = []
    with pytest.raises(Unavailable, match="no movies"):
        await visit.ui._stock()
    assert (await visit.get("/movies/5")).status_code == 200 and visit.ui.unready() is None


async def test_the_catalogue_is_fetched_again_only_if_it_is_another(visit: Visit, house: House) -> None:
    await visit.ui._stock()
    assert house.catalogues == 1
    house.movies = [*house.movies, Movie(4_711, "A new one", 2026, ("Drama",))]
    await visit.ui._stock()
    assert house.catalogues == 2 and (await visit.get("/movies/4711")).status_code == 200


async def test_the_site_starts_only_when_features_know_the_movies(house: House) -> None:
    movies, house.movies = house.movies, []
    visit = Visit(house)
    with pytest.raises(Unavailable, match="no movies"):
        await visit.ui.start()
    house.movies = movies
    async with visit:
        assert (await visit.get("/movies/5")).status_code == 200


async def test_a_trace_begun_elsewhere_is_on_the_page_and_goes_on(visit: Visit) -> None:
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    page = await visit.get("/", headers={"traceparent": f"00-{trace}-00f067aa0ba902b7-01"})
    assert trace in page.text
