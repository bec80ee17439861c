"""The graph of services, drawn from the requests that were made: who asked whom, how often, how fast, how well.

`look()` asks every service for its metrics; the slider goes through the looks. `follow(trace)` finds one request in
the logs and numbers its steps.
"""

from __future__ import annotations

import http.client
import threading
import time
import urllib.request
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from podlab.widgets import calls
from podlab.widgets.calls import BROKER, VISITORS, Count, Hop, Scrape, Way
from podlab.widgets.drawing import BLUE, GREY, INK, ORANGE, PAPER, VERMILLION, Page
from podlab.widgets.replay import Growing, number

#: Where each is drawn (its middle); a service of another name gets a place below.
PLACES = {
    VISITORS: (50, 200),
    "ui": (212, 200),
    "ingestion": (404, 70),
    "serving": (404, 200),
    "features": (404, 330),
    BROKER: (606, 70),
    "training": (606, 330),
}
WIDE, HIGH = 84, 38
#: How far along its way a label stands, where the middle is taken by another way.
LABEL_AT = {
    ("ui", "ingestion"): 0.68,
    ("ui", "training"): 0.66,
    ("serving", "features"): 0.25,
    (BROKER, "features"): 0.66,
}
SIGNS = {"ready": "●", "not ready": "◍", "away": "✕"}
#: Seconds between looks and the most that a service may take to answer one.
EVERY, PATIENCE = 1.0, 2.0
#: Looks that are kept, those of half an hour: one of the movie recommender has 30 KB.
MOST_LOOKS = 1800


class ServiceGraph(Growing):
    """Calls over the last `seconds` before the look that the slider stands at."""

    help = (
        "The wider a way, the more calls took it. Vermillion and dashed: some failed. Numbers in circles are the steps "
        "of the request that is followed. set(seconds=…) does what its slider does."
    )

    def __init__(
        self,
        addresses: Mapping[str, str],
        logs: Sequence[Path] = (),
        title: str = "Who asks whom",
        seconds: int = 10,
        scrapes: Iterable[Scrape] = (),
    ) -> None:
        super().__init__(title)
        self.addresses, self.logs, self.seconds = dict(addresses), list(logs), seconds
        self.scrapes = list(scrapes)
        self._forgotten = 0
        self.hops: list[Hop] = []
        self.position = self.length
        self._stopped = threading.Event()
        self.refresh()

    def look(self) -> None:
        """Ask every service now; one that does not answer is away."""
        with ThreadPoolExecutor(max(1, len(self.addresses))) as pool:
            texts = dict(zip(self.addresses, pool.map(metrics, self.addresses.values()), strict=True))
        self.add(calls.scrape(time.time(), texts))

    def add(self, scrape: Scrape) -> None:
        """Put a look at the end; a view that is not held follows."""
        with self._lock:
            self.scrapes.append(scrape)
            if len(self.scrapes) > MOST_LOOKS:
                del self.scrapes[0]
                self._forgotten += 1
            self.grow()

    def follow(self, trace: str) -> list[Hop]:
        """Find a request by its id in the logs, number its steps in the picture, and return them."""
        with self._lock:
            self.hops = calls.hops(_lines(self.logs), trace)
            way = " → ".join([self.hops[0].caller, *(hop.service for hop in self.hops)]) if self.hops else "no line"
            self.mark = f"Request {trace[:8]}: {way}"
            self.refresh()
        return self.hops

    def start(self) -> None:
        """Look once a second from now on, until `stop()`."""
        self.mode = "live"
        threading.Thread(target=self._run, daemon=True).start()

    def stop(self) -> None:
        """End the looking; the view keeps what it shows."""
        self._stopped.set()
        self.mode = "recorded"
        self.refresh()

    def _run(self) -> None:
        while not self._stopped.wait(EVERY):
            self.look()

    @property
    def length(self) -> int:
        return max(0, self._forgotten + len(self.scrapes) - 1)

    @property
    def forgotten(self) -> int:
        return self._forgotten

    @property
    def span(self) -> tuple[Scrape, Scrape]:
        """The two looks between which the calls are counted."""
        if not self.scrapes:
            return Scrape(0.0), Scrape(0.0)
        at = max(0, self.position - self._forgotten)
        last = self.scrapes[at]
        before = [one for one in self.scrapes[:at] if one.at <= last.at - self.seconds]
        return (before[-1] if before else self.scrapes[0]), last

    @property
    def ways(self) -> dict[Way, Count]:
        """The calls that the picture shows."""
        return calls.between(*self.span)

    @property
    def lasted(self) -> float:
        """Seconds between the two looks."""
        first, last = self.span
        return last.at - first.at

    def moment(self) -> str:
        return f"look {self.position} of {self.length}{self.kept}"

    def summary(self) -> str:
        return calls.summary(self.ways, self.span[1].states, self.lasted)

    def table(self) -> tuple[list[str], list[list[str]]]:
        head = ["from", "to", "what", "count", "per second", "p95", "failed", "not made", "steps"]
        return head, calls.rows(self.ways, self.lasted, self.hops)

    def controls(self) -> list[dict[str, Any]]:
        return [number("seconds", "Seconds added up", self.seconds, 1, 60)]

    def changed(self, name: str, value: Any) -> None:
        self.seconds = int(value)

    def picture(self) -> str:
        ways, states = self.ways, self.span[1].states
        steps: dict[Way, list[int]] = {}
        for step, hop in enumerate(self.hops, 1):
            steps.setdefault((hop.caller, hop.service), []).append(step)
        names = [VISITORS, BROKER, *states, *(name for way in (*ways, *steps) for name in way)]
        places = _places(dict.fromkeys(names))
        page = Page()
        page.text(8, 18, f"{self.title} ({self.mode})", size=13, weight=600)
        most = max([1.0, *(count.made for count in ways.values())])
        drawn = sorted({*ways, *steps})
        for way in drawn:
            _draw_way(page, places, way, ways.get(way, Count()), most)
        for way in drawn:
            _draw_label(page, places, way, ways.get(way, Count(what="")), steps.get(way, []))
        for name, place in places.items():
            _draw_node(page, place, name, states.get(name, ""))
        bottom = max(y for _, y in places.values()) + 44
        page.text(
            8, bottom, "● ready   ◍ not ready   ✕ away   line: how many calls   p95: 95 of 100 took less", size=11
        )
        return page.document(bottom + 12, f"{self.title}: {self.summary()}")


