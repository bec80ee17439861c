"""Who looks at a page: a number that visitors choose, kept in a cookie. It is no login."""

from __future__ import annotations

from dataclasses import dataclass

from fastapi import Request, Response

_USER, _SEEN = "movies-user", "movies-seen"
_YEAR = 365 * 86_400
#: How long pages wait for a rating just made to be counted; afterwards it long is, or the log was begun anew.
_FRESH = 60


@dataclass(frozen=True)
class Visitor:
    """The chosen user, if any; `position`: the event that their pages must know of; `complaint`: a bad choice."""

    user: int | None = None
    position: int = 0
    complaint: str = ""


def of(request: Request) -> Visitor:
    """The visitor of a request: ?user= counts before the cookie; an empty one chooses nobody."""
    asked = request.query_params.get("user")
    kept = number(request.cookies.get(_USER, ""))
    if asked is not None and asked.strip():
        user = number(asked)
        if user is None:
            return Visitor(kept, 0, f"“{asked.strip()[:40]}” is no user: give a number from 1.")
    else:
        user = kept if asked is None else None
    owner, _, position = request.cookies.get(_SEEN, "").partition(".")
    fresh = user is not None and owner == str(user)
    return Visitor(user, (number(position) or 0) if fresh else 0)


def choose(response: Response, request: Request, who: Visitor) -> None:
    """Keep a choice that was made by ?user=."""
    if who.complaint or "user" not in request.query_params:
        return
    if who.user is None:
        response.delete_cookie(_USER, path="/")
    else:
        _set(response, _USER, str(who.user), _YEAR)


def remember(response: Response, user: int, position: int) -> None:
    """Let the next pages of the user wait for an event."""
    _set(response, _USER, str(user), _YEAR)
    _set(response, _SEEN, f"{user}.{position}", _FRESH)


def number(text: str) -> int | None:
    """A number of a user or movie; None if it is none."""
    text = text.strip()
    if not (text.isascii() and text.isdigit() and len(text) <= 16):
        return None
    value = int(text)
    return value if 1 <= value < 2**53 else None


def _set(response: Response, name: str, value: str, seconds: int) -> None:
    response.set_cookie(name, value, max_age=seconds, path="/", httponly=True, samesite="lax")
