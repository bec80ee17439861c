"""Copies of one program under a load of your choice: a box for each, and in it who uses the processor.

The slider asks real copies for real pages. Once a second their own counts are read (movies/profiling.py), and the
clients' clocks; the other slider goes through these looks.
"""

from __future__ import annotations

import functools
import itertools
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from podlab.errors import UsageError
from podlab.widgets import calls
from podlab.widgets.drawing import BLUE, GREY, INK, LINE, ORANGE, VERMILLION, Page
from podlab.widgets.lifecycle_feed import ask
from podlab.widgets.replay import Growing, number
from podlab.widgets.service_graph import metrics

PARTS = ("ui", "serving", "features", "ingestion", "training", "other")
#: Seconds between looks, clients, the most seconds that a page may take, and the highest load.
EVERY, CLIENTS, LONGEST, MOST = 1.0, 8, 30.0, 100
#: Above this share of a processor a copy can do no more.
FULL = 0.9
#: Looks that a picture shows together.
SPAN = 5
_ROW, _BOX = 20, 204


@dataclass(frozen=True)
class Copy:
    """One copy during one look: seconds of the processor by part, in all, and MiB."""

    parts: dict[str, float] = field(default_factory=dict)
    processor: float = 0.0
    memory: float = 0.0


@dataclass(frozen=True)
class Look:
    """What happened in `seconds`: pages asked for per second, seconds that each answered page took, failures."""

    seconds: float
    rate: float
    took: tuple[float, ...]
    failed: int
    copies: tuple[Copy, ...]

    @property
    def answered(self) -> float:
        """Pages per second."""
        return len(self.took) / self.seconds if self.seconds else 0.0

    @property
    def behind(self) -> bool:
        """Whether visitors come faster than they are answered."""
        return self.seconds > 0 and self.answered < 0.9 * self.rate

    @property
    def p95(self) -> float | None:
        """Seconds within which 95 of 100 pages came."""
        ordered = sorted(self.took)
        return ordered[-(-len(ordered) * 95 // 100) - 1] if ordered else None

    def share(self, copy: int, part: str = "") -> float:
        """How much of one processor a copy, or a part of it, uses: 1.0 is all of it."""
        one = self.copies[copy]
        return (one.parts.get(part, 0.0) if part else one.processor) / self.seconds if self.seconds else 0.0


class Copies(Growing):
    """`set(rate=20)` does what the slider does; `looks` are the measurements, `stop()` ends all load."""

    mode = "live"
    help = (
        "A box is a process with everything in it, a bar the share of one processor that a part uses. The slider asks "
        "for real pages, spread over all copies; copies.set(rate=…) does the same. other: web server, log, interpreter."
    )

    def __init__(
        self,
        addresses: Sequence[str],
        path: Callable[[int], str] = lambda number: f"/?user={number % 40 + 1}",
        title: str = "Copies of the whole",
        looks: Iterable[Look] = (),
    ) -> None:
        super().__init__(title)
        self.addresses, self.path, self.rate = list(addresses), path, 0.0
        self.looks = list(looks)
        self.position = self.length
        self._numbers = itertools.count()
        self._took: list[float] = []
        self._failed = 0
        self._before: list[Copy] = []
        self._at = 0.0
        self._due = 0.0
        self._turn, self._changed, self._stopped = threading.Lock(), threading.Condition(), threading.Event()
        self._threads: list[threading.Thread] = []
        self.refresh()

    def look(self) -> None:
        """Read the counts of every copy now; what has come since the last look becomes a position of the slider."""
        now, counted = time.monotonic(), [_counted(metrics(address)) for address in self.addresses]
        with self._lock:
            took, self._took, failed, self._failed = self._took, [], self._failed, 0
            if self._before:
                copies = tuple(map(_since, counted, self._before))
                self.add(Look(now - self._at, self.rate, tuple(took), failed, copies))
            self._before, self._at = counted, now

    def add(self, look: Look) -> None:
        """Put a look at the end; a view that is not held follows. A very short one is added to the one before."""
        with self._lock:
            if self.looks and look.seconds < EVERY / 2 and look.rate == self.looks[-1].rate:
                look = _together(self.looks.pop(), look)
            self.looks.append(look)
            self.grow()

    def stop(self) -> None:
        """End the load; the view keeps what it shows."""
        self._stopped.set()
        with self._changed:
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()
        if self.rate > 0:
            self.look()
        self.rate, self.mode = 0.0, "recorded"
        self.refresh()

    def _set_rate(self, rate: float) -> None:
        with self._changed:
            self.rate, self._due = rate, time.monotonic()
            self._changed.notify_all()

    def _begin(self) -> None:
        if not self._threads:
            works = [self._looks_on, *([self._client] * CLIENTS)]
            self._threads = [threading.Thread(target=work, daemon=True) for work in works]
            for thread in self._threads:
                thread.start()

    def _looks_on(self) -> None:
        while not self._stopped.wait(EVERY):
            if self.rate > 0:
                self.look()

    def _client(self) -> None:
        while self._turn_came():
            self._visit(next(self._numbers))

    def _turn_came(self) -> bool:
        """Wait for the moment of the next page; False at the end. One client waits for it, the others for that one."""
        with self._turn, self._changed:
            while not self._stopped.is_set():
                rest = self._due - time.monotonic()
                if self.rate > 0 and rest <= 0:
                    # Who could not keep up does not make up for it later: a second's visitors have given up.
                    self._due = max(self._due, time.monotonic() - EVERY) + 1 / self.rate
                    return True
                self._changed.wait(min(rest, EVERY) if self.rate > 0 else EVERY)
        return False

    def _visit(self, turn: int) -> None:
        began = time.monotonic()
        _, _, trouble = ask(self.addresses[turn % len(self.addresses)], self.path(turn), LONGEST)
        with self._lock:
            if trouble:
                self._failed += 1
            else:
                self._took.append(time.monotonic() - began)

    # What there is to see

    @property
    def length(self) -> int:
        return max(0, len(self.looks) - 1)

    @property
    def now(self) -> Look:
        """The look that the slider stands at, with up to four before it at the same load: one alone is too short."""
        if not self.looks:
            return Look(0.0, self.rate, (), 0, tuple(Copy() for _ in self.addresses))
        back = reversed(self.looks[max(0, self.position + 1 - SPAN) : self.position + 1])
        alike = list(itertools.takewhile(lambda look: look.rate == self.looks[self.position].rate, back))
        return functools.reduce(_together, reversed(alike))

    def parts(self) -> dict[str, float]:
        """Seconds of the processor by part, of all copies and all looks."""
        copies = [copy for look in self.looks for copy in look.copies]
        return {part: sum(copy.parts.get(part, 0.0) for copy in copies) for part in PARTS}

    def moment(self) -> str:
        return f"look {self.position} of {self.length}"

    def summary(self) -> str:
        now = self.now
        if not now.seconds:
            return "nobody has asked for a page yet"
        took = f", 95 of 100 within {calls.told(now.p95)}" if now.took else ""
        shares = [now.share(one) for one in range(len(now.copies))]
        busy = ", ".join(
            f"copy {one} uses {100 * share:.0f} % of a processor" + (" (full)" if share >= FULL else "")
            for one, share in enumerate(shares, 1)
        )
        failed = f", {now.failed} failed" if now.failed else ""
        behind = ", which is not all of them" if now.behind else ""
        return f"{now.rate:.0f} pages/s asked for, {now.answered:.0f} answered{behind}{took}{failed}; {busy}"

    def table(self) -> tuple[list[str], list[list[str]]]:
        now, rows = self.now, []
        for one, copy in enumerate(now.copies):
            cells = [f"{100 * now.share(one, part):.0f} %" for part in PARTS]
            rows.append([f"{one + 1}", *cells, f"{100 * now.share(one):.0f} %", f"{copy.memory:.0f}"])
        return ["copy", *PARTS, "in all", "MiB resident"], rows

    def controls(self) -> list[dict[str, Any]]:
        return [number("rate", "Pages per second", self.rate, 0, MOST, 1)]

    def changed(self, name: str, value: Any) -> None:
        if self._stopped.is_set():
            raise UsageError("The load has ended.", hint="Run the cell again that made this picture.")
        if self.rate == 0:
            self._before = []  # the time without load is not looked at
        self.look()
        self._begin()
        self._set_rate(value)

    def picture(self) -> str:
        now, page, high = self.now, Page(), 62 + _ROW * len(PARTS)
        page.text(8, 18, f"{self.title} ({self.mode})", size=13, weight=600)
        asked = f"{now.rate:.0f} pages/s asked for, {now.answered:.0f} answered" + (": too many" if now.behind else "")
        page.text(
            8,
            38,
            asked + (f", p95 {calls.told(now.p95)}" if now.took else ""),
            size=12,
            weight=600 if now.behind else 0,
        )
        bottom = 48
        for one, copy in enumerate(now.copies):
            left, top = 8 + (one % 3) * (_BOX + 10), 48 + (one // 3) * (high + 10)
            _draw(page, left, top, high, now, one, copy)
            bottom = top + high
        entries = [(BLUE, "a part"), (ORANGE, "the part that uses most"), (GREY, "other"), (VERMILLION, "full")]
        page.legend(bottom + 22, entries)
        return page.document(bottom + 34, f"{self.title}: {self.summary()}")


def _draw(page: Page, left: float, top: float, high: float, now: Look, one: int, copy: Copy) -> None:
    share = now.share(one)
    full = share >= FULL
    style: dict[str, Any] = {"stroke": VERMILLION, "stroke-width": 3} if full else {"stroke": INK, "stroke-width": 1.5}
    page.rect(left, top, _BOX, high, fill="none", rx=6, **style)
    page.text(left + 8, top + 18, f"copy {one + 1}, {copy.memory:.0f} MiB", weight=600)
    most = max(PARTS[:-1], key=lambda part: copy.parts.get(part, 0.0))
    x, wide = left + 74, _BOX - 74 - 44
    for row, part in enumerate(PARTS):
        y, own = top + 28 + _ROW * row, now.share(one, part)
        hot = part == most and own > 0
        colour = ORANGE if hot else GREY if part == "other" else BLUE
        page.text(left + 8, y + 12, part, size=11, weight=600 if hot else 0)
        page.rect(x, y + 2, wide, _ROW - 7, fill="none", stroke=LINE)
        if own > 0:
            told = f"copy {one + 1}: {part} uses {100 * own:.0f} % of a processor"
            page.rect(x, y + 2, wide * min(1.0, own), _ROW - 7, title=told, fill=colour, stroke=INK)
        page.text(left + _BOX - 8, y + 12, f"{100 * own:.0f} %", size=11, anchor="end")
    words = f"in all {100 * share:.0f} % of a processor" + (", full" if full else "")
    page.text(left + 8, top + high - 10, words, size=11, weight=600 if full else 0)


def _counted(text: str | None) -> Copy:
    """What a copy has used so far, by its metrics; nothing if it does not answer."""
    parts, found = {}, dict[str, float]()
    for name, labels, value in calls.samples(text or ""):
        if name == "movies_processor_seconds_total":
            part = labels.get("part", "other")
            parts[part if part in PARTS else "other"] = value
        elif name in ("process_cpu_seconds_total", "process_resident_memory_bytes"):
            found[name] = value
    return Copy(parts, found.get("process_cpu_seconds_total", 0), found.get("process_resident_memory_bytes", 0) / 2**20)


def _since(last: Copy, first: Copy) -> Copy:
    """What came between two counts; one that was started again began from nothing."""
    if last.processor < first.processor:
        return last
    parts = {part: seconds - first.parts.get(part, 0.0) for part, seconds in last.parts.items()}
    return Copy(parts, last.processor - first.processor, last.memory)


def _together(one: Look, other: Look) -> Look:
    """Two looks at the same load as one."""
    copies = tuple(
        Copy(
            {part: first.parts.get(part, 0.0) + last.parts.get(part, 0.0) for part in {*first.parts, *last.parts}},
            first.processor + last.processor,
            last.memory,
        )
        for first, last in zip(one.copies, other.copies, strict=True)
    )
    return Look(one.seconds + other.seconds, one.rate, one.took + other.took, one.failed + other.failed, copies)
