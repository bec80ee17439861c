"""The part that people see: routes of the pages and the form, and the shelf that is stocked from features."""

from __future__ import annotations

import asyncio
import logging
import math
import secrets
from pathlib import Path
from typing import Annotated, Any

import httpx
from fastapi import APIRouter, Form, Query, Request, Response
from fastapi.responses import FileResponse, JSONResponse, RedirectResponse

from movies.background import Background
from movies.clients import Clients
from movies.config import Settings
from movies.contracts import Accepted, Refused, SiteStatus
from movies.data.posters import poster
from movies.data.tables import STARS, Movie
from movies.errors import Unavailable
from movies.ui import composing, health, visitor
from movies.ui.others import NAMES, Others, readiness
from movies.ui.rendering import page, problem
from movies.ui.shelf import Order, Shelf, shown
from movies.web import PROBLEMS

_log = logging.getLogger(__name__)

#: Seconds between two looks at the catalogue.
_LOOK = 30.0
_STATIC = {
    file.name: kind
    for file in (Path(__file__).parent / "static").iterdir()
    if (kind := {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}.get(file.suffix))
}
_PICTURE = {
    "Cache-Control": "public, max-age=3600",
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'",
    "X-Content-Type-Options": "nosniff",
}

#: For OpenAPI: who does not ask for JSON gets a page.
_PAGE_TOO: dict[int | str, dict[str, Any]] = PROBLEMS | {
    200: {"content": {"text/html": {"schema": {"type": "string"}}}}
}

Text = Annotated[str, Query(max_length=200)]
Number = Annotated[int, Query(ge=1, le=1_000_000)]


