"""Exercise 21.2: how long requests take, from the buckets of a histogram."""

from __future__ import annotations

from podlab.checks.bench import Bench
from podlab.checks.contract import Exercise, HandIn, Hint, Situation
from podlab.course.monitoring.scenes import LESSON, Scene, asked, by_label, closing, compared, one, stage
from podlab.course.plain import Problem, judged

P95, BY_PATH, QUICK = "p95", "p95_by_path", "share_within_250_ms"
LIMIT = 0.25
#: A quantile is read between two bounds of buckets.
COARSE = 0.06


def quantile(durations: list[float], share: float) -> float:
    """The value below which a share of the durations lies."""
    return durations[min(len(durations) - 1, int(share * len(durations)))]


def _averages(situation: Situation) -> bool:
    return "avg(" in situation.text(P95).replace(" ", "")


EXERCISE = Exercise(
    id="21.2",
    title="How long does it take",
    points=10,
    handed_in=tuple(HandIn(name, "value") for name in (P95, BY_PATH, QUICK)),
    stage=stage,
    closing=closing,
    cluster=False,
    lesson=f"{LESSON}#How-long-does-it-take",
    hints=(
        Hint("The average of three pods' quantiles is nobody's quantile. What of the pods can be added up?", _averages),
        Hint(
            "histogram_quantile needs one label that must not be summed away. Which one says where a bucket ends?",
            lambda situation: "le" not in situation.text(P95),
        ),
        Hint("The buckets are counters. What do you do with a counter before anything else?"),
        Hint("A bucket holds everything that took at most `le`. Which bucket answers the third question by itself?"),
    ),
    debrief=(
        "A histogram is a set of counters, and counters of several pods can be added; quantiles and averages cannot. "
        "So: rate, then sum by (le), then the quantile. The result lies somewhere in a bucket and is read off a "
        "straight line, so it is as exact as the buckets are fine. A share below a bound that is itself the edge of "
        "a bucket is exact; that is why one puts a bucket where the promise is."
    ),
)


@EXERCISE.check("p95", "The 95th percentile of the whole shop", weight=3)
@judged("p95 is the time within which 95 of 100 requests of the last five minutes were answered, in seconds")
def p95(scene: Scene, bench: Bench) -> str | Problem:
    """At the end of the busy time."""
    return p95_at(scene, scene.now)


def p95_at(scene: Scene, moment: float) -> str | Problem:
    """The quantile at a moment, against all durations in order."""
    value = one(scene, P95, moment)
    if isinstance(value, Problem):
        return value
    durations = scene.history.durations(*scene.since(moment))
    ask = scene.engine.ask
    stem = 'http_request_duration_seconds_bucket{app="shop"}'
    per_pod = ask.number(f"avg(histogram_quantile(0.95, sum by (pod, path, le) (rate({stem}[5m]))))", moment) or 0
    mean = sum(durations) / len(durations)
    return compared(
        P95,
        value,
        quantile(durations, 0.95),
        {
            "This is the average. A few slow requests hardly move it.": (mean, "histogram_quantile(0.95, ...)."),
            "This is the median.": (quantile(durations, 0.5), "0.95 stands for 95 of 100."),
            "Quantiles were averaged: the mean of the pods' quantiles is no quantile of anything.": (
                per_pod,
                "First add the buckets up, sum by (le) (rate(...)), then take the quantile.",
            ),
        },
        tolerance=COARSE,
    )


@EXERCISE.check("by-path", "The 95th percentile of each path", weight=2)
@judged("p95_by_path has one result for each path")
def by_path(scene: Scene, bench: Bench) -> str | Problem:
    """Labels and values."""
    found = asked(scene, BY_PATH, scene.now)
    if isinstance(found, Problem):
        return found
    window = scene.since(scene.now)
    truth = {path: quantile(scene.history.durations(*window, path), 0.95) for path in ("/recommend", "/rate")}
    return by_label(
        found,
        "path",
        truth,
        lambda: {
            "cause": "The buckets are summed over something that must be kept, or not over all pods.",
            "next": "sum by (path, le) (rate(...)), and histogram_quantile around it.",
        },
        COARSE,
    )


@EXERCISE.check("quick", "The share within 250 ms", weight=2)
@judged("share_within_250_ms is the share of requests that were answered within a quarter of a second, from 0 to 1")
def quick(scene: Scene, bench: Bench) -> str | Problem:
    """At the end of the busy time."""
    value = one(scene, QUICK, scene.now)
    if isinstance(value, Problem):
        return value
    durations = scene.history.durations(*scene.since(scene.now))
    share = sum(seconds <= LIMIT for seconds in durations) / len(durations)
    between = sum(0.1 < seconds <= LIMIT for seconds in durations) / len(durations)
    return compared(
        QUICK,
        value,
        share,
        {
            "This is the share that took longer.": (1 - share, "The bucket holds what took at most `le`."),
            "A bucket holds everything below its bound, the smaller ones too: nothing has to be taken off.": (
                between,
                'The bucket le="0.25" alone is what you look for.',
            ),
            "This is per second.": (share * len(durations) / 300, "Divide by the rate of all requests."),
        },
    )
