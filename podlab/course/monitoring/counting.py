"""Exercise 21.1: how many requests, and how many of them fail. PromQL against the shop's own count."""

from __future__ import annotations

from podlab.checks.bench import Bench
from podlab.checks.contract import Exercise, HandIn, Hint, Situation
from podlab.course.monitoring.history import Request
from podlab.course.monitoring.scenes import LESSON, WINDOW, Scene, asked, by_label, closing, compared, one, stage
from podlab.course.plain import Problem, judged

RATE, SHARE, PATHS = "requests_per_second", "error_share", "requests_by_path"


def _lacks(name: str, *words: str) -> object:
    def when(situation: Situation) -> bool:
        return not any(word in situation.text(name) for word in words)

    return when


EXERCISE = Exercise(
    id="21.1",
    title="How many, and how many of them fail",
    points=10,
    handed_in=tuple(HandIn(name, "value") for name in (RATE, SHARE, PATHS)),
    stage=stage,
    closing=closing,
    cluster=False,
    lesson=f"{LESSON}#From-a-counter-to-a-rate",
    hints=(
        Hint(
            "Your number grows and grows. What does a counter count, and since when?",
            _lacks(RATE, "rate(", "increase("),  # type: ignore[arg-type]
        ),
        Hint(
            "Your sum includes a second app that is scraped too. Which label tells them apart?",
            lambda situation: 'app="shop"' not in situation.text(RATE).replace("'", '"').replace(" ", ""),
        ),
        Hint("A pod was started anew in these five minutes. Which function knows that its counter fell to 0?"),
        Hint("Which codes say that the shop is at fault? A page that does not exist is the visitor's mistake."),
        Hint("If nothing failed there is no series with a code of 5xx. What does a sum over no series give?"),
    ),
    debrief=(
        "A counter only grows, until its process ends; rate() looks at its slope and takes every fall for a restart. "
        "So the rate comes first and the sum second: summed first, the fall of one pod hides in the sum. Whatever "
        "fails between the last scrape and the end of a process is not seen by anybody, which is where the small "
        "difference to the true count comes from. `or vector(0)` turns 'no such series' into a number; another way is "
        "to have the program show every code from its start."
    ),
)


def is_error(request: Request) -> bool:
    """Whether the shop was at fault."""
    return request.code.startswith("5")


@EXERCISE.check("rate", "Requests per second of the whole shop", weight=3)
@judged("requests_per_second is what the shop itself has counted in the last five minutes, per second")
def rate(scene: Scene, bench: Bench) -> str | Problem:
    """At the end of the busy time, with restarts in the window."""
    return rate_at(scene, scene.now)


def rate_at(scene: Scene, moment: float) -> str | Problem:
    """The rate at a moment, against the count."""
    value = one(scene, RATE, moment)
    if isinstance(value, Problem):
        return value
    ask, truth = scene.engine.ask, scene.history.count(*scene.since(moment)) / WINDOW
    everything = ask.number("sum(rate(http_requests_total[5m]))", moment) or 0
    raw = ask.number("sum(http_requests_total)", moment) or 0
    raw_shop = ask.number('sum(http_requests_total{app="shop"})', moment) or 0
    reset = ask.number('sum(delta(http_requests_total{app="shop"}[5m])) / 300', moment) or 0
    counter = "A counter counts from the start of its process: its value says nothing of the last five minutes."
    return compared(
        RATE,
        value,
        truth,
        {
            "Another app is counted too.": (everything, 'Choose the shop: {app="shop"}.'),
            counter: (raw, "Ask for its slope: rate(...[5m])."),
            counter + " ": (raw_shop, "Ask for its slope: rate(...[5m])."),
            "This is how many there were in five minutes, not in one second.": (
                truth * WINDOW,
                "rate() is per second, increase() is per window.",
            ),
            "A pod was started anew, and its counter fell to 0: the difference of two values goes below what was.": (
                reset,
                "rate() and increase() know of restarts, delta() and minus do not.",
            ),
        },
    )


@EXERCISE.check("errors", "The share that fails", weight=2)
@judged("error_share is the share of requests of the last five minutes that were answered with 5xx, from 0 to 1")
def errors(scene: Scene, bench: Bench) -> str | Problem:
    """At the end of the busy time."""
    value = one(scene, SHARE, scene.now)
    if isinstance(value, Problem):
        return value
    begin, end = scene.since(scene.now)
    count, failed_ones = scene.history.count(begin, end), scene.history.count(begin, end, is_error)
    missing = scene.history.count(begin, end, lambda request: request.code == "404")
    good = scene.history.count(begin, end, lambda request: request.code == "200")
    return compared(
        SHARE,
        value,
        failed_ones / count,
        {
            "404 is counted as an error: that page does not exist, and the shop said so rightly.": (
                (failed_ones + missing) / count,
                'Choose the codes: code=~"5..".',
            ),
            "This is errors for each good answer, not for each request.": (
                failed_ones / good,
                "Below the line belong all requests, with any code.",
            ),
            "This is errors per second.": (failed_ones / WINDOW, "Divide by all requests per second."),
            "This is per cent.": (100 * failed_ones / count, "A share lies between 0 and 1."),
        },
        tolerance=0.04,
    )


@EXERCISE.check("paths", "Requests for each path", weight=2)
@judged("requests_by_path has one result for each path: its requests in the last five minutes")
def paths(scene: Scene, bench: Bench) -> str | Problem:
    """Labels and values."""
    found = asked(scene, PATHS, scene.now)
    if isinstance(found, Problem):
        return found
    begin, end = scene.since(scene.now)

    def requests(path: str) -> float:
        return float(scene.history.count(begin, end, lambda request: request.path == path))

    truth = {path: requests(path) for path in ("/recommend", "/rate")}

    def explain() -> dict[str, str]:
        if all(abs(series.value * WINDOW - truth.get(series.labels["path"], 0)) < 50 for series in found):
            return {"cause": "This is per second.", "next": "increase() gives the number in the window."}
        return {
            "cause": "Another app is counted too, or the counters themselves are added up.",
            "next": 'increase(http_requests_total{app="shop"}[5m]) has what you need, for each pod, path and code.',
        }

    return by_label(found, "path", truth, explain)
