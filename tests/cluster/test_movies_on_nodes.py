"""The recommender as pods: opened through its node port, used, trained again, and without one of its parts."""

from __future__ import annotations

import json
import re
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator

import pytest
from deployments import TROUBLE

from podlab.checks.api import Api
from podlab.cluster import Cluster
from podlab.commands import movies_pods
from podlab.waiting import until

USER = 3
PATIENCE = 240


@pytest.fixture(scope="module")
def site(shared: Cluster, packages: None) -> Iterator[str]:
    """The address of the site."""
    yield movies_pods.up(shared.name, lambda text: None, ratings=2_000)
    movies_pods.down(shared.name, lambda text: None)


@pytest.fixture
def api(shared: Cluster) -> Api:
    return Api.connect(shared.kubeconfig)


def _page(address: str) -> str:
    request = urllib.request.Request(address, headers={"Accept": "text/html"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        return answer.read().decode()


def _row(page: str, title: str) -> list[int]:
    match = re.search(rf"<h2[^>]*>{title}</h2>(.*?)</section>", page, re.DOTALL)
    return list(dict.fromkeys(int(one) for one in re.findall(r"movies/(\d+)/poster", match[1]))) if match else []


def _shown(site: str, title: str, fits: Callable[[list[int]], bool] = bool) -> list[int]:
    """A row of the first page, as soon as it is there and fits: on a busy machine a page may come without it."""

    def look() -> list[int] | None:
        row = _row(_page(f"{site}/?user={USER}"), title)
        return row if row and fits(row) else None

    return until(look, f"the row {title}", timeout=PATIENCE, ignore=TROUBLE)


def _rate(site: str, movie: int, stars: float) -> None:
    """Send a rating until the site says that it is kept; it counts once, however often it is sent."""
    form = {"user": USER, "stars": f"{stars:g}", "nonce": f"test{movie}"}
    data = urllib.parse.urlencode(form).encode()
    request = urllib.request.Request(f"{site}/movies/{movie}/rating", data, {"Accept": "text/html"})

    def kept() -> bool:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return "Kept:" in answer.read().decode()

    until(kept, f"a rating of the movie {movie} being kept", timeout=PATIENCE, ignore=TROUBLE)


def _serving(site: str) -> dict[str, str]:
    """What serving says of itself, through the site."""
    request = urllib.request.Request(f"{site}/status", headers={"Accept": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        parts = json.loads(answer.read())["parts"]
    return dict(next(part for part in parts if part["name"] == "serving")["facts"])


def _scaled(api: Api, replicas: int) -> None:
    path = api.resource("Deployment").path(movies_pods.NAMESPACE, "serving")
    body = {"spec": {"replicas": replicas}}
    api.request("PATCH", path, body=body, content_type="application/merge-patch+json")


def test_ratings_count_at_once_and_make_another_model(site: str) -> None:
    before, model = _shown(site, "For you"), until(lambda: _serving(site).get("model"), "a model", timeout=PATIENCE)
    # MOVIES_TRAIN_AFTER of the manifest is 20.
    movies = [movie for movie in range(1, 200) if movie not in before][:24] + before[:1]
    for movie in movies:
        _rate(site, movie, 5 if movie % 2 else 1)
    _shown(site, "You rated lately", lambda row: set(row) <= set(movies))
    _shown(site, "For you", lambda row: not set(row) & set(movies))
    until(lambda: _serving(site).get("model", model) != model, "a model of the new ratings", timeout=PATIENCE)
    _shown(site, "For you", lambda row: not set(row) & set(movies))


def test_without_serving_the_site_answers_with_what_it_last_knew(site: str, api: Api) -> None:
    popular = _shown(site, "Popular")
    _scaled(api, 0)
    try:
        assert set(_shown(site, "Popular titles")) & set(popular)
        until(lambda: "Serving is in trouble" in _page(f"{site}/status"), "the status saying so", timeout=PATIENCE)
    finally:
        _scaled(api, 2)
    _shown(site, "For you")


def test_ratings_outlive_the_pods_that_took_and_keep_them(site: str, api: Api) -> None:
    _rate(site, 250, 4.5)
    for app in ("broker", "features", "ingestion"):
        for pod in api.list("Pod", movies_pods.NAMESPACE, labelSelector=f"app={app}"):
            api.delete("Pod", pod["metadata"]["name"], movies_pods.NAMESPACE, grace=0)
    until(
        lambda: "You gave 4.5 stars" in _page(f"{site}/movies/250?user={USER}"), "the rating, after all were killed",
        timeout=PATIENCE, ignore=TROUBLE,
    )  # fmt: skip
    until(lambda: all(one.well for one in movies_pods.state(api)), "all being well again", timeout=PATIENCE)
