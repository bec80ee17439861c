"""The status page as data: how each part is, what it has in hand, and how old that is."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

from movies.contracts import FeaturesStatus, IngestionStatus, ModelAnswer, PartStatus, Run, Runs
from movies.errors import Unavailable
from movies.ui.others import Others, Ready

WHAT = {
    "ingestion": "Takes ratings and keeps them",
    "features": "Knows what everybody rated and watched",
    "training": "Learns a model from it, again and again",
    "serving": "Answers what somebody should watch",
}
_OUTCOMES = {
    "running": "is under way",
    "published": "was published",
    "unchanged": "changed nothing",
    "outrun": "was overtaken by another",
    "failed": "failed",
}


async def parts(others: Others, readies: Sequence[Ready]) -> list[PartStatus]:
    """Every part, with what it says of itself; all are asked at once."""
    ingestion, features, runs, model = await asyncio.gather(
        others.attempt(others.ask.ingestion.status()),
        others.attempt(others.ask.features.status()),
        others.attempt(others.ask.training.runs()),
        others.attempt(others.ask.serving.model()),
    )
    facts = {
        "ingestion": [] if isinstance(ingestion, Unavailable) else _of_ingestion(ingestion),
        "features": [] if isinstance(features, Unavailable) else _of_features(features),
        "training": [] if isinstance(runs, Unavailable) else _of_training(runs, time.time()),
        "serving": [] if isinstance(model, Unavailable) else _of_serving(model, time.time()),
    }
    refused = model.refused if isinstance(model, ModelAnswer) else None
    return [_part(ready, facts[ready.name], refused if ready.name == "serving" else None) for ready in readies]


def _part(ready: Ready, facts: list[tuple[str, str]], refused: str | None) -> PartStatus:
    troubles = list(ready.reasons)
    if ready.resting:
        troubles.append("is left alone for a while after failures in a row; pages fall back until then")
    if refused:
        troubles.append(f"refused a model and serves on with the one it has: {refused}")
    milliseconds = None if ready.seconds is None else 1000 * ready.seconds
    return PartStatus(
        name=ready.name,
        what=WHAT[ready.name],
        state=ready.state,
        milliseconds=milliseconds,
        facts=facts,
        troubles=troubles,
    )


def _of_ingestion(found: IngestionStatus) -> list[tuple[str, str]]:
    return [
        ("events in the log", f"{found.position:,}"),
        ("accepted here", f"{found.accepted:,}"),
        ("sent twice", f"{found.duplicates:,}"),
        ("refused", f"{found.refused:,}"),
    ]


def _of_features(found: FeaturesStatus) -> list[tuple[str, str]]:
    behind = "nothing" if not found.behind else f"{found.behind:,} events"
    return [("events", f"{found.events:,}"), ("users", f"{found.users:,}"), ("behind the log by", behind)]


def _of_training(found: Runs, now: float) -> list[tuple[str, str]]:
    if not found.runs:
        return [("runs", "none yet")]
    last = found.runs[0]
    facts = [("last run", f"number {last.number} {_OUTCOMES[last.state]}, begun {age(now - last.started_at)} ago")]
    if last.seconds is not None:
        facts.append(("took", f"{last.seconds:.1f} s"))
    if last.detail:
        facts.append(("says", last.detail[:200]))
    if good := _best(found.runs):
        facts.append(("better than popularity", f"{good.gain:.2f} times, by recall of the first 10"))
    return facts


def _best(runs: Sequence[Run]) -> Run | None:
    return next((run for run in runs if run.gain is not None), None)


def _of_serving(found: ModelAnswer, now: float) -> list[tuple[str, str]]:
    facts = [("model", found.version), ("loaded", f"{age(now - found.loaded_at)} ago")]
    facts.append(("models since the start", str(found.reloads + 1)))
    for key in ("users", "movies", "rows"):
        if isinstance(value := found.describe.get(key), int):
            facts.append((key if key != "rows" else "ratings and watches", f"{value:,}"))
    return facts


def age(seconds: float) -> str:
    """A length of time in the one unit that fits."""
    seconds = max(0.0, seconds)
    for unit, size in (("day", 86_400), ("hour", 3_600), ("minute", 60)):
        if seconds >= size:
            count = int(seconds // size)
            return f"{count} {unit}{'s' if count > 1 else ''}"
    count = int(seconds)
    return f"{count} second{'' if count == 1 else 's'}"
