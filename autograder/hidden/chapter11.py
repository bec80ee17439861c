"""The hidden checks of chapter 11. They never enter a learner's kernel, a release or a feedback's source."""

from __future__ import annotations

from podlab.checks.bench import Bench
from podlab.checks.hidden import Hidden
from podlab.course.closed_stall import breaker, budget, once_more, page
from podlab.course.plain import Problem, computed, judged

CHECKS = Hidden()
add = CHECKS.add


@CHECKS("11.1", "question", "What cannot be helped is not repeated", weight=1)
@judged("an exception that says that the question is wrong goes through at once")
def question(scene: str, bench: Bench) -> str | Problem:
    """ValueError is no trouble of the network."""
    (run,) = once_more.runs(scene, bench, [([["knows nothing of it", 0.01]], 1.0)])
    if len(run.tries) > 1 or run.error != "ValueError":
        came = f"raised {run.error}" if run.error else f"returned {run.value}"
        return Problem(
            f"call raised ValueError: it was tried {len(run.tries)} times, and ask {came}",
            "Every exception is taken for a trouble that passes.",
            "Catch TimeoutError and ConnectionError by name.",
        )
    return "a wrong question was asked once"


@CHECKS("11.1", "nothing-left", "No try without time", weight=1, needs=["deadline"])
@judged("when nothing of the seconds is left, there is no second try")
def nothing_left(scene: str, bench: Bench) -> str | Problem:
    """Tries with no patience load a service and cannot succeed."""
    cases: list[tuple[once_more.Behaviour, float]] = [
        ([["hangs", 0]], 1.0),
        ([["hangs", 0]], 0.3),
        ([["refuses", 1.0], ["hangs", 0]], 1.0),
    ]
    for run in once_more.runs(scene, bench, cases):
        if any(patience <= 0 for _, patience in run.tries):
            return Problem(
                run.shown,
                "The second try is made though there is no time for its answer.",
                "Look at the clock before a try: if nothing is left, raise what the first one raised.",
            )
        if run.error not in ("TimeoutError", "ConnectionError"):
            return Problem(
                f"{run.shown}; ask " + (f"raised {run.error}" if run.error else f"returned {run.value}"),
                "With no time left, the trouble of the first try is forgotten.",
                "Raise what the first try raised.",
            )
    return "no try without time"


@CHECKS("11.2", "again", "A trial that fails begins another rest", weight=2, needs=["one-tries"])
@computed("if the call that tries fails, nobody calls for another `rest` seconds, and then one tries again")
def again(scene: str, bench: Bench) -> str | Problem:
    """Three trials that fail, then one that is answered."""
    one = breaker.setting(bench)
    script, at = one.opened()
    looks: list[tuple[str, float]] = []
    for _ in range(3):
        begin = at + one.rest + 0.01
        looks.append(("tries", begin))
        at = begin + 0.05
        script += [["allow", begin], ["failed", at]]
        for share in (0.1, 0.9):
            looks.append(("rests", at + one.rest * share))
            script.append(["allow", at + one.rest * share])
    said = breaker.played(scene, bench, one, script)[one.failures :]
    for (wanted, when), allowed in zip(looks, said, strict=True):
        if allowed != (wanted == "tries"):
            return Problem(
                f"{when - 10:.3g} s after the first failure a call was {'allowed' if allowed else 'refused'}",
                "A trial that fails does not open the breaker for another whole rest, or nobody may try after it.",
                "failed(now) while somebody is trying: what has to be noted?",
            )
    return "three trials failed, each was followed by a rest"


@CHECKS("11.2", "hardly-any", "A dead service is hardly called", weight=1, needs=["opens"])
@computed("of hundreds of calls during an outage hardly any reach the dead service, and soon after it all do")
def hardly_any(scene: str, bench: Bench) -> str | Problem:
    """Five calls a second; the service is dead from second 10 to second 60."""
    one, step, calls = breaker.setting(bench), 0.2, 400
    reached = breaker.served(scene, bench, one, step, (10.0, 60.0), calls)
    during = sum(1 for now in reached if 10 <= now < 60)
    most = one.failures + int(50 / one.rest) + 2
    if during > most:
        return Problem(
            f"{during} of {round(50 / step)} calls reached the dead service; {most} would have been enough to notice "
            "its return",
            "The breaker lets more than one call through after each rest.",
            "Count how often allow says True while nothing answers.",
        )
    after = sum(1 for now in reached if now >= 60 + one.rest + 0.2)
    late = sum(1 for number in range(calls) if number * step >= 60 + one.rest + 0.2)
    if after < late:
        return Problem(
            f"{late - after} of {late} calls were refused long after the service had come back",
            "The breaker does not close for good.",
            "ok(now) makes everything as in the beginning.",
        )
    return f"{during} of {round(50 / step)} calls reached it"


@CHECKS("11.3", "refused", "A refusal is no disaster", weight=2, needs=["complete"])
@judged("a call that raises ConnectionError leaves None under its name, and the rest of the page as it is")
def refused(scene: page.Scene, bench: Bench) -> str | Problem:
    """One stall refuses."""
    name = bench.random.choice(page.STALLS)
    run = scene.page(bench, **(dict.fromkeys(page.STALLS, "answers") | {name: "refuses"}))
    if wrong := page.missing(run, page.expected(bench, name)):
        return Problem(
            wrong,
            "An exception in one call ends the page.",
            "Catch what each call raises where you take its answer.",
        )
    return f"{name} refused; the page came without it"


@CHECKS("11.3", "all-stopped", "Even if all are stopped", weight=1, needs=["in-time"])
@judged("if all processes are stopped, the page comes with None everywhere, in its time")
def all_stopped(scene: page.Scene, bench: Bench) -> str | Problem:
    """Nobody answers; the waiting times must not add up."""
    run = scene.page(bench, **dict.fromkeys(page.STALLS, "stopped"))
    if run["late"]:
        return Problem(
            f"all were stopped; the page did not come within {page.FACTOR} times its seconds",
            "The function waits for somebody without a limit.",
            "One limit for all: the page's own seconds.",
        )
    if wrong := page.missing(run, dict.fromkeys(page.STALLS)):
        return Problem(wrong, "The page has no place for a call that did not answer.", "Put None in its place.")
    return "an empty page, in time"


@CHECKS("11.4", "full", "A long quiet saves up no storm", weight=2, needs=["quiet"])
@computed("however long nothing failed, the budget never holds more than `most` tries")
def full(scene: str, bench: Bench) -> str | Problem:
    """Many calls without a failure, then a hundred failures at once; and again."""
    one = budget.setting(bench)
    month: budget.Script = [("call", 200 * one.every), ("take", 100)]
    for given in budget.spent(scene, bench, one, month * 2):
        if given != one.most:
            return Problem(
                f"{one}: after {200 * one.every} calls without a failure, {given} of 100 failures were tried again",
                "What is saved has no limit." if given > one.most else "What was used up is not earned again.",
                "After each call(): never more than `most`.",
            )
    return f"{one.most} of 100 failures were tried again"
