"""Histories of what clients and nodes saw, and checkers that judge them: counters, leases, fencing tokens.

Linearizability has a module of its own. A checker never looks at a program, only at what it did.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from podlab.errors import UsageError

Event = dict[str, Any]

#: Seconds by which two leases may seem to overlap because floating-point numbers are rounded.
ROUNDING = 1e-9


@dataclass(frozen=True)
class Verdict:
    """Whether a property holds; if not, what was expected, what was observed, and the events that show it."""

    holds: bool
    expected: str
    observed: str
    evidence: Sequence[Any] = ()

    def __bool__(self) -> bool:
        return self.holds

    def __str__(self) -> str:
        return f"{'holds' if self.holds else 'violated'}: expected {self.expected}; observed {self.observed}"


@dataclass(frozen=True)
class Operation:
    """One call by one process, in seconds of one clock. `end` None: no answer, so it may have happened or not.

    `name` is read (result: the value), write (argument: the value) or cas (argument: (expected, new), result:
    whether it was done) where a register is meant; other checkers use names of their own.
    """

    process: str
    name: str
    key: str
    argument: Any
    result: Any
    begin: float
    end: float | None

    def __str__(self) -> str:
        told = "no answer" if self.end is None else f"{self.result!r}"
        shown = "" if self.argument is None else f" {self.argument!r}"
        until = "..." if self.end is None else f"{self.end:.6g}"
        return f"[{self.begin:.6g} - {until}] {self.process}: {self.name} {self.key}{shown} -> {told}"


@dataclass
class Recorder:
    """Collects operations from many threads; `clock` gives the time (one clock for all processes of a machine)."""

    clock: Callable[[], float] = time.monotonic
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)
    _open: dict[int, Operation] = field(default_factory=dict, repr=False)
    _ended: dict[int, Operation | None] = field(default_factory=dict, repr=False)

    def begin(self, process: str, name: str, key: str = "", argument: Any = None) -> int:
        """Note that a call begins; its number is for `end` or `fail`. Call this before the request is sent."""
        with self._lock:
            number = len(self._open) + len(self._ended)
            self._open[number] = Operation(process, name, key, argument, None, self.clock(), None)
            return number

    def end(self, number: int, result: Any = None) -> None:
        """Note the answer of a call."""
        with self._lock:
            call = self._taken(number)
            self._ended[number] = Operation(
                call.process, call.name, call.key, call.argument, result, call.begin, self.clock()
            )

    def fail(self, number: int) -> None:
        """Note that a call has certainly had no effect. After a timeout that is not known: leave the call open."""
        with self._lock:
            self._taken(number)
            self._ended[number] = None

    def operations(self) -> list[Operation]:
        """All operations so far by their beginning, those without an answer included, failed ones not."""
        with self._lock:
            every = [*self._open.values(), *(one for one in self._ended.values() if one is not None)]
        return sorted(every, key=lambda one: one.begin)

    def _taken(self, number: int) -> Operation:
        if number not in self._open:
            raise UsageError(f"Call {number} is not open: it never began, or it has ended already.")
        return self._open.pop(number)


# Counters: every acknowledged request has happened exactly once


def check_counter(operations: Iterable[Operation], final: int) -> Verdict:
    """Whether a counter that started at 0 ended right after calls of `add` (argument: how much, default 1).

    The acknowledged ones count exactly once, those without an answer at most once.
    """
    sure: list[int] = []
    perhaps: list[int] = []
    for one in operations:
        (perhaps if one.end is None else sure).append(1 if one.argument is None else one.argument)
    least = sum(sure) + sum(amount for amount in perhaps if amount < 0)
    most = sum(sure) + sum(amount for amount in perhaps if amount > 0)
    expected = f"{sum(sure)} from {len(sure)} acknowledged calls"
    if perhaps:
        expected = f"between {least} and {most} ({expected}, {len(perhaps)} calls without an answer)"
    observed = f"{final}"
    if final > most:
        observed += f": {final - most} too many, some request was applied more than once"
    elif final < least:
        observed += f": {least - final} missing, some acknowledged request was lost"
    return Verdict(least <= final <= most, expected, observed)


def check_exactly_once(acknowledged: Iterable[str], applied: Iterable[str], sent: Iterable[str] = ()) -> Verdict:
    """Whether each acknowledged request was applied once, and no request twice; compares request ids.

    With `sent`, whatever was applied must have been sent.
    """
    counts, sent = Counter(applied), set(sent)
    lost = [one for one in dict.fromkeys(acknowledged) if not counts[one]]
    twice = [one for one, times in counts.items() if times > 1]
    unknown = [one for one in counts if sent and one not in sent]
    told = [
        f"{len(found)} {what} (first: {found[0]})"
        for found, what in ((lost, "acknowledged but not applied"), (twice, "applied twice"), (unknown, "never sent"))
        if found
    ]
    expected = "every acknowledged request applied once, none twice"
    observed = "; ".join(told) or f"{sum(counts.values())} applied, each once"
    return Verdict(not told, expected, observed, [*lost, *twice, *unknown])


# Leases: at most one holder at any time, and at most one in a term


@dataclass(frozen=True)
class Lease:
    """`holder` may believe from `begin` to `end`, in true seconds, that it leads in `term`."""

    holder: str
    term: int
    begin: float
    end: float

    def __str__(self) -> str:
        return f"{self.holder} in term {self.term} from {self.begin:.4f} to {self.end:.4f} s"


def leases(record: Iterable[Event]) -> list[Lease]:
    """The leases in a run's record by their beginning; renewals of one holder in one term are one lease.

    Reads the events "lease" (term, until: on the holder's clock), "released", "crash" and "clock". A paused
    holder keeps its lease until it runs out: it cannot know that it is paused. A crashed one has none.
    """
    found: list[Lease] = []
    held: dict[str, tuple[int, float, float, float]] = {}  # holder: term, begin, true end, end on its own clock

    def finish(holder: str, now: float) -> None:
        if holder in held:
            term, begin, end, _ = held.pop(holder)
            found.append(Lease(holder, term, begin, min(end, now)))

    for event in record:
        kind = event["event"]
        now: float = event["time"]
        if kind not in ("lease", "released", "crash", "clock"):
            continue
        holder = event["node"]
        local: float = event.get("local", now)
        rate: float = event.get("rate", 1.0)
        if kind == "lease":
            end = now + (event["until"] - local) / rate
            before = held.get(holder)
            if before and before[0] == event["term"] and now <= before[2]:
                held[holder] = (before[0], before[1], max(before[2], end), event["until"])
            else:
                finish(holder, now)
                held[holder] = (event["term"], now, end, event["until"])
        elif kind == "clock":
            if holder in held:
                term, begin, _, until = held[holder]
                held[holder] = (term, begin, max(now, now + (until - local) / rate), until)
        else:
            finish(holder, now)
    for holder in list(held):
        finish(holder, float("inf"))
    return sorted(found, key=lambda lease: (lease.begin, lease.end))


def check_leases(record: Iterable[Event]) -> Verdict:
    """Whether at most one node held a lease at any time, and no two ever held one in the same term."""
    expected = "at most one holder at any time and in any term"
    of_term: dict[int, Lease] = {}
    latest: Lease | None = None
    every = leases(record)
    for lease in every:
        if latest and latest.holder != lease.holder and lease.begin < latest.end - ROUNDING:
            overlap = min(latest.end, lease.end) - lease.begin
            return Verdict(False, expected, f"two holders for {overlap:.4f} s: {latest}; {lease}", [latest, lease])
        other = of_term.setdefault(lease.term, lease)
        if other.holder != lease.holder:
            return Verdict(False, expected, f"two holders in term {lease.term}: {other}; {lease}", [other, lease])
        if latest is None or lease.end > latest.end:
            latest = lease
    return Verdict(True, expected, f"{len(every)} leases, one after the other", every)


def check_fencing(record: Iterable[Event]) -> Verdict:
    """Whether no write was accepted after one with a higher token: events "write" (token, writer, accepted)."""
    expected = "no write accepted after one with a higher token"
    highest: Event | None = None
    accepted = refused = 0
    for event in record:
        if event["event"] != "write":
            continue
        if not event["accepted"]:
            refused += 1
            continue
        accepted += 1
        if highest and event["token"] < highest["token"]:
            observed = (
                f"{event['writer']} wrote with token {event['token']} at {event['time']:.4f} s, "
                f"after {highest['writer']} with {highest['token']} at {highest['time']:.4f} s"
            )
            return Verdict(False, expected, observed, [highest, event])
        if not highest or event["token"] > highest["token"]:
            highest = event
    return Verdict(True, expected, f"{accepted} writes accepted in order, {refused} stale ones refused")
