"""Stages and lineage of a Spark run: who reads from whom, shuffled bytes, tasks on executors, what was lost. Pure.

A column is a step away from the data: a stage stands right of those whose shuffled bytes it reads. A square is a
partition, the number in it the executor that has it. Below them are the stage's RDDs, each with those that it is made
of: the lineage, along which Spark computes again what is lost. Made from what Spark itself told (podlab.spark).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from podlab.spark.measured import Rdd, Run, Stage, Task
from podlab.widgets.drawing import BLUE, GREEN, INK, ON, ORANGE, SKY, VERMILLION, Page
from podlab.widgets.replay import Replay

#: Size of a stage's box, of a partition's square, and the room between boxes.
WIDE, SQUARE, GAP = 168, 24, 50
#: Squares in a row of a box, rows that a box has room for, and RDDs; partitions that are named at most; columns.
ACROSS, ROWS, RDDS, NAMED, COLUMNS = 6, 3, 6, 8, 6
#: Sign, words and fill of a partition.
STATES = {
    "waiting": ("◔", "waiting", ""),
    "running": ("●", "running", ORANGE),
    "done": ("✓", "done", GREEN),
    "again": ("↻", "done again", SKY),
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
        "with its bytes. A stage whose files were there already is skipped. Below are its RDDs: what is made of what."
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

    def partitions(self, stage: Stage) -> dict[int, tuple[str, str]]:
        """State and executor of each partition of a stage, as an attempt at it has them."""
        if stage.skipped:
            return dict.fromkeys(range(stage.count), ("skipped", ""))
        tasks: dict[int, list[Task]] = {}
        for task in stage.tasks:
            tasks.setdefault(task.partition, []).append(task)
        again, found = set(self.again()), {}
        for number in sorted(tasks.keys() | set(range(stage.whole))):
            if number not in tasks:
                found[number] = ("skipped" if stage.count < stage.whole else "waiting", "")
                continue
            word, executor = state(tasks[number], self.now)
            found[number] = ("again" if word == "done" and (stage.id, number) in again else word, executor)
        return found

    def gone(self) -> list[str]:
        """The executors that are lost by now."""
        return [name for name, (at, _) in self.run.lost.items() if at <= self.now]

    def again(self) -> list[tuple[int, int]]:
        """(Stage, partition) of what had to be computed again by now: it had been begun, or others were there still."""
        begun = [(s, task.partition) for s in self.run.ran for task in s.tasks if task.begin <= self.now]
        times = Counter((stage.id, partition) for stage, partition in begun)
        partly = {(stage.id, partition) for stage, partition in begun if stage.count < stage.whole}
        return sorted(one for one in times if times[one] > 1 or one in partly)

    def _told_again(self) -> str:
        """What was computed again, in words."""
        found: dict[int, list[int]] = {}
        for stage, partition in self.again():
            found.setdefault(stage, []).append(partition)
        return "; ".join(
            f"computed again: partition{'s' if len(some) > 1 else ''} {', '.join(map(str, some[:NAMED]))}"
            f"{', ...' if len(some) > NAMED else ''} of stage {stage}"
            for stage, some in found.items()
        )

    def summary(self) -> str:
        ran = self.run.ran
        each = [[one for one, _ in self.partitions(stage).values() if one != "skipped"] for stage in ran]
        states = [one for some in each for one in some]
        done = [one in ("done", "again") for one in states]
        written = sum(s.written for s, some in zip(ran, each, strict=True) if {"done", "again"} >= set(some))
        words = [f"{sum(done)} of {len(done)} tasks in {len(ran)} stages done"]
        if running := states.count("running"):
            words.append(f"{running} running")
        words.append(f"{written} bytes shuffled")
        if skipped := len(self.run.stages) - len(ran):
            words.append(f"{skipped} stage{'s' if skipped > 1 else ''} skipped")
        if gone := self.gone():
            words.append(f"executor {' and '.join(gone)} lost")
        if again := self._told_again():
            words.append(again)
        if self.run.dropped:
            words.append(f"{self.run.dropped} jobs are not in it, of which Spark keeps nothing any more")
        return f"after {max(0.0, self.now):.2f} s: {'; '.join(words)}"

    def table(self) -> tuple[list[str], list[list[str]]]:
        rows = []
        for stage in self.run.stages:
            states = [one for one, _ in self.partitions(stage).values()]
            told = ", ".join(f"{states.count(one)} {STATES[one][1]}" for one in STATES if one in states)
            reads = ", ".join(map(str, stage.parents))
            lineage = "; ".join(map(_step, stage.rdds))
            rows.append([_name(stage), stage.name, told, reads, f"{stage.read}", f"{stage.written}", lineage])
        head = ["stage", "ends with", "tasks", "reads from stage", "bytes read", "bytes written", "RDDs"]
        return head, rows or [["none", *[""] * (len(head) - 1)]]

    def columns(self) -> list[list[Stage]]:
        """The stages by how many shuffles lie before them, attempts of one stage below each other."""
        depth: dict[int, int] = {}
        for stage in sorted(self.run.stages, key=lambda one: one.id):
            depth[stage.id] = 1 + max((depth.get(parent, -1) for parent in stage.parents), default=-1)
        deepest = max(depth.values(), default=-1)
        return [[stage for stage in self.run.stages if depth[stage.id] == at] for at in range(deepest + 1)]

    def _in_view(self) -> tuple[list[list[Stage]], str]:
        """The columns that a picture has room for, up to the one after the last that has begun; which, if not all."""
        columns = self.columns()
        begun = [
            at for at, column in enumerate(columns) for one in column if any(t.begin <= self.now for t in one.tasks)
        ]
        first = max(0, min(max(begun, default=0) + 2, len(columns)) - COLUMNS)
        shown = columns[first : first + COLUMNS]
        which = f"columns {first + 1} to {first + len(shown)} of {len(columns)}; the table has all"
        return shown, which if len(shown) < len(columns) else ""

    def picture(self) -> str:
        columns, which = self._in_view()
        page = Page(max(660, 16 + len(columns) * (WIDE + GAP)))
        page.text(8, 16, f"{self.title} ({self.mode})", weight=600)
        if which:
            page.text(page.width - 8, 16, which, size=11, anchor="end")
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
        if again := self._told_again():
            page.text(8, low + 12, _short(f"↻ {again}", page.width // 6), size=11)
            low += 18
        legend = "  ".join(f"{sign} {words}" for sign, words, _ in STATES.values())
        page.text(8, low + 14, f"{legend}  ▣ cached; the number: its executor", size=11)
        return page.document(low + 24, f"{self.title}: {self.summary()}")

    def figure(self) -> Any:
        """The same stages, partitions, RDDs and shuffles at the present position, as a matplotlib figure."""
        from matplotlib.figure import Figure

        columns, which = self._in_view()
        told = f"{self.title} ({which})" if which else self.title
        made = Figure(figsize=(2 + 2.4 * len(columns), 3.5), layout="constrained")
        axes = made.subplots()
        axes.set(
            xlim=(-0.5, max(1, len(columns)) - 0.5), ylim=(-0.5, max(map(len, columns), default=1) - 0.5), yticks=[]
        )
        axes.set(xticks=range(len(columns)), xlabel="shuffles before it", title=f"{told}\n{self.summary()}")
        axes.title.set(fontsize="small", wrap=True)
        axes.invert_yaxis()
        where = {stage.id: (x, y) for x, some in enumerate(columns) for y, stage in reversed(list(enumerate(some)))}
        for x, some in enumerate(columns):
            for y, stage in enumerate(some):
                squares = [STATES[one][0] + executor for one, executor in self.partitions(stage).values()]
                cut = [" ".join(squares[at : at + ACROSS]) for at in range(0, min(len(squares), ACROSS * ROWS), ACROSS)]
                lines = [f"{_name(stage)} {stage.name}", *cut, *map(_step, stage.rdds[-RDDS:])]
                box = {"boxstyle": "round", "facecolor": "white", "linestyle": "dashed" if stage.skipped else "solid"}
                axes.text(x, y, "\n".join(lines), ha="center", va="center", fontsize="x-small", bbox=box, zorder=2)
                for other in self.run.stages:
                    if other.id in stage.parents and other.id in where:
                        begin, look = where[other.id], {"arrowstyle": "-", "color": BLUE}
                        axes.annotate("", (x, y), begin, arrowprops=look, zorder=1)
                        middle = ((begin[0] + x) / 2, (begin[1] + y) / 2)
                        axes.text(*middle, _bytes(other.written), ha="center", va="bottom", fontsize="x-small")
        return made

    def _box(self, page: Page, stage: Stage, x: float, y: float) -> float:
        some = list(self.partitions(stage).items())
        shown = some[: ACROSS * ROWS]
        rdds = stage.rdds if stage.attempt == 0 else ()
        squares = 26 + SQUARE * -(-max(1, len(shown)) // ACROSS) + 4
        high = squares + 13 * min(len(rdds), RDDS) + (4 if rdds else 0)
        dash = {"stroke-dasharray": "4 2"} if stage.skipped else {}
        page.rect(x, y, WIDE, high, title=f"stage {_name(stage)}: {stage.name}", fill="none", stroke=INK, **dash)
        more = f" +{len(some) - len(shown)}" if len(some) > len(shown) else ""
        page.text(x + 6, y + 16, f"{_name(stage)} {stage.name[:16]}{more}", size=11)
        for at, (number, (one, executor)) in enumerate(shown):
            sign, words, fill = STATES[one]
            left, top = x + 8 + (at % ACROSS) * SQUARE, y + 24 + (at // ACROSS) * SQUARE
            style = {"fill": fill or "none", "stroke": INK}
            page.rect(left, top, SQUARE - 4, SQUARE - 5, title=f"partition {number}: {words}", **style)
            ink: dict[str, Any] = {"fill": ON.get(fill, "#000000")} if fill else {}
            label = sign + ("d" if executor == "driver" else executor)
            page.text(left + (SQUARE - 4) / 2, top + 13, label, size=9, anchor="middle", **ink)
        for at, rdd in enumerate(rdds[-RDDS:]):
            page.text(x + 8, y + squares + 9 + 13 * at, _short(_step(rdd), 34), size=9)
        return high

    def _arrows(self, page: Page, places: dict[tuple[int, int], tuple[float, float, float]]) -> None:
        shown = [stage for stage in self.run.stages if (stage.id, stage.attempt) in places]
        for stage in shown:
            x, y, high = places[stage.id, stage.attempt]
            for other in shown:
                if other.id not in stage.parents:
                    continue
                left, top, tall = places[other.id, other.attempt]
                page.line(left + WIDE, top + tall / 2, x, y + high / 2, stroke=BLUE, **{"stroke-width": 2})
                page.circle(x, y + high / 2, 3, fill=BLUE)
                if other.written:
                    words = _bytes(other.written)
                    page.text(left + WIDE + GAP / 2, top + tall / 2 - 6, words, size=10, anchor="middle")


def _step(rdd: Rdd) -> str:
    """An RDD, and those that it is made of."""
    made_of = f" ← {', '.join(map(str, rdd.parents))}" if rdd.parents else ""
    return f"{rdd.id} {rdd.name}{' ▣' if rdd.cached else ''}{made_of}"


def _short(words: str, most: int) -> str:
    return words if len(words) <= most else f"{words[: most - 1]}…"


def _name(stage: Stage) -> str:
    return f"{stage.id}" + (f".{stage.attempt}" if stage.attempt else "")


def _bytes(count: int) -> str:
    return f"{count} B" if count < 10_000 else f"{count / 1024:.0f} KiB"
