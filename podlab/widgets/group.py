"""The state of a group of electing nodes at any moment of its record, and a simulated group to play with."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from podlab.distributed.election import STORE, Elector, FencedStore
from podlab.distributed.faults import Fault, apply
from podlab.distributed.network import Conditions
from podlab.distributed.simulator import Simulator

#: Seconds between two moments that one can step through, besides those at which something happens.
GRID = 0.25
#: Events that are moments of their own. Messages and timers are seen between them.
NOTABLE = frozenset(
    ("start", "started", "restart", "crash", "pause", "resume", "partition", "cut", "slow", "heal")
) | frozenset(("candidate", "released", "mark"))


@dataclass
class Member:
    """One node as it is at a moment. Times are true seconds; `lease` is when its lease ends."""

    name: str
    up: bool = True
    paused: bool = False
    standing: bool = False
    term: int = 0
    choice: str = ""
    lease: float = -math.inf
    timers: dict[str, tuple[float, float]] = field(default_factory=dict)

    def role(self, now: float) -> str:
        """down, paused leader, paused, leader, candidate or follower."""
        leads = now < self.lease
        if not self.up:
            return "down"
        if self.paused:
            return "paused leader" if leads else "paused"
        return "leader" if leads else "candidate" if self.standing else "follower"

    def timer(self, now: float) -> tuple[str, float, float] | None:
        """The timer that fires next: its name, seconds left, and the share that is left; None if none is set."""
        due = [(end, begin, name) for name, (begin, end) in self.timers.items() if end >= now]
        if not due or not self.up:
            return None
        end, begin, name = min(due)
        return name, end - now, (end - now) / max(1e-9, end - begin)


@dataclass
class State:
    """The whole group at a moment. `messages` are those since the moment before: (source, to, type, what became)."""

    time: float
    members: dict[str, Member]
    cuts: set[tuple[str, str]]
    messages: list[tuple[str, str, str, str]]
    accepted: int
    refused: int
    last_write: dict[str, Any] | None
    mark: str

    @property
    def holders(self) -> list[str]:
        """Who holds a lease now; more than one is what must never be."""
        return [one.name for one in self.members.values() if one.up and self.time < one.lease]

    def words(self) -> str:
        """The state in one sentence."""
        told = []
        holders = self.holders
        if not holders:
            told.append("nobody leads")
        elif len(holders) == 1:
            told.append(f"{holders[0]} leads in term {self.members[holders[0]].term}")
        else:
            told.append(f"{' and '.join(holders)} both hold a lease")
        for role in ("down", "paused leader", "paused", "candidate"):
            names = [one.name for one in self.members.values() if one.role(self.time) == role]
            if names:
                told.append(f"{role}: {', '.join(names)}")
        if self.cuts:
            told.append(f"{len(self.cuts)} directions are cut")
        if self.accepted or self.refused:
            told.append(f"the store has accepted {self.accepted} writes and refused {self.refused}")
        return "; ".join(told)


def names_of(record: Iterable[dict[str, Any]]) -> list[str]:
    """The members of a record: every node that ever did something, without the store; in order."""
    found = {event["node"] for event in record if "node" in event} | {
        event["to"] for event in record if event["event"] == "send"
    }
    return sorted(found - {STORE, "outside"})


def frames(record: Sequence[dict[str, Any]]) -> list[float]:
    """The moments of a record that one can step through, ascending: a grid, and whatever is notable."""
    if not record:
        return [0.0]
    begin, end = record[0]["time"], record[-1]["time"]
    grid = [begin + GRID * step for step in range(math.ceil((end - begin) / GRID) + 1)]
    moments = {event["time"] for event in record if event["event"] in NOTABLE}
    first: set[tuple[str, int]] = set()
    for event in record:
        if event["event"] == "lease" and (event["node"], event["term"]) not in first:
            first.add((event["node"], event["term"]))
            moments.add(event["time"])
        if event["event"] == "write" and not event["accepted"]:
            moments.add(event["time"])
    return sorted({round(time, 4) for time in [*(one for one in grid if one < end), *moments, end]})


def state(record: Iterable[dict[str, Any]], members: Sequence[str], time: float, since: float = -math.inf) -> State:
    """The group right after all that happened until `time`; its messages are those after `since`."""
    now = State(time, {name: Member(name) for name in members}, set(), [], 0, 0, None, "")
    sent: dict[int, tuple[str, str, str]] = {}
    for event in record:
        if event["time"] > time + 5e-5:
            break
        _fold(now, event, sent, since)
    return now


def _fold(now: State, event: dict[str, Any], sent: dict[int, tuple[str, str, str]], since: float) -> None:
    kind, member = event["event"], now.members.get(event.get("node", ""))
    recent = event["time"] > since
    if kind == "send":
        sent[event["id"]] = (event["node"], event["to"], str(event["message"].get("type", "")))
    elif kind in ("deliver", "drop") and recent and event["id"] in sent:
        now.messages.append((*sent[event["id"]], "arrived" if kind == "deliver" else event["reason"]))
    elif kind == "partition":
        groups = event.get("groups", [])
        now.cuts = {(a, b) for one in groups for other in groups if one is not other for a in one for b in other}
    elif kind == "cut":
        now.cuts |= {(a, b) for a, b in event.get("links", [])}
    elif kind == "heal":
        now.cuts = set()
    elif kind == "write":
        now.accepted += bool(event["accepted"])
        now.refused += not event["accepted"]
        now.last_write = event
    elif kind == "mark":
        now.mark = event["words"]
    elif kind == "lease":
        # Whoever stood in that term, or an earlier one, has lost.
        for other in now.members.values():
            other.standing = other.standing and other.term > event["term"]
    if member and kind in _OF_A_MEMBER:
        _OF_A_MEMBER[kind](member, event)


def _crashed(member: Member, _event: dict[str, Any]) -> None:
    member.up = member.paused = member.standing = False
    member.lease = -math.inf
    member.timers.clear()


def _started(member: Member, _event: dict[str, Any]) -> None:
    member.up, member.paused, member.standing = True, False, False


def _candidate(member: Member, event: dict[str, Any]) -> None:
    member.standing, member.term, member.choice = True, event["term"], member.name


def _voted(member: Member, event: dict[str, Any]) -> None:
    member.standing, member.term, member.choice = False, event["term"], event.get("choice", "")


def _leased(member: Member, event: dict[str, Any]) -> None:
    left = (event["until"] - event.get("local", event["time"])) / event.get("rate", 1.0)
    member.standing, member.term, member.lease = False, event["term"], event["time"] + left


def _released(member: Member, _event: dict[str, Any]) -> None:
    member.lease = -math.inf


def _paused(member: Member, _event: dict[str, Any]) -> None:
    member.paused = True


def _resumed(member: Member, _event: dict[str, Any]) -> None:
    member.paused = False


def _set(member: Member, event: dict[str, Any]) -> None:
    member.timers[event["timer"]] = (event["time"], event["due"])


_OF_A_MEMBER: dict[str, Callable[[Member, dict[str, Any]], None]] = {
    "crash": _crashed,
    "start": _started,
    "restart": _started,
    "candidate": _candidate,
    "voted": _voted,
    "lease": _leased,
    "released": _released,
    "pause": _paused,
    "resume": _resumed,
    "set": _set,
}


@dataclass(frozen=True)
class Settings:
    """Of a simulated group, in seconds; `loss` is the share of messages that get lost."""

    seed: int = 1
    members: int = 5
    lease: float = 2.0
    renew: float = 0.5
    spread: float = 0.5
    loss: float = 0.0
    seconds: float = 30.0


class Group:
    """A simulated election under faults of one's choice. Settings and faults are all there is: the same, run again."""

    def __init__(self, settings: Settings | None = None, faults: Iterable[Fault] = ()) -> None:
        self.settings = settings or Settings()
        self.faults: list[Fault] = list(faults)
        self.run()

    @property
    def names(self) -> list[str]:
        """The members, without the store."""
        return [f"n{number}" for number in range(1, self.settings.members + 1)]

    def run(self) -> None:
        """Run it from the beginning; `record` and `frames` are what came of it."""
        chosen = self.settings
        times = {"LEASE": chosen.lease, "RENEW": chosen.renew, "SPREAD": chosen.spread}
        elector = type("Elector", (Elector,), times)
        simulator = Simulator(chosen.seed, Conditions(loss=chosen.loss, delay=(0.005, 0.04)))
        for name in self.names:
            simulator.add(name, partial(elector, members=self.names, store=STORE))
        simulator.add(STORE, FencedStore)
        apply(self.faults, simulator)
        simulator.run(chosen.seconds)
        self.record = [*simulator.record, {"time": chosen.seconds, "event": "end"}]
        self.frames = frames(self.record)

    def state(self, time: float, since: float = -math.inf) -> State:
        """The group at a moment."""
        return state(self.record, self.names, time, since)

    def strike(self, time: float, verb: str, *arguments: Any) -> None:
        """Let a fault happen at `time`; what was to happen after it is forgotten, as in a history that forks."""
        self.faults = [fault for fault in self.faults if fault.time <= time] + [Fault(time, verb, arguments)]
        self.run()
