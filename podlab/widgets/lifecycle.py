"""The lifecycle strip: one row for each process or pod, starting, ready, draining, gone, and the requests that it got.

What is drawn is what probes and requests have found; the functions here need no clock, no socket and no process.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from podlab.widgets.drawing import BLUE, GREY, INK, LINE, ON, ORANGE, VERMILLION, YELLOW, Page
from podlab.widgets.replay import Growing

ROW = 46
#: State -> sign, fill, dashes of its border. "absent" and "gone" are not filled.
STATES = {
    "absent": ("", "none", "1 4"),
    "starting": ("◔", ORANGE, "4 2"),
    "ready": ("●", BLUE, ""),
    "unready": ("◍", YELLOW, "4 2"),
    "draining": ("✕", GREY, "2 2"),
    "gone": ("", "none", "1 4"),
}
#: Cells into which the requests of a row are put.
CELLS = 90


def state_of(started: int, ready: int, reasons: Sequence[str] = (), *, seen: bool, told: bool) -> str:
    """The state that two probes show: statuses of startup and readiness (0: nobody answers), and reasons given.

    `seen`: it has answered before; `told`: it has been told to end.
    """
    if not started and not ready:
        return "gone" if seen else "absent"
    if ready == 200:
        return "ready"
    if told or "draining" in reasons:
        return "draining"
    return "starting" if started != 200 else "unready"


def state_of_pod(pod: Mapping[str, Any]) -> str:
    """The state of a pod by its status, in which the kubelet's probes are: of its first container."""
    status = pod.get("status") or {}
    if status.get("phase") in ("Succeeded", "Failed"):
        return "gone"
    if (pod.get("metadata") or {}).get("deletionTimestamp"):
        return "draining"
    conditions = {one["type"]: one["status"] for one in status.get("conditions") or ()}
    if conditions.get("Ready") == "True":
        return "ready"
    containers = status.get("containerStatuses") or [{}]
    return "unready" if containers[0].get("started") else "starting"


class Request(NamedTuple):
    """One request: when it was sent, to whom, and why it failed (empty: it did not)."""

    at: float
    row: str
    trouble: str = ""


class Mark(NamedTuple):
    """Something that was done to somebody, in words: SIGTERM."""

    at: float
    row: str
    words: str


@dataclass
class Life:
    """The record: for each row the moments at which its state changed; marks; requests. Times in seconds."""

    states: dict[str, list[tuple[float, str]]] = field(default_factory=dict)
    marks: list[Mark] = field(default_factory=list)
    requests: list[Request] = field(default_factory=list)
    end: float = 0.0

    def look(self, row: str, at: float, state: str) -> bool:
        """Note what a look has found; whether that is a change."""
        known = self.states.setdefault(row, [])
        self.end = max(self.end, at)
        if known and (known[-1][1] == state or at < known[-1][0]):
            return False
        known.append((at, state))
        return True

    def mark(self, row: str, at: float, words: str) -> None:
        """Note something that was done."""
        self.marks.append(Mark(at, row, words))
        self.end = max(self.end, at)

    def state(self, row: str, at: float) -> str:
        """The state of a row at a moment."""
        known = self.states.get(row, [])
        index = bisect_right([moment for moment, _ in known], at)
        return known[index - 1][1] if index else "absent"

    def moments(self) -> list[float]:
        """When something changed, was done or failed, and the end."""
        found = {at for known in self.states.values() for at, _ in known} | {one.at for one in self.marks}
        return sorted(found | {one.at for one in self.requests if one.trouble} | {self.end})

    def spans(self, row: str, until: float) -> list[tuple[float, float, str]]:
        """The states of a row up to a moment: from, to, state."""
        known = [entry for entry in self.states.get(row, []) if entry[0] <= until]
        ends = [at for at, _ in known[1:]] + [until][: len(known)]
        return [(at, end, state) for (at, state), end in zip(known, ends, strict=True)]

    def counts(self, row: str, until: float) -> tuple[int, int]:
        """Requests to a row up to a moment: all, and those that failed."""
        sent = [one for one in self.requests if one.row == row and one.at <= until]
        return len(sent), sum(bool(one.trouble) for one in sent)


