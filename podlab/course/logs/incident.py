"""Half an hour of a shop's logs, request by request, with an incident in it: so the truth is known. Pure."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

Line = dict[str, object]

PODS = {"ui": ("ui-1",), "features": ("features-1", "features-2"), "serving": ("serving-1", "serving-2", "serving-3")}
PATHS = ("/recommend", "/rate")


def stamp(moment: float) -> str:
    """A moment as logs write it."""
    return datetime.fromtimestamp(round(moment, 3), UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


@dataclass
class Request:
    """One visit of a page: its trace, when it began, the status that the visitor got, the lines that it left."""

    trace: str
    at: float
    app: str
    status: int
    lines: list[Line] = field(default_factory=list)


@dataclass(frozen=True)
class Incident:
    """All requests, the lines as the store got them (some of them twice), and when the incident was."""

    requests: Sequence[Request]
    lines: Sequence[Line]
    begin: float
    end: float

    def within(self, begin: float, end: float) -> list[Request]:
        """The shop's requests whose answer was logged at `begin` or later, and before `end`."""
        return [one for one in self.requests if one.app == "shop" and begin <= one.at < end]


def happened(end: float, chance: random.Random) -> Incident:
    """An incident of four minutes in the half hour before `end`, with what is easily taken for a part of it."""
    begin = round(end - chance.uniform(1000, 1400), 3)
    over = round(begin + 240, 3)
    requests: list[Request] = []
    at = end - 1800
    while (at := at + chance.expovariate(0.4)) < end - 5:
        sick = begin <= at < over
        dice = chance.random()
        kind = "fails" if dice < (0.3 if sick else 0.02) else "retried" if dice < (0.5 if sick else 0.05) else "fine"
        kind = "missing" if kind == "fine" and chance.random() < 0.12 else kind
        app = "shop" if chance.random() < 0.85 else "basket"
        requests.append(_request(at, app, kind, chance))
    # In every one of these minutes there is something of each kind, whatever the dice said.
    requests += [
        _request(begin + 20 * number + 3, "shop", kind, chance)
        for number, kind in enumerate(("fails", "retried", "fails", "missing", "retried", "fails"))
    ]
    requests.append(_request(begin + 130, "basket", "fails", chance))
    requests.sort(key=lambda one: one.at)
    _mention(requests, chance)
    lines = [line for one in requests for line in one.lines]
    # At least once: a shipper that was killed sends what it is not sure of again.
    twice = [line for one in requests if one.status >= 500 for line in one.lines if chance.random() < 0.3]
    return Incident(requests, [*lines, *twice], begin, over)


def _request(at: float, app: str, kind: str, chance: random.Random) -> Request:
    """A request: fine, missing (404), fails (5xx), or retried (5xx inside, and 200 for the visitor)."""
    trace, user = f"{chance.getrandbits(128):032x}", 500 + chance.randrange(40)
    path, word = chance.choice(PATHS), f"{chance.getrandbits(24):06x}"
    status = {"fine": 200, "retried": 200, "missing": 404, "fails": chance.choice((500, 502, 503))}[kind]
    made = Request(trace, at, app, status)
    clock = at = round(at - 0.05, 3)

    def say(service: str, message: str, level: str = "info", **more: object) -> None:
        nonlocal clock
        clock = round(clock + 0.001 * chance.randint(1, 5), 3)  # no two lines of a request at once
        pod = chance.choice(PODS[service])
        common = {"@timestamp": stamp(clock), "level": level, "app": app, "service": service, "pod": pod}
        made.lines.append({**common, "trace_id": trace, "user": user, "message": f"{message} [{word}]", **more})

    say("ui", f"asked for {path}", path=path)
    if kind != "missing":
        say("features", f"looking up user {user}")
        for attempt in (1, 2) if kind == "retried" else (1,):
            broken = kind in ("fails", "retried") and attempt == 1
            if broken:
                say("serving", "the model is gone", "error", status=503)
                say("features", "serving answered 503", "error", attempt=attempt)
            else:
                say("serving", f"ranked 500 movies in {chance.randint(3, 30)} ms", status=200)
        say("features", "done")
    clock = round(at + 0.05, 3)
    level = "error" if status >= 500 else "info"
    word_of = {200: "answered", 404: "there is no such page"}.get(status, "sorry")
    say("ui", word_of, level, status=status, path=path, latency_ms=chance.randint(20, 900))
    made.at = clock
    for line in made.lines[-1:]:
        line["@timestamp"] = stamp(made.at)
    return made


def _mention(requests: Sequence[Request], chance: random.Random) -> None:
    """Let some requests speak of an earlier one that failed: its id stands in their lines, which are not its own."""
    failed = [one for one in requests if one.status >= 500]
    for one in failed:
        later = [other for other in requests if other.at > one.at + 1]
        for other in chance.sample(later, min(2, len(later))):
            other.lines[0]["message"] = f"{other.lines[0]['message']} again, after {one.trace}"
            other.lines[0]["after"] = one.trace
