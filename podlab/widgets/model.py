"""What a cluster looked like, moment by moment: a pure record of pods and nodes, and states folded from it.

No thread, no clock, no I/O: whoever feeds it says what was seen and when. Pictures, words and checks all read the
same record, and a record can be replayed without any cluster.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

#: The states of a pod's tile: letter, words. Colours and shapes belong to the views.
STATES = {
    "running": ("R", "running and ready"),
    "notready": ("N", "running, not ready"),
    "pending": ("P", "pending"),
    "crashloop": ("C", "crash loop"),
    "terminating": ("T", "terminating"),
    "succeeded": ("S", "succeeded"),
    "failed": ("F", "failed"),
}
#: Entries kept; the oldest are folded into the base state when there are more.
LONGEST_RECORD = 20_000


@dataclass(frozen=True)
class Tile:
    """One pod as it is drawn. `uid` tells pods apart; names come again."""

    uid: str
    name: str
    node: str
    state: str
    restarts: int
    reason: str
    app: str


@dataclass(frozen=True)
class Box:
    """One node as it is drawn. `ready` is True, False, or None when the control plane has lost sight of it."""

    name: str
    ready: bool | None
    note: str


@dataclass(frozen=True)
class Entry:
    """One change: at `at` (seconds since the epoch) the pod or node became this; None for both: it is gone."""

    at: float
    key: str
    tile: Tile | None = None
    box: Box | None = None


@dataclass
class Record:
    """All changes in order. `step` and `state` replay it; `apply` adds what a feeder has seen."""

    entries: list[Entry] = field(default_factory=list)
    base: dict[str, Tile | Box] = field(default_factory=dict)
    position: int = 0
    _now: dict[str, Tile | Box] = field(default_factory=dict)

    def apply(self, kind: str, what: str, item: Mapping[str, Any], at: float) -> bool:
        """Take in one watch event (`kind` pod or node, `what` ADDED, MODIFIED or DELETED); whether it changed a thing.

        A change that does not show (a heartbeat, say) makes no entry.
        """
        thing: Tile | Box = tile(item) if kind == "pod" else box(item)
        key = f"{kind}/{thing.uid if isinstance(thing, Tile) else thing.name}"
        if what == "DELETED":
            return key in self._now and self._add(Entry(at, key))
        if self._now.get(key) == thing:
            return False
        return self._add(Entry(at, key, *((thing, None) if isinstance(thing, Tile) else (None, thing))))

    def replace(self, kind: str, items: Iterable[Mapping[str, Any]], at: float) -> bool:
        """Take in a whole list: what is not in it is gone; whether anything changed."""
        seen, changed = set(), False
        for item in items:
            changed |= self.apply(kind, "ADDED", item, at)
            thing = tile(item) if kind == "pod" else box(item)
            seen.add(f"{kind}/{thing.uid if isinstance(thing, Tile) else thing.name}")
        for key in [key for key in self._now if key.startswith(f"{kind}/") and key not in seen]:
            changed |= self._add(Entry(at, key))
        return changed

    def _add(self, entry: Entry) -> bool:
        self.entries.append(entry)
        _fold(self._now, entry)
        if len(self.entries) > LONGEST_RECORD:
            _fold(self.base, self.entries.pop(0))
            self.position = max(0, self.position - 1)
        return True

    def step(self) -> bool:
        """Go one entry on in the replay; False at the end."""
        if self.position >= len(self.entries):
            return False
        self.position += 1
        return True

    def state(self, position: int | None = None) -> dict[str, Any]:
        """The cluster as it was after `position` entries (None: now) as plain values, with a summary in words."""
        if position is None or position >= len(self.entries):
            things, position = self._now, len(self.entries)
        else:
            things = dict(self.base)
            for entry in self.entries[:position]:
                _fold(things, entry)
        at = self.entries[position - 1].at if position else 0.0
        boxes = sorted((thing for thing in things.values() if isinstance(thing, Box)), key=lambda b: _natural(b.name))
        tiles = sorted((thing for thing in things.values() if isinstance(thing, Tile)), key=lambda t: (t.name, t.uid))
        return {
            "at": at,
            "position": position,
            "length": len(self.entries),
            "nodes": [asdict(thing) for thing in boxes],
            "pods": [asdict(thing) for thing in tiles],
            "summary": summary(boxes, tiles),
        }

    def dump(self) -> list[dict[str, Any]]:
        """The entries as plain values, for a file; `load` reads them. What was there before them comes first."""
        entries = list(self.entries)
        before = [
            Entry(entries[0].at, key, *((thing, None) if isinstance(thing, Tile) else (None, thing)))
            for key, thing in self.base.items()
        ]
        return [asdict(entry) for entry in [*before, *entries]]

    @classmethod
    def load(cls, rows: Iterable[Mapping[str, Any]]) -> Record:
        """A record from what `dump` gave."""
        record = cls()
        for row in rows:
            a_tile, a_box = row.get("tile"), row.get("box")
            record._add(
                Entry(row["at"], row["key"], Tile(**a_tile) if a_tile else None, Box(**a_box) if a_box else None)
            )
        return record


def _fold(things: dict[str, Tile | Box], entry: Entry) -> None:
    thing = entry.tile or entry.box
    if thing is None:
        things.pop(entry.key, None)
    else:
        things[entry.key] = thing


def tile(pod: Mapping[str, Any]) -> Tile:
    """The tile of a pod object."""
    meta, status = pod["metadata"], pod.get("status", {})
    statuses = status.get("containerStatuses") or []
    state, reason = _state(meta, status, statuses)
    labels = meta.get("labels") or {}
    return Tile(
        uid=meta["uid"],
        name=meta["name"],
        node=pod.get("spec", {}).get("nodeName") or "",
        state=state,
        restarts=sum(entry.get("restartCount", 0) for entry in statuses),
        reason=reason,
        app=labels.get("app") or labels.get("podlab.dev/ours") or "",
    )


def _state(
    meta: Mapping[str, Any], status: Mapping[str, Any], statuses: Sequence[Mapping[str, Any]]
) -> tuple[str, str]:
    waiting = [entry["state"]["waiting"] for entry in statuses if (entry.get("state") or {}).get("waiting")]
    reason = next((entry.get("reason", "") for entry in waiting), "") or status.get("reason", "")
    ready = any(entry["type"] == "Ready" and entry["status"] == "True" for entry in status.get("conditions") or [])
    phase = status.get("phase", "Pending")
    if meta.get("deletionTimestamp"):
        return "terminating", reason
    if phase in ("Succeeded", "Failed"):
        return phase.lower(), reason
    if any(entry.get("reason") in ("CrashLoopBackOff", "RunContainerError") for entry in waiting):
        return "crashloop", reason
    if phase == "Running":
        return ("running" if ready else "notready"), reason
    return "pending", reason or _unscheduled(status)


def _unscheduled(status: Mapping[str, Any]) -> str:
    for entry in status.get("conditions") or []:
        if entry["type"] == "PodScheduled" and entry["status"] == "False":
            return entry.get("reason", "Unschedulable")
    return ""


def box(node: Mapping[str, Any]) -> Box:
    """The box of a node object."""
    ready: bool | None = None
    for entry in node.get("status", {}).get("conditions") or []:
        if entry["type"] == "Ready":
            ready = {"True": True, "False": False}.get(entry["status"])
    notes = ["cordoned"] if node.get("spec", {}).get("unschedulable") else []
    return Box(node["metadata"]["name"], ready, ", ".join(notes))


def summary(boxes: Sequence[Box], tiles: Sequence[Tile]) -> str:
    """The picture in one sentence."""
    lost = [thing.name for thing in boxes if not thing.ready]
    nodes = f"{len(boxes)} node{'' if len(boxes) == 1 else 's'}"
    nodes += f", {' and '.join(lost)} not ready" if lost else ", all ready" if boxes else ""
    counts = Counter(thing.state for thing in tiles)
    pods = ", ".join(f"{counts[state]} {words}" for state, (_, words) in STATES.items() if counts[state])
    return f"{nodes}; {len(tiles)} pod{'' if len(tiles) == 1 else 's'}{': ' + pods if pods else ''}"


def _natural(name: str) -> tuple[str, int]:
    head = name.rstrip("0123456789")
    return head, int(name[len(head) :] or 0)


@dataclass(frozen=True)
class Outage:
    """A time in which a pod was not ready after it had been; `end` None while it lasts (seconds)."""

    start: float
    end: float | None


@dataclass
class Stair:
    """One pod's life as a staircase: (time, restarts so far) at each step, and its outages."""

    uid: str
    name: str
    steps: list[tuple[float, int]]
    outages: list[Outage]
    born: float
    gone: float | None = None


