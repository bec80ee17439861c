"""The exercises that the hostile corpus attacks: one of each kind that needs no cluster."""

from __future__ import annotations

from functools import partial
from typing import Any

from podlab.checks.bench import Bench
from podlab.checks.contract import Answer, Exercise, HandIn, Refused, Result, failed, passed
from podlab.checks.talks import TalkEnded

#: What was answered is wrong, however busy the machine is.
wrong = partial(failed, certain=True)


def given(name: str) -> Any:
    """A stage that hands the answer bound to `name` to the checks."""

    def stage(answer: Answer, _bench: Bench) -> Any:
        return answer[name]

    return stage


SPREAD = Exercise("90.1", "Spread", 10, (HandIn("spread", "function"),), given("spread"), cluster=False)


def sizes(source: str, bench: Bench, pairs: list[tuple[int, int]]) -> list[list[int]]:
    """What the learner's function makes of each pair; Refused with words when it does not return."""
    found = bench.call_each(source, "spread", pairs)
    for called, pair in zip(found, pairs, strict=True):
        if not called.ok:
            raise Refused(called.trouble("a list of sizes", f"spread({pair[0]}, {pair[1]})"))
    return [called.value for called in found]


def whole(value: Any) -> bool:
    """Whether it is a list of whole numbers and of nothing that only looks like them."""
    return type(value) is list and all(type(item) is int and item >= 0 for item in value)


def judged(source: str, bench: Bench, pairs: list[tuple[int, int]], right: Any, words: str) -> Result:
    """One check: `right(sizes, count, groups)` for every pair."""
    try:
        found = sizes(source, bench, pairs)
    except Refused as refused:
        return refused.result
    for value, (count, groups) in zip(found, pairs, strict=True):
        if not whole(value) or not right(value, count, groups):
            shown = f"spread({count}, {groups}) returned {str(value)[:200]}"
            return wrong(words, shown, cause="The remainder is lost or doubled.", next_step="Try spread(7, 3).")
    return passed(words, f"right {len(pairs)} times")


def pairs(bench: Bench, most: int) -> list[tuple[int, int]]:
    """Questions that nobody has seen before."""
    return [(bench.random.randint(1, most), bench.random.randint(1, 20)) for _ in range(8)]


@SPREAD.check("sum", "Nothing is lost", weight=2)
def _sum(source: str, bench: Bench) -> Result:
    return judged(
        source, bench, pairs(bench, 100), lambda v, n, k: sum(v) == n and len(v) == k, "sizes that add up, one a group"
    )


@SPREAD.check("even", "The groups are even", weight=2, needs=("sum",))
def _even(source: str, bench: Bench) -> Result:
    return judged(source, bench, pairs(bench, 100), lambda v, n, k: max(v) - min(v) <= 1, "sizes that differ by one")


COUNTER = Exercise("90.2", "Counter", 10, (HandIn("Counter", "program"),), given("Counter"), cluster=False)


def conversation(source: str, bench: Bench, steps: list[tuple[str, int]]) -> Result:
    """One check: each key counts once, however often it comes."""
    seen: dict[str, int] = {}
    try:
        with bench.talk(source) as talk:
            if not (made := talk.make("Counter")).ok:
                return made.trouble("an object", "Counter()")
            for key, amount in steps:
                seen.setdefault(key, amount)
                said = talk.ask("it.add", key, amount)
                if type(said) is not int or said != sum(seen.values()):
                    return wrong(
                        f"{sum(seen.values())} after add({key!r}, {amount})",
                        f"it said {str(said)[:100]}",
                        cause="A message that came twice was counted twice, or one was lost.",
                        next_step="Which keys has it seen?",
                    )
    except TalkEnded as ended:
        return ended.called.trouble("a total", ended.shown)
    return passed("each key counted once", f"right after {len(steps)} messages")


def messages(bench: Bench, count: int, again: bool) -> list[tuple[str, int]]:
    """Messages with random keys; with `again` about half of them come twice."""
    steps: list[tuple[str, int]] = []
    for _ in range(count):
        steps.append((f"{bench.random.randrange(10**9):x}", bench.random.randint(1, 1000)))
        if again and bench.random.random() < 0.5:
            steps.append(bench.random.choice(steps))
    return steps


@COUNTER.check("twice", "What comes twice counts once", weight=1)
def _twice(source: str, bench: Bench) -> Result:
    return conversation(source, bench, [("first", 1), ("first", 1), *messages(bench, 20, True)])


CHOICE = Exercise("90.3", "Choice", 10, (HandIn("choice_90_3", "choice"),), given("choice_90_3"), cluster=False)


@CHOICE.check("letter", "The letter", weight=1)
def _letter(answer: Any, _bench: Bench) -> Result:
    if type(answer) is str and answer == "b":
        return passed("a letter", "the right one")
    return wrong("the right letter", f"{str(answer)[:50]!r}", cause="Another one is right.", next_step="Read again.")


VALUE = Exercise("90.4", "Value", 10, (HandIn("value_90_4", "prediction"),), given("value_90_4"), cluster=False)


@VALUE.check("near", "Near enough", weight=1)
def _near(answer: Any, _bench: Bench) -> Result:
    # Nan would pass here, and 400 digits break it: neither may come as far.
    if abs(answer - 42.0) > 2:
        return wrong("about 42", f"{str(answer)[:50]}", cause="It was not measured.", next_step="Measure again.")
    return passed("about 42", f"{answer}")


EXERCISES = [SPREAD, COUNTER, CHOICE, VALUE]
