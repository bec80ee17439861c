"""Traffic of a shop, request by request, and what Prometheus would have scraped of it: so the truth is known. Pure."""

from __future__ import annotations

import itertools
import math
import random
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from podlab.course.monitoring.remote_write import STALE, TimeSeries

#: Seconds between two scrapes of a pod.
SCRAPE = 5.0
#: Upper bounds of the histogram's buckets, in seconds.
BUCKETS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, math.inf)

#: Multiples of it, without their whole part, fill a range evenly, however many there are.
GOLDEN = (math.sqrt(5) - 1) / 2


@dataclass(frozen=True)
class Request:
    """One request as the shop itself has seen it."""

    at: float
    app: str
    pod: str
    path: str
    code: str
    seconds: float


@dataclass(frozen=True)
class Traffic:
    """What an app gets between two moments: requests per second, and the share of 404s and of errors (5xx)."""

    begin: float
    end: float
    rate: float
    errors: float = 0.0
    missing: float = 0.02
    app: str = "shop"
    pods: Sequence[str] = ("shop-a", "shop-b", "shop-c")
    paths: Sequence[str] = ("/recommend", "/rate")


@dataclass
class History:
    """All requests, and the lives of pods: (pod, begin, end) of each process, whose counters begin at 0."""

    requests: list[Request] = field(default_factory=list)
    lives: list[tuple[str, str, float, float]] = field(default_factory=list)

    def count(self, begin: float, end: float, wanted: Callable[[Request], bool] = lambda _request: True) -> int:
        """How many wanted requests of the shop there were after `begin`, until `end`."""
        return sum(begin < one.at <= end and one.app == "shop" and wanted(one) for one in self.requests)

    def durations(self, begin: float, end: float, path: str = "") -> list[float]:
        """The seconds that requests of the shop took, in order of size."""
        chosen = (one for one in self.requests if begin < one.at <= end and one.app == "shop")
        return sorted(one.seconds for one in chosen if not path or one.path == path)


def grow(history: History, traffic: Traffic, chance: random.Random) -> None:
    """Add the requests of some traffic: evenly spread over its pods, at moments of chance."""
    at, seen = traffic.begin, Counter[tuple[str, int]]()
    while (at := at + chance.expovariate(traffic.rate)) < traffic.end:
        dice = chance.random()
        code = "500" if dice < traffic.errors else "404" if dice < traffic.errors + traffic.missing else "200"
        path = traffic.paths[0] if chance.random() < 0.7 else traffic.paths[1]
        seconds = _duration(path, chance, seen)
        history.requests.append(Request(at, traffic.app, chance.choice(traffic.pods), path, code, seconds))


def live(history: History, app: str, pods: Iterable[str], begin: float, end: float, restarts: Sequence[float]) -> None:
    """Let pods live between two moments; the first is started anew at each of `restarts`, its counters with it."""
    for number, pod in enumerate(pods):
        cuts = [begin, *(restarts if number == 0 else ()), end]
        history.lives += [(app, pod, first, last) for first, last in itertools.pairwise(cuts)]


def scraped(history: History) -> list[TimeSeries]:
    """The series that Prometheus would have: a counter for each path and code, a histogram for each path, and `up`."""
    found: dict[tuple[tuple[str, str], ...], list[tuple[float, float]]] = {}
    by_pod: dict[str, list[Request]] = {}
    for one in sorted(history.requests, key=lambda one: one.at):
        by_pod.setdefault(one.pod, []).append(one)
    for app, pod, begin, end in history.lives:
        mine = [one for one in by_pod.get(pod, ()) if begin < one.at <= end]
        for name, labels, points in _life(mine, begin, end):
            key = tuple(sorted({"__name__": name, "app": app, "pod": pod, "namespace": "default", **labels}.items()))
            found.setdefault(key, []).extend(points)
    last = {pod: max(end for _, name, _, end in history.lives if name == pod) for _, pod, _, _ in history.lives}
    for key, points in found.items():
        points.append((last[dict(key)["pod"]] + SCRAPE, STALE))
    return [(dict(key), points) for key, points in found.items()]


def _life(mine: Sequence[Request], begin: float, end: float) -> Iterator[tuple[str, dict[str, str], list]]:
    """The series of one process."""
    times = [begin + SCRAPE * step for step in range(int((end - begin) / SCRAPE) + 1) if begin + SCRAPE * step < end]
    yield "up", {}, [(at, 1.0) for at in times]
    for path in sorted({one.path for one in mine} | {"/recommend", "/rate"}):
        at_path = [one for one in mine if one.path == path]
        for code in ("200", "404", "500"):
            moments = [one.at for one in at_path if one.code == code]
            if moments or code == "200":
                yield "http_requests_total", {"path": path, "code": code}, _counted(moments, times)
        stem, label = "http_request_duration_seconds", {"path": path}
        for bound in BUCKETS:
            below = [one.at for one in at_path if one.seconds <= bound]
            le = "+Inf" if bound == math.inf else f"{bound:g}"
            yield f"{stem}_bucket", {**label, "le": le}, _counted(below, times)
        yield f"{stem}_count", label, _counted([one.at for one in at_path], times)
        yield f"{stem}_sum", label, _summed(at_path, times)


def _counted(moments: Sequence[float], times: Sequence[float]) -> list[tuple[float, float]]:
    points, seen = [], 0
    for at in times:
        while seen < len(moments) and moments[seen] <= at:
            seen += 1
        points.append((at, float(seen)))
    return points


def _summed(requests: Sequence[Request], times: Sequence[float]) -> list[tuple[float, float]]:
    points, seen, total = [], 0, 0.0
    for at in times:
        while seen < len(requests) and requests[seen].at <= at:
            total += requests[seen].seconds
            seen += 1
        points.append((at, total))
    return points


def _duration(path: str, chance: random.Random, seen: Counter[tuple[str, int]]) -> float:
    """A bucket by chance, and there as far from all that were `seen` as can be.

    So every part of a bucket has its share, and a quantile read from buckets is near the true one.
    """
    shares = (0.3, 0.35, 0.2, 0.08, 0.05, 0.02) if path == "/recommend" else (0.05, 0.15, 0.3, 0.25, 0.22, 0.03)
    (number,) = chance.choices(range(len(shares)), shares)
    seen[path, number] += 1
    low = BUCKETS[number - 1] if number else 0.0
    return low + seen[path, number] * GOLDEN % 1.0 * (BUCKETS[number] - low)
