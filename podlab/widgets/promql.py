"""A playground for PromQL: an expression, its values over time as lines, and what its parts do, in words."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from typing import Any

from podlab.addons.prometheus import Prometheus, Series, shown
from podlab.errors import PodlabError, UsageError
from podlab.widgets.drawing import BLUE, GREEN, INK, LINE, ORANGE, PURPLE, SKY, VERMILLION, Page
from podlab.widgets.replay import Replay, action, number, words

#: Looks of the lines: colour and dashes, so that they can be told apart without colours too.
LOOKS = ((BLUE, ""), (VERMILLION, "7 3"), (GREEN, "2 3"), (PURPLE, "9 3 2 3"), (ORANGE, "4 2"), (SKY, "12 4"))
#: Points of a line.
POINTS = 120
#: What a part of an expression does; in the order in which they are told.
PARTS = {
    r"\[[^\]]+\]": "[...] takes all values of that time, for each series",
    r"\brate\(": "rate: growth per second of a counter; a fall counts as a restart",
    r"\bincrease\(": "increase: growth of a counter in the whole window",
    r"\bdelta\(": "delta: last minus first value, for gauges; it knows of no restarts",
    r"\bhistogram_quantile\(": "histogram_quantile: reads a quantile off buckets (label le)",
    r"\bsum\b": "sum: adds series up",
    r"\bavg\b": "avg: the mean of series",
    r"\bmax\b": "max: the largest of series",
    r"\bcount\b": "count: how many series there are",
    r"\bby\s*\(": "by (...): one result for each value of these labels",
    r"\bwithout\s*\(": "without (...): these labels are dropped, the others stay",
    r"[<>!=]=|[<>]": "a comparison keeps the series for which it is true",
    r"\bor\b": "or: the right side where the left has nothing",
    r"\band\b": "and: the left side where the right has something",
}


def explained(expression: str) -> list[str]:
    """What the parts of an expression do, in words."""
    bare = re.sub(r"\{[^}]*\}|\"[^\"]*\"", "", expression)
    return [told for pattern, told in PARTS.items() if re.search(pattern, bare)]


def told_apart(series: Sequence[Series]) -> list[str]:
    """A short name for each series: the one label that tells all of them apart, else all those that differ."""
    if len(series) == 1:
        return [shown(series[0].labels) if series[0].labels else "the result"]
    keys = {key for one in series for key in one.labels}
    kinds = {key: {one.labels.get(key, "") for one in series} for key in keys}
    alone = [key for key in keys if len(kinds[key]) == len(series)]
    # Of a pod's labels its name says most.
    chosen = [min(alone, key=lambda key: (key != "pod", key))] if alone else [k for k in keys if len(kinds[k]) > 1]
    return [shown({key: one.labels[key] for key in chosen if key in one.labels}) for one in series]


class Playground(Replay):
    """An expression that can be changed; its values over the last minutes. `ask(expression)` does it from code."""

    mode = "live"

    def __init__(
        self,
        prometheus: Prometheus,
        expression: str,
        minutes: float = 5,
        title: str = "PromQL",
        now: Callable[[], float] = time.time,
    ) -> None:
        super().__init__(title)
        self._prometheus, self._now = prometheus, now
        self.expression, self.minutes = expression, minutes
        self.series: list[Series] = []
        self._begin = self._end = 0.0
        self.ask()

    def ask(self, expression: str = "", minutes: float = 0) -> Playground:
        """Ask (anew), and draw the answer; what Prometheus refuses is shown with its own words."""
        self.expression, self.minutes = expression or self.expression, minutes or self.minutes
        self._end = self._now()
        self._begin = self._end - 60 * self.minutes
        step = max(1.0, 60 * self.minutes / POINTS)
        try:
            self.series = self._prometheus.query_range(self.expression, self._begin, self._end, step)
            self.mark = ""
        except PodlabError as error:
            self.series, self.mark = [], error.message
        self.help = "; ".join(explained(self.expression)) or "The newest value of each series with this name."
        self.refresh()
        return self

    def controls(self) -> list[dict[str, Any]]:
        return [
            words("expression", "Expression", self.expression),
            number("minutes", "Minutes", self.minutes, 1, 60),
            action("again", "Ask again"),
        ]

    def changed(self, name: str, value: Any) -> None:
        if name == "expression" and not str(value).strip():
            raise UsageError("There is no expression.")
        setattr(self, name, value)
        self.ask()

    def acted(self, name: str) -> None:
        self.ask()

    def names(self) -> list[str]:
        """A short name for each series."""
        return told_apart(self.series)

    def _time(self) -> str:
        return "1 minute" if self.minutes == 1 else f"{self.minutes:g} minutes"

    def summary(self) -> str:
        if self.mark:
            return f"{self.expression}: refused"
        if not self.series:
            return f"{self.expression}: no series within {self._time()}"
        told = ", ".join(
            f"{name} {one.value:.4g}" for name, one in list(zip(self.names(), self.series, strict=True))[: len(LOOKS)]
        )
        more = f" and {len(self.series) - len(LOOKS)} more" if len(self.series) > len(LOOKS) else ""
        return f"{self.expression}: {told}{more}"

    def table(self) -> tuple[list[str], list[list[str]]]:
        rows = [
            [shown(one.labels), f"{one.value:.4g}", f"{min(_values(one)):.4g}", f"{max(_values(one)):.4g}"]
            for one in self.series[:20]
        ]
        return ["series", "last", "least", "most"], rows or [["none", "", "", ""]]

    def picture(self) -> str:
        page, left, top, high = Page(), 60, 34, 170
        right = page.width - 20
        page.text(8, 18, self.expression if len(self.expression) < 95 else self.expression[:92] + "...", size=12)
        values = [value for one in self.series for value in _values(one)] or [0.0]
        low, tall = min(0.0, *values), max(*values, 1e-9)
        span = (tall - low) or 1.0

        def at(moment: float, value: float) -> tuple[float, float]:
            share = (moment - self._begin) / max(1.0, self._end - self._begin)
            return left + (right - left) * share, top + high - high * (value - low) / span

        for part in range(5):
            value = low + span * part / 4
            _, y = at(self._begin, value)
            page.line(left, y, right, y, stroke=LINE, **{"stroke-opacity": 0.5})
            page.text(left - 6, y + 4, f"{value:.3g}", size=10, anchor="end")
        names = self.names()
        for number_, one in enumerate(self.series[: len(LOOKS)]):
            colour, dash = LOOKS[number_]
            style = {"stroke-width": 2, **({"stroke-dasharray": dash} if dash else {})}
            for piece in _pieces(one, 4 * 60 * self.minutes / POINTS):
                page.path([at(*point) for point in piece], stroke=colour, **style)
            y = top + high + 36 + 16 * number_
            page.path([(left, y - 4), (left + 26, y - 4)], stroke=colour, **style)
            label = names[number_]
            page.text(left + 32, y, label if len(label) < 85 else label[:82] + "...", size=11)
        page.text(left, top + high + 16, f"{self._time()} ago", size=10)
        page.text(right, top + high + 16, "now", size=10, anchor="end")
        page.line(left, top + high, right, top + high, stroke=INK)
        return page.document(top + high + 48 + 16 * min(len(self.series), len(LOOKS)), self.summary())

    def figure(self) -> Any:
        """The same lines as a matplotlib figure."""
        from matplotlib.figure import Figure

        made = Figure(figsize=(7, 3), layout="constrained")
        axes = made.subplots()
        for name, one in zip(self.names(), self.series, strict=True):
            axes.plot([at - self._end for at, _ in one.points], _values(one), label=name)
        axes.set(xlabel="seconds from now", title=self.expression)
        if self.series:
            axes.legend(fontsize="small")
        return made


def _values(series: Series) -> list[float]:
    return [value for _, value in series.points if value == value and abs(value) != float("inf")] or [0.0]


def _pieces(series: Series, gap: float) -> list[Sequence[tuple[float, float]]]:
    """The points in pieces: where nothing was known for a while, no line is drawn."""
    pieces: list[list[tuple[float, float]]] = []
    for at, value in series.points:
        if value != value or abs(value) == float("inf"):
            continue
        if not pieces or at - pieces[-1][-1][0] > gap:
            pieces.append([])
        pieces[-1].append((at, value))
    return list(pieces)
