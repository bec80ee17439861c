"""Exercise 21.3: an alert that fires in time, ends in time, and is silent when nothing is wrong."""

from __future__ import annotations

import random
import time
from dataclasses import dataclass

from podlab.addons.prometheus import QueryError
from podlab.checks.bench import Bench
from podlab.checks.contract import Answer, Exercise, HandIn, Hint, Json, Refused, failed
from podlab.course.monitoring import rules
from podlab.course.monitoring.engine import Engine
from podlab.course.monitoring.history import History, Traffic, grow, live, scraped
from podlab.course.monitoring.rules import Rule
from podlab.course.monitoring.scenes import LESSON
from podlab.course.plain import Problem, judged
from podlab.widgets.timeline import Bar, Mark, kept

NAME = "alert_rules"
PODS = ("shop-a", "shop-b", "shop-c")
#: Seconds within which an outage must be told, and its end; said in the task.
WITHIN, OVER_WITHIN = 150, 240
#: Seconds of errors that wake nobody.
BLIP = 15
#: Seconds between the episodes, in which nothing is scraped.
GAP = 400


@dataclass(frozen=True)
class Episode:
    """A piece of the history; `sick` is when something was wrong with the shop (begin, end), if it was."""

    begin: float
    end: float
    sick: tuple[float, float] | None = None


@dataclass
class Scene:
    """The rule, and a history of episodes in a Prometheus."""

    rule: Rule
    engine: Engine
    episodes: dict[str, Episode]


#: Episode -> pieces of (seconds, requests per second, share of errors, wrong?), in the order of time.
PLAN: dict[str, list[tuple[float, float, float, bool]]] = {
    "night": [(700, 0.07, 0.0, False), (30, 0.2, 0.6, False), (500, 0.07, 0.0, False)],
    "blip": [(240, 12, 0.01, False), (BLIP, 12, 0.5, False), (300, 12, 0.01, False)],
    "rush": [(300, 10, 0.015, False), (300, 48, 0.015, False), (200, 10, 0.015, False)],
    "slight": [(240, 12, 0.005, False), (400, 12, 0.15, True), (400, 12, 0.005, False)],
    "outage": [(300, 12, 0.01, False), (300, 12, 0.4, True), (400, 12, 0.01, False)],
}


def stage(answer: Answer, bench: Bench) -> Scene:
    """Write the episodes into a Prometheus and have it read the rule."""
    chance = random.Random(bench.seed)
    engine = Engine()
    try:
        rule = _read(engine, answer.get(NAME))
        total = sum(GAP + sum(seconds for seconds, *_ in pieces) for pieces in PLAN.values())
        at, episodes = time.time() - total - 10, {}
        for name, pieces in PLAN.items():
            history, begin, sick = History(), at, None
            for seconds, rate, errors, wrong in pieces:
                traffic = Traffic(at, at + seconds, rate, errors=errors, missing=0.1, pods=PODS)
                grow(history, traffic, chance)
                sick = (at, at + seconds) if wrong else sick
                at += seconds
            restart = [begin + 200] if name == "rush" else []
            live(history, "shop", PODS, begin, at, restart)
            engine.write(scraped(history))
            episodes[name] = Episode(begin, at, sick)
            at += GAP
    except BaseException:
        engine.close()
        raise
    return Scene(rule, engine, episodes)


def _read(engine: Engine, text: object) -> Rule:
    """The learner's rule; Refused, with what is wrong, if there is not exactly one that Prometheus takes."""
    expected = "a file of rules with one alert and no recording rule, which Prometheus can read"
    try:
        found = rules.load(engine, text if isinstance(text, str) else "")
    except ValueError as error:
        raise Refused(
            failed(
                expected,
                str(error),
                cause="The file or the expression in it is not well formed, or asks for more than one alert.",
                next_step="Try the expression by itself in the playground: lab.promql(...).",
            )
        ) from error
    if len(found) != 1:
        raise Refused(
            failed(
                expected,
                f"there are {len(found)} alerts in it",
                cause="Each alert has an entry `- alert: NAME` of its own below `rules:`.",
                next_step="Write one alert.",
            )
        )
    return found[0]


