"""A widget that goes through a record: a picture for each moment, a slider, and the same facts in words.

What it shows is computed by pure functions of a model; `seek`, `step`, `set` and `do` are all that its controls do.
"""

from __future__ import annotations

import threading
from typing import Any

import anywidget
import traitlets

from podlab.errors import UsageError
from podlab.widgets import news
from podlab.widgets.views import still


class Replay(anywidget.AnyWidget):
    """Base of the widgets that replay a run. A subclass says what there is to see at a position."""

    _esm = news.script("replay.js")
    _css = news.style("replay.css")
    view = traitlets.Dict().tag(sync=True)

    #: What is written on it: whether this is a simulation, a plan, or a run that happened.
    mode = "recorded"
    help = ""
    #: What feeds a watched picture, and who looks at it.
    source: news.Source | None = None
    audience: news.Audience | None = None

    def __init__(self, title: str) -> None:
        super().__init__()
        self.title = title
        self.position = 0
        self.mark = ""
        self._lock = threading.RLock()
        self.on_msg(self._on_message)

    # What a subclass says

    @property
    def length(self) -> int:
        """The last position; 0 if there is nothing to go through."""
        return 0

    def picture(self) -> str:
        """The picture at the present position, as SVG text."""
        raise NotImplementedError

    def summary(self) -> str:
        """The picture in one sentence."""
        raise NotImplementedError

    def table(self) -> tuple[list[str], list[list[str]]]:
        """The facts of the picture: head and rows."""
        raise NotImplementedError

    def moment(self) -> str:
        """The present position in the record's own words, such as a time."""
        return f"{self.position} of {self.length}"

    def controls(self) -> list[dict[str, Any]]:
        """The model's controls; see `number`, `choice` and `action`."""
        return []

    def changed(self, name: str, value: Any) -> None:
        """Set a control of the model."""

    def acted(self, name: str) -> None:
        """Do an action of the model."""

    @property
    def follows(self) -> bool:
        """Whether the picture moves by itself, as news come."""
        return False

    @property
    def showing(self) -> str:
        """The mode, or "paused" where a picture that could move is held."""
        return self.mode

    @property
    def written(self) -> str:
        """What is written on the picture: its mode, and what is in the way of news where there are none."""
        return news.written(self.showing, self.source)

    # What everybody may do

    def seek(self, position: int) -> None:
        """Show the moment after `position` steps."""
        with self._lock:
            self.position = max(0, min(int(position), self.length))
            self.refresh()

    def step(self, by: int = 1) -> None:
        """Go on, or back, by some steps."""
        self.seek(self.position + by)

    def set(self, **values: Any) -> None:
        """Change controls, as their sliders do; UsageError for a control or a value that there is not."""
        known = {each["name"]: each for each in self.controls() if each["kind"] != "do"}
        with self._lock:
            for name, value in values.items():
                if name not in known:
                    raise UsageError(f"{self.title} has no control {name!r}.", hint=f"There are {', '.join(known)}.")
                self.changed(name, _fitting(known[name], value))
            self.position = min(self.position, self.length)
            self.refresh()

    def do(self, name: str) -> None:
        """Do what the button `name` does."""
        known = [each["name"] for each in self.controls() if each["kind"] == "do"]
        if name not in known:
            raise UsageError(f"{self.title} has no action {name!r}.", hint=f"There are {', '.join(known)}.")
        with self._lock:
            self.acted(name)
            self.position = min(self.position, self.length)
            self.refresh()

    def refresh(self) -> None:
        """Draw what is known now."""
        head, rows = self.table()
        how = news.MOVING if self.follows or self.showing == "paused" else news.SLIDER if self.length else ""
        self.view = {
            "title": self.title,
            "mode": self.showing,
            "follows": self.follows,
            "moment": self.moment() if self.length else "",
            "summary": self.summary(),
            "picture": self.picture(),
            "mark": self.mark,
            "help": f"{self.help} {how}".strip(),
            "position": self.position,
            "length": self.length,
            "controls": self.controls(),
            "head": head,
            "rows": rows,
            **(news.age(self.source) if self.source else {}),
        }

    def to_svg(self) -> str:
        """The picture as it is now, as SVG text."""
        return self.view["picture"]

    def to_text(self) -> str:
        """The same facts in words."""
        view = self.view
        told = f"{view['title']} ({', '.join(filter(None, (self.written, view['moment'])))}): {view['summary']}"
        rows = [view["head"], *view["rows"]]
        widths = [max(len(row[index]) for row in rows) for index in range(len(view["head"]))]
        lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
        return "\n".join([told, *filter(None, [self.mark]), *(f"  {line.rstrip()}" for line in lines)])

    def __str__(self) -> str:
        return self.to_text()

    def _on_message(self, _widget: Any, message: Any, _buffers: Any) -> None:
        if not isinstance(message, dict):
            return
        if self.audience is not None:
            self.audience.told(message)
        try:
            self._told(message)
        except UsageError as error:  # a message of a page that is out of date
            self.mark = str(error)
            self.refresh()

    def _told(self, message: dict[str, Any]) -> None:
        if message.get("type") == "seek" and isinstance(message.get("position"), int):
            self.seek(message["position"])
        elif message.get("type") == "set":
            self.set(**{str(message.get("name")): message.get("value")})
        elif message.get("type") == "do":
            self.do(str(message.get("name")))

    def _repr_mimebundle_(self, **kwargs: Any) -> Any:
        bundle = super()._repr_mimebundle_(**kwargs)
        data, metadata = bundle if isinstance(bundle, tuple) else (bundle or {}, {})
        told = f"{self.view['title']}: {self.view['summary']}"
        return {**data, **still(self.to_svg(), self.to_text(), told)}, metadata


