"""The hidden checks of the corpus. HIDDEN-WORD-7f3a must never be seen by a learner."""

from __future__ import annotations

from podlab.checks import registry
from podlab.checks.bench import Bench
from podlab.checks.contract import Result
from podlab.checks.hidden import Hidden

CHECKS = Hidden()
add = CHECKS.add
_visible = registry.module("90")


@CHECKS("90.1", "large", "Large numbers too", weight=2, needs=["sum"])
def _large(source: str, bench: Bench) -> Result:
    return _visible.judged(
        source, bench, _visible.pairs(bench, 10**12), lambda v, n, k: sum(v) == n, "sizes that add up"
    )


@CHECKS("90.1", "order", "The larger groups come first", weight=2, needs=["sum"])
def _order(source: str, bench: Bench) -> Result:
    return _visible.judged(
        source, bench, _visible.pairs(bench, 100), lambda v, n, k: v == sorted(v, reverse=True), "larger ones first"
    )


@CHECKS("90.2", "many", "Many messages", weight=1, needs=["twice"])
def _many(source: str, bench: Bench) -> Result:
    return _visible.conversation(source, bench, _visible.messages(bench, 200, True))
