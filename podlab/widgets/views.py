"""The widgets that a notebook shows: thin views over a Record, with a picture and words for where no script runs."""

from __future__ import annotations

import base64
import threading
from html import escape
from typing import Any

import anywidget
import traitlets

from podlab.checks.api import Api
from podlab.widgets import news, svg
from podlab.widgets.feeder import Feeder
from podlab.widgets.model import STATES, Record, stairs

#: Those that have not ended, by what they watch: a cell that is run again ends the watch of its first run.
_WATCHES: dict[tuple[int, str | None], Watch] = {}


class _View(anywidget.AnyWidget):
    """A widget with one dictionary to draw, a still picture and a text twin.

    `pause()`, `seek(n)` and `live()` do what its buttons do.
    """

    _css = news.style("cluster_map.css")
    view = traitlets.Dict().tag(sync=True)

    def __init__(self, record: Record, title: str, feeder: Feeder | None = None) -> None:
        super().__init__()
        self.record = record
        self.title = title
        self.feeder = feeder
        #: What is said beside the picture, such as what a check saw at this moment.
        self.mark = ""
        #: How many changes of the record are shown; None: all, and those to come.
        self.position: int | None = None
        self.audience: news.Audience | None = None
        #: What is drawn and whether it is held are one: the feeder draws on a thread of its own.
        self._lock = threading.RLock()
        self.on_msg(self._on_message)

    @property
    def length(self) -> int:
        """How many changes there are to go through."""
        return len(self.record.entries)

    def seek(self, position: int) -> None:
        """Show the picture as it was after `position` changes; from the end on, a live one follows the news."""
        with self._lock:
            self.position = max(0, min(int(position), self.length))
            if self.feeder is not None and self.position == self.length:
                self.position = None
            self.refresh()

    def step(self, by: int = 1) -> None:
        """Go on, or back, by some changes."""
        self.seek(self.view["position"] + by)

    def pause(self) -> None:
        """Hold the picture as it is; the record goes on."""
        with self._lock:
            self.position = self.length
            self.refresh()

    def grow(self) -> None:
        """Draw what has come; a picture that is held stays as it is."""
        with self._lock:
            if self.position is None:
                self.refresh()

    def live(self) -> None:
        """Show what is now, again."""
        with self._lock:
            self.position = None
            self.refresh()

    def compute(self) -> dict[str, Any]:
        """The record's part of `view`, as it is to be now."""
        raise NotImplementedError

    def refresh(self) -> None:
        """Draw what is known now."""
        with self.feeder.lock if self.feeder else threading.Lock():
            found = self.compute()
        mode = "recorded" if self.feeder is None else "live" if self.position is None else "paused"
        at = self.length if self.position is None else self.position
        self.view = {
            **found,
            **news.age(self.feeder),
            "title": self.title,
            "mode": mode,
            "written": news.written(mode, self.feeder),
            "mark": self.mark,
            "help": news.SLIDER if self.feeder is None else news.MOVING,
            "position": at,
            "length": self.length,
            "moment": f"change {at} of {self.length}",
        }

    def _on_message(self, _widget: Any, message: Any, _buffers: Any) -> None:
        if not isinstance(message, dict):
            return
        if self.audience is not None:
            self.audience.told(message)
        if message.get("type") == "seek" and isinstance(message.get("position"), int):
            self.seek(message["position"])
        elif message.get("type") == "pause":
            self.pause()
        elif message.get("type") == "live" and self.feeder is not None:
            self.live()

    def to_svg(self) -> str:
        """The picture as it is now, as SVG text."""
        raise NotImplementedError

    def to_text(self) -> str:
        """The same facts in words."""
        raise NotImplementedError

    def __str__(self) -> str:
        return self.to_text()

    def _repr_mimebundle_(self, **kwargs: Any) -> Any:
        bundle = super()._repr_mimebundle_(**kwargs)
        data, metadata = bundle if isinstance(bundle, tuple) else (bundle or {}, {})
        return {**data, **still(self.to_svg(), self.to_text(), self.view.get("summary", ""))}, metadata


def still(picture: str, text: str, summary: str) -> dict[str, str]:
    """A picture as MIME data that survives untrusted notebooks, nbconvert and plain text."""
    data = base64.b64encode(picture.encode()).decode()
    image = f'<img alt="{escape(summary)}" style="max-width:100%" src="data:image/svg+xml;base64,{data}">'
    return {"text/html": image, "text/plain": text}