class Growing(Replay):
    """A replay whose record grows while one looks.

    At the end of the record it follows the news; `pause()`, or `seek(n)` back, holds the picture until `live()` or
    the end. A picture that is held is not drawn anew, however much comes meanwhile.
    """

    held = False

    @property
    def forgotten(self) -> int:
        """How many positions at the beginning are kept no more. They count, so that a picture that is held stays."""
        return 0

    @property
    def kept(self) -> str:
        """Behind the words of the moment: what of the record is kept no more."""
        return f"; the first {self.forgotten} are kept no more" if self.forgotten else ""

    @property
    def follows(self) -> bool:
        return self.mode == "live" and not self.held

    @property
    def showing(self) -> str:
        return "paused" if self.mode == "live" and self.held else self.mode

    def pause(self) -> None:
        """Hold the picture as it is; the record goes on."""
        with self._lock:
            self.held = True
            self.refresh()

    def live(self) -> None:
        """Show what is now, again."""
        self.seek(self.length)

    def seek(self, position: int) -> None:
        with self._lock:
            self.held = int(position) < self.length
            super().seek(max(int(position), self.forgotten))

    def grow(self) -> None:
        """Take in what has come; a picture that is held stays as it is."""
        with self._lock:
            self.position = max(self.position, self.forgotten) if self.held else self.length
            if self.showing != "paused":
                self.refresh()

    def _told(self, message: dict[str, Any]) -> None:
        if message.get("type") == "pause":
            self.pause()
        elif message.get("type") == "live":
            self.live()
        else:
            super()._told(message)


def number(name: str, label: str, value: float, least: float, most: float, step: float = 1) -> dict[str, Any]:
    """A control that is a slider."""
    return {"kind": "number", "name": name, "label": label, "value": value, "least": least, "most": most, "step": step}


def choice(name: str, label: str, value: str, options: list[str]) -> dict[str, Any]:
    """A control that is one of several words."""
    return {"kind": "choice", "name": name, "label": label, "value": value, "options": options}


def words(name: str, label: str, value: str) -> dict[str, Any]:
    """A control that is a line of text."""
    return {"kind": "words", "name": name, "label": label, "value": value}


def action(name: str, label: str) -> dict[str, Any]:
    """A control that does something."""
    return {"kind": "do", "name": name, "label": label}


def _fitting(control: dict[str, Any], value: Any) -> Any:
    if control["kind"] == "choice":
        if value not in control["options"]:
            raise UsageError(
                f"{control['label']} cannot be {value!r}.", hint=f"One of {', '.join(control['options'])}."
            )
        return value
    if control["kind"] == "words":
        if not isinstance(value, str):
            raise UsageError(f"{control['label']} is a text, not {value!r}.")
        return value
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise UsageError(f"{control['label']} is a number, not {value!r}.")
    if not control["least"] <= value <= control["most"]:
        raise UsageError(
            f"{control['label']} lies between {control['least']:g} and {control['most']:g}, not {value!r}."
        )
    return value
