"""A request's way through the control plane: who wrote what, when, from the watch events of a namespace.

Pure: `Journal` takes watch events, says for each change who made it and what changed, and draws any moment. Who made
a change is told by the object itself: the manager of the newest entry in managedFields, and for a pod that got its
node, the binding, which only a scheduler makes.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from podlab.widgets.drawing import BLUE, GREY, INK, ON, ORANGE, PURPLE, SKY, YELLOW, Page

#: The parties of the picture in the order of the way, with the letter and the colour of their lane.
LANES: dict[str, tuple[str, str]] = {
    "you": ("Y", BLUE),
    "deployment controller": ("D", ORANGE),
    "replicaset controller": ("R", YELLOW),
    "scheduler": ("S", PURPLE),
    "node": ("N", SKY),
    "endpointslice controller": ("E", "#66c2a5"),
    "not recorded": ("?", GREY),
}
#: What a journey follows.
KINDS = (
    ("Deployment", "Deployment", True),
    ("ReplicaSet", "ReplicaSet", True),
    ("Pod", "Pod", True),
    ("EndpointSlice", "EndpointSlice", True),
)
#: Which controller writes a kind where the manager only says that it was one of kube-controller-manager's.
_CONTROLLERS = {
    "Deployment": "deployment controller",
    "ReplicaSet": "replicaset controller",
    "Pod": "replicaset controller",
    "EndpointSlice": "endpointslice controller",
}
_CONTROLLERS_OF_OWNERS = {
    "Deployment": "deployment controller",
    "ReplicaSet": "replicaset controller",
    "Service": "endpointslice controller",
}
#: Steps kept; a journey is a short story.
MOST_STEPS = 400


@dataclass(frozen=True)
class Step:
    """One write that reached etcd: at `at` (seconds since the epoch) `who` did `what` to the object."""

    at: float
    who: str
    kind: str
    name: str
    uid: str
    version: str
    what: str


class Journal:
    """The writes to the objects of a namespace, in order. A feeder feeds it; so may a test, or a file."""

    def __init__(self, steps: Iterable[Step] = ()) -> None:
        self.steps: list[Step] = list(steps)
        #: Earlier ones that are kept no more.
        self.forgotten = 0
        self._now: dict[str, Mapping[str, Any]] = {}

    def apply(self, kind: str, what: str, item: Mapping[str, Any], at: float) -> bool:
        """Take in one watch event; whether it made a step (a change of nothing that is told makes none)."""
        meta = item["metadata"]
        key = f"{kind}/{meta['uid']}"
        before = self._now.pop(key, None) if what == "DELETED" else self._now.get(key)
        if what == "DELETED":
            told: tuple[str, str] | None = (_deleter(kind, item), "deleted")
        else:
            self._now[key] = item
            told = _change(kind, before, item)
        if told is None or (before is None and what == "DELETED"):
            return False
        who, words = told
        self._place(Step(round(at, 3), who, kind, meta["name"], meta["uid"], meta.get("resourceVersion", ""), words))
        self.forgotten += max(0, len(self.steps) - MOST_STEPS)
        del self.steps[:-MOST_STEPS]
        return True

    def _place(self, step: Step) -> None:
        """Put a step where it belongs: each kind has a watch of its own, and news of a later write may come first."""
        at = len(self.steps)
        while at and _number(self.steps[at - 1]) > _number(step) > 0:
            at -= 1
        if at < len(self.steps):
            step = replace(step, at=min(step.at, self.steps[at].at))
        self.steps.insert(at, step)

    def replace(self, kind: str, items: Iterable[Mapping[str, Any]], at: float) -> bool:
        """Take in a whole list. What was there before the journal began makes no steps."""
        first = not any(key.startswith(f"{kind}/") for key in self._now) and not self.steps
        changed = False
        for item in items:
            if first:
                self._now[f"{kind}/{item['metadata']['uid']}"] = item
            else:
                changed |= self.apply(kind, "MODIFIED", item, at)
        return changed

    def since(self, moment: float) -> Journal:
        """The steps at or after a moment (seconds since the epoch)."""
        return Journal(step for step in self.steps if step.at >= moment)

    def about(self, *words: str) -> Journal:
        """The steps whose kind or name has one of `words` in it."""
        return Journal(step for step in self.steps if any(word in f"{step.kind} {step.name}" for word in words))

    def count(self, **facts: str) -> int:
        """How many steps have these facts: count(who="scheduler"), count(kind="Pod")."""
        return sum(all(getattr(step, key) == value for key, value in facts.items()) for step in self.steps)

    def dump(self) -> list[dict[str, Any]]:
        """The steps as plain values; `load` reads them."""
        return [asdict(step) for step in self.steps]

    @classmethod
    def load(cls, rows: Iterable[Mapping[str, Any]]) -> Journal:
        """A journal from what `dump` gave."""
        return cls(Step(**row) for row in rows)


def _number(step: Step) -> int:
    """The store's count of writes at this one; 0 if it is not told."""
    return int(step.version) if step.version.isdigit() else 0


