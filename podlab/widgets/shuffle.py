"""MapReduce step by step: records through map, shuffle and reduce, who has which task, who is lost. Pure.

Both pictures go through the events of a job: those that the engine has recorded, or those of a job that is computed.
A dot is a value on its way; its colour and number say to which reducer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from podlab.distributed.mapreduce_plan import Plan, corpus, events
from podlab.widgets.drawing import BLUE, INK, LINE, ON, SERIES, VERMILLION, Page
from podlab.widgets.replay import Replay, choice, number

Event = Mapping[str, Any]
#: Height of a row, if there are few and if there are many.
ROW, LOW_ROW, FEW = 26, 20, 10
#: Rows that a column has room for, and dots of a row.
MOST_ROWS, MOST_DOTS = 24, 12
#: Where dots begin, and where the reducers' boxes do.
DOTS, RIGHT = 196, 440
#: Sign, words, stroke and dash of a task's box.
STATES = {
    "waiting": ("◔", "waiting", "#8a8a8a", "4 2"),
    "running": ("●", "in hand", BLUE, ""),
    "done": ("✓", "done", INK, ""),
}


@dataclass
class Task:
    """A map or reduce task as it is after some events. `holders`: who has it in hand, with the attempt."""

    kind: str
    number: int
    holders: dict[str, int] = field(default_factory=dict)
    done: bool = False
    attempts: int = 0
    lost: int = 0
    records: int = 0
    size: int = 0
    parts: list[int] = field(default_factory=list)

    @property
    def state(self) -> str:
        """waiting, running or done."""
        return "done" if self.done else "running" if self.holders else "waiting"

    @property
    def name(self) -> str:
        """Such as map 3."""
        return f"{self.kind} {self.number}"


@dataclass
class State:
    """The job after some events. `hands`: what each worker has in hand, "" if nothing, "lost" if it is gone."""

    tasks: dict[tuple[str, int], Task] = field(default_factory=dict)
    hands: dict[str, str] = field(default_factory=dict)
    backups: int = 0
    discarded: int = 0
    time: float = 0.0
    over: bool = False

    def of(self, kind: str) -> list[Task]:
        """The tasks of a kind, by number."""
        return [task for task in self.tasks.values() if task.kind == kind]

    def arrived(self, reducer: int) -> int:
        """Values that maps have made for a reducer."""
        return sum(task.parts[reducer] for task in self.of("map") if task.done and reducer < len(task.parts))


def folded(log: Sequence[Event], position: int) -> State:
    """The job after the first `position` events; its tasks are all that the whole log knows."""
    state = State()
    known = {(one["kind"], one["task"]) for one in log if "kind" in one and one.get("task") is not None}
    for kind, at in sorted(known):
        state.tasks[kind, at] = Task(kind, at)
    for event in log[:position]:
        _fold(state, event)
    return state


def _fold(state: State, event: Event) -> None:
    state.time, what, worker = event["time"], event["event"], event.get("worker", "")
    if what == "worker":
        state.hands[worker] = ""
    elif what == "done":
        state.over = True
    elif what == "lost":
        state.hands[worker] = "lost"
        for task in state.tasks.values():
            if task.holders.pop(worker, None) is not None:
                task.lost += 1
    elif what in ("start", "backup"):
        task = state.tasks[event["kind"], event["task"]]
        task.attempts += 1
        task.holders[worker] = event["attempt"]
        state.hands[worker] = task.name
        state.backups += what == "backup"
    elif what in ("end", "discard"):
        task = state.tasks[event["kind"], event["task"]]
        task.holders.pop(worker, None)
        state.hands[worker] = ""
        state.discarded += what == "discard"
        if what == "end":
            task.done, task.records, task.size = True, event.get("records", 0), event.get("bytes", 0)
            task.parts = list(event.get("parts", ()))


def told(event: Event) -> str:
    """One event in words."""
    what, worker = str(event["event"]), event.get("worker", "")
    task = f"{event['kind']} {event['task']}" if "kind" in event else ""
    return {
        "worker": f"{worker} starts",
        "start": f"{worker} begins {task}" + ("" if event.get("attempt", 1) == 1 else ", once more"),
        "backup": f"{worker} begins a backup of {task}",
        "end": f"{worker} ends {task}; it counts",
        "discard": f"{worker} ends {task}, which has counted already",
        "lost": f"{worker} {event.get('how', 'is lost')}",
        "stopped": f"{worker} stands still",
        "done": "all is done",
    }.get(what, what)


class Shuffle(Replay):
    """A job to go through, event by event."""

    help = (
        "A dot is a value, its colour and number the reducer that gets it. ◔ waiting, ● in hand, ✓ done, ✕ lost with "
        "its worker."
    )

    def __init__(self, log: Sequence[Event], title: str = "MapReduce", *, mode: str = "real run") -> None:
        super().__init__(title)
        self.events, self.mode = list(log), mode
        self.position = self.length
        self.refresh()

    @property
    def length(self) -> int:
        return len(self.events)

    @property
    def state(self) -> State:
        """The job at the present position."""
        return folded(self.events, self.position)

    def moment(self) -> str:
        if self.position == 0:
            return "before the start"
        event = self.events[self.position - 1]
        return f"{event['time']:.2f} s: {told(event)}"

    def summary(self) -> str:
        state = self.state
        words = []
        for kind in dict.fromkeys(task.kind for task in state.tasks.values()):
            some = state.of(kind)
            hand = sum(task.state == "running" for task in some)
            name = "tasks" if kind == "task" else f"{kind} tasks"
            words.append(f"{sum(task.done for task in some)} of {len(some)} {name} done, {hand} in hand")
        values = sum(sum(task.parts) for task in state.of("map"))
        if values:
            words.append(f"{values} values shuffled")
        lost = [worker for worker, hand in state.hands.items() if hand == "lost"]
        if lost:
            words.append(f"{' and '.join(lost)} lost")
        if state.backups:
            words.append(f"{state.backups} backup{'s' if state.backups > 1 else ''}, {state.discarded} thrown away")
        return f"after {state.time:.2f} s: {'; '.join(words)}"

    def table(self) -> tuple[list[str], list[list[str]]]:
        rows = []
        for task in self.state.tasks.values():
            values = " + ".join(map(str, task.parts))
            holders = ", ".join(task.holders)
            cells = [task.name, STATES[task.state][1], f"{task.attempts}", f"{task.lost}", holders]
            rows.append([*cells, f"{task.records}" if task.done else "", values])
        return ["task", "state", "attempts", "lost", "in the hands of", "records", "values for each reducer"], rows

    def picture(self) -> str:
        page, state = Page(), self.state
        page.text(8, 16, f"{self.title} ({self.mode})", weight=600)
        lefts = [task for task in state.tasks.values() if task.kind != "reduce"][:MOST_ROWS]
        rights = state.of("reduce")[:MOST_ROWS]
        rows = max(len(lefts), len(rights), 1)
        high = ROW if rows <= FEW else LOW_ROW
        top = 44 if rights else 30
        if rights:
            page.text(8, 34, "map", size=11)
            page.text(RIGHT, 34, "reduce", size=11)
        scale = max(1, -(-max((sum(task.parts) for task in lefts), default=1) // MOST_DOTS))
        dots = {task.number: [_dots(count, scale) for count in task.parts] for task in lefts}
        begin = DOTS + 12 * max((sum(some) for some in dots.values()), default=0)
        places = {task.number: top + rows * high * (row + 0.5) / len(rights) for row, task in enumerate(rights)}
        for row, task in enumerate(lefts):
            middle = top + high * (row + 0.5)
            self._box(page, task, 8, middle, 112, high)
            _draw_dots(page, dots[task.number], DOTS, middle)
            if task.done:
                _draw_ways(page, task, begin, middle, places)
        for task in rights:
            self._box(page, task, RIGHT, places[task.number], 212, high, state.arrived(task.number))
        low = self._workers(page, state, top + rows * high + 20)
        page.text(8, low, f"◔ waiting  ● in hand  ✓ done  ✕ lost with its worker; a dot: {_values(scale)}", size=11)
        return page.document(low + 10, f"{self.title}: {self.summary()}")

    def _box(self, page: Page, task: Task, x: float, y: float, wide: float, high: float, arrived: int = -1) -> None:
        sign, words, stroke, dash = STATES[task.state]
        style = {"fill": "none", "stroke": stroke, "stroke-width": 2} | ({"stroke-dasharray": dash} if dash else {})
        page.rect(x, y - high / 2 + 2, wide, high - 4, title=f"{task.name}: {words}", **style)
        lost = f" ✕{task.lost}" if task.lost else ""
        who = " ".join(name.removeprefix("worker-").join(("w", "")) for name in task.holders)
        page.text(x + 6, y + 4, f"{sign} {task.name}{lost}", size=11)
        if arrived < 0:
            page.text(x + wide + 6, y + 4, who, size=11)
            return
        colour = SERIES[task.number % len(SERIES)]
        page.rect(x + 92, y - 6, 16, 12, fill=colour, stroke=INK)
        page.text(x + 100, y + 3, task.number, size=9, anchor="middle", fill=ON.get(colour, "#000000"))
        page.text(x + 114, y + 4, _values(arrived) + (f", {who}" if who else ""), size=11)

    def _workers(self, page: Page, state: State, y: float) -> float:
        x = 8.0
        for worker, hand in state.hands.items():
            if x > 560:
                x, y = 8.0, y + ROW
            lost = hand == "lost"
            style = {"stroke": VERMILLION if lost else BLUE if hand else LINE, "fill": "none"}
            page.rect(x, y - 13, 124, 18, title=f"{worker}: {hand or 'idle'}", **style)
            page.text(x + 5, y, f"{worker}: {'✕ lost' if lost else hand or 'idle'}", size=11)
            x += 130
        return y + 24


def _dots(count: int, scale: int) -> int:
    """Dots for some values: one at least, if there are any."""
    return max(1, round(count / scale)) if count else 0


def _draw_dots(page: Page, dots: Sequence[int], x: float, y: float) -> None:
    for reducer, count in enumerate(dots):
        colour = SERIES[reducer % len(SERIES)]
        for _ in range(count):
            page.circle(x, y, 5, title=f"for reduce {reducer}", fill=colour, stroke="#1a1a1a")
            page.text(x, y + 3, reducer, size=8, anchor="middle", fill=ON.get(colour, "#000000"))
            x += 12


def _draw_ways(page: Page, task: Task, x: float, y: float, places: Mapping[int, float]) -> None:
    for reducer, count in enumerate(task.parts):
        if count and reducer in places:
            colour = SERIES[reducer % len(SERIES)]
            page.line(x, y, RIGHT - 4, places[reducer], stroke=colour, **{"stroke-width": 1.5})


def _values(count: int) -> str:
    return f"{count} value{'' if count == 1 else 's'}"


class Stepper(Shuffle):
    """A small job that is computed: kill a mapper, slow a worker down, combine, take the backups away.

    `stepper.set(kill=2, slow=4, backups="no")` does what the controls do.
    """

    help = (
        "A simulation: records of three words. Worker 1 may be slow, and one worker may be killed in its first task. "
        'stepper.set(workers=…, splits=…, kill=…, slow=…, combine="yes", backups="no") does the same as the controls.'
    )

    def __init__(self, title: str = "MapReduce to play with", *, seed: int = 1, **values: Any) -> None:
        self.seed = seed
        self.values: dict[str, Any] = {"workers": 3, "splits": 7, "kill": 0, "slow": 1.0}
        self.values |= {"combine": "no", "backups": "yes"}
        super().__init__(self._computed(), title, mode="simulation")
        if values:
            self.set(**values)

    def _computed(self) -> list[Event]:
        now = self.values
        splits = corpus(self.seed, int(now["splits"]))
        combine, backups = now["combine"] == "yes", now["backups"] == "yes"
        return list(events(Plan(splits, int(now["workers"]), 3, combine, int(now["kill"]), now["slow"], backups)))

    def controls(self) -> list[dict[str, Any]]:
        now = self.values
        return [
            number("workers", "Workers", now["workers"], 1, 6),
            number("splits", "Map tasks", now["splits"], 1, 12),
            number("kill", "Kill worker (0: nobody)", now["kill"], 0, 6),
            number("slow", "Worker 1 is slower by", now["slow"], 1, 8, 0.5),
            choice("combine", "Combine", now["combine"], ["no", "yes"]),
            choice("backups", "Backup tasks", now["backups"], ["yes", "no"]),
        ]

    def changed(self, name: str, value: Any) -> None:
        self.values[name] = value
        self.events = self._computed()
        self.position = self.length


def replayed(kept: Mapping[str, Any], title: str) -> Shuffle:
    """A widget for the events that a failed check has kept."""
    return Shuffle(kept["events"], title, mode=kept.get("mode", "real run"))
