"""Small pictures as SVG text, one rendering for live views, papermill, feedback and paper.

Colours of ink and paper are CSS variables with fallbacks: inside a notebook the picture follows its theme, as an image
it is dark on white. No ids, no scripts, no remote assets.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any
from xml.sax.saxutils import escape, quoteattr

INK = "var(--jp-content-font-color1, var(--vscode-foreground, #1a1a1a))"
PAPER = "var(--jp-layout-color1, var(--vscode-editor-background, #ffffff))"
LINE = "var(--jp-border-color1, #8a8a8a)"

#: Okabe and Ito's colours with the text colour that can be read on each.
BLUE, ORANGE, VERMILLION, GREEN = "#0072b2", "#e69f00", "#d55e00", "#007d5c"
PURPLE, SKY, YELLOW, GREY = "#cc79a7", "#56b4e9", "#f0e442", "#bdbdbd"
ON = {BLUE: "#ffffff", GREEN: "#ffffff"}
#: Fills by number, for workers or reducers; each is also told by a letter or a number.
SERIES = (SKY, ORANGE, "#66c2a5", YELLOW, PURPLE, GREY, BLUE, VERMILLION)

WIDTH = 660

#: What no XML can hold: most control characters, and halves of surrogate pairs.
_FORBIDDEN = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


class Page:
    """A picture that is being drawn; coordinates in pixels from the upper left."""

    def __init__(self, width: int = WIDTH) -> None:
        self.width = width
        self.parts: list[str] = []

    def text(
        self,
        x: float,
        y: float,
        words: object,
        *,
        size: float = 12,
        anchor: str = "start",
        weight: int = 0,
        **more: Any,
    ) -> None:
        """Words with their base line at `y`; `anchor` start, middle or end; `weight` 600 where they are bold."""
        style = {"fill": INK, **more} | ({"font-weight": weight} if weight else {})
        if "  " in str(words):
            style["white-space"] = "pre"  # the gaps between the signs of a legend
        self.parts.append(
            f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size:g}" text-anchor="{anchor}"{_style(style)}>'
            f"{escape(_allowed(words))}</text>"
        )

    def rect(self, x: float, y: float, width: float, height: float, *, title: str = "", **style: Any) -> None:
        """A box; `title` is shown when one points at it."""
        self._shape(f'rect x="{x:.1f}" y="{y:.1f}" width="{max(0.5, width):.1f}" height="{height:.1f}"', title, style)

    def circle(self, x: float, y: float, radius: float, *, title: str = "", **style: Any) -> None:
        """A circle or, filled, a dot."""
        self._shape(f'circle cx="{x:.1f}" cy="{y:.1f}" r="{radius:.1f}"', title, style)

    def line(self, x1: float, y1: float, x2: float, y2: float, **style: Any) -> None:
        """A straight line."""
        self._shape(f'line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"', "", {"stroke": LINE, **style})

    def path(self, points: Sequence[tuple[float, float]], **style: Any) -> None:
        """A line through points."""
        if points:
            way = "M " + " L ".join(f"{x:.1f} {y:.1f}" for x, y in points)
            self._shape(f'path d="{way}"', "", {"fill": "none", "stroke": INK, **style})

    def arc(self, x: float, y: float, radius: float, share: float, **style: Any) -> None:
        """The part `share` (0 to 1) of a circle, clockwise from the top: the rest of a timer."""
        share = min(0.9999, max(0.0, share))
        if share > 0:
            angle = 2 * math.pi * share
            ex, ey = x + radius * math.sin(angle), y - radius * math.cos(angle)
            way = f"M {x:.1f} {y - radius:.1f} A {radius:.1f} {radius:.1f} 0 {int(share > 0.5)} 1 {ex:.1f} {ey:.1f}"
            self._shape(f'path d="{way}"', "", {"fill": "none", "stroke": BLUE, "stroke-width": 4, **style})

    def axis(self, left: float, right: float, y: float, end: float, unit: str, *, parts: int = 4) -> None:
        """A horizontal axis from 0 to `end`, with its numbers."""
        self.line(left, y, right, y)
        for part in range(parts + 1):
            x = left + (right - left) * part / parts
            self.line(x, y, x, y + 4)
            self.text(x, y + 15, f"{end * part / parts:.3g} {unit}".strip(), size=10, anchor="middle")

    def legend(self, y: float, entries: Sequence[tuple[str, str]], x: float = 8) -> None:
        """Coloured boxes with words."""
        for colour, words in entries:
            self.rect(x, y - 9, 10, 10, fill=colour, stroke=INK)
            self.text(x + 14, y, words, size=11)
            x += 26 + 6.2 * len(words)

    def document(self, height: float, told: str) -> str:
        """The whole picture; `told` says it in words for those who do not see it."""
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {self.width} {height:.0f}" width="{self.width}" '
            f'height="{height:.0f}" role="img" aria-label={quoteattr(_allowed(told))} font-family="sans-serif">'
            f'<rect width="100%" height="100%" style="fill:{PAPER}"/>{"".join(self.parts)}</svg>'
        )

    def _shape(self, tag: str, title: str, style: dict[str, Any]) -> None:
        inside = f"<title>{escape(_allowed(title))}</title>" if title else ""
        self.parts.append(f"<{tag}{_style(style)}>{inside}</{tag.split()[0]}>")


def _allowed(words: object) -> str:
    return _FORBIDDEN.sub("", str(words))


def _style(style: dict[str, Any]) -> str:
    told = ";".join(f"{key.replace('_', '-')}:{value}" for key, value in style.items())
    return f' style="{told}"' if told else ""