def _change(kind: str, before: Mapping[str, Any] | None, item: Mapping[str, Any]) -> tuple[str, str] | None:
    """Who made the change from `before` to `item`, and the change in words; None for one that is not told."""
    writer = _writer(kind, before, item)
    if before is None:
        owner = next((entry for entry in item["metadata"].get("ownerReferences") or []), None)
        if owner is None:
            return writer, "created"
        # What has an owner was made by the controller of the owner's kind.
        return _CONTROLLERS_OF_OWNERS.get(owner["kind"], writer), f"created for {owner['kind']} {owner['name']}"
    was, now = before.get("spec", {}), item.get("spec", {})
    if item["metadata"].get("deletionTimestamp") and not before["metadata"].get("deletionTimestamp"):
        return _deleter(kind, item), "told to go"
    if kind == "Pod" and now.get("nodeName") and not was.get("nodeName"):
        return "scheduler", f"bound to {now['nodeName']}"
    if was.get("replicas") != now.get("replicas"):
        return writer, f"replicas {was.get('replicas')} → {now.get('replicas')}"
    if was != now:
        return writer, "spec changed"
    if kind == "EndpointSlice":
        ready = [_ready_addresses(each) for each in (before, item)]
        return (writer, f"ready addresses {ready[0]} → {ready[1]}") if ready[0] != ready[1] else None
    words = _status(kind, before.get("status", {}), item.get("status", {}))
    return (writer, words) if words else None


