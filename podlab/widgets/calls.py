"""Who asks whom among services, from what they tell about themselves: Prometheus metrics and JSON logs. Pure.

A scrape is what all services said at one moment; what happened between two scrapes are the calls of that time. Names
of metrics are those of the movie recommender (movies/telemetry.py).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

_LINE = re.compile(r"([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\S+)")
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')
#: Who asks the pages, and what keeps events and models.
VISITORS, BROKER = "visitors", "broker"
#: Paths for whoever operates a service.
_OPERATION = {"/healthz", "/readyz", "/startupz", "/metrics", "/faults"}

Way = tuple[str, str]
Labels = Mapping[str, str]


def samples(text: str) -> list[tuple[str, Labels, float]]:
    """(name, labels, value) of each line of Prometheus' text format; what is none is left out."""
    found: list[tuple[str, Labels, float]] = []
    for line in text.splitlines():
        if match := _LINE.fullmatch(line.strip()):
            try:
                found.append((match[1], dict(_LABEL.findall(match[2] or "")), float(match[3])))
            except ValueError:
                continue
    return found


@dataclass
class Count:
    """Calls along one way so far: by outcome, and how many took at most so many seconds."""

    ok: float = 0
    failed: float = 0
    not_made: float = 0
    within: dict[float, float] = field(default_factory=dict)
    what: str = "calls"

    @property
    def made(self) -> float:
        """Calls that were made."""
        return self.ok + self.failed

    def since(self, before: Count | None) -> Count:
        """What has come since `before`; a service that was started again began from nothing."""
        if before is None or before.made > self.made or before.not_made > self.not_made:
            return self
        within = {limit: count - before.within.get(limit, 0) for limit, count in self.within.items()}
        return Count(
            self.ok - before.ok, self.failed - before.failed, self.not_made - before.not_made, within, self.what
        )

    def quantile(self, share: float) -> float | None:
        """Seconds within which this share of the calls ended, as histogram_quantile reckons it; None without calls."""
        limits = sorted(self.within)
        if not limits or (total := self.within[limits[-1]]) <= 0:
            return None
        below, under = 0.0, 0.0
        for limit in limits:
            count = self.within[limit]
            if count >= share * total:
                if limit == float("inf"):
                    return below
                return below + (limit - below) * (share * total - under) / max(count - under, 1e-9)
            below, under = limit, count
        return below


@dataclass
class Scrape:
    """What all services said at a moment: the calls so far, and how each service is (ready, not ready, away)."""

    at: float
    counts: dict[Way, Count] = field(default_factory=dict)
    states: dict[str, str] = field(default_factory=dict)


def scrape(at: float, texts: Mapping[str, str | None]) -> Scrape:
    """The scrape made of each service's metrics; None where it did not answer."""
    found = Scrape(at)
    for service, text in texts.items():
        found.states[service] = "away" if text is None else "ready"
        for name, labels, value in samples(text or ""):
            _take(found, service, name, labels, value)
    return found


def _take(found: Scrape, service: str, name: str, labels: Labels, value: float) -> None:
    def count(way: Way, what: str = "calls") -> Count:
        return found.counts.setdefault(way, Count(what=what))

    if name == "movies_ready" and value == 0:
        found.states[service] = "not ready"
    elif name == "movies_calls_total":
        of = count((service, labels.get("to", "?")))
        outcome = {"ok": "ok", "open": "not_made"}.get(labels.get("outcome", ""), "failed")
        setattr(of, outcome, getattr(of, outcome) + value)
    elif name == "movies_call_seconds_bucket":
        _add(count((service, labels.get("to", "?"))), labels, value)
    elif service == "ui" and name == "movies_requests_total" and labels.get("route") not in _OPERATION:
        of = count((VISITORS, service), "requests")
        failed = labels.get("code", "") >= "499"
        of.ok, of.failed = of.ok + value * (not failed), of.failed + value * failed
    elif service == "ui" and name == "movies_request_seconds_bucket" and labels.get("route") not in _OPERATION:
        _add(count((VISITORS, service), "requests"), labels, value)
    elif name == "movies_events_total" and labels.get("outcome") == "accepted":
        count((service, BROKER), "events").ok += value
    elif name == "movies_features_position":
        count((BROKER, service), "events").ok += value
    elif name == "movies_training_runs_total" and labels.get("state") == "published":
        count((service, BROKER), "models").ok += value
    elif name == "movies_model_loads_total":
        of = count((BROKER, service), "models")
        of.ok, of.failed = (
            of.ok + value * (labels.get("outcome") == "loaded"),
            of.failed + value * (labels.get("outcome") != "loaded"),
        )


