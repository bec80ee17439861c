"""The hidden checks of chapter 21. They never enter a learner's kernel, a release or a feedback's source."""

from __future__ import annotations

from podlab.checks.bench import Bench
from podlab.checks.contract import Exercise
from podlab.checks.world import World
from podlab.course.monitoring import alerting, counting, latency, scaling
from podlab.course.monitoring.scenes import Scene, near, one
from podlab.course.plain import Problem, judged


def add(exercises: dict[str, Exercise]) -> None:
    """Add the hidden checks to the exercises of the chapter."""
    declare = {id: exercise.check for id, exercise in exercises.items()}
    declare["21.1"]("quiet-rate", "The rate at a quiet time", weight=1, hidden=True, needs=["rate"])(quiet_rate)
    declare["21.1"]("no-errors", "A time in which nothing failed", weight=2, hidden=True, needs=["errors"])(no_errors)
    declare["21.2"]("quiet-p95", "The percentile at a quiet time", weight=1, hidden=True, needs=["p95"])(quiet_p95)
    declare["21.3"]("slight", "A smaller trouble", weight=2, hidden=True, needs=["outage"])(slight)
    declare["21.3"]("night", "A lonely error at night", weight=2, hidden=True, needs=["outage"])(night)
    declare["21.4"]("quiet", "A quiet hour needs one pod", weight=1, hidden=True, needs=["grows"])(quiet)
    declare["21.4"]("limit", "There is a limit", weight=1, hidden=True, needs=["grows"])(limit)


@judged("requests_per_second is right at a time with one pod and few requests as well")
def quiet_rate(scene: Scene, bench: Bench) -> str | Problem:
    """The same expression at another moment."""
    return counting.rate_at(scene, scene.quiet)


@judged("error_share is 0 at a time in which nothing failed")
def no_errors(scene: Scene, bench: Bench) -> str | Problem:
    """There is no series with a code of 5xx then."""
    value = one(scene, counting.SHARE, scene.quiet)
    if isinstance(value, Problem):
        return Problem(
            value.observed,
            "Without a series to add up, a sum is not 0: it is nothing, and nothing divided by something is nothing.",
            "`or vector(0)` gives a number where there is no series.",
        )
    if near(value, 0):
        return "error_share is 0"
    return Problem(f"error_share is {value:.4g}", "Something is counted that did not fail.", 'code=~"5.."')


@judged("p95 is right at a time with one pod and few requests as well")
def quiet_p95(scene: Scene, bench: Bench) -> str | Problem:
    """The same expression at another moment; with few requests a quantile is coarser."""
    value = one(scene, latency.P95, scene.quiet)
    if isinstance(value, Problem):
        return value
    durations = scene.history.durations(*scene.since(scene.quiet))
    low, high = latency.quantile(durations, 0.9), latency.quantile(durations, 0.99)
    if low <= value <= high:
        return f"p95 is {value:.3g}; between 90 and 99 of 100 requests took less"
    return Problem(
        f"p95 is {value:.3g}; 90 of 100 requests took less than {low:.3g}, 99 of 100 less than {high:.3g}",
        "The expression names pods or numbers of the busy time.",
        "Sum over the pods instead of naming them.",
    )


@judged(f"15 % errors for some minutes: it fires once, within {alerting.WITHIN} s, and ends afterwards")
def slight(scene: alerting.Scene, bench: Bench) -> str | Problem:
    """Less than an outage, and the task says that it counts."""
    return alerting.told(scene, "slight")


@judged("a request every fifteen seconds, and within half a minute some of the few fail: it does not fire")
def night(scene: alerting.Scene, bench: Bench) -> str | Problem:
    """A share of almost nothing."""
    return alerting.silent(
        scene,
        "night",
        "One request of two is a share of 50 %, and no reason to wake anybody.",
        "Ask for a least number of requests too: ... and sum(rate(...)) > 1.",
    )


@judged("with one viewer a second at most there is one pod")
def quiet(scene: scaling.Scene, world: World) -> str | Problem:
    """Before the rush, when the autoscaler had looked."""
    scaling.play(scene)
    if scene.calm <= 1:
        return f"one pod, with {scene.quiet_rate:.1f} viewers a second"
    scaling.held_up(scene.early.records)
    return Problem(
        f"{scene.calm} pods, with {scene.quiet_rate:.1f} viewers a second",
        "Two or three viewers at once are more than you want for one pod, or there are more pods from the beginning.",
        f"A pod has seats for {scaling.SEATS}: want more of them for each pod, and leave minReplicas at 1.",
    )


@judged(f"there are never more than {scaling.MOST} pods")
def limit(scene: scaling.Scene, world: World) -> str | Problem:
    """In the whole episode."""
    scaling.play(scene)
    if scene.most <= scaling.MOST:
        return f"at most {scene.most}"
    return Problem(
        f"there were {scene.most}",
        "maxReplicas allows more, and what you want for each pod asks for them.",
        f"maxReplicas: {scaling.MOST} at most: an autoscaler without a limit pays any bill.",
    )
