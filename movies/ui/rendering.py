"""From data to pages: templates that escape, links that work behind any prefix, strict headers."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from fastapi import Request, Response
from fastapi.responses import HTMLResponse
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from movies import telemetry
from movies.ui.visitor import Visitor, choose, of

_HEADERS = {
    # Nothing inline and nothing from elsewhere: a title that got past the escaping could still do nothing.
    "Content-Security-Policy": (
        "default-src 'none'; img-src 'self'; style-src 'self'; script-src 'self'; connect-src 'self'; "
        "form-action 'self'; base-uri 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    # Pages belong to a visitor and a moment; after a rating the way back is to show the new state.
    "Cache-Control": "no-store",
}
#: What happened, as the heading of a page.
HEADINGS = {
    400: "That was not understood", 403: "That is not allowed", 404: "Not on the shelf",
    405: "That is not how it works",
    408: "That took too long", 413: "That is too much", 422: "That does not fit", 429: "The house is full",
    500: "Something broke", 503: "Back in a moment", 507: "The shelves are full",
}  # fmt: skip


def stars_text(stars: float) -> str:
    """Stars as characters: full ones and a half."""
    return "★" * int(stars) + ("½" if stars % 1 else "")


def query(**parameters: object) -> str:
    """?a=b&c=d of what is not empty; nothing if all is."""
    found = {name: value for name, value in parameters.items() if value not in ("", None)}
    return f"?{urlencode(found)}" if found else ""


_templates = Environment(
    loader=FileSystemLoader(Path(__file__).parent / "templates"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_templates.globals |= {"query": query}
_templates.filters |= {"stars": stars_text}


def root(request: Request) -> str:
    """The way from a page to the first one, relative: right behind any proxy that cuts a prefix off."""
    path = request.scope["path"].removeprefix(request.scope.get("root_path", ""))
    return "../" * max(0, path.count("/") - 1) or "./"


def page(request: Request, template: str, who: Visitor, *, status: int = 200, **context: Any) -> Response:
    """A page for a visitor."""
    trace = telemetry.current()
    text = _templates.get_template(template).render(
        root=root(request),
        who=who,
        path=request.scope["path"],
        status=status,
        trace=trace.trace_id if trace else "",
        **context,
    )
    made = HTMLResponse(text, status, _HEADERS)
    if status == 503:
        made.headers["Retry-After"] = "1"
    choose(made, request, who)
    return made


def problem(request: Request, status: int, what: str, next_: str = "") -> Response:
    """A page that says what happened and what to do next."""
    heading = HEADINGS.get(status, "Something went wrong")
    return page(request, "problem.html", of(request), status=status, heading=heading, what=what, next=next_)
