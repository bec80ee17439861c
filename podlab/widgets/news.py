"""What watched pictures share: how old their news are, who looks at them, and the script that tells it on the page."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from importlib import resources
from typing import Any, Protocol

#: Seconds without any open view after which a feeder stops (a page that is reloaded opens its views again).
NOBODY_LOOKS = 30.0

#: Said below the help of a picture that can be gone through, and of one that moves by itself.
SLIDER = "step(1) and seek(n) do what the slider and its buttons do."
MOVING = "pause(), step(1), seek(n) and live() do what the buttons and the slider do."

#: The scripts that stand before every view's own.
SHARED = ("news.js", "timebar.js")

_FOLDER = resources.files("podlab.widgets")


class Source(Protocol):
    """What a watched picture is fed by."""

    #: When it heard something last (seconds since the epoch; 0: not yet), and what is in the way, '' if nothing is.
    heard: float
    last_error: str


def script(name: str) -> str:
    """The text of a view's module: what all share, and its own."""
    return "".join(_FOLDER.joinpath(each).read_text() for each in (*SHARED, name))


def style(name: str) -> str:
    """The text of a view's styles: what all share, and its own."""
    return "".join(_FOLDER.joinpath(each).read_text() for each in ("news.css", name))


def age(source: Source | None) -> dict[str, Any]:
    """The part of a view that says how old it is: when it was drawn, when its source was heard, what is in the way."""
    now = time.time()
    return {"now": now, "heard": (source.heard if source else 0.0) or now, "error": source.last_error if source else ""}


def written(mode: str, source: Source | None) -> str:
    """The word that is written on a picture ("live", "recorded"), and what is in the way of news of a live one."""
    return f"{mode}, no news: {source.last_error}" if mode == "live" and source and source.last_error else mode


class Audience:
    """Who looks at what one feeder feeds. `wake()` is called when somebody opens a view of it."""

    def __init__(self, wake: Callable[[], None] = lambda: None) -> None:
        self._wake = wake
        self._looking = 0
        #: Papermill has no front end: where nobody has looked yet, nobody has gone.
        self._ever = False
        self._since: float | None = None

    def told(self, message: Mapping[str, Any]) -> None:
        """Take in a message of a front end: it opens a view, or closes it."""
        if message.get("type") == "open":
            self._looking += 1
            self._ever, self._since = True, None
            self._wake()
        elif message.get("type") == "close":
            self._looking = max(0, self._looking - 1)

    def expect(self) -> None:
        """Somebody is about to look: wait for them as long as for those who have gone."""
        self._since = None

    def gone(self) -> bool:
        """Whether every view that was ever shown has been closed for a while."""
        if self._looking or not self._ever:
            self._since = None
            return False
        self._since = self._since or time.monotonic()
        return time.monotonic() - self._since > NOBODY_LOOKS
