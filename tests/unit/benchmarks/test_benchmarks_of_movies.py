"""What the benchmarks of the recommender count, and whom they kill."""

from __future__ import annotations

import sys
from pathlib import Path
from urllib.parse import parse_qsl

import httpx

from movies.runner import BROKER, PARTS
from movies.ui.composing import rating

sys.path.insert(0, str(Path(__file__).parents[3] / "benchmarks"))

import no_lost_rating


def test_every_process_of_the_recommender_may_be_killed_while_ratings_are_counted() -> None:
    assert set(no_lost_rating.VICTIMS) == {BROKER, *PARTS}


def test_a_rating_by_the_form_of_the_site_is_counted_by_the_id_that_the_site_gives_it() -> None:
    forms = []

    def answer(request: httpx.Request) -> httpx.Response:
        forms.append(dict(parse_qsl(request.content.decode())) | {"movie": request.url.path.split("/")[2]})
        return httpx.Response(303)

    event = rating(7, 12, 4, "7n1")
    visitor = no_lost_rating.Visitor("http://site", 7)
    assert visitor.post(httpx.Client(transport=httpx.MockTransport(answer)), event)
    (form,) = forms
    assert rating(int(form["user"]), int(form["movie"]), float(form["stars"]), form["nonce"]).id == event.id
