"""Problems as pages, for those who ask for pages: around a whole application, so that no refusal escapes it."""

from __future__ import annotations

import json
from collections.abc import MutableMapping
from typing import Any

from fastapi import Request

from movies.ui.rendering import problem
from movies.web import App, Receive, Scope, Send

_NEXT = {
    404: "Check the address, search for a title, or browse.",
    405: "Go back, and use the form or the link there.",
    429: "Too many people ask at once. Wait a second and load the page again.",
    500: "Load the page again. If it happens again, the log has the details under the trace below.",
    503: "Load the page again in a moment.",
}
#: Answers with a problem are short; whatever is longer is passed on as it is.
_LONGEST = 10_000
_BROKEN = "Something went wrong here; the log has the details."
_WORDS = {"Not Found": "There is nothing at this address.", "Method Not Allowed": "This address is not to be asked so."}


class Plain:
    """Around an application: an error in JSON becomes a page if the client accepts HTML; all else is untouched."""

    def __init__(self, app: App) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http" or not _wants_pages(scope):
            return await self._app(scope, receive, send)
        await self._app(scope, receive, _Turned(scope, send))


class _Turned:
    """The way out: holds an error back until it is whole, then sends it as a page."""

    def __init__(self, scope: Scope, send: Send) -> None:
        self._scope, self._send = scope, send
        self._held: MutableMapping[str, Any] | None = None
        self._body = b""

    async def __call__(self, message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start" and _is_problem(message):
            self._held = message
            return
        if self._held is None or message["type"] != "http.response.body":
            return await self._send(message)
        self._body += message.get("body", b"")
        if message.get("more_body") and len(self._body) <= _LONGEST:
            return
        start, self._held = self._held, None
        status = start["status"]
        detail = _detail(self._body) or (_BROKEN if status == 500 else None)
        if detail is None or message.get("more_body"):
            await self._send(start)
            return await self._send({**message, "body": self._body})
        made = problem(Request(self._scope), status, _WORDS.get(detail, detail), _NEXT.get(status, ""))
        own = {b"content-type", b"content-length", *(name for name, _ in made.raw_headers)}
        kept = [(name, value) for name, value in start["headers"] if name.lower() not in own]
        await self._send({**start, "headers": [*made.raw_headers, *kept]})
        await self._send({"type": "http.response.body", "body": bytes(made.body)})


def _wants_pages(scope: Scope) -> bool:
    return any(name == b"accept" and b"text/html" in value for name, value in scope["headers"])


def _is_problem(start: MutableMapping[str, Any]) -> bool:
    kind = next((value for name, value in start["headers"] if name.lower() == b"content-type"), b"")
    # Starlette answers an exception with a line of text.
    return start["status"] >= 400 and (kind.startswith(b"application/json") or start["status"] == 500)


def _detail(body: bytes) -> str | None:
    """What a movies.contracts.Problem says; None if the body is none."""
    try:
        detail = json.loads(body)["detail"]
    except (ValueError, KeyError, TypeError):
        return None
    return detail if isinstance(detail, str) else None
