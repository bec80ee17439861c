"""What the exercises without a cluster share: a check is one sentence that is expected, and a function that looks.

The function returns what it observed (a text: passed) or a Problem; trouble of the learner's code becomes a Problem
of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import wraps
from typing import Any

from podlab.checks.calls import Called
from podlab.checks.code import Code
from podlab.checks.contract import CheckFunction, Json, Result, failed, passed
from podlab.checks.talks import Talk, TalkEnded


@dataclass(frozen=True)
class Problem:
    """Why a check fails: what was observed, its likely cause, what to try next; evidence for pictures."""

    observed: str
    cause: str
    next_step: str
    evidence: Mapping[str, Json] = field(default_factory=dict)


class _Trouble(Exception):
    def __init__(self, called: Called, shown: str) -> None:
        super().__init__(shown)
        self.called, self.shown = called, shown


def judged(expected: str, *, certain: bool = False) -> Callable[[Callable[[Any, Any], str | Problem]], CheckFunction]:
    """Decorator that makes a check of a function that returns what it observed, or a Problem.

    `certain`: see `computed`.
    """

    def wrap(function: Callable[[Any, Any], str | Problem]) -> CheckFunction:
        @wraps(function)
        def check(scene: Any, bench: Any) -> Result:
            try:
                found = function(scene, bench)
            except (TalkEnded, _Trouble) as trouble:
                if trouble.called.kind == "raised" and "NotImplementedError" in trouble.called.error:
                    return failed(
                        expected,
                        f"{trouble.shown} is not written yet",
                        cause="The cell still says that it is not implemented.",
                        next_step="Write the function in place of the line that raises NotImplementedError.",
                        certain=True,
                    )
                result = trouble.called.trouble(expected, trouble.shown)
                return replace(result, certain=certain and trouble.called.kind in ("raised", "unfit", "unusable"))
            if isinstance(found, Problem):
                return failed(
                    expected,
                    found.observed,
                    cause=found.cause,
                    next_step=found.next_step,
                    certain=certain,
                    **found.evidence,
                )
            return passed(expected, found)

        return check

    return wrap


def computed(expected: str) -> Callable[[Callable[[Any, Any], str | Problem]], CheckFunction]:
    """`judged` where only values decide that the learner's code computes: no machine makes others of them.

    A Problem is believed at once, and so is an error that the code raises; a call that did not come back is not.
    """
    return judged(expected, certain=True)


def called(bench: Code, source: str, name: str, calls: Sequence[Sequence[Json]], seconds: float = 10) -> list[Called]:
    """The calls of one function, all of which returned plain values; anything else ends the check with its story."""
    found = bench.call_each(source, name, calls, seconds=seconds)
    for arguments, one in zip(calls, found, strict=True):
        if not one.ok:
            raise _Trouble(one, shown(name, arguments))
    return found


def values(bench: Code, source: str, name: str, calls: Sequence[Sequence[Json]], seconds: float = 10) -> list[Json]:
    """What the calls of one function returned."""
    return [one.value for one in called(bench, source, name, calls, seconds)]


@contextmanager
def made(bench: Code, source: str, name: str, *arguments: Json, seconds: float = 10) -> Iterator[Talk]:
    """A conversation with an object of the learner's class, asked for "it.method": it learns nothing before its time.

    `seconds`: the most for one answer. What else than an answer comes ends the check with its story.
    """
    with bench.talk(source, seconds=seconds) as talk:
        called = talk.make(name, *arguments)
        if not called.ok:
            raise TalkEnded(called, shown(name, arguments))
        yield talk


def shown(name: str, arguments: Sequence[Json]) -> str:
    """A call as the learner would write it, cut where it is long."""
    if name.startswith("_"):
        return "your code"  # the call is that of a driver of ours
    return f"{name}({', '.join(short(each) for each in arguments)})"


def short(value: Any, most: int = 120) -> str:
    """A value as Python writes it, cut in its middle where it is long."""
    text = repr(value)
    return text if len(text) <= most else f"{text[: most - 30]} … {text[-25:]}"
