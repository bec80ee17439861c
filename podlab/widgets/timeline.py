"""Rows of bars and marks along one time: what was believed, and what was so. Any check may keep one for its replay."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from podlab.widgets.drawing import BLUE, GREEN, GREY, INK, ON, ORANGE, SKY, VERMILLION, YELLOW, Page
from podlab.widgets.replay import Replay

ROW = 30
#: Fill by the tone of a bar. Words on the bar say the same.
TONES = {"good": GREEN, "lead": BLUE, "calm": SKY, "doubt": YELLOW, "late": ORANGE, "gone": GREY, "bad": VERMILLION}


@dataclass(frozen=True)
class Bar:
    """Something that lasts, in a row."""

    row: str
    begin: float
    end: float
    words: str
    tone: str = "calm"


@dataclass(frozen=True)
class Mark:
    """Something that happens at one moment, in a row."""

    row: str
    time: float
    words: str


class Timeline(Replay):
    """Positions are the moments at which a bar begins or ends, or a mark is set; the picture goes on to `until`."""

    help = "A bar is what held for a while, a tick is what happened. Point at either to read it; the table has all."

    def __init__(
        self,
        bars: Sequence[Bar],
        marks: Sequence[Mark],
        title: str = "What happened",
        *,
        mode: str = "recorded",
        until: float | None = None,
    ) -> None:
        super().__init__(title)
        self.bars, self.marks, self.mode = list(bars), list(marks), mode
        self.rows = list(dict.fromkeys([bar.row for bar in bars] + [mark.row for mark in marks]))
        ends = [bar.begin for bar in bars] + [bar.end for bar in bars] + [mark.time for mark in marks]
        self.moments = sorted({*ends, *(() if until is None else (until,))}) or [0.0]
        self.position = self.length
        self.refresh()

    @property
    def length(self) -> int:
        return len(self.moments) - 1

    @property
    def now(self) -> float:
        """Seconds at the present position."""
        return self.moments[min(self.position, self.length)]

    def position_of(self, time: float) -> int:
        """The last position not after `time`."""
        return max([0, *(index for index, moment in enumerate(self.moments) if moment <= time + 1e-9)])

    def moment(self) -> str:
        return f"{self.now:.2f} s"

    def holding(self, row: str) -> list[str]:
        """The words of the bars of a row that hold now."""
        return [bar.words for bar in self.bars if bar.row == row and bar.begin <= self.now < bar.end]

    def summary(self) -> str:
        told = [f"{row}: {', '.join(self.holding(row))}" for row in self.rows if self.holding(row)]
        return f"at {self.now:.2f} s: {'; '.join(told) or 'nothing holds'}"

    def table(self) -> tuple[list[str], list[list[str]]]:
        bars = [(bar.begin, [bar.row, f"{bar.begin:.2f}", f"{bar.end:.2f}", bar.words]) for bar in self.bars]
        marks = [(mark.time, [mark.row, f"{mark.time:.2f}", "", mark.words]) for mark in self.marks]
        return ["row", "from (s)", "to (s)", "what"], [row for _, row in sorted([*bars, *marks]) if _ <= self.now]

    def picture(self) -> str:
        page = Page()
        return page.document(self.draw(page, 28.0) + 6, f"{self.title}: {self.summary()}")

    def draw(self, page: Page, top: float) -> float:
        """Draw the rows onto a page, below `top` (pixels), where the title stands; return where the picture ends."""
        left = min(page.width / 2, max(112.0, 16 + 6.2 * max(map(len, self.rows), default=0)))
        right = page.width - 16
        begin, end = self.moments[0], max(self.moments[-1], self.moments[0] + 1e-6)

        def x(time: float) -> float:
            return left + (right - left) * (time - begin) / (end - begin)

        page.text(8, top - 12, f"{self.title} ({self.mode})", weight=600)
        for index, row in enumerate(self.rows):
            y = top + index * ROW
            page.text(8, y + 18, row, size=11)
            page.line(left, y + ROW - 2, right, y + ROW - 2)
        for bar in self.bars:
            if bar.begin > self.now:
                continue
            y, fill = top + self.rows.index(bar.row) * ROW, TONES[bar.tone]
            wide = x(min(bar.end, self.now)) - x(bar.begin)
            page.rect(x(bar.begin), y + 5, wide, ROW - 13, title=bar.words, fill=fill, stroke=INK)
            if wide > 6.2 * len(bar.words):
                page.text(x(bar.begin) + 4, y + 18, bar.words, size=10, fill=ON.get(fill, "#000000"))
        for mark in self.marks:
            if mark.time <= self.now:
                y = top + self.rows.index(mark.row) * ROW
                page.line(x(mark.time), y + 1, x(mark.time), y + ROW - 4, stroke=INK)
                page.circle(x(mark.time), y + ROW - 5, 2.5, title=mark.words, fill=INK)
        low = top + len(self.rows) * ROW
        page.line(left, low + 2, right, low + 2)
        for part in range(5):
            time = begin + (end - begin) * part / 4
            page.text(x(time), low + 16, f"{time:.3g} s", size=10, anchor="middle")
        page.line(x(self.now), top - 4, x(self.now), low + 2, stroke=VERMILLION, **{"stroke-width": 2})
        return low + 18


def kept(bars: Sequence[Bar], marks: Sequence[Mark], at: float, mode: str = "recorded") -> dict[str, Any]:
    """What a check keeps so that `lab.replay` shows the moment `at`."""
    shown = Timeline(bars, marks)
    return {
        "kind": "timeline",
        "mode": mode,
        "bars": [[bar.row, round(bar.begin, 4), round(bar.end, 4), bar.words, bar.tone] for bar in bars],
        "marks": [[mark.row, round(mark.time, 4), mark.words] for mark in marks],
        "position": shown.position_of(at),
    }


def replayed(kept: Mapping[str, Any], title: str) -> Timeline:
    """The widget for what a failed check has kept; see podlab.widgets.replays."""
    bars, marks = [Bar(*each) for each in kept["bars"]], [Mark(*each) for each in kept["marks"]]
    return Timeline(bars, marks, title, mode=kept.get("mode", "recorded"))