def closing(scene: Scene, _bench: Bench) -> None:
    """End the Prometheus."""
    scene.engine.close()


def _says(*words: str):
    return lambda situation: any(word in situation.text(NAME) for word in words)


EXERCISE = Exercise(
    id="21.3",
    title="An alert worth waking up for",
    points=10,
    handed_in=(HandIn(NAME, "value"),),
    stage=stage,
    closing=closing,
    cluster=False,
    lesson=f"{LESSON}#An-alert",
    hints=(
        Hint(
            "Your alert fires in the rush, when there are many requests and as few errors as ever among them. "
            "What grows with the number of requests, and what does not?",
            lambda situation: situation.failed("rush"),
        ),
        Hint(
            "Fifteen seconds of errors woke somebody. For how long must the condition hold before it counts?",
            lambda situation: situation.failed("blip"),
        ),
        Hint(
            "Your alert comes late. Which is longer in it: the window of the rate, or `for`? They add up.",
            _says("[10m]", "[15m]", "[30m]", "[1h]"),
        ),
        Hint("Which codes are the shop's fault? One in ten visitors asks for a page that does not exist."),
        Hint("What is one error of one request, as a share? Is that a reason to wake somebody?"),
    ),
    debrief=(
        "A share does not grow with the traffic, a number does. The window of rate() smooths, `for` waits: both delay "
        "the alert, and the first delays its end too. A ratio of almost nothing says nothing, so a rule for a share "
        "also asks for a least number of requests (or failures) behind it. Another way is to alert on how fast the "
        "month's budget of errors is used up, over a short and a long window at once."
    ),
)


def fired(scene: Scene, name: str) -> list[tuple[float, float]] | Problem:
    """When the alert was firing in an episode, in seconds from its beginning."""
    episode = scene.episodes[name]
    try:
        spans = rules.firing(scene.engine, scene.rule, episode.begin + 60, episode.end)
    except QueryError as error:
        return Problem(
            error.message, "Prometheus cannot evaluate the expression.", "Try it by itself: lab.promql(...)."
        )
    return [(begin - episode.begin, end - episode.begin) for begin, end in spans]


def picture(episode: Episode, spans: list[tuple[float, float]], moment: float) -> dict[str, Json]:
    """Evidence for `lab.replay`: when something was wrong, and when the alert was firing; it opens at a moment."""
    last = episode.end - episode.begin
    if episode.sick is None:
        bars, marks = [Bar("the shop", 0.0, last, "nothing that should wake anybody", "good")], []
    else:
        begin, end = (at - episode.begin for at in episode.sick)
        bars = [
            Bar("the shop", 0.0, begin, "well", "good"),
            Bar("the shop", begin, end, "errors", "bad"),
            Bar("the shop", end, last, "well", "good"),
        ]
        marks = [
            Mark("the task", begin + WITHIN, "has to fire by now"),
            Mark("the task", end + OVER_WITHIN, "has to be over by now"),
        ]
    bars += [Bar("your alert", begin, end, "firing", "late") for begin, end in spans]
    return {"replay": kept(bars, marks, moment, mode="simulation")}


