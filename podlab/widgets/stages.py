"""Stages and lineage of a Spark run: who reads from whom, shuffled bytes, tasks on executors, what was lost. Pure.

A column is a step away from the data: a stage stands right of those whose shuffled bytes it reads. A square is a
partition, the number in it the executor that has it. Made from what Spark's REST interface said (podlab.spark).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from podlab.spark.measured import Run, Stage, Task
from podlab.widgets.drawing import BLUE, GREEN, INK, ON, ORANGE, VERMILLION, Page
from podlab.widgets.replay import Replay

#: Size of a stage's box, of a partition's square, and the room between boxes.
WIDE, SQUARE, GAP = 168, 24, 50
#: Squares in a row of a box, and rows that a box has room for.
ACROSS, ROWS = 6, 3
#: Sign, words and fill of a partition.
STATES = {
    "waiting": ("◔", "waiting", ""),
    "running": ("●", "running", ORANGE),
    "done": ("✓", "done", GREEN),
    "failed": ("✕", "lost or failed", VERMILLION),
    "skipped": ("–", "was there already", ""),
}
_BAD = ("FAILED", "KILLED")


def state(tasks: Sequence[Task], now: float) -> tuple[str, str]:
    """The state of a partition and its executor, from all attempts at it, after `now` seconds."""
    begun = [task for task in tasks if task.begin <= now]
    if any(task.end <= now and task.status not in _BAD for task in begun):
        good = next(task for task in begun if task.end <= now and task.status not in _BAD)
        return "done", good.executor
    if running := [task for task in begun if now < task.end]:
        return "running", running[-1].executor
    return ("failed", begun[-1].executor) if begun else ("waiting", "")


class Stages(Replay):
    """A run of Spark to go through, from one begin or end of a task to the next."""

    help = (
        "A box is a stage, a square one of its partitions with the number of the executor; an arrow is a shuffle, "
        "with its bytes. A stage whose files were there already is skipped."
    )

    def __init__(self, run: Run, title: str = "Stages", *, mode: str = "real run") -> None:
        super().__init__(title)
        self.run, self.mode = run, mode
        tasks = [task for stage in run.stages for task in stage.tasks]
        moments = {task.begin for task in tasks} | {task.end for task in tasks}
        self.moments = sorted(moments | {at for at, _ in run.lost.values()})
        self.position = self.length
        self.refresh()

    @property
    def length(self) -> int:
        return len(self.moments)

    @property
    def now(self) -> float:
        """Seconds at the present position."""
        return self.moments[self.position - 1] if self.position else -1.0

    def moment(self) -> str:
        if self.position == 0:
            return "before the start"
        lost = [name for name, (at, _) in self.run.lost.items() if at == self.now]
        return f"{self.now:.2f} s" + (f": executor {lost[0]} is lost" if lost else "")

    def partitions(self, stage: Stage) -> list[tuple[str, str]]:
        """State and executor of each partition that a stage's attempt had to compute."""
        if stage.skipped:
            return [("skipped", "")] * stage.count
        numbers = sorted({task.partition for task in stage.tasks})
        return [state([task for task in stage.tasks if task.partition == one], self.now) for one in numbers]

    def gone(self) -> list[str]:
        """The executors that are lost by now."""
        return [name for name, (at, _) in self.run.lost.items() if at <= self.now]

    def again(self) -> int:
        """Tasks that were begun more than once by now, in this attempt of their stage or a later one."""
        begun = [(stage.id, task.partition) for stage in self.run.ran for task in stage.tasks if task.begin <= self.now]
        return len(begun) - len(set(begun))

    def summary(self) -> str:
        ran = self.run.ran
        states = [one for stage in ran for one, _ in self.partitions(stage)]
        written = sum(stage.written for stage in ran if all(one == "done" for one, _ in self.partitions(stage)))
        words = [f"{states.count('done')} of {len(states)} tasks in {len(ran)} stages done"]
        if running := states.count("running"):
            words.append(f"{running} running")
        words.append(f"{written} bytes shuffled")
        if skipped := len(self.run.stages) - len(ran):
            words.append(f"{skipped} stage{'s' if skipped > 1 else ''} skipped")
        if gone := self.gone():
            words.append(f"executor {' and '.join(gone)} lost")
        if again := self.again():
            words.append(f"{again} task{'s' if again > 1 else ''} begun again")
        return f"after {max(0.0, self.now):.2f} s: {'; '.join(words)}"

    def table(self) -> tuple[list[str], list[list[str]]]:
        rows = []
        for stage in self.run.stages:
            states = [one for one, _ in self.partitions(stage)]
            told = ", ".join(f"{states.count(one)} {STATES[one][1]}" for one in STATES if one in states)
            reads = ", ".join(map(str, stage.parents))
            rows.append([_name(stage), stage.name, told, reads, f"{stage.read}", f"{stage.written}"])
        head = ["stage", "ends with", "tasks", "reads from stage", "bytes read", "bytes written"]
        return head, rows or [["none", "", "", "", "", ""]]

    def columns(self) -> list[list[Stage]]:
        """The stages by how many shuffles lie before them, attempts of one stage below each other."""
        depth: dict[int, int] = {}
        for stage in sorted(self.run.stages, key=lambda one: one.id):
            depth[stage.id] = 1 + max((depth.get(parent, -1) for parent in stage.parents), default=-1)
        deepest = max(depth.values(), default=-1)
        return [[stage for stage in self.run.stages if depth[stage.id] == at] for at in range(deepest + 1)]

    def picture(self) -> str:
        columns = self.columns()
        page = Page(max(660, 16 + len(columns) * (WIDE + GAP)))
        page.text(8, 16, f"{self.title} ({self.mode})", weight=600)
        places: dict[tuple[int, int], tuple[float, float, float]] = {}
        low = 40.0
        for at, column in enumerate(columns):
            y = 40.0
            for stage in column:
                high = self._box(page, stage, 8 + at * (WIDE + GAP), y)
                places[stage.id, stage.attempt] = (8 + at * (WIDE + GAP), y, high)
                y += high + 14
            low = max(low, y)
        self._arrows(page, places)
        if gone := self.gone():
            why = self.run.lost[gone[-1]][1]
            page.text(8, low + 12, f"✕ executor {' and '.join(gone)} lost: {why[:70]}", size=11)
            low += 18
        legend = "  ".join(f"{sign} {words}" for sign, words, _ in STATES.values())
        page.text(8, low + 14, f"{legend}; the number: its executor", size=11)
        return page.document(low + 24, f"{self.title}: {self.summary()}")

    def _box(self, page: Page, stage: Stage, x: float, y: float) -> float:
        some = self.partitions(stage)
        shown = some[: ACROSS * ROWS]
        high = 26 + SQUARE * -(-max(1, len(shown)) // ACROSS) + 4
        dash = {"stroke-dasharray": "4 2"} if stage.skipped else {}
        page.rect(x, y, WIDE, high, title=f"stage {_name(stage)}: {stage.name}", fill="none", stroke=INK, **dash)
        more = f" +{len(some) - len(shown)}" if len(some) > len(shown) else ""
        page.text(x + 6, y + 16, f"{_name(stage)} {stage.name[:16]}{more}", size=11)
        for at, (one, executor) in enumerate(shown):
            sign, words, fill = STATES[one]
            left, top = x + 8 + (at % ACROSS) * SQUARE, y + 24 + (at // ACROSS) * SQUARE
            style = {"fill": fill or "none", "stroke": INK}
            page.rect(left, top, SQUARE - 4, SQUARE - 5, title=f"partition {at}: {words}", **style)
            ink: dict[str, Any] = {"fill": ON.get(fill, "#000000")} if fill else {}
            label = sign + ("d" if executor == "driver" else executor)
            page.text(left + (SQUARE - 4) / 2, top + 13, label, size=9, anchor="middle", **ink)
        return high

    def _arrows(self, page: Page, places: dict[tuple[int, int], tuple[float, float, float]]) -> None:
        for stage in self.run.stages:
            x, y, high = places[stage.id, stage.attempt]
            for other in self.run.stages:
                if other.id not in stage.parents:
                    continue
                left, top, tall = places[other.id, other.attempt]
                page.line(left + WIDE, top + tall / 2, x, y + high / 2, stroke=BLUE, **{"stroke-width": 2})
                page.circle(x, y + high / 2, 3, fill=BLUE)
                if other.written:
                    words = _bytes(other.written)
                    page.text(left + WIDE + GAP / 2, top + tall / 2 - 6, words, size=10, anchor="middle")


def _name(stage: Stage) -> str:
    return f"{stage.id}" + (f".{stage.attempt}" if stage.attempt else "")


def _bytes(count: int) -> str:
    return f"{count} B" if count < 10_000 else f"{count / 1024:.0f} KiB"