class ClusterMap(_View):
    """Nodes as boxes, pods as tiles."""

    _esm = news.script("cluster_map.js")

    def __init__(self, record: Record, title: str, feeder: Feeder | None = None) -> None:
        super().__init__(record, title, feeder)
        self.refresh()

    def compute(self) -> dict[str, Any]:
        return self.record.state(self.position)

    def to_svg(self) -> str:
        return svg.cluster_map(self.view)

    def to_text(self) -> str:
        lines = [f"{self.title} ({self.view['written']}): {self.view['summary']}", *filter(None, [self.mark])]
        known = [node["name"] for node in self.view["nodes"]]
        for node in [*self.view["nodes"], {"name": "", "ready": True}]:
            here = [
                pod
                for pod in self.view["pods"]
                if (pod["node"] == node["name"] if node["name"] else pod["node"] not in known)
            ]
            if node["name"] or here:
                lines.append(f"  {node['name'] or 'no node yet'}{'' if node['ready'] else ' (not ready)'}")
            for pod in here:
                words = [STATES[pod["state"]][1], pod["reason"]]
                if pod["restarts"]:
                    words.append(f"{pod['restarts']} restart{'s' if pod['restarts'] > 1 else ''}")
                lines.append(f"    {pod['name']}: {', '.join(filter(None, words))}")
        return "\n".join(lines)


class Staircase(_View):
    """Restarts over time, one line per pod, with the time that each outage took; `seek(n)` ends it after n changes."""

    _esm = news.script("stairs.js")

    def __init__(self, record: Record, title: str, feeder: Feeder | None = None, *, app: str = "") -> None:
        super().__init__(record, title, feeder)
        self.app = app
        self.refresh()

    def compute(self) -> dict[str, Any]:
        return stairs(self.record, self.app, self.position)

    def to_svg(self) -> str:
        return svg.stairs(self.view)

    def to_text(self) -> str:
        lines = [f"{self.title} ({self.view['written']}): {self.view['summary']}", *filter(None, [self.mark])]
        for row in self.view["stairs"]:
            gone = [
                "still not ready" if outage["end"] is None else f"{outage['end'] - outage['start']:.1f} s"
                for outage in row["outages"]
            ]
            steps = row["steps"][-1][1]
            lines.append(
                f"  {row['name']}: {steps} restart{'' if steps == 1 else 's'}; not ready: {', '.join(gone) or 'never'}"
            )
        return "\n".join(lines)


class Watch:
    """One feeder and its record for one namespace, shared by all views of it."""

    def __init__(self, api: Api, namespace: str | None) -> None:
        self.record = Record()
        self.views: list[_View] = []
        self.audience = news.Audience(self.wake)
        self.feeder = Feeder(api, namespace, self.record, self._publish)
        self._key = (id(api), namespace)
        if earlier := _WATCHES.get(self._key):
            earlier.stop()
        _WATCHES[self._key] = self
        self.feeder.start()

    def map(self, title: str) -> ClusterMap:
        """A cluster map fed by this watch."""
        return self._add(ClusterMap(self.record, title, self.feeder))

    def staircase(self, title: str, app: str = "") -> Staircase:
        """A restart staircase fed by this watch."""
        return self._add(Staircase(self.record, title, self.feeder, app=app))

    def _add(self, view: Any) -> Any:
        view.audience = self.audience
        self.views.append(view)
        self.wake()
        return view

    def wake(self) -> None:
        """Go on watching, if it had stopped for want of anybody who looks; what was ended stays so."""
        if _WATCHES.get(self._key) is self:
            self.audience.expect()
            self.feeder.start()

    def stop(self) -> None:
        """End the threads for good; the views keep what they show."""
        if _WATCHES.get(self._key) is self:
            del _WATCHES[self._key]
        self.feeder.stop()

    def _publish(self) -> None:
        if self.audience.gone():
            self.feeder.stop()
            return
        for view in list(self.views):
            try:
                view.grow()
            except Exception as error:  # a closed comm must not end the feeder
                self.feeder.last_error = f"{type(error).__name__}: {error}"[:300]