def metrics(address: str) -> str | None:
    """The metrics of a service; None if it does not tell them."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(f"{address}/metrics", timeout=PATIENCE) as answer:
            return answer.read().decode("utf-8", "replace")
    except (OSError, http.client.HTTPException, ValueError):
        return None


def _lines(logs: Iterable[Path]) -> Iterable[str]:
    for log in logs:
        if log.is_file():
            with log.open(errors="replace") as file:
                yield from file


def _places(names: Iterable[str]) -> dict[str, tuple[float, float]]:
    found: dict[str, tuple[float, float]] = {}
    others = 0
    for name in names:
        if name in PLACES:
            found[name] = PLACES[name]
        else:
            found[name] = (58 + 110 * (others % 6), 410 + 60 * (others // 6))
            others += 1
    return found


def _ends(places: Mapping[str, tuple[float, float]], way: Way) -> tuple[tuple[float, float], tuple[float, float]]:
    """Where a way leaves the one box and meets the other."""
    (x1, y1), (x2, y2) = places[way[0]], places[way[1]]
    dx, dy = x2 - x1, y2 - y1
    share = 1 / max(abs(dx) / (WIDE / 2 + 3), abs(dy) / (HIGH / 2 + 3), 1e-9)
    share = min(share, 0.45)
    return (x1 + share * dx, y1 + share * dy), (x2 - share * dx, y2 - share * dy)


def _draw_way(page: Page, places: Mapping[str, tuple[float, float]], way: Way, count: Count, most: float) -> None:
    (x1, y1), (x2, y2) = _ends(places, way)
    bad = count.failed > 0 or count.not_made > 0
    colour = VERMILLION if bad else BLUE if count.made else GREY
    dashes = {"stroke_dasharray": "7 4"} if bad else {}
    wide = 1.2 + 4.8 * (count.made / most) ** 0.5
    page.line(x1, y1, x2, y2, stroke=colour, stroke_width=round(wide, 1), **dashes)
    length = max(1.0, ((x2 - x1) ** 2 + (y2 - y1) ** 2) ** 0.5)
    ux, uy, size = (x2 - x1) / length, (y2 - y1) / length, 5 + wide
    back = (x2 - ux * size, y2 - uy * size)
    sides = [(back[0] - uy * size / 2, back[1] + ux * size / 2), (back[0] + uy * size / 2, back[1] - ux * size / 2)]
    page.path([(x2, y2), *sides, (x2, y2)], fill=colour, stroke=colour)


def _draw_label(
    page: Page, places: Mapping[str, tuple[float, float]], way: Way, count: Count, steps: Sequence[int]
) -> None:
    (x1, y1), (x2, y2) = _ends(places, way)
    at = LABEL_AT.get(way, 0.5)
    x, y = x1 + at * (x2 - x1), y1 + at * (y2 - y1)
    what = count.what.removesuffix("s") if count.made == 1 else count.what
    lines = [f"{count.made:.0f}" + (f" {what}" if count.what != "calls" else "")] if count.what else []
    if (slow := count.quantile(0.95)) is not None:
        lines.append(f"p95 {calls.told(slow)}")
    lines += [f"✕ {count.failed:.0f} failed"] if count.failed else []
    lines += [f"✕ {count.not_made:.0f} not made"] if count.not_made else []
    # Above a way that is level, on one that is not.
    top = y - 14 * len(lines) - 5 if abs(y2 - y1) < 1 else y - 7 * len(lines)
    for index, words in enumerate(lines):
        wide = 5.6 * len(words) + 6
        page.rect(x - wide / 2, top + 14 * index, wide, 14, fill=PAPER, stroke="none")
        page.text(x, top + 14 * index + 11, words, size=10, anchor="middle")
    for index, step in enumerate(steps):
        cx = x + 20 * index - 10 * (len(steps) - 1)
        page.circle(cx, top - 10, 9, fill=ORANGE, stroke=INK)
        page.text(cx, top - 6, str(step), size=11, anchor="middle", fill="#000000", font_weight=600)


def _draw_node(page: Page, place: tuple[float, float], name: str, state: str) -> None:
    x, y = place
    dashes = {"stroke_dasharray": "4 3"} if state in ("away", "not ready") else {}
    words = f"{SIGNS[state]} {state}" if state else ""
    title = f"{name}: {state}" if state else name
    page.rect(x - WIDE / 2, y - HIGH / 2, WIDE, HIGH, title=title, fill=PAPER, stroke=INK, stroke_width=2, **dashes)
    page.text(x, y + (-2 if words else 4), name, size=12, anchor="middle", weight=600)
    if words:
        page.text(x, y + 13, words, size=10, anchor="middle")
