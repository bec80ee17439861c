"""The picture of a failed check, made from the evidence that it has kept."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

from podlab.widgets.replay import Replay

Kept = Mapping[str, Any]


def of(kept: Kept, title: str, observed: str) -> Any:
    """A widget for the evidence under "replay" of a failed check; what was observed stands beside the picture."""
    view = KINDS[kept["kind"]](kept, title)
    view.mark = observed
    view.seek(kept.get("position", view.length))
    return view


def _gantt(kept: Kept, title: str) -> Replay:
    from podlab.distributed.farm import Farmed, Span
    from podlab.widgets.gantt import Gantt

    pids = kept.get("pids") or [0] * kept["workers"]
    spans = [Span(worker, chunk, begin, end, 1, pids[worker]) for worker, chunk, begin, end in kept["spans"]]
    results = [None] * len({span.chunk for span in spans})
    seconds = max(1e-9, *(span.end for span in spans))
    return Gantt(Farmed(spans, results, seconds, kept["workers"]), title, mode=kept.get("mode", "recorded"))


def _record(view: str) -> Callable[[Kept, str], Any]:
    """A cluster map or a staircase of the changes that were kept."""

    def make(kept: Kept, title: str) -> Any:
        from podlab.widgets import views
        from podlab.widgets.model import Record

        return getattr(views, view)(Record.load(kept["entries"]), title)

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
