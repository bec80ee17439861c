"""Pictures made of what was kept: the evidence of a failed check, or the record of a picture that was saved."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import astuple
from importlib import import_module
from typing import Any

from podlab.errors import UsageError
from podlab.widgets.replay import Replay

Kept = Mapping[str, Any]


def of(kept: Kept, title: str, observed: str) -> Any:
    """A widget for what was kept, such as evidence under "replay" of a failed check; `observed` stands beside it."""
    view = KINDS[kept["kind"]](kept, title)
    view.mark = observed
    view.seek(kept.get("position", view.length))
    return view


def _gantt(kept: Kept, title: str) -> Replay:
    from podlab.distributed.farm import Farmed, Span
    from podlab.widgets.gantt import Gantt

    pids = kept.get("pids") or [0] * kept["workers"]
    spans = [Span(*span[:4], *(span[4:] or (1, pids[span[0]]))) for span in kept["spans"]]
    results = [None] * kept.get("results", len({span.chunk for span in spans}))
    seconds = kept.get("seconds") or max(1e-9, *(span.end for span in spans))
    return Gantt(Farmed(spans, results, seconds, kept["workers"]), title, mode=kept.get("mode", "recorded"))


def _record(view: str) -> Callable[[Kept, str], Any]:
    """A cluster map or a staircase of the changes that were kept."""

    def make(kept: Kept, title: str) -> Any:
        from podlab.widgets import views
        from podlab.widgets.model import Record

        more = {"app": kept["app"]} if kept.get("app") else {}
        return getattr(views, view)(Record.load(kept["entries"]), title, **more)

    return make


def _flow(kept: Kept, title: str) -> Replay:
    from podlab.widgets.flow import Flow
    from podlab.widgets.live import FlowView

    return FlowView(Flow.load(kept["moments"]), kept["service"], title, seconds=kept.get("seconds", 1))


def _journey(kept: Kept, title: str) -> Replay:
    from podlab.widgets.journey import Journal
    from podlab.widgets.live import JourneyView

    return JourneyView(Journal.load(kept["steps"]), title)


def _made_by(module: str) -> Callable[[Kept, str], Replay]:
    """Made by `replayed` of the widget's own module."""
    return lambda kept, title: import_module(f"podlab.widgets.{module}").replayed(kept, title)


def kept(view: Any) -> dict[str, Any]:
    """What `of` needs to make a picture again; UsageError for one that keeps no record, such as one to play with."""
    from podlab.widgets import gantt, live, ring, shuffle, views

    if isinstance(view, live.FlowView):
        return {"kind": "flow", "service": view.service, "seconds": view.seconds, "moments": view.record.dump()}
    if isinstance(view, live.JourneyView):
        return {"kind": "journey", "steps": view.journal.dump()}
    if isinstance(view, views.ClusterMap | views.Staircase):
        kind = "map" if isinstance(view, views.ClusterMap) else "staircase"
        return {"kind": kind, "app": getattr(view, "app", ""), "entries": view.record.dump()}
    to_play_with = isinstance(view, gantt.Planner | ring.Election | shuffle.Stepper)  # computed anew at each change
    if isinstance(view, gantt.Gantt) and not to_play_with:
        run, spans = view.run, [astuple(span) for span in view.run.spans]
        more = {"workers": run.workers, "seconds": run.seconds, "results": len(run.results), "spans": spans}
        return {"kind": "gantt", "mode": view.mode, **more}
    if isinstance(view, ring.Ring) and not to_play_with:
        return {"kind": "ring", "mode": view.mode, "record": view.record}
    if isinstance(view, shuffle.Shuffle) and not to_play_with:
        return {"kind": "shuffle", "mode": view.mode, "events": view.events}
    raise UsageError(
        f"{type(view).__name__} keeps no record.",
        hint="What can be saved comes from lab.map, staircase, journey, flow, gantt, ring or shuffle.",
    )


#: What a check may keep, by its "kind".
KINDS: dict[str, Callable[[Kept, str], Any]] = {
    "gantt": _gantt,
    "map": _record("ClusterMap"),
    "staircase": _record("Staircase"),
    "flow": _flow,
    "journey": _journey,
    "shuffle": _made_by("shuffle"),
    "ring": _made_by("ring"),
    "timeline": _made_by("timeline"),
}
