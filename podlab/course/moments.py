"""What checks on a cluster keep of the moment at which they fail, for lab.replay: restarts, the map, who got requests.

A room remembers what its looks at the pods have seen, a Film keeps what became of a prober's requests, and a Story what
it is told: picture and check read the same facts. Each of the functions gives the evidence of a failed check (see
podlab/widgets/replays.py); it ends at the moment, and is small enough for a report.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

from podlab.checks.api import ApiAway, ApiError
from podlab.checks.contract import Json
from podlab.checks.results import LARGEST_EVIDENCE
from podlab.checks.traffic import Prober, Window
from podlab.checks.world import Room
from podlab.widgets import live
from podlab.widgets.flow import Flow, Moment
from podlab.widgets.model import Record
from podlab.widgets.timeline import Bar, Mark
from podlab.widgets.timeline import kept as kept_timeline

#: Characters that a picture may take of a check's evidence.
LARGEST = LARGEST_EVIDENCE * 3 // 4
#: Seconds of requests that are added up to one moment of a film.
EVERY = 1.0


def staircase(room: Room) -> dict[str, Json]:
    """The restarts of the room's pods until now."""
    return _recorded("staircase", room)


def cluster_map(room: Room) -> dict[str, Json]:
    """Where the room's pods are and have been, with the nodes as they are now."""
    with suppress(ApiAway, ApiError):  # in namespaces that were given one may not look at nodes
        room.look_at_nodes()
    return _recorded("map", room)


def opened_at(evidence: Mapping[str, Any], at: float) -> dict[str, Json]:
    """The evidence of a map or a staircase, opened as it was at a time (seconds since the epoch)."""
    kept = evidence.get("replay")
    # A room's looks are kept with two digits.
    return {"replay": {**kept, "position": sum(row["at"] <= at + 0.005 for row in kept["entries"])}} if kept else {}


def visited(room: Room, service: str, window: Window) -> dict[str, Json]:
    """A client's requests to a Service, with its endpoints as they are now."""
    with suppress(ApiAway, ApiError):
        moment = live.moment_of(window.records, *_endpoints(room, service))
        return _filmed(service, [moment])
    return {}


class Film:
    """A prober's requests to a Service, second by second, each with the endpoints at that time."""

    def __init__(self, room: Room, prober: Prober, service: str) -> None:
        self.room, self.prober, self.service = room, prober, service
        self.flow = Flow()
        self._seen, self._due = len(prober.records), 0.0

    def poll(self) -> float:
        """As the prober's own `poll`; about once a second a moment is added."""
        now = self.prober.poll()
        if now >= self._due:
            self._due = now + EVERY
            records = self.prober.records
            fresh, self._seen = records[self._seen :], len(records)
            self.flow.moments.append(live.moment_of(fresh, *_endpoints(self.room, self.service)))
        return now

    def until(self, moment: float | None = None) -> dict[str, Json]:
        """The evidence up to a moment (the prober's time); None: up to now."""
        return _filmed(self.service, [each for each in self.flow.moments if moment is None or each.at <= moment])

    def failing(self, window: Window) -> dict[str, Json]:
        """The evidence up to the moment at which the first of the window's failed requests had ended."""
        first = min((record.sent for record in window.failed), default=0.0)
        return self.until(next((each.at for each in self.flow.moments if each.failed and each.at >= first), None))


class Story:
    """What happened when, told while it happens: rows in a state that lasts until their next, and single events.

    Times are seconds since the story began.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._began = clock, clock()
        self._states: dict[str, Bar] = {}
        self._bars: list[Bar] = []
        self._marks: list[Mark] = []

    def _now(self) -> float:
        # As coarse as what is kept, so that what happens at once is one moment there, too.
        return round(self._clock() - self._began, 4)

    def state(self, row: str, words: str, tone: str = "calm") -> None:
        """From now on a row is in a state; '' ends the last one. Tones are those of podlab/widgets/timeline.py."""
        now, before = self._now(), self._states.get(row)
        if before and (before.words, before.tone) == (words, tone):
            return
        if before:
            self._bars.append(replace(self._states.pop(row), end=now))
        if words:
            self._states[row] = Bar(row, now, now, words, tone)

    def event(self, row: str, words: str) -> None:
        """Something happens now."""
        self._marks.append(Mark(row, self._now(), words))

    def moment(self, tone: str = "") -> dict[str, Json]:
        """The evidence until now; it opens where the first state of this tone began, at the last event without one."""
        later = 1.05 * self._now()
        bars = [*self._bars, *(replace(bar, end=later) for bar in self._states.values())]
        last = max((mark.time for mark in self._marks), default=0.0)
        at = min((bar.begin for bar in bars if bar.tone == tone), default=last)
        return _fitting(len(self._marks), lambda first: kept_timeline(bars, self._marks[first:], at))


def _endpoints(room: Room, service: str) -> tuple[list[str], list[str]]:
    return live.endpoints(room.slices(service))


def _filmed(service: str, moments: Sequence[Moment]) -> dict[str, Json]:
    rows = Flow(list(moments)).dump()
    return _fitting(len(rows), lambda first: {"kind": "flow", "service": service, "moments": rows[first:]})


def _recorded(kind: str, room: Room) -> dict[str, Json]:
    record = Record()
    for at, what, items in room.looks:
        record.replace(what, items, round(at, 2))
    rows = record.dump()

    def beginning_at(first: int) -> list[dict[str, Any]]:
        """The changes from number `first` on, and before them, as changes of that moment, what was there."""
        there: dict[str, dict[str, Any]] = {}
        for row in rows[:first]:
            there.pop(row["key"], None)
            if row["tile"] or row["box"]:
                there[row["key"]] = {**row, "at": rows[first]["at"]}
        return [*there.values(), *rows[first:]]

    return _fitting(len(rows), lambda first: {"kind": kind, "entries": beginning_at(first)})


def _fitting(length: int, beginning_at: Callable[[int], dict[str, Json]]) -> dict[str, Json]:
    """The evidence with as much of the story's end as a report has room for; nothing where there is no story."""
    last = length
    while last:
        made = beginning_at(length - last)
        if len(json.dumps(made)) <= LARGEST:
            return {"replay": made}
        last //= 2
    return {}
