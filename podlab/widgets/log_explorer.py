"""A log explorer: a question, when its lines were written, the lines, filters by field, and the way of one trace."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from typing import Any

from podlab.addons.logs import Line, Logs
from podlab.errors import PodlabError, UsageError
from podlab.widgets.drawing import BLUE, INK, LINE, ORANGE, PAPER, VERMILLION, Page
from podlab.widgets.replay import Replay, action, choice, number, words

#: Lines that are got, lines in the picture, rows of the table, bars of the histogram; fields to choose from, and told.
MOST, SHOWN, ROWS, BARS, FIELDS, TOLD = 500, 12, 50, 40, 100, 20
#: The field and the value that filter nothing.
ANY = "any"
COLUMNS = ("time", "service", "level", "message")


def quoted(text: str) -> str:
    """A value as LogsQL wants it."""
    return json.dumps(text, ensure_ascii=False)  # as in Go: a line break must be written as one


def values_of(lines: Sequence[Line], field: str) -> list[tuple[str, int]]:
    """The values that a field has in lines, the most frequent first, with how often."""
    return Counter(line[field] for line in lines if line.get(field)).most_common(12)


def offered(fields: Mapping[str, int]) -> list[str]:
    """The fields that most lines have, by name: those of the programs, then the dotted ones that a shipper adds."""
    most = sorted(fields, key=lambda name: -fields[name])[:FIELDS]
    return sorted(most, key=lambda name: ("." in name, name))


def moment(line: Line) -> float:
    """When a line was written; 0 if it does not say."""
    try:
        return datetime.fromisoformat(line["_time"].replace("Z", "+00:00")).timestamp()
    except (KeyError, ValueError):
        return 0.0


def cells(line: Line) -> list[str]:
    """Time, service, level and message of a line; of a row of numbers, all that it holds as its message."""
    message = line.get("_msg")
    if message is None:
        message = ", ".join(f"{key}={value}" for key, value in line.items() if not key.startswith("_"))
    service = line.get("service") or line.get("kubernetes.pod_name") or line.get("pod") or ""
    return [line.get("_time", "")[11:26].rstrip("Z"), service, line.get("level", ""), message]


class LogExplorer(Replay):
    """Lines of a log store. `ask`, `filter`, `follow` and `back` do from code what the controls do."""

    mode = "live"

    def __init__(
        self,
        logs: Logs,
        question: str = "*",
        minutes: float = 15,
        title: str = "Logs",
        base: str = "",
    ) -> None:
        super().__init__(title)
        self._logs, self._base = logs, base
        self.question, self.minutes = question, minutes
        self.field, self.value, self.trace = ANY, ANY, ""
        #: The fields that the lines have which the question finds, as far as they are offered.
        self.fields: list[str] = []
        self._all: Mapping[str, int] = {}
        self.lines: list[Line] = []
        self.bars: list[tuple[float, int]] = []
        self.errors: list[tuple[float, int]] = []
        self._values: list[tuple[str, int]] = []
        self._begin = self._end = 0.0
        self.ask()

    # What can be asked

    def ask(self, question: str = "", minutes: float = 0) -> LogExplorer:
        """Ask (anew), and show what is found, the newest line chosen; refusals with the store's own words."""
        self.question, self.minutes = question or self.question, minutes or self.minutes
        self._end = time.time()
        with suppress(PodlabError):  # who cannot be asked for this says so below
            self._end = self._logs.now()
        self._begin = self._end - 60 * self.minutes
        try:
            self._look()
            self.mark = ""
        except PodlabError as error:
            self.lines, self.bars, self.errors, self.mark = [], [], [], error.message
        self.help = (
            "Step through the lines; Follow goes to the trace of the chosen one. From code: ask(question), "
            "filter(field, value), follow(trace), back()."
        )
        self.seek(self.length)
        return self

    def filter(self, field: str, value: str = ANY) -> LogExplorer:
        """Keep the lines with a value of a field; without a value, show which values the field has."""
        if self._all and field != ANY and field not in self._all:
            few = ", ".join(_short(name, 60) for name in self.fields[:TOLD])
            more = f", and {len(self._all) - TOLD} more" if len(self._all) > TOLD else ""
            raise UsageError(f"None of the lines found has a field {field!r}.", hint=f"They have: {few}{more}.")
        self.field, self.value = field, value
        return self.ask()

    def follow(self, trace: str = "") -> LogExplorer:
        """Show every line of a trace in the order of time: of the one given, or of the chosen line's."""
        found = trace or (self.chosen or {}).get("trace_id", "")
        if not found:
            raise UsageError("The chosen line belongs to no trace.", hint="Choose a line with a trace_id.")
        self.trace = found
        return self.ask()

    def back(self) -> LogExplorer:
        """Leave the trace, and show what the question finds again."""
        self.trace = ""
        return self.ask()

    @property
    def chosen(self) -> Line | None:
        """The line at the present position."""
        return self.lines[self.position - 1] if 0 < self.position <= len(self.lines) else None

    def _look(self) -> None:
        if self.trace:
            whole = f"trace_id:={quoted(self.trace)} | sort by (_time)"
            self.lines = self._logs.query(whole, MOST, within=self._base)
            self.bars, self.errors, self._values = [], [], []
            return
        within = f"{self._base} _time:[{self._begin:.3f}, {self._end:.3f}]".strip()
        self._values, self._all = [], self._logs.fields(self.question, within=within)
        self.fields = offered(self._all)
        if self.field != ANY:
            self._values = values_of(self._logs.query(self.question, MOST, within=within), self.field)
            if self.value != ANY:
                within += f" {quoted(self.field)}:={quoted(self.value)}"
        self.lines = sorted(self._logs.query(self.question, MOST, within=within), key=moment)
        span = (self._begin, self._end, BARS)
        self.bars = self._logs.hits(self.question, *span, within=within)
        self.errors = self._logs.hits(self.question, *span, within=f'{within} level:="error"')

    # What a widget says

    @property
    def length(self) -> int:
        return len(self.lines)

    def moment(self) -> str:
        return f"line {self.position} of {self.length}"

    def controls(self) -> list[dict[str, Any]]:
        return [
            words("question", "Question", self.question),
            number("minutes", "Minutes", self.minutes, 1, 120),
            choice("field", "Field", self.field, list(dict.fromkeys([ANY, *self.fields, self.field]))),
            words("value", "Value", self.value),
            words("trace", "Trace id", self.trace),
            action("follow", "Follow the trace"),
            action("back", "Back to the question"),
            action("again", "Ask again"),
        ]

    def changed(self, name: str, value: Any) -> None:
        if name == "question" and not str(value).strip():
            raise UsageError("There is no question.", hint="* finds every line.")
        setattr(self, name, value or (ANY if name == "value" else value))
        if name == "field":
            self.value = ANY
        self.ask()

    def acted(self, name: str) -> None:
        {"follow": self.follow, "back": self.back, "again": self.ask}[name]()

    def summary(self) -> str:
        about = f"trace {self.trace[:8]}" if self.trace else self.question
        if self.field != ANY and self.value != ANY and not self.trace:
            about += f", {self.field} {self.value}"
        if self.mark and not self.lines:
            return f"{about}: refused"
        if not self.lines:
            return f"{about}: no line" + ("" if self.trace else f" in the last {self.minutes:g} minutes")
        if self.trace:
            way = [cells(line)[1] for line in self.lines]
            steps = [name for place, name in enumerate(way) if place == 0 or way[place - 1] != name]
            took = 1000 * (moment(self.lines[-1]) - moment(self.lines[0]))
            return f"{about}: {len(self.lines)} lines in {took:.0f} ms, {' → '.join(steps)}"
        services = {cells(line)[1] for line in self.lines} - {""}
        errors = sum(line.get("level") == "error" for line in self.lines)
        more = "the newest " if len(self.lines) >= MOST else ""
        told = f"{about}: {more}{len(self.lines)} lines from {len(services)} services or pods, {errors} errors"
        if self._values:
            told += f"; {self.field}: " + ", ".join(f"{value} ({often})" for value, often in self._values[:5])
        return told

    def table(self) -> tuple[list[str], list[list[str]]]:
        rows = [cells(line) for line in self.lines[-ROWS:]]
        return list(COLUMNS), rows or [["none", "", "", ""]]

    # The picture

    def picture(self) -> str:
        page = Page()
        about = f"trace_id {self.trace}" if self.trace else self.question
        page.text(8, 18, _short(about, 95), size=12)
        top = self._way(page, 30) if self.trace else self._histogram(page, 30)
        first = max(0, min(self.position - SHOWN // 2, len(self.lines) - SHOWN))
        for row, line in enumerate(self.lines[first : first + SHOWN]):
            y = top + 18 + 17 * row
            if first + row == self.position - 1:
                page.rect(4, y - 12, page.width - 8, 16, fill="none", stroke=INK, stroke_width=1.5)
            at, service, level, message = cells(line)
            if level == "error":
                page.text(8, y, "▲", size=10, fill=VERMILLION)
            for x, text, most in ((22, at[:12], 12), (112, service, 16), (220, message.replace("\n", " ⏎ "), 66)):
                page.text(x, y, _short(text, most), size=11, font_family="monospace" if x == 22 else "inherit")
        return page.document(top + 30 + 17 * max(1, min(SHOWN, len(self.lines))), self.summary())

    def _histogram(self, page: Page, top: float) -> float:
        """Bars of how many lines were written when, those of errors in front; returns where it ends."""
        left, right, high = 40.0, page.width - 12.0, 84.0
        tall = max([lines for _, lines in self.bars], default=0) or 1
        wide = (right - left) / max(1, len(self.bars))
        errors = dict(self.errors)
        page.text(left - 6, top + 10, tall, size=10, anchor="end")
        for place, (at, lines) in enumerate(self.bars):
            x, when = left + wide * place, time.strftime("%H:%M:%S", time.gmtime(at))
            for count, look in ((lines, {"fill": BLUE}), (errors.get(at, 0), {"fill": ORANGE, "stroke": INK})):
                size = high * count / tall
                if count:
                    page.rect(x + 1, top + high - size, wide - 2, size, title=f"{when}: {lines} lines", **look)
        page.line(left, top + high, right, top + high, stroke=INK)
        page.text(left, top + high + 14, f"{self.minutes:g} minutes ago", size=10)
        page.text(right, top + high + 14, "now", size=10, anchor="end")
        page.legend(top + high + 30, [(BLUE, "lines"), (ORANGE, "errors among them")], left)
        return top + high + 36

    def _way(self, page: Page, top: float) -> float:
        """A lane for each service, a dot for each line at its time, joined in order; returns where it ends."""
        lanes = list(dict.fromkeys(cells(line)[1] for line in self.lines)) or [""]
        left, right = 130.0, page.width - 20.0
        begin, end = (moment(self.lines[place]) if self.lines else 0.0 for place in (0, -1))
        span = max(end - begin, 0.001)
        points = []
        for number_, name in enumerate(lanes):
            y = top + 14 + 24 * number_
            page.text(left - 12, y + 4, _short(name, 18), size=11, anchor="end")
            page.line(left, y, right, y, stroke=LINE)
        for line in self.lines:
            x = left + (right - left) * (moment(line) - begin) / span
            points.append((x, top + 14 + 24 * lanes.index(cells(line)[1])))
        page.path(points, stroke=BLUE, stroke_width=1.5)
        for place, ((x, y), line) in enumerate(zip(points, self.lines, strict=True)):
            bad = line.get("level") == "error"
            look = {"fill": VERMILLION if bad else PAPER, "stroke": INK, "stroke-width": 1.2}
            page.circle(x, y, 6 if place == self.position - 1 else 4, title=" ".join(cells(line)[2:]), **look)
        bottom = top + 24 * len(lanes) + 14
        page.text(left, bottom, "0 ms", size=10)
        page.text(right, bottom, f"{1000 * span:.0f} ms", size=10, anchor="end")
        return bottom + 8


def _short(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 3]}..."