def _status(kind: str, was: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    if kind == "Pod":
        seen = [(status.get("phase"), _is_ready(status), bool(status.get("podIP"))) for status in (was, now)]
        if seen[0] == seen[1]:
            return ""
        return f"{now.get('phase')}{', ready' if seen[1][1] else ''}{', has an address' if now.get('podIP') else ''}"
    counts = [(status.get("replicas", 0), status.get("readyReplicas", 0)) for status in (was, now)]
    if counts[0] == counts[1]:
        return ""
    return f"status: {counts[1][0]} replicas, {counts[1][1]} ready"


def _writer(kind: str, before: Mapping[str, Any] | None, item: Mapping[str, Any]) -> str:
    """Who made the newest write: the entry of managedFields that is new or has changed."""
    known = {_entry(entry) for entry in (before or {}).get("metadata", {}).get("managedFields") or []}
    entries = item["metadata"].get("managedFields") or []
    fresh = [entry for entry in entries if _entry(entry) not in known] or entries
    newest: Mapping[str, Any] = max(fresh, key=lambda entry: entry.get("time", ""), default={})
    manager = newest.get("manager", "")
    if manager == "kube-controller-manager":
        return _CONTROLLERS.get(kind, "not recorded")
    if manager == "kube-scheduler":
        return "scheduler"
    # Nodes write the status of their pods, and nobody else does but these two.
    if kind == "Pod" and newest.get("subresource") == "status":
        return "node"
    return "you" if manager else "not recorded"


def _entry(entry: Mapping[str, Any]) -> tuple[Any, ...]:
    return (
        entry.get("manager"),
        entry.get("operation"),
        entry.get("subresource"),
        entry.get("time"),
        repr(entry.get("fieldsV1")),
    )


def _deleter(kind: str, item: Mapping[str, Any]) -> str:
    """Who asks for a deletion is not written on an object. The end of a pod that was told to go is its node's."""
    ended = (item.get("status") or {}).get("phase") in ("Succeeded", "Failed")
    return "node" if kind == "Pod" and item["metadata"].get("deletionTimestamp") and ended else "not recorded"


def _is_ready(status: Mapping[str, Any]) -> bool:
    return any(entry["type"] == "Ready" and entry["status"] == "True" for entry in status.get("conditions") or [])


def _ready_addresses(item: Mapping[str, Any]) -> int:
    return sum(
        len(entry["addresses"])
        for entry in item.get("endpoints") or []
        if (entry.get("conditions") or {}).get("ready") is not False
    )


def summary(steps: Sequence[Step]) -> str:
    """The steps in one sentence: how many writes, by whom, in what time."""
    if not steps:
        return "nothing has been written yet"
    parts = [(lane, sum(step.who == lane for step in steps)) for lane in LANES]
    told = ", ".join(f"{lane} {count}" for lane, count in parts if count)
    took = steps[-1].at - steps[0].at
    return f"{len(steps)} write{'' if len(steps) == 1 else 's'} in {took:.1f} s: {told}"


def picture(title: str, steps: Sequence[Step], position: int) -> str:
    """The first `position` steps as SVG: a lane for each party, time to the right, the last step told in words."""
    left, right, top, high = 172, 640, 44, 30
    page = Page()
    page.text(8, 18, title, size=13, weight=600)
    lanes = [lane for lane in LANES if lane in ("you", "scheduler", "node") or any(s.who == lane for s in steps)]
    rows = {lane: top + index * high for index, lane in enumerate(lanes)}
    zero = steps[0].at if steps else 0.0
    # An end whose quarters are numbers that one can read.
    span = 1.02 * (steps[-1].at - zero) if steps else 0.0
    whole = 0.4 if span < 8 else 4.0
    end = max(0.8, whole * math.ceil(span / whole))
    for lane, y in rows.items():
        page.text(8, y + 4, f"{LANES[lane][0]}  {lane}", size=12)
        page.line(left, y, right, y)
    last: dict[str, float] = {}
    for index, step in enumerate(steps[:position]):
        y = rows[step.who]
        x = left + 6 + (right - left - 12) * (step.at - zero) / end
        # Marks that would cover each other stand side by side.
        x = min(right - 6, max(x, last.get(step.who, 0.0) + 13))
        last[step.who] = x
        letter, colour = LANES[step.who]
        told = f"{step.at - zero:.2f} s: {step.who}: {step.kind} {step.name} {step.what}"
        page.circle(x, y, 7, title=told, fill=colour, stroke=INK, stroke_width=2.5 if index == position - 1 else 0.8)
        page.text(x, y + 3.5, letter, size=9, anchor="middle", fill=ON.get(colour, "#000000"))
    bottom = top + len(lanes) * high
    page.axis(left + 6, right - 6, bottom - 6, end, "s")
    here = steps[position - 1] if 0 < position <= len(steps) else None
    words = f"{here.at - zero:.2f} s  {here.who}: {here.kind} {here.name} {here.what}" if here else "no write yet"
    page.text(8, bottom + 32, words[:110], size=12, fill=INK, weight=600)
    return page.document(bottom + 44, f"{title}: {summary(steps[:position])}")