def stairs(record: Record, app: str = "", position: int | None = None) -> dict[str, Any]:
    """The restart staircase of the pods with label app=`app` as plain values; times in seconds from the first entry.

    It is that of the first `position` entries; None: of all.
    """
    entries = record.entries[:position]
    found: dict[str, Stair] = {}
    was_ready: dict[str, bool] = {}
    zero = entries[0].at if entries else 0.0
    for entry in entries:
        uid, at = entry.key.removeprefix("pod/"), round(entry.at - zero, 2)
        if not entry.key.startswith("pod/"):
            continue
        thing = entry.tile
        if thing is None:
            if uid in found:
                found[uid].gone = at
                _close(found[uid], at)
            continue
        if app and thing.app != app:
            continue
        stair = found.setdefault(uid, Stair(uid, thing.name, [(at, thing.restarts)], [], at))
        if thing.restarts != stair.steps[-1][1]:
            stair.steps.append((at, thing.restarts))
        ready = thing.state == "running"
        # A pod that is told to go is no outage; one that was not ready before stays one until it is gone.
        if was_ready.get(uid) and not ready and thing.state != "terminating":
            stair.outages.append(Outage(at, None))
        elif ready:
            _close(stair, at)
        was_ready[uid] = ready
    end = round(entries[-1].at - zero, 2) if entries else 0.0
    rows = sorted(found.values(), key=lambda stair: (stair.born, stair.name))
    return {"end": end, "stairs": [asdict(row) for row in rows], "summary": _told(rows)}


def _close(stair: Stair, at: float) -> None:
    if stair.outages and stair.outages[-1].end is None:
        stair.outages[-1] = Outage(stair.outages[-1].start, at)


def _told(rows: Sequence[Stair]) -> str:
    restarts = sum(row.steps[-1][1] - row.steps[0][1] for row in rows)
    ended = [outage.end - outage.start for row in rows for outage in row.outages if outage.end is not None]
    lasting = sum(outage.end is None for row in rows for outage in row.outages)
    words = [f"{len(rows)} pod{_s(len(rows))} seen, {restarts} restart{_s(restarts)}"]
    if len(ended) == 1:
        words.append(f"time to recovery {ended[0]:.1f} s")
    elif ended:
        words.append(f"time to recovery {min(ended):.1f} to {max(ended):.1f} s in {len(ended)} outages")
    if lasting:
        words.append(f"{lasting} still not ready")
    return "; ".join(words)


def _s(number: int) -> str:
    return "" if number == 1 else "s"
