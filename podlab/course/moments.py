"""What checks on a cluster keep of the moment at which they fail, for lab.replay: restarts, the map, who got requests.

A room remembers what its looks at the pods have seen, and a Film keeps what became of a prober's requests: picture and
check read the same facts. Each of the functions gives the evidence of a failed check (see podlab/widgets/replays.py);
it ends at the moment, and is small enough for a report.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from podlab.checks.api import ApiAway, ApiError
from podlab.checks.contract import Json
from podlab.checks.results import LARGEST_EVIDENCE
from podlab.checks.traffic import Prober, Window
from podlab.checks.world import Room
from podlab.widgets import live
from podlab.widgets.flow import Flow, Moment
from podlab.widgets.model import Record

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


def _endpoints(room: Room, service: str) -> tuple[list[str], list[str]]:
    return live.endpoints(room.slices(service))


def _filmed(service: str, moments: Sequence[Moment]) -> dict[str, Json]:
    rows = Flow(list(moments)).dump()
    return _fitting({"kind": "flow", "service": service}, "moments", len(rows), lambda first: rows[first:])


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

    return _fitting({"kind": kind}, "entries", len(rows), beginning_at)


def _fitting(kept: dict[str, Json], key: str, length: int, beginning_at: Callable[[int], list[Any]]) -> dict[str, Json]:
    """The evidence with as much of the story's end as a report has room for; nothing where there is no story."""
    last = length
    while last:
        made = {**kept, key: beginning_at(length - last)}
        if len(json.dumps(made)) <= LARGEST:
            return {"replay": made}
        last //= 2
    return {}