def _add(count: Count, labels: Labels, value: float) -> None:
    limit = float(labels.get("le", "inf").replace("+Inf", "inf"))
    count.within[limit] = count.within.get(limit, 0) + value


def between(first: Scrape, last: Scrape) -> dict[Way, Count]:
    """The calls along each way from one scrape to the other; ways without any are left out."""
    found = {way: count.since(first.counts.get(way)) for way, count in last.counts.items()}
    return {way: count for way, count in found.items() if count.made > 0 or count.not_made > 0}


@dataclass(frozen=True)
class Hop:
    """One step of a request: who asked whom, for what, how it ended and how long it took."""

    caller: str
    service: str
    what: str
    status: int | None = None
    seconds: float | None = None


def hops(lines: Iterable[str], trace: str) -> list[Hop]:
    """The way of one request through the services, from their JSON logs: a step for each line with its id."""
    told = []
    for line in lines:
        if trace not in line:
            continue
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        if isinstance(entry, dict) and entry.get("trace_id") == trace:
            told.append(entry)
    owners = {entry.get("span_id"): str(entry.get("service")) for entry in told}
    found = []
    for entry in sorted(told, key=_begun):
        service, message = str(entry.get("service")), entry.get("message")
        if message == "request":
            caller = owners.get(entry.get("parent_id"), VISITORS)
            what = f"{entry.get('method')} {entry.get('path')}"
            found.append(Hop(caller, service, what, entry.get("status"), entry.get("seconds")))
        elif message == "event":
            found.append(Hop(service, BROKER, f"event {entry.get('outcome')}"))
        elif message == "stored":
            found.append(Hop(BROKER, service, "event stored"))
    return found


#: A request's line is written at its end; others when it happened.
_ORDER = {"request": 0, "event": 1, "stored": 2}


def _begun(entry: Mapping[str, Any]) -> tuple[int, float]:
    """Requests first, the outer ones before the inner ones (they took longer); then what came of them."""
    return _ORDER.get(str(entry.get("message")), 3), -float(entry.get("seconds") or 0)


def rows(ways: Mapping[Way, Count], seconds: float, follow: Sequence[Hop] = ()) -> list[list[str]]:
    """From, to, what, how many, per second, p95, failed, not made, and the steps of the request that is followed."""
    found = []
    for way in sorted({*ways, *((hop.caller, hop.service) for hop in follow)}):
        count = ways.get(way, Count(what=""))
        steps = ", ".join(str(number) for number, hop in enumerate(follow, 1) if (hop.caller, hop.service) == way)
        rate = f"{count.made / seconds:.1f}" if seconds > 0 else ""
        of = [count.what, f"{count.made:.0f}", rate, told(count.quantile(0.95))]
        found.append([*way, *of, f"{count.failed:.0f}", f"{count.not_made:.0f}", steps])
    return found


def told(seconds: float | None) -> str:
    """A time in words; nothing where it is not known."""
    if seconds is None:
        return ""
    return f"{1000 * seconds:.0f} ms" if seconds < 1 else f"{seconds:.2g} s"


def summary(ways: Mapping[Way, Count], states: Mapping[str, str], seconds: float) -> str:
    """The calls of a time in one sentence."""
    visits = ways.get((VISITORS, "ui"), Count())
    inner = [count for way, count in ways.items() if count.what == "calls"]
    parts = [f"{visits.made:.0f} requests of visitors" + (f", p95 {told(p)}" if (p := visits.quantile(0.95)) else "")]
    parts.append(
        f"{sum(one.made for one in inner):.0f} calls among services, {sum(one.failed for one in inner):.0f} failed"
    )
    if left := sum(one.not_made for one in inner):
        parts.append(f"{left:.0f} not made")
    parts += [f"{name} is {state}" for name, state in states.items() if state != "ready"]
    return f"in {seconds:.0f} s: {'; '.join(parts)}"
