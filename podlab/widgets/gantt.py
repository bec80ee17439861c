"""Who did what and when: a Gantt chart of one job, one to play with, and speed-ups against Amdahl's law."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

from podlab.distributed.farm import Farmed, amdahl, cut, plan
from podlab.widgets.drawing import BLUE, GREY, INK, LINE, ON, ORANGE, SERIES, VERMILLION, Page
from podlab.widgets.replay import Replay, choice, number

ROW = 26


class Gantt(Replay):
    """One bar for each chunk, one row for each worker. Positions are the moments at which chunks begin or end."""

    help = "A bar is a chunk, a row a worker; the empty rest of a row is time in which that worker waits."

    def __init__(self, run: Farmed, title: str = "Who did what", *, mode: str = "real run") -> None:
        super().__init__(title)
        self.run, self.mode = run, mode
        self.position = self.length
        self.refresh()

    def moments(self) -> list[float]:
        """Times at which something begins or ends, ascending."""
        return sorted({span.begin for span in self.run.spans} | {span.end for span in self.run.spans})

    @property
    def length(self) -> int:
        return len(self.moments())

    @property
    def now(self) -> float:
        """Seconds at the present position."""
        moments = self.moments()
        return 0.0 if self.position == 0 else moments[self.position - 1]

    def moment(self) -> str:
        return f"{self.now:.2f} s"

    def summary(self) -> str:
        run = self.run
        done = sum(span.end <= self.now for span in run.spans)
        if done < len(run.spans):
            hands = sum(span.begin <= self.now < span.end for span in run.spans)
            return f"after {self.now:.2f} s: {done} of {len(run.spans)} chunks done, {hands} in hand"
        return f"{run!r}; at the end somebody had nothing to do for {run.idle_end:.2f} s"

    def table(self) -> tuple[list[str], list[list[str]]]:
        rows = []
        for one in range(self.run.workers):
            mine = [span for span in self.run.spans if span.worker == one and span.begin <= self.now]
            busy = sum(min(span.end, self.now) - span.begin for span in mine)
            last = max((min(span.end, self.now) for span in mine), default=0.0)
            rows.append([f"{one}", f"{len(mine)}", f"{sum(span.items for span in mine)}", f"{busy:.2f}", f"{last:.2f}"])
        return ["worker", "chunks", "items", "busy (s)", "until (s)"], rows

    def picture(self) -> str:
        page, left, top = Page(), 74, 26
        right, end = page.width - 20, self.run.seconds
        page.text(8, 16, f"{self.title} ({self.mode})", weight=600)

        def x(seconds: float) -> float:
            return left + (right - left) * seconds / end

        for one in range(self.run.workers):
            y = top + one * ROW
            page.text(8, y + 16, f"worker {one}", size=11)
            page.line(left, y + ROW - 2, right, y + ROW - 2)
        for span in self.run.spans:
            if span.begin > self.now:
                continue
            y, wide = top + span.worker * ROW, x(min(span.end, self.now)) - x(span.begin)
            fill = SERIES[span.worker % len(SERIES)]
            told = f"chunk {span.chunk}, {span.items} items, {span.begin:.2f} to {span.end:.2f} s"
            dash = {} if span.end <= self.now else {"stroke-dasharray": "3 2"}
            page.rect(x(span.begin), y + 2, wide, ROW - 7, title=told, fill=fill, stroke="#1a1a1a", **dash)
            if wide > 16:
                page.text(x(span.begin) + 3, y + 16, span.chunk, size=10, fill=ON.get(fill, "#000000"))
        low = top + self.run.workers * ROW + 4
        page.axis(left, right, low, end, "s")
        if self.position < self.length:
            page.line(x(self.now), top - 4, x(self.now), low, stroke=VERMILLION, **{"stroke-width": 2})
        return page.document(low + 22, f"{self.title}: {self.summary()}")


class Planner(Gantt):
    """The same picture for a job that is only computed: change workers, chunks, skew and straggler, and look.

    `planner.set(workers=4, chunk=8)` does what the sliders do; `planner.run` is the planned run.
    """

    help = (
        "A simulation: 64 tasks, one second of work in all, 5 ms for each message. planner.set(workers=…, chunk=…, "
        'skew=…, straggler=…, hand_out="asked") does the same as the controls.'
    )

    def __init__(self, title: str = "Plan a job", *, seed: int = 1, **values: Any) -> None:
        self.seed = seed
        self.values: dict[str, Any] = {"workers": 4, "chunk": 16, "skew": 0.0, "straggler": 1.0, "hand_out": "dealt"}
        super().__init__(self._planned(), title, mode="simulation")
        if values:
            self.set(**values)

    def lengths(self) -> list[float]:
        """Seconds of each of the 64 tasks, one second in all; `skew` 0 makes them equal, 2 very different."""
        chance = random.Random(self.seed)
        raw = [chance.paretovariate(1.2) ** self.values["skew"] for _ in range(64)]
        return [one / sum(raw) for one in raw]

    def _planned(self) -> Farmed:
        values = self.values
        return plan(
            cut(self.lengths(), int(values["chunk"])),
            int(values["workers"]),
            order=values["hand_out"],
            slow={0: values["straggler"]},
            message=0.005,
        )

    def controls(self) -> list[dict[str, Any]]:
        now = self.values
        return [
            number("workers", "Workers", now["workers"], 1, 16),
            number("chunk", "Tasks in a chunk", now["chunk"], 1, 64),
            number("skew", "Skew", now["skew"], 0, 2, 0.25),
            number("straggler", "Worker 0 is slower by", now["straggler"], 1, 5, 0.5),
            choice("hand_out", "Chunks are", now["hand_out"], ["dealt", "asked"]),
        ]

    def changed(self, name: str, value: Any) -> None:
        self.values[name] = value
        self.run = self._planned()
        self.position = self.length

    def summary(self) -> str:
        if self.position < self.length:
            return super().summary()
        return f"{super().summary()}; speed-up {1.0 / self.run.seconds:.2f}"


class SpeedUp(Replay):
    """Measured speed-ups by number of workers, beside the perfect line and Amdahl's law."""

    help = "Dashed: if everything could be divided. Line: Amdahl's law for the serial share. Squares: measured."

    def __init__(self, measured: Mapping[int, float], serial: float, title: str = "Speed-up", mode: str = "real runs"):
        super().__init__(title)
        self.measured, self.serial, self.mode = dict(measured), serial, mode
        self.refresh()

    def summary(self) -> str:
        told = ", ".join(f"{speed:.2f} with {workers}" for workers, speed in sorted(self.measured.items()))
        limit = f"at most {1 / self.serial:.1f} with any number" if self.serial > 0 else "no limit by Amdahl's law"
        return f"speed-up {told}; serial share {100 * self.serial:.0f} %, {limit}"

    def table(self) -> tuple[list[str], list[list[str]]]:
        rows = [
            [f"{workers}", f"{speed:.2f}", f"{amdahl(self.serial, workers):.2f}"]
            for workers, speed in sorted(self.measured.items())
        ]
        return ["workers", "measured", "Amdahl"], rows

    def picture(self) -> str:
        page, left, top, high = Page(), 60, 30, 190
        right, most = page.width - 150, max(self.measured)
        tallest = max(most * 1.0, *self.measured.values())
        page.text(8, 16, f"{self.title} ({self.mode})", weight=600)

        def at(workers: float, speed: float) -> tuple[float, float]:
            wide = (workers - 1) / max(1, most - 1)
            return left + (right - left) * wide, top + high - high * speed / tallest

        for speed in range(0, int(tallest) + 1, max(1, int(tallest) // 4)):
            x, y = at(1, speed)
            page.line(x - 4, y, right, y, stroke=LINE, **{"stroke-opacity": 0.5})
            page.text(x - 8, y + 4, speed, size=10, anchor="end")
        steps = [1 + (most - 1) * part / 40 for part in range(41)]
        page.path([at(one, one) for one in (1, most)], stroke=GREY, **{"stroke-dasharray": "6 4", "stroke-width": 2})
        page.path([at(one, amdahl(self.serial, one)) for one in steps], stroke=BLUE, **{"stroke-width": 2})
        for workers, gain in self.measured.items():
            x, y = at(workers, gain)
            told = f"{workers} workers: {gain:.2f}"
            page.rect(x - 4, y - 4, 8, 8, title=told, fill=ORANGE, stroke=INK)
            page.text(x, top + high + 16, workers, size=10, anchor="middle")
        page.text((left + right) / 2, top + high + 32, "workers", size=11, anchor="middle")
        for row, (colour, told) in enumerate(((GREY, "perfect"), (BLUE, "Amdahl"), (ORANGE, "measured"))):
            page.rect(right + 20, top + 20 * row, 12, 10, fill=colour, stroke=INK)
            page.text(right + 38, top + 20 * row + 9, told, size=11)
        return page.document(top + high + 40, f"{self.title}: {self.summary()}")
