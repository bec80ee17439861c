"""The movie site in a real browser: the real monolith, its pages judged by axe, used with mouse, keys and no script."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from movies.runner import Running, start
from podlab.waiting import until

pytestmark = pytest.mark.browser

PAGES = ("", "?user=3", "browse", "browse?genre=Drama&page=2", "search?q=harbour", "movies/5", "status", "nowhere")
USER = 3
SECONDS = 60_000


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, browser: object) -> Iterator[Running]:
    """A monolith with little data, trained."""
    folder: Path = tmp_path_factory.mktemp("movies")
    # Patient: what is judged here is pages, not how soon a busy machine makes them.
    with start("monolith", folder, ratings=2_000, environment={"MOVIES_CALL_SECONDS": "30"}, seconds=300) as running:
        yield running


@pytest.fixture
def visit(site: Running, browser: Any) -> Iterator[Any]:
    """Makes pages: visit(path, **options of the context)."""
    contexts = []

    def open_(path: str = "", **options: Any) -> Any:
        context = browser.new_context(**options)
        context.set_default_timeout(SECONDS)
        contexts.append(context)
        page = context.new_page()
        page.problems = []
        page.on("pageerror", lambda error: page.problems.append(str(error)))
        page.on("console", lambda said: page.problems.append(said.text) if said.type == "error" else None)
        page.goto(f"{site.address}/{path}")
        return page

    yield open_
    for context in contexts:
        context.close()


def _violations(page: Any, axe: str) -> list[str]:
    # Our pages allow no script from elsewhere; the test's goes past that, as an extension does.
    page.evaluate(axe)
    found = page.evaluate("axe.run()")["violations"]
    return [f"{one['id']}: {one['nodes'][0]['html']}" for one in found]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("path", PAGES)
def test_axe_finds_nothing_wrong(visit: Any, axe: str, path: str, scheme: str) -> None:
    page = visit(path, color_scheme=scheme)
    assert _violations(page, axe) == []


@pytest.mark.parametrize("path", PAGES)
def test_nothing_is_wider_than_a_small_phone(visit: Any, path: str) -> None:
    page = visit(path, viewport={"width": 320, "height": 640})
    assert page.evaluate("document.documentElement.scrollWidth") <= 320


def test_the_colours_follow_the_system(visit: Any) -> None:
    colours = {
        scheme: visit("", color_scheme=scheme).evaluate("getComputedStyle(document.body).backgroundColor")
        for scheme in ("light", "dark")
    }
    assert colours["light"] != colours["dark"]


def test_rating_works_without_script_and_changes_what_is_recommended(visit: Any) -> None:
    page = visit(f"?user={USER}", java_script_enabled=False)
    first = page.locator("article.spotlight h3").inner_text()
    page.get_by_role("link", name="Seen it? Rate it").click()
    page.locator("input[name=stars][value='4.5']").check(force=True)
    page.get_by_role("button", name="Rate", exact=True).click()
    assert "Kept" in page.get_by_role("status").first.inner_text()
    page.get_by_role("link", name="See what that changes").click()
    rated = page.locator("section.row").filter(has=page.get_by_role("heading", name="You rated lately"))

    def changed() -> bool:
        page.reload()
        return first in rated.inner_text() and page.locator("article.spotlight h3").inner_text() != first

    until(changed, "the rating among what was rated, and another movie on top", timeout=60)


def test_rating_works_with_keys_only(visit: Any) -> None:
    page = visit(f"movies/7?user={USER}")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("Enter")
    stars = page.locator("input[name=stars]")
    while not page.evaluate("document.activeElement.name == 'stars'"):
        page.keyboard.press("Tab")
    page.keyboard.press("Space")
    for _ in range(3):
        page.keyboard.press("ArrowRight")
    assert stars.nth(3).is_checked()
    page.keyboard.press("Enter")
    page.wait_for_url("**/movies/7?saved=2")
    assert "2 of 5 stars" in page.locator(".notice.good [role=img]").get_attribute("aria-label")
    assert page.problems == []


def test_search_and_browse_lead_to_a_movie(visit: Any) -> None:
    page = visit("browse?genre=Comedy")
    title = page.locator(".cover h2").first.inner_text()
    page.get_by_label("Search for a title").fill(title)
    page.keyboard.press("Enter")
    page.locator(".cover").first.click()
    assert page.get_by_role("heading", level=1).inner_text() == title
    poster = page.locator("img.poster")
    assert poster.evaluate("picture => picture.decode().then(() => picture.naturalWidth > 0)")


def test_the_status_page_looks_again_by_itself_if_asked(visit: Any) -> None:
    page = visit("status")
    page.evaluate("document.getElementById('status').dataset.old = 'yes'")
    page.get_by_label("every two seconds").check()
    # Not wait_for_function: from its second look on it needs eval, which the site's policy forbids.
    page.locator("#status:not([data-old])").wait_for()
    assert "All 4 parts" in page.locator("#status").inner_text()
    assert page.problems == []


def test_behind_a_prefix_every_page_works(visit: Any, site: Running) -> None:
    """As behind a proxy that cuts /user/me/proxy/8000 off: the browser sees the prefix, the site does not."""
    page = visit("")
    asked = []

    def cut(route: Any) -> None:
        asked.append(route.request.url)
        route.continue_(url=route.request.url.replace("/user/me/proxy/8000/", "/", 1))

    page.route("**/user/me/proxy/8000/**", cut)
    page.goto(f"{site.address}/user/me/proxy/8000/?user={USER}")
    page.get_by_role("link", name="Browse", exact=True).click()
    page.locator(".cover").first.click()
    page.get_by_role("link", name="Matinee").click()
    assert "/user/me/proxy/8000/" in page.url
    assert page.locator("article.spotlight").count() == 1
    assert any(address.endswith("site.css") for address in asked)


@pytest.fixture(scope="module")
def jupyter(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """What a real Jupyter server, with its proxy, says of itself."""
    folder: Path = tmp_path_factory.mktemp("jupyter")
    kinds = ("RUNTIME", "CONFIG", "DATA")
    environment = os.environ | {f"JUPYTER_{kind}_DIR": str(folder / kind) for kind in kinds} | {"HOME": str(folder)}
    command = [sys.executable, "-m", "jupyter_server", "--no-browser", "--allow-root", "--ServerApp.port=0"]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log)

    def address() -> dict[str, Any] | None:
        assert process.poll() is None, (folder / "log").read_text()[-3000:]
        # The line of the log and the file come in no certain order, and the file is there before its text.
        for told in (folder / "RUNTIME").glob("jpserver-*.json"):
            found: dict[str, Any] = json.loads(told.read_text() or "{}")
            if found.get("port") and "is running at" in (folder / "log").read_text():
                return found
        return None

    try:
        yield until(address, "the Jupyter server's answer", timeout=300)
    finally:
        process.terminate()
        process.wait(120)


def test_through_jupyter_the_site_opens_and_a_movie_is_rated(
    visit: Any, site: Running, jupyter: dict[str, Any]
) -> None:
    page = visit("")
    front = f"{jupyter['url']}proxy/{site.address.rpartition(':')[2]}/"
    page.goto(front)
    assert "/login?" in page.url, "nobody comes in without Jupyter's token"
    page.problems.clear()
    page.goto(f"{front}?token={jupyter['token']}&user=11")
    page.get_by_role("link", name="Browse", exact=True).click()
    page.locator(".cover").first.click()
    page.locator("input[name=stars][value='3.5']").check(force=True)
    page.get_by_role("button", name="Rate", exact=True).click()
    assert "Kept" in page.get_by_role("status").first.inner_text()
    assert page.url.startswith(f"{front}movies/")
    page.get_by_role("link", name="See what that changes").click()
    assert page.url.startswith(front) and page.get_by_role("heading", name="You rated lately").count() == 1
    assert page.problems == []