class Lifecycle(Growing):
    """The strip as a widget. Positions are the moments at which something changed; at the last one it follows."""

    help = (
        "Upper line of a row: its state, as probes found it. Below: how many requests it got (height), and how many "
        "failed (crosses). A vertical line with words: what was done to it."
    )

    def __init__(self, life: Life, title: str = "From start to end", mode: str = "recorded") -> None:
        super().__init__(title)
        self.life, self.mode = life, mode
        self.moments = life.moments()
        self.position = self.length
        self.refresh()

    @property
    def length(self) -> int:
        return len(self.moments) - 1

    @property
    def now(self) -> float:
        """Seconds at the present position."""
        return self.moments[min(self.position, self.length)]

    def grow(self) -> None:
        with self._lock:
            self.moments = self.life.moments()
            super().grow()

    def moment(self) -> str:
        return f"{self.now:.2f} s"

    def summary(self) -> str:
        told = [f"{row} {self.life.state(row, self.now)}" for row in self.life.states]
        sent = [one for one in self.life.requests if one.at <= self.now]
        failed = [one for one in sent if one.trouble]
        why = f" ({Counter(one.trouble for one in failed).most_common(1)[0][0]})" if failed else ""
        return f"at {self.now:.2f} s: {', '.join(told) or 'nobody'}; {len(sent)} requests, {len(failed)} failed{why}"

    def table(self) -> tuple[list[str], list[list[str]]]:
        rows = []
        for row in self.life.states:
            for begin, end, state in self.life.spans(row, self.now):
                sent = [one for one in self.life.requests if one.row == row and begin <= one.at < end]
                failed = sum(bool(one.trouble) for one in sent)
                rows.append((begin, [row, f"{begin:.2f}", f"{end:.2f}", state, f"{len(sent)}", f"{failed}"]))
        rows += [
            (one.at, [one.row, f"{one.at:.2f}", "", one.words, "", ""]) for one in self.life.marks if one.at <= self.now
        ]
        head = ["who", "from (s)", "to (s)", "what", "requests", "failed"]
        return head, [cells for _, cells in sorted(rows)] or [["nobody", "", "", "", "", ""]]

    def picture(self) -> str:
        page, left, top = Page(), 100.0, 28.0
        right, end = page.width - 16.0, max(self.moments[-1], 1e-6)

        def x(time: float) -> float:
            return left + (right - left) * min(1.0, time / end)

        page.text(8, 16, f"{self.title} ({self.written})", weight=600)
        most = max([1, *(max(cells) for cells in map(self._cells, self.life.states))])
        for index, row in enumerate(self.life.states):
            y = top + index * ROW
            page.text(8, y + 15, row if len(row) <= 15 else f"…{row[-14:]}", size=11)
            self._bars(page, x, y, row)
            self._requests(page, x, y, row, most)
        low = top + len(self.life.states) * ROW
        page.axis(left, right, low + 4, end, "s")
        page.line(x(self.now), top - 4, x(self.now), low + 4, stroke=VERMILLION, **{"stroke-width": 2})
        signs = "   ".join(f"{sign} {state}" for state, (sign, _, _) in STATES.items() if sign)
        page.text(left, low + 38, f"{signs}   ▮ requests   ✗ failed", size=11)
        return page.document(low + 48, f"{self.title}: {self.summary()}")

    def _bars(self, page: Page, x: Any, y: float, row: str) -> None:
        for begin, end, state in self.life.spans(row, self.now):
            sign, fill, dashes = STATES[state]
            wide = x(end) - x(begin)
            style = {"stroke-dasharray": dashes} if dashes else {}
            page.rect(x(begin), y + 3, wide, 16, title=f"{row}: {state}", fill=fill, stroke=INK, **style)
            words = f"{sign} {state}".strip() if wide > 9 + 6.2 * len(state) else sign if wide > 12 else ""
            if words:
                page.text(x(begin) + 3, y + 15, words, size=10, fill=ON.get(fill, INK if fill == "none" else "#000000"))
        for one in self.life.marks:
            if one.row == row and one.at <= self.now:
                page.line(x(one.at), y - 1, x(one.at), y + 40, stroke=INK, **{"stroke-width": 2})
                page.text(x(one.at) + 4, y + 32, one.words, size=10)

    def _cells(self, row: str) -> list[int]:
        return self._binned(one.at for one in self.life.requests if one.row == row and one.at <= self.now)

    def _binned(self, times: Iterable[float]) -> list[int]:
        found, end = [0] * CELLS, max(self.moments[-1], 1e-6)
        for at in times:
            found[min(CELLS - 1, int(CELLS * at / end))] += 1
        return found

    def _requests(self, page: Page, x: Any, y: float, row: str, most: int) -> None:
        base, wide = y + 38, (x(self.moments[-1]) - x(0)) / CELLS
        page.line(x(0), base, x(self.moments[-1]), base, stroke=LINE)
        for number, count in enumerate(self._cells(row)):
            if count:
                high = 2 + 12 * count / most
                page.rect(x(0) + number * wide, base - high, wide * 0.7, high, title=f"{count} requests", fill=BLUE)
        failed = [one.at for one in self.life.requests if one.row == row and one.trouble and one.at <= self.now]
        for number, count in enumerate(self._binned(failed)):
            if count:
                page.text(x(0) + number * wide, base + 6, "✗", size=11, fill=INK, weight=700)
