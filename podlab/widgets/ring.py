"""A ring of electing nodes with terms, leases and timers, and the lanes of a whole run: recorded, or to play with.

Everything is computed from a record by podlab.widgets.group; this draws it, and turns controls into faults.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from typing import Any

from podlab.distributed.election import STORE
from podlab.errors import UsageError
from podlab.widgets.drawing import BLUE, GREEN, GREY, INK, ON, ORANGE, SKY, VERMILLION, YELLOW, Page
from podlab.widgets.group import Group, Member, Settings, State, frames, names_of, state
from podlab.widgets.replay import Replay, action, choice, number

#: How each role looks: fill, and the sign that tells it without colour.
ROLES = {
    "leader": (BLUE, "L"),
    "paused leader": (YELLOW, "L‖"),
    "candidate": (ORANGE, "?"),
    "follower": (SKY, ""),
    "paused": (YELLOW, "‖"),
    "down": (GREY, "✕"),
}
MIDDLE, RADIUS, NODE = (150.0, 158.0), 100.0, 25.0
LANES, LANE = 310.0, 26.0


class Ring(Replay):
    """The record of an election, moment by moment. Positions are moments; `state` is all that the picture shows."""

    help = (
        "L leads, ? stands for election, ‖ is paused, ✕ is down. The arc around a node is what is left of its lease, "
        "or of its timer. In the lanes a blue bar is a lease, grey is down, hatched is paused, a red dot is a write "
        "that the store refused."
    )

    def __init__(
        self,
        record: Sequence[dict[str, Any]],
        title: str = "The group",
        *,
        mode: str = "real run",
        mark: str = "",
        at: float | None = None,
    ) -> None:
        super().__init__(title)
        self.record, self.mode, self.mark = list(record), mode, mark
        self.names = names_of(self.record)
        self.frames = frames(self.record)
        self._place()
        self.position = self.length if at is None else self.position_of(at)
        self.refresh()

    def _place(self) -> None:
        """Where each node is drawn."""
        self.spots = {}
        for index, name in enumerate(self.names):
            angle = 2 * math.pi * index / max(1, len(self.names))
            self.spots[name] = (MIDDLE[0] + RADIUS * math.sin(angle), MIDDLE[1] - RADIUS * math.cos(angle))
        self.spots[STORE] = MIDDLE

    # What everybody may ask

    @property
    def length(self) -> int:
        return len(self.frames) - 1

    @property
    def now(self) -> float:
        """Seconds at the present position."""
        return self.frames[min(self.position, self.length)]

    @property
    def state(self) -> State:
        """The group at the present position."""
        before = self.frames[self.position - 1] if self.position else -math.inf
        return state(self.record, self.names, self.now, before)

    def position_of(self, time: float) -> int:
        """The last position not after `time`."""
        return max([0, *(index for index, moment in enumerate(self.frames) if moment <= time + 1e-3)])

    def until(self, time: float) -> None:
        """Show the moment at `time` seconds."""
        self.seek(self.position_of(time))

    def moment(self) -> str:
        return f"{self.now:.2f} s"

    def summary(self) -> str:
        return f"at {self.now:.2f} s: {self.state.words()}"

    def table(self) -> tuple[list[str], list[list[str]]]:
        now = self.state
        rows = []
        for one in now.members.values():
            left = one.lease - now.time
            timer = one.timer(now.time)
            told = f"{timer[0]} in {timer[1]:.2f} s" if timer else ""
            rows.append(
                [one.name, one.role(now.time), f"{one.term}", f"{left:.2f}" if left > 0 and one.up else "", told]
            )
        return ["node", "role", "term", "lease left (s)", "next timer"], rows

    # Drawing

    def picture(self) -> str:
        page, now = Page(), self.state
        page.text(8, 16, f"{self.title} ({self.mode})", weight=600)
        self._wires(page, now)
        if now.accepted or now.refused:
            self._store(page, now)
        for member in now.members.values():
            self._node(page, member, now)
        self._lanes(page, now)
        page.legend(308, [(ROLES[role][0], f"{ROLES[role][1]} {role}".strip()) for role in ROLES if " " not in role])
        return page.document(322, f"{self.title}: {self.summary()}")

    def _wires(self, page: Page, now: State) -> None:
        """Messages since the moment before, and cuts between members."""
        for a, b in sorted(now.cuts):
            if a < b and a in now.members and b in now.members:
                style: dict[str, Any] = {"stroke": VERMILLION, "stroke-dasharray": "2 5", "stroke-width": 1.5}
                page.line(*self.spots[a], *self.spots[b], **style)
        for source, to, kind, became in now.messages:
            if source not in self.spots or to not in self.spots:
                continue
            (x1, y1), (x2, y2) = self._between(source, to)
            colour = GREEN if kind in ("grant", "free") else INK
            lost = {} if became == "arrived" else {"stroke-dasharray": "5 3"}
            page.line(x1, y1, x2, y2, stroke=colour, **{"stroke-width": 1.5}, **lost)
            if became == "arrived":
                angle = math.atan2(y2 - y1, x2 - x1)
                tips = [(x2 - 8 * math.cos(angle + turn), y2 - 8 * math.sin(angle + turn)) for turn in (0.4, -0.4)]
                page.path([tips[0], (x2, y2), tips[1]], stroke=colour, **{"stroke-width": 1.5})
            else:
                page.text((x1 + x2) / 2 - 4, (y1 + y2) / 2 + 4, "✕", size=12, fill=VERMILLION)

    def _between(self, source: str, to: str) -> tuple[tuple[float, float], tuple[float, float]]:
        """Begin and end of a wire, outside the two nodes, a little beside the wire the other way."""
        (x1, y1), (x2, y2) = self.spots[source], self.spots[to]
        far = max(1.0, math.hypot(x2 - x1, y2 - y1))
        dx, dy = (x2 - x1) / far, (y2 - y1) / far
        gap = NODE + 6
        return (x1 + dx * gap - dy * 3, y1 + dy * gap + dx * 3), (x2 - dx * gap - dy * 3, y2 - dy * gap + dx * 3)

    def _store(self, page: Page, now: State) -> None:
        x, y = MIDDLE
        page.rect(x - 26, y - 20, 52, 40, fill=GREY, stroke=INK)
        page.text(x, y - 5, "store", size=11, anchor="middle", fill="#000000")
        token = now.last_write["token"] if now.last_write else ""
        page.text(x, y + 11, f"token {token}", size=11, anchor="middle", fill="#000000")

    def _node(self, page: Page, member: Member, now: State) -> None:
        x, y = self.spots[member.name]
        role = member.role(now.time)
        fill, sign = ROLES[role]
        dash = {"stroke-dasharray": "3 3"} if role in ("down", "candidate") else {}
        told = f"{member.name}: {role}, term {member.term}"
        page.circle(x, y, NODE - 4, title=told, fill=fill, stroke=INK, **dash)
        ink = ON.get(fill, "#000000")
        page.text(x, y + 1, f"{member.name} {sign}".strip(), size=12, anchor="middle", fill=ink, weight=600)
        page.text(x, y + 14, f"term {member.term}", size=9, anchor="middle", fill=ink)
        left = member.lease - now.time
        if member.up and left > 0:
            whole = max(left, self._longest_lease())
            page.arc(x, y, NODE + 1, left / whole, stroke=BLUE)
        elif timer := member.timer(now.time):
            page.arc(x, y, NODE + 1, timer[2], stroke=ORANGE)

    def _longest_lease(self) -> float:
        found = [
            (event["until"] - event.get("local", event["time"])) / event.get("rate", 1.0)
            for event in self.record
            if event["event"] == "lease"
        ]
        return max(found, default=1.0)

    def _lanes(self, page: Page, now: State) -> None:
        """One lane for each node over the whole run, and where we are."""
        left, right, top = LANES + 30, page.width - 14, 34.0
        begin, end = self.frames[0], max(self.frames[-1], self.frames[0] + 1e-3)

        def x(time: float) -> float:
            return left + (right - left) * (min(max(time, begin), end) - begin) / (end - begin)

        lanes = lanes_of(self.record, self.names, end)
        for index, name in enumerate(self.names):
            y = top + index * LANE
            page.text(LANES, y + 15, name, size=11)
            page.line(left, y + LANE - 3, right, y + LANE - 3)
            for kind, first, last, words in lanes[name]:
                wide = max(2.0, x(last) - x(first))
                if kind == "lease":
                    page.rect(x(first), y + 4, wide, LANE - 10, title=words, fill=BLUE, stroke=INK)
                    if wide > 14:
                        page.text(x(first) + 3, y + 15, words.split()[-1], size=10, fill="#ffffff")
                elif kind == "down":
                    page.rect(x(first), y + 8, wide, LANE - 18, title=words, fill=GREY, stroke=INK)
                elif kind == "paused":
                    dash = {"stroke-dasharray": "3 2"}
                    page.rect(x(first), y + 1, wide, LANE - 5, title=words, fill="none", stroke=INK, **dash)
                else:
                    page.circle(x(first), y + 12, 3, title=words, fill=VERMILLION, stroke=INK)
        low = top + len(self.names) * LANE + 2
        for kind, first, last in cuts_of(self.record, end):
            page.rect(x(first), low + 1, x(last) - x(first), 5, title=kind, fill=VERMILLION, stroke=INK)
        page.text(LANES - 22, low + 9, "network", size=10)
        for part in range(5):
            time = begin + (end - begin) * part / 4
            anchor = ("start", "middle", "middle", "middle", "end")[part]  # the last one would be cut off at the edge
            page.text(x(time), low + 24, f"{time:.{1 if end > 10 else 2}f} s", size=10, anchor=anchor)
        page.line(x(now.time), top - 6, x(now.time), low + 8, stroke=VERMILLION, **{"stroke-width": 2})
        for row, words in enumerate(_wrapped(now.words(), 52)[:5]):
            page.text(LANES, low + 48 + 15 * row, words, size=11)


def lanes_of(record: Sequence[dict[str, Any]], names: Sequence[str], end: float) -> dict[str, list[tuple[Any, ...]]]:
    """For each node what a lane shows: (lease, down, paused or refused; begin; end; words)."""
    from podlab.distributed.histories import leases

    found: dict[str, list[tuple[Any, ...]]] = {name: [] for name in names}
    for lease in leases(record):
        words = f"lease of {lease.holder} in term {lease.term}"
        found.setdefault(lease.holder, []).append(("lease", lease.begin, min(lease.end, end), words))
    for begins, ends, kind in (("crash", "restart", "down"), ("pause", "resume", "paused")):
        open_: dict[str, float] = {}
        for event in record:
            name = event.get("node", "")
            if event["event"] == begins:
                open_.setdefault(name, event["time"])
            elif name in open_ and (event["event"] == ends or (kind == "paused" and event["event"] == "crash")):
                found[name].append((kind, open_.pop(name), event["time"], f"{name} was {kind}"))
        for name, begin in open_.items():
            found[name].append((kind, begin, end, f"{name} is {kind}"))
    for event in record:
        if event["event"] == "write" and not event["accepted"] and event["writer"] in found:
            words = f"the store refused token {event['token']}"
            found[event["writer"]].append(("refused", event["time"], event["time"], words))
    return found


def cuts_of(record: Sequence[dict[str, Any]], end: float) -> list[tuple[str, float, float]]:
    """When the network was cut: what, from, to."""
    found, begin = [], None
    for event in record:
        if event["event"] in ("partition", "cut") and begin is None:
            begin = event["time"]
        elif event["event"] == "heal" and begin is not None:
            found.append(("the network was cut", begin, event["time"]))
            begin = None
    return found + ([("the network is cut", begin, end)] if begin is not None else [])


def _wrapped(text: str, most: int) -> list[str]:
    lines = [""]
    for word in text.split():
        if lines[-1] and len(lines[-1]) + 1 + len(word) > most:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return lines


#: The faults that one can let happen: button, and what it does to the chosen node.
_DOES = {
    "kill": ("Kill", "crash"),
    "restart": ("Restart", "restart"),
    "pause": ("Pause", "pause"),
    "resume": ("Resume", "resume"),
    "isolate": ("Cut off", "partition"),
    "heal": ("Heal the network", "heal"),
}


class Election(Ring):
    """A simulated group: go to a moment, let a fault happen there, and see what follows. `election.kill("leader")`.

    A fault at an earlier moment forgets those after it. The same seed and the same faults give the same run.
    """

    def __init__(self, title: str = "An election", **values: Any) -> None:
        known = {each.name for each in fields(Settings)}
        if wrong := set(values) - known:
            raise UsageError(f"{title} has no setting {min(wrong)!r}.", hint=f"There are {', '.join(sorted(known))}.")
        self.group = Group(Settings(**values))
        self.target = "leader"
        super().__init__(self.group.record, title, mode="simulation", at=0.0)

    help = (
        f"{Ring.help} The buttons strike at the moment shown: election.until(5), election.kill('leader'), "
        "restart, pause, resume, isolate, heal; election.set(lease=…, spread=…, loss=…, seed=…)."
    )

    def controls(self) -> list[dict[str, Any]]:
        now = self.group.settings
        return [
            choice("target", "Strike", self.target, ["leader", *self.names]),
            *(action(name, label) for name, (label, _verb) in _DOES.items()),
            number("seed", "Seed", now.seed, 0, 99),
            number("lease", "Lease (s)", now.lease, 0.5, 5, 0.25),
            number("spread", "Spread (s)", now.spread, 0.05, 2, 0.05),
            number("loss", "Loss", now.loss, 0, 0.9, 0.1),
        ]

    def changed(self, name: str, value: Any) -> None:
        if name == "target":
            self.target = value
            return
        self.group.settings = replace(self.group.settings, **{name: int(value) if name == "seed" else value})
        self.group.run()
        self._taken()

    def acted(self, name: str) -> None:
        self._strike(name, self.target)

    def kill(self, node: str = "leader") -> None:
        """Crash a node, or whoever leads, at the moment shown."""
        self._strike("kill", node)

    def restart(self, node: str) -> None:
        """Start a node that is down, with what its disk holds."""
        self._strike("restart", node)

    def pause(self, node: str = "leader") -> None:
        """Freeze a node: its clock goes on, its code does not."""
        self._strike("pause", node)

    def resume(self, node: str) -> None:
        """Let a frozen node go on."""
        self._strike("resume", node)

    def isolate(self, *nodes: str) -> None:
        """Cut nodes off from all others, the store excepted."""
        self._strike("isolate", *(nodes or ("leader",)))

    def heal(self) -> None:
        """Mend the network."""
        self._strike("heal")

    def _strike(self, what: str, *nodes: str) -> None:
        with self._lock:
            hit = [self._named(node, what) for node in nodes] if what != "heal" else []
            if None in hit:
                self.mark = f"Nobody leads at {self.now:.2f} s: choose a node by name, or go to another moment."
                self.refresh()
                return
            self.mark = f"{_DOES[what][0]} {', '.join(map(str, hit))} at {self.now:.2f} s".replace("  ", " ")
            arguments: tuple[Any, ...] = tuple(hit)
            if what == "isolate":
                # The store can be reached from everywhere: what is cut is the way between members.
                rest = [name for name in self.names if name not in hit]
                self.group.faults = [fault for fault in self.group.faults if fault.time <= self.now]
                self.group.strike(self.now, "cut", hit, rest)
                self.group.strike(self.now, "cut", rest, hit)
            else:
                self.group.strike(self.now, _DOES[what][1], *arguments)
            self._taken()

    def _named(self, node: str, what: str) -> str | None:
        if node == "leader":
            now = self.state
            found = now.holders
            if what in ("restart", "resume"):
                found = [one.name for one in now.members.values() if not one.up or one.paused]
            return found[0] if found else None
        if node not in self.names:
            raise UsageError(f"There is no node {node!r}.", hint=f"There are {', '.join(self.names)}, or leader.")
        return node

    def _taken(self) -> None:
        """Take over the record of the group's new run and stay at the same moment."""
        now = self.now
        self.record, self.frames = self.group.record, self.group.frames
        self.position = self.position_of(now)
        self.refresh()


def replayed(kept: Mapping[str, Any], title: str) -> Ring:
    """The widget for a record that a failed check has kept; see podlab.widgets.replays."""
    return Ring(kept["record"], title, mode=kept.get("mode", "simulation"))
