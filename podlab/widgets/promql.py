"""A playground for PromQL: an expression, its values over time as lines, and the steps in which it is worked out.

The series ALERTS, which Prometheus keeps of its own alerts, are drawn as a timeline: pending, then firing.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from podlab.addons.prometheus import Prometheus, Series, shown
from podlab.errors import PodlabError, UsageError
from podlab.widgets.drawing import BLUE, GREEN, INK, LINE, ORANGE, PURPLE, SKY, VERMILLION, Page
from podlab.widgets.promql_steps import Step, steps, told, told_apart
from podlab.widgets.replay import Replay, action, number, words
from podlab.widgets.timeline import TONES, Bar, Timeline

#: Looks of the lines: colour and dashes, so that they can be told apart without colours too.
LOOKS = ((BLUE, ""), (VERMILLION, "7 3"), (GREEN, "2 3"), (PURPLE, "9 3 2 3"), (ORANGE, "4 2"), (SKY, "12 4"))
#: Points of a line.
POINTS = 120
#: Letters that fit into a line of the picture.
ACROSS = 105
#: Tones of a timeline's bars by the state of an alert.
ALERTING = {"pending": "doubt", "firing": "bad"}


def alerts(series: Sequence[Series], end: float, step: float) -> Timeline:
    """The timeline of series ALERTS that were asked every `step` seconds: a row for each alert; `end` is 0."""
    states = [{key: one.labels[key] for key in one.labels if key not in ("__name__", "alertstate")} for one in series]
    different = [labels for number, labels in enumerate(states) if labels not in states[:number]]
    names = [one.get("alertname", "") for one in different]
    rows = [
        name if names.count(name) == 1 else f"{name} {apart}"
        for name, apart in zip(names, told_apart([Series(one, [(0.0, 1.0)]) for one in different]), strict=True)
    ]
    bars = [
        Bar(
            rows[different.index(labels)],
            round(piece[0][0] - end, 2),
            round(piece[-1][0] + step - end, 2) + 0.0,  # never -0.0
            one.labels.get("alertstate", ""),
            ALERTING.get(one.labels.get("alertstate", ""), "calm"),
        )
        for one, labels in zip(series, states, strict=True)
        for piece in _pieces(one, 1.5 * step)
    ]
    return Timeline(
        sorted(bars, key=lambda bar: (rows.index(bar.row), bar.begin)), [], "Alerts", mode="live", until=0.0
    )


class Playground(Replay):
    """An expression that can be changed; its values over the last minutes. `ask(expression)` does it from code.

    Its positions are the steps in which Prometheus works the expression out; the last is the whole.
    """

    mode = "live"
    help = (
        "The slider goes through the steps, from the innermost selector to the whole expression, and draws each. "
        "ALERTS shows when each alert was pending and firing."
    )

    def __init__(
        self,
        prometheus: Prometheus,
        expression: str,
        minutes: float = 5,
        title: str = "PromQL",
    ) -> None:
        super().__init__(title)
        self._prometheus = prometheus
        self.expression, self.minutes = expression, minutes
        #: The steps, and the result of each in words; one at least, unless the expression is refused.
        self.steps: list[tuple[Step, str]] = []
        self._drawn: dict[str, list[Series]] = {}
        self._timelines: dict[str, Timeline] = {}
        self._begin = self._end = 0.0
        self.ask()

    def ask(self, expression: str = "", minutes: float = 0) -> Playground:
        """Ask (anew), and draw the answer; what Prometheus refuses is shown with its own words."""
        self.expression, self.minutes = expression or self.expression, minutes or self.minutes
        self._end = time.time()
        with suppress(PodlabError):  # who cannot be asked for this says so below
            self._end = self._prometheus.now()
        self._begin = self._end - 60 * self.minutes
        while self._timelines:
            self._timelines.popitem()[1].close()
        try:
            found = steps(self._prometheus.parse(self.expression)) or [
                Step(self.expression, "a number", self.expression)
            ]
            # An inner step may have very many series: its lines are asked for when somebody wants to see them.
            self._drawn = {found[-1].drawn: self._range(found[-1].drawn)}
            self.steps = [(one, told(self._prometheus.query(one.expression, self._end))) for one in found]
            self.mark = ""
        except PodlabError as error:
            self.steps, self._drawn, self.mark = [], {}, error.message
        self.position = self.length
        self.refresh()
        return self

    def seek(self, position: int) -> None:
        """Show a step; what it draws is asked for when it is shown first, and again if that was refused."""
        with self._lock:
            self.position = max(0, min(int(position), self.length))
            if self.steps:
                drawn, self.mark = self.steps[self.position][0].drawn, ""
                try:
                    if drawn not in self._drawn:
                        self._drawn[drawn] = self._range(drawn)
                except PodlabError as error:
                    self.mark = error.message
            self.refresh()

    def _range(self, expression: str) -> list[Series]:
        return self._prometheus.query_range(expression, self._begin, self._end, self._step())

    def _step(self) -> float:
        return max(1.0, 60 * self.minutes / POINTS)

    @property
    def length(self) -> int:
        return max(0, len(self.steps) - 1)

    def moment(self) -> str:
        return f"step {self.position + 1} of {len(self.steps)}"

    @property
    def series(self) -> list[Series]:
        """The series of the present step."""
        return self._drawn.get(self.steps[self.position][0].drawn, []) if self.steps else []

    def timeline(self) -> Timeline | None:
        """The series of the present step as a timeline, if they are ALERTS."""
        if not self.series or any(one.labels.get("__name__") != "ALERTS" for one in self.series):
            return None
        drawn = self.steps[self.position][0].drawn
        if drawn not in self._timelines:  # a widget: each is known to the kernel until it is closed
            self._timelines[drawn] = alerts(self.series, self._end, self._step())
        return self._timelines[drawn]

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
        if not self.steps:
            return f"{self.expression}: refused"
        drawn = self.steps[self.position][0].drawn
        if not self.series:
            return f"{drawn}: no series within {self._time()}"
        if timeline := self.timeline():
            bars = [f"{one.row} {one.words} for {one.end - one.begin:.0f} s" for one in timeline.bars]
            return f"{drawn}: {', '.join(bars)}"
        values = ", ".join(
            f"{name} {one.value:.4g}" for name, one in list(zip(self.names(), self.series, strict=True))[: len(LOOKS)]
        )
        more = f" and {len(self.series) - len(LOOKS)} more" if len(self.series) > len(LOOKS) else ""
        return f"{drawn}: {values}{more}"

    def table(self) -> tuple[list[str], list[list[str]]]:
        if timeline := self.timeline():
            return timeline.table()
        rows = [
            [shown(one.labels), f"{one.value:.4g}", f"{min(_values(one)):.4g}", f"{max(_values(one)):.4g}"]
            for one in self.series[:20]
        ]
        return ["series", "last", "least", "most"], rows or [["none", "", "", ""]]

    def walk(self) -> list[str]:
        """The steps in words, each with its result: the innermost selector first."""
        return [
            f"{number_}. {one.expression}: {one.words}; {result}" for number_, (one, result) in enumerate(self.steps, 1)
        ]

    def to_text(self) -> str:
        return "\n".join([super().to_text(), *(f"  {line}" for line in self.walk())])

    def picture(self) -> str:
        page = Page()
        timeline = self.timeline()
        y = timeline.draw(page, 28.0) + 18 if timeline else self._lines(page)
        for number_, (one, result) in enumerate(self.steps):
            weight = 600 if number_ == self.position else 0
            page.text(8, y, _cut(f"{number_ + 1}. {one.expression}"), size=11, weight=weight)
            page.text(22, y + 14, _cut(f"{one.words}: {result}", 125), size=10)
            y += 32
        return page.document(y, self.summary())

    def _lines(self, page: Page) -> float:
        """Draw the values over time and a legend; return where there is room again."""
        left, top, high = 60, 34, 170
        right = page.width - 20
        page.text(8, 18, _cut(self._drawn_now()), size=12)
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
            for piece in self._pieces(one):
                page.path([at(*point) for point in piece], stroke=colour, **style)
            y = top + high + 36 + 16 * number_
            page.path([(left, y - 4), (left + 26, y - 4)], stroke=colour, **style)
            page.text(left + 32, y, _cut(names[number_], 85), size=11)
        page.text(left, top + high + 16, f"{self._time()} ago", size=10)
        page.text(right, top + high + 16, "now", size=10, anchor="end")
        page.line(left, top + high, right, top + high, stroke=INK)
        return top + high + 48 + 16 * min(len(self.series), len(LOOKS))

    def figure(self) -> Any:
        """The same lines, or bars of alerts, as a matplotlib figure."""
        from matplotlib.figure import Figure

        made = Figure(figsize=(7, 3), layout="constrained")
        axes = made.subplots()
        axes.set(xlabel="seconds from now", title=_cut(self._drawn_now()))
        if timeline := self.timeline():
            for bar in timeline.bars:
                axes.barh(bar.row, bar.end - bar.begin, left=bar.begin, color=TONES[bar.tone], edgecolor="black")
                axes.text(bar.begin, timeline.rows.index(bar.row), f" {bar.words}", va="center", fontsize="small")
            return made
        for name, one, (colour, dash) in zip(self.names(), self.series, LOOKS, strict=False):
            style = (0, tuple(map(int, dash.split()))) if dash else "solid"
            pieces = self._pieces(one)
            for number_, piece in enumerate(pieces or [[]]):  # what has no value is in the legend all the same
                times, values = [at - self._end for at, _ in piece], [value for _, value in piece]
                axes.plot(times, values, color=colour, linestyle=style, label="" if number_ else name)
        if self.series:
            axes.legend(fontsize="small")
        return made

    def _drawn_now(self) -> str:
        """What is drawn: the expression of the present step."""
        return self.steps[self.position][0].drawn if self.steps else self.expression

    def _pieces(self, series: Series) -> list[Sequence[tuple[float, float]]]:
        return _pieces(series, 4 * 60 * self.minutes / POINTS)


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


def _cut(text: str, most: int = ACROSS) -> str:
    """A text in one line, cut where it would not fit."""
    flat = " ".join(text.split())
    return flat if len(flat) <= most else flat[: most - 3] + "..."