class Ui:
    """See movies.web.Part."""

    name = "ui"

    def __init__(self, settings: Settings, clients: Clients) -> None:
        self.shelf, self.popular = Shelf(), composing.Popular()
        # More than one call may take, so that a service that gives up by itself can still say so.
        self.others = Others(clients, settings.call_seconds + 0.25)
        self._settings = settings
        self._version = ""
        self._probes: httpx.AsyncClient | None = None
        self._stocking = Background("stocking the shelf", self._stock, _LOOK)
        self.router = APIRouter()
        for path, answer in (
            ("/", self.home),
            ("/browse", self.browse),
            ("/search", self.search),
            ("/movies/{movie}", self.movie),
            ("/movies/{movie}/poster.svg", self.poster),
            ("/static/{name}", self.static),
        ):
            self.router.add_api_route(path, answer, methods=["GET"], include_in_schema=False)
        self.router.add_api_route(
            "/status", self.status, methods=["GET"], tags=["ui"], response_model=SiteStatus, responses=_PAGE_TOO
        )
        self.router.add_api_route("/movies/{movie}/rating", self.rate, methods=["POST"], include_in_schema=False)

    async def start(self) -> None:
        """Stock the shelf, then keep it in stock; Unavailable if features does not answer or knows no movies."""
        await self._stock()
        self._probes = httpx.AsyncClient(timeout=self._settings.call_seconds, trust_env=False)
        self._stocking.start()

    async def stop(self) -> None:
        """End what runs in the background."""
        await self._stocking.stop()
        if self._probes:
            await self._probes.aclose()

    def unready(self) -> str | None:
        """The site answers whatever the others do, as soon as it knows the movies."""
        return None if len(self.shelf) else "no movies are known"

    async def _stock(self) -> None:
        catalogue = await self.others.ask.features.movies(self._version)
        if catalogue is None:
            return
        if not catalogue.movies:  # an old shelf is better than an empty one
            raise Unavailable("features knows no movies")
        self.shelf.stock(
            Movie(one.id, one.title, one.year, tuple(one.genres), one.about, one.released) for one in catalogue.movies
        )
        self._version = catalogue.version
        _log.info("shelf stocked", extra={"movies": len(self.shelf), "version": self._version})

    async def home(self, request: Request) -> Response:
        """Recommendations with reasons for a user, else what is popular."""
        who = visitor.of(request)
        front = await composing.front(self.others, self.shelf, self.popular, who.user, who.position)
        return page(request, "home.html", who, front=front, shelf=self.shelf)

    async def browse(
        self, request: Request, genre: Text = "", order: Order = "new", number: Annotated[int, Query(alias="page")] = 1
    ) -> Response:
        """The movies of a genre, page by page."""
        found = self.shelf.browse(genre, order, number)
        if genre and not found.total:
            return problem(
                request, 404, f"There is no genre “{shown(genre, '')}”.", "Choose one of those on the shelf."
            )
        return page(
            request, "browse.html", visitor.of(request), found=found, genre=genre, order=order, genres=self.shelf.genres
        )

    async def search(self, request: Request, q: str = "", number: Annotated[int, Query(alias="page")] = 1) -> Response:
        """Movies by words of their titles."""
        text = shown(q[:200], "")
        found = self.shelf.search(text, number)
        return page(request, "search.html", visitor.of(request), found=found, text=text, genres=self.shelf.genres)

    async def status(self, request: Request) -> Response:
        """How every part is, for people, or for programs as JSON."""
        assert self._probes
        urls = {name: getattr(self._settings, f"{name}_url") for name in NAMES}
        readies = await asyncio.gather(
            *(
                readiness(name, getattr(self.others.ask, name), urls[name], self._probes, self._settings.call_seconds)
                for name in NAMES
            )
        )
        parts = await health.parts(self.others, readies)
        if "application/json" in request.headers.get("accept", ""):
            told = SiteStatus(parts=parts).model_dump()
            return JSONResponse(told, headers={"Cache-Control": "no-store", "Vary": "Accept"})
        return page(request, "status.html", visitor.of(request), parts=parts, movies=len(self.shelf))

    async def movie(self, request: Request, movie: str, saved: str = "") -> Response:
        """A movie with poster, rating form and what is like it."""
        found = self._found(movie)
        if found is None:
            return self._no_such(request, movie)
        who = visitor.of(request)
        about = await composing.about(self.others, self.shelf, found, who.user, who.position)
        stars = _stars(saved)
        return page(
            request, "movie.html", who, about=about, saved=stars, chosen=stars or about.stars, scale=STARS,
            nonce=secrets.token_hex(8),
        )  # fmt: skip

    async def rate(
        self,
        request: Request,
        movie: str,
        user: Annotated[str, Form(max_length=40)] = "",
        stars: Annotated[str, Form(max_length=10)] = "",
        nonce: Annotated[str, Form(max_length=40)] = "",
    ) -> Response:
        """Keep a rating, then show the movie again; if it could not be kept, say so and offer to send it once more."""
        if request.headers.get("sec-fetch-site") == "cross-site":
            return problem(request, 403, "This rating was sent by another site.", "Rate on the page of the movie.")
        found = self._found(movie)
        if found is None:
            return self._no_such(request, movie)
        who, given = visitor.number(user), _stars(stars)
        if who is None:
            return problem(request, 422, "It is not clear who rates.", "Give a number from 1 as the user.")
        if given is None:
            return problem(request, 422, "There are no stars in this rating.", "Choose from half a star to five.")
        nonce = nonce if nonce.isalnum() and nonce.isascii() else secrets.token_hex(8)
        event = composing.rating(who, found.id, given, nonce).model_dump(mode="json", exclude_none=True)
        answer = await self.others.attempt(self.others.ask.ingestion.accept(event))
        if isinstance(answer, Unavailable):
            _log.warning("rating not known to be kept", extra={"reason": str(answer), "event": event["id"]})
            again = {"movie": found, "user": who, "stars": given, "nonce": nonce}
            return page(request, "again.html", visitor.Visitor(who), status=503, again=again)
        if isinstance(answer, Refused):
            return problem(request, 422, "This rating was refused.", answer.detail)
        assert isinstance(answer, Accepted)
        gone = RedirectResponse(f"../{found.id}?saved={given:g}", 303)
        visitor.remember(gone, who, answer.position)
        return gone

    async def poster(self, movie: str) -> Response:
        """The poster of a movie."""
        found = self._found(movie)
        if found is None:
            return Response("There is no such movie.\n", 404, media_type="text/plain")
        return Response(poster(found), media_type="image/svg+xml", headers=_PICTURE)

    async def static(self, name: str) -> Response:
        """Style, script and icon."""
        if name not in _STATIC:
            return Response("There is no such file.\n", 404, media_type="text/plain")
        headers = {"Cache-Control": "public, max-age=3600", "X-Content-Type-Options": "nosniff"}
        return FileResponse(Path(__file__).parent / "static" / name, media_type=_STATIC[name], headers=headers)

    def _found(self, movie: str) -> Movie | None:
        number = visitor.number(movie)
        return None if number is None else self.shelf.get(number)

    def _no_such(self, request: Request, movie: str) -> Response:
        return problem(
            request, 404, f"There is no movie “{shown(movie[:60], '')}” here.", "Search for its title, or browse."
        )


def _stars(text: str) -> float | None:
    """Stars from a form or an address; None if they are none."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) and value in STARS else None
