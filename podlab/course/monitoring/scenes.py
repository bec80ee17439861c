"""What the exercises on queries share: a history in a Prometheus, and a look at what an expression says of it."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from podlab.addons.prometheus import QueryError, Series, shown
from podlab.checks.bench import Bench
from podlab.checks.contract import Answer
from podlab.course.monitoring.engine import Engine
from podlab.course.monitoring.history import History, Traffic, grow, live, scraped
from podlab.course.plain import Problem, short

LESSON = "notebooks/21-monitoring.ipynb"
#: Seconds that the questions look back.
WINDOW = 300.0
#: How far off a result may be, as a share of the truth: a scrape every five seconds does not see everything.
TOLERANCE = 0.03


@dataclass
class Scene:
    """A history, the Prometheus that holds it, and the moment at which it is asked."""

    answer: Answer
    engine: Engine
    history: History
    now: float
    #: A moment of an earlier time that was different: one pod, fewer requests, no error at all.
    quiet: float

    def since(self, moment: float) -> tuple[float, float]:
        """The window before a moment."""
        return moment - WINDOW, moment


def stage(answer: Answer, bench: Bench) -> Scene:
    """Twenty minutes of a busy shop beside another app, with restarts; an hour before, ten quiet minutes."""
    chance = random.Random(bench.seed)
    history = History()
    end = time.time() - 10
    quiet = end - 3000
    grow(history, Traffic(quiet - 600, quiet, chance.uniform(2, 3), pods=("shop-x",)), chance)
    live(history, "shop", ("shop-x",), quiet - 600, quiet + 1, ())
    busy = Traffic(end - 1200, end, chance.uniform(10, 14), errors=chance.uniform(0.07, 0.1))
    grow(history, busy, chance)
    live(history, "shop", busy.pods, busy.begin, end + 1, (end - chance.uniform(100, 200), end - 30))
    other = Traffic(end - 1200, end, 6, errors=0.3, app="basket", pods=("basket-a",))
    grow(history, other, chance)
    live(history, "basket", other.pods, other.begin, end + 1, ())
    engine = Engine()
    try:
        engine.write(scraped(history))
    except BaseException:
        engine.close()
        raise
    return Scene(answer, engine, history, end, quiet)


def closing(scene: Scene, _bench: Bench) -> None:
    """End the Prometheus."""
    scene.engine.close()


def asked(scene: Scene, name: str, at: float) -> list[Series] | Problem:
    """What the learner's expression gives at a moment; a Problem where it gives nothing, or is none."""
    text = scene.answer.get(name)
    if not isinstance(text, str) or not text.strip():
        return Problem(f"{name} is {short(text)}", "There is no expression yet.", f"Write PromQL into {name}, as text.")
    try:
        found = scene.engine.ask.query(text, at)
    except QueryError as error:
        return Problem(error.message, "Prometheus cannot read the expression.", "Look at the place that is marked.")
    if not found:
        return Problem(
            f"{name} has no result",
            "No series has this name and these labels, or two sides of an operator have no labels in common.",
            "Ask for a part of the expression by itself, the innermost first.",
        )
    return found


def one(scene: Scene, name: str, at: float) -> float | Problem:
    """The one number of an expression."""
    found = asked(scene, name, at)
    if isinstance(found, Problem):
        return found
    if len(found) > 1:
        return Problem(
            f"{name} has {len(found)} results: {shown(found[0].labels)}, {shown(found[1].labels)}, ...",
            "There is a series for each set of labels, such as each pod and path.",
            "Put them together: sum(...), around the rate and not inside of it.",
        )
    return found[0].value


def compared(
    name: str, value: float, truth: float, slips: Mapping[str, tuple[float, str]], tolerance: float = TOLERANCE
) -> str | Problem:
    """What was observed if `value` is near the truth; else the slip (cause -> wrong value, next step) that fits."""
    if near(value, truth, tolerance):
        return f"{name} is {value:.4g}; the shop's own count gives {truth:.4g}"
    for cause, (wrong, step) in slips.items():
        if near(value, wrong, tolerance):
            return Problem(f"{name} is {value:.4g}, the shop's own count gives {truth:.4g}", cause, step)
    return Problem(
        f"{name} is {value:.4g}, the shop's own count gives {truth:.4g}",
        "The expression asks something else.",
        "Say in words what each part of it gives, from the inside to the outside.",
    )


def near(value: float, truth: float, tolerance: float = TOLERANCE) -> bool:
    """Whether a value is within the tolerance of the truth."""
    return abs(value - truth) <= tolerance * abs(truth) + 1e-9


def by_label(
    found: Sequence[Series],
    label: str,
    truth: Mapping[str, float],
    explain: Callable[[], Mapping[str, str]],
    tolerance: float = TOLERANCE,
) -> str | Problem:
    """What was observed if there is one right value for each value of a label, and no other label."""
    labels = {tuple(sorted(series.labels)) for series in found}
    if labels != {(label,)}:
        kept = " and ".join(", ".join(each) or "no label" for each in sorted(labels))
        return Problem(
            f"the results have the labels {kept}",
            f"What is asked for is one result for each {label}, so this is the only label that is to be left.",
            f"sum by ({label}) (...) keeps one label and adds up the rest.",
        )
    values = {series.labels[label]: series.value for series in found}
    if missing := set(truth) - set(values):
        return Problem(
            f"there is no result for {', '.join(sorted(missing))}", "Something is filtered away.", "Look at the braces."
        )
    wrong = {key: values[key] for key in truth if not near(values[key], truth[key], tolerance)}
    if wrong or set(values) - set(truth):
        key = next(iter(wrong or set(values) - set(truth)))
        said = explain()
        return Problem(
            f"{label} {key}: {values[key]:.4g}, the shop's own count gives {truth.get(key, 0):.4g}",
            said["cause"],
            said["next"],
        )
    return "; ".join(f"{key}: {values[key]:.4g}, counted {truth[key]:.4g}" for key in sorted(truth))