def told(scene: Scene, name: str) -> str | Problem:
    """Whether an episode's trouble was told in time, and its end too."""
    spans = fired(scene, name)
    if isinstance(spans, Problem):
        return spans
    episode = scene.episodes[name]
    assert episode.sick is not None
    begin, end = (moment - episode.begin for moment in episode.sick)
    early = [span for span in spans if span[0] < begin]
    if early:
        return Problem(
            f"it was firing already {begin - early[0][0]:.0f} s before anything was wrong",
            "The expression is true of a healthy shop, or the comparison is the wrong way round.",
            "What does its left side give while all is well? lab.promql shows it.",
            picture(episode, spans, early[0][0]),
        )
    if not spans:
        return Problem(
            f"errors for {end - begin:.0f} s, and the alert never fired",
            "The threshold is too high, the window or `for` too long, or the labels choose nothing.",
            "Take the comparison off and look at the number: how high does it get?",
            picture(episode, spans, begin + WITHIN),
        )
    if spans[0][0] > begin + WITHIN:
        return Problem(
            f"it fired {spans[0][0] - begin:.0f} s after the errors began",
            "The window of rate() fills slowly, and `for` waits after that.",
            f"Make the window or `for` shorter: together they have {WITHIN} s.",
            picture(episode, spans, spans[0][0]),
        )
    if len(spans) > 1:
        return Problem(
            f"it fired {len(spans)} times in one trouble",
            "Around the threshold the value goes up and down, and each time the alert ends and begins anew.",
            "A longer window is smoother; a lower threshold is farther from the value.",
            picture(episode, spans, spans[1][0]),
        )
    if spans[0][1] > end + OVER_WITHIN:
        return Problem(
            f"it was still firing {spans[0][1] - end:.0f} s after the end of the errors",
            "The window still holds the errors, long after they are over.",
            "Make the window of rate() shorter.",
            picture(episode, spans, end + OVER_WITHIN),
        )
    return f"fired {spans[0][0] - begin:.0f} s after the errors began, over {spans[0][1] - end:.0f} s after their end"


def silent(scene: Scene, name: str, cause: str, next_step: str) -> str | Problem:
    """Whether nothing fired in an episode in which nothing was wrong."""
    spans = fired(scene, name)
    if isinstance(spans, Problem):
        return spans
    if spans:
        return Problem(
            f"it fired {spans[0][0]:.0f} s after the beginning, for {spans[0][1] - spans[0][0]:.0f} s",
            cause,
            next_step,
            picture(scene.episodes[name], spans, spans[0][0]),
        )
    return "it did not fire"


@EXERCISE.check("outage", "It fires in an outage, and ends after it", weight=3)
@judged(
    f"40 % errors for five minutes: it fires once, within {WITHIN} s, and is over within {OVER_WITHIN} s of the end"
)
def outage(scene: Scene, bench: Bench) -> str | Problem:
    """The plain case."""
    return told(scene, "outage")


@EXERCISE.check("rush", "It is silent in a rush", weight=2, needs=["outage"])
@judged("five times as many requests as usual, 1.5 % errors among them: it does not fire")
def rush(scene: Scene, bench: Bench) -> str | Problem:
    """Many requests, as few errors among them as ever."""
    return silent(
        scene,
        "rush",
        "The rule looks at a number of errors, or counts 404 as the shop's fault: both grow with the traffic.",
        "Divide the errors (5xx) by all requests.",
    )


@EXERCISE.check("blip", "It is silent in a blip", weight=2, needs=["outage"])
@judged(f"half of the requests fail for {BLIP} s, then all is well: it does not fire")
def blip(scene: Scene, bench: Bench) -> str | Problem:
    """Over before anybody could look."""
    return silent(
        scene,
        "blip",
        "The window of rate() remembers the blip for its whole length, longer than `for` waits.",
        "Let `for` be as long as the window, or the window longer and the threshold above what a blip makes of it.",
    )


@EXERCISE.check("page", "It says that it is urgent, and what is wrong", weight=1, needs=["outage"])
@judged("the alert has the label severity: page and a summary")
def page(scene: Scene, bench: Bench) -> str | Problem:
    """Label and annotation."""
    if scene.rule.labels.get("severity") != "page":
        return Problem(
            f"its labels are {dict(scene.rule.labels)}",
            "Alertmanager decides by labels whom to wake.",
            "labels: {severity: page}",
        )
    if not str(scene.rule.annotations.get("summary", "")).strip():
        return Problem("it has no summary", "Whoever is woken reads this first.", "annotations: {summary: ...}")
    return f"severity: page; {scene.rule.annotations['summary']}"
