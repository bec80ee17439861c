"""Still pictures of the widgets' states as SVG text: for papermill, feedback, paper and pages without scripts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from xml.sax.saxutils import escape

#: sign, letter, fill, stroke, dash, text colour; the same as in cluster_map.js and .css.
LOOKS = {
    "running": ("●", "R", "#0072b2", "#0072b2", "", "#fff"),
    "notready": ("◍", "N", "#e7f2fa", "#0072b2", "", "#000"),
    "pending": ("◔", "P", "#e69f00", "#1a1a1a", "4 2", "#000"),
    "crashloop": ("▲", "C", "#f08a4b", "#7a3300", "", "#000"),
    "terminating": ("✕", "T", "#bdbdbd", "#1a1a1a", "1.5 2", "#000"),
    "succeeded": ("✓", "S", "#e3b3cf", "#8a3f6b", "", "#000"),
    "failed": ("■", "F", "#ffffff", "#d55e00", "", "#000"),
}
WIDTH = 660
TILE = (44, 24)
PER_ROW = 4


def cluster_map(view: Mapping[str, Any]) -> str:
    """The cluster map of a state (Record.state() with title and mode) as an SVG document."""
    names = {node["name"] for node in view["nodes"]}
    places = [
        (
            node["name"] + ("" if node["ready"] else " – lost" if node["ready"] is None else " – not ready"),
            bool(node["ready"]),
            [pod for pod in view["pods"] if pod["node"] == node["name"]],
        )
        for node in view["nodes"]
    ]
    if homeless := [pod for pod in view["pods"] if pod["node"] not in names]:
        places.append(("no node yet", True, homeless))
    columns = max(1, min(3, len(places)))
    wide = (WIDTH - 8 * (columns + 1)) // columns
    parts, top = [], 30
    for start in range(0, len(places), columns):
        row = places[start : start + columns]
        rows = max(1, max(-(-len(pods) // PER_ROW) for _, _, pods in row))
        high = 30 + rows * (TILE[1] + 4)
        for index, (label, ready, pods) in enumerate(row):
            parts.append(_box(8 + index * (wide + 8), top, wide, high, label, ready, pods))
        top += high + 8
    head = f"{view.get('title', 'Cluster')} ({view.get('written', 'recorded')})"
    parts.append(_legend(top + 14))
    return _document(top + 40, f"{head}: {view['summary']}", head, parts)


def _box(x: int, y: int, wide: int, high: int, label: str, ready: bool, pods: Sequence[Mapping[str, Any]]) -> str:
    dash = "" if ready else ' stroke-dasharray="6 3"'
    colour = "#8a8a8a" if ready else "#d55e00"
    parts = [
        f'<rect x="{x}" y="{y}" width="{wide}" height="{high}" rx="6" fill="none" stroke="{colour}" '
        f'stroke-width="2"{dash}/>',
        f'<text x="{x + 8}" y="{y + 17}" font-weight="600">{escape(label)}</text>',
    ]
    for index, pod in enumerate(pods):
        left = x + 8 + (index % PER_ROW) * (TILE[0] + 4)
        down = y + 24 + (index // PER_ROW) * (TILE[1] + 4)
        parts.append(_tile(left, down, pod["state"], pod["restarts"], f"{pod['name']}: {pod['state']}"))
    return "".join(parts)


def _tile(x: int, y: int, state: str, restarts: int, title: str) -> str:
    sign, letter, fill, stroke, dash, ink = LOOKS[state]
    dashes = f' stroke-dasharray="{dash}"' if dash else ""
    text = sign + letter + (f"·{restarts}" if restarts else "")
    return (
        f"<g><title>{escape(title)}</title>"
        f'<rect x="{x}" y="{y}" width="{TILE[0]}" height="{TILE[1]}" rx="4" fill="{fill}" stroke="{stroke}" '
        f'stroke-width="1.5"{dashes}/><text x="{x + TILE[0] / 2}" y="{y + 16}" text-anchor="middle" '
        f'fill="{ink}" font-weight="600">{escape(text)}</text></g>'
    )


def _legend(y: int) -> str:
    words = ("ready", "not ready", "pending", "crash loop", "terminating", "succeeded", "failed")
    parts, x = [], 8
    for (sign, letter, *_), word in zip(LOOKS.values(), words, strict=True):
        parts.append(f'<text x="{x}" y="{y}" font-size="11">{sign}{letter} {word}</text>')
        x += 36 + 7 * len(word)
    return "".join(parts)


def stairs(view: Mapping[str, Any]) -> str:
    """The restart staircase of a state (model.stairs with a title) as an SVG document."""
    rows, left, high, top = view["stairs"], 190, 34, 34
    end = max(view["end"], 10.0)

    def x(seconds: float) -> float:
        return round(left + (WIDTH - left - 24) * min(1.0, seconds / end), 1)

    parts: list[str] = []
    for index, row in enumerate(rows):
        base = top + (index + 1) * high - 6
        first, last = row["steps"][0][1], row["steps"][-1][1]
        until = row["gone"] if row["gone"] is not None else end

        def y(count: int, base: int = base, first: int = first) -> int:
            return base - min(20, (count - first) * 8)

        parts.append(f'<text x="4" y="{base - 4}" font-size="11">{escape(row["name"][-24:])}</text>')
        for outage in row["outages"]:
            stop = until if outage["end"] is None else outage["end"]
            told = "…" if outage["end"] is None else f"{outage['end'] - outage['start']:.1f} s"
            # At the right edge the words would lie on the number of restarts.
            at = x(outage["start"])
            beside = f'x="{at - 3}" text-anchor="end"' if at > WIDTH - 80 else f'x="{at + 2}"'
            parts.append(
                f'<rect x="{at}" y="{base - 22}" height="22" '
                f'width="{max(2.0, x(stop) - at):.1f}" fill="#e69f00" fill-opacity="0.45" '
                f'stroke="#7a5400" stroke-dasharray="3 2"/>'
                f'<text {beside} y="{base - 11}" font-size="10">{told}</text>'
            )
        path = f"M {x(row['born'])} {y(first)}"
        path += "".join(f" H {x(at)} V {y(count)}" for at, count in row["steps"][1:])
        parts.append(f'<path d="{path} H {x(until)}" fill="none" stroke="#0072b2" stroke-width="2.5"/>')
        parts.append(f'<text x="{x(until) + 2}" y="{y(last) + 4}" font-size="11">{last}</text>')
    axis = top + len(rows) * high + 8
    parts.append(f'<line x1="{left}" x2="{WIDTH - 24}" y1="{axis}" y2="{axis}" stroke="#555"/>')
    for part in range(5):
        seconds = end * part / 4
        parts.append(
            f'<text x="{x(seconds)}" y="{axis + 14}" font-size="10" text-anchor="middle">{seconds:.0f} s</text>'
        )
    parts.append(
        f'<path d="M 8 {axis + 30} h 20" fill="none" stroke="#0072b2" stroke-width="2.5"/>'
        f'<text x="34" y="{axis + 34}" font-size="11">restarts, one step up for each</text>'
        f'<rect x="230" y="{axis + 22}" width="20" height="16" fill="#e69f00" fill-opacity="0.45" stroke="#7a5400" '
        f'stroke-dasharray="3 2"/><text x="256" y="{axis + 34}" font-size="11">not ready, for so many seconds</text>'
    )
    head = f"{view.get('title', 'Restarts')} ({view.get('written', 'recorded')})"
    return _document(axis + 46, f"{head}: {view['summary']}", head, parts)


def _document(height: int, told: str, head: str, parts: Sequence[str]) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" '
        f'role="img" aria-label="{escape(told, {chr(34): "&quot;"})}" font-family="sans-serif" font-size="12">'
        f'<rect width="100%" height="100%" fill="#ffffff"/><g fill="#1a1a1a">'
        f'<text x="8" y="18" font-weight="600">{escape(head)}</text>{"".join(parts)}</g></svg>'
    )
