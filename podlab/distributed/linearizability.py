"""Whether a history of reads, writes and compare-and-swaps is linearizable, and if not, the smallest reason why.

Linearizable: there is one order of all operations in which each takes effect at a moment between its call and its
answer, and every answer is what a single register would have given (Herlihy and Wing, 1990). The search is that of
Wing and Gong (1993) with Lowe's memory of states already seen (2017); each key is a history of its own.
An operation without an answer may take effect at any time after its call, or never.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from podlab.distributed.histories import Operation
from podlab.errors import UsageError

#: States that a search may look at before it gives up. Ten thousand operations of ten clients need some 50,000.
BUDGET = 5_000_000

#: States per attempt while the reason is made smaller.
_SMALL_BUDGET = 6_000

_NEVER = float("inf")


@dataclass(frozen=True)
class Linearizability:
    """`holds` is None if the search gave up. `order`: one that explains each key. `reason`: the smallest that fails.

    In `reason` an operation without an answer may be one whose answer does not matter. `culprit` is the first
    operation, by its answer, at which the history of `key` could no longer be explained.
    """

    holds: bool | None
    states: int
    order: dict[str, list[Operation]]
    key: str | None = None
    culprit: Operation | None = None
    reason: Sequence[Operation] = ()

    def __bool__(self) -> bool:
        return self.holds is True

    def __str__(self) -> str:
        if self.holds:
            return f"linearizable: {sum(map(len, self.order.values()))} operations have an order that explains them"
        if self.holds is None:
            return f"undecided after {self.states} states: too many operations overlap or have no answer"
        lines = "\n".join(f"  {one}" for one in self.reason)
        return (
            f"not linearizable at key {self.key!r}: no order of these {len(self.reason)} operations "
            f"explains all answers\n{lines}\nfirst noticed at\n  {self.culprit}"
        )


def check_linearizable(
    operations: Iterable[Operation], initial: Any = None, *, budget: int = BUDGET
) -> Linearizability:
    """Judge a history of registers that start with the value `initial`. Raises UsageError for other operations."""
    by_key: dict[str, list[Operation]] = {}
    for one in operations:
        _understood(one)
        by_key.setdefault(one.key, []).append(one)
    order: dict[str, list[Operation]] = {}
    states = 0
    for key, history in by_key.items():
        found = _Search(history, initial, budget)
        states += found.states
        if found.holds is None:
            return Linearizability(None, states, order, key)
        if not found.holds:
            culprit, reason = _explained(history, initial, budget)
            return Linearizability(False, states, order, key, culprit, reason)
        order[key] = found.order
    return Linearizability(True, states, order)


def _understood(one: Operation) -> None:
    known = one.name in ("read", "write") or (
        one.name == "cas" and isinstance(one.argument, (tuple, list)) and len(one.argument) == 2
    )
    if not known:
        raise UsageError(f"No register knows this operation: {one}.", hint="read, write, or cas with (expected, new).")
    if one.end is not None and one.end < one.begin:
        raise UsageError(f"This operation ended before it began: {one}.")


def _same(value: Any) -> Any:
    """Something hashable that is equal exactly for equal JSON values (so True is not 1)."""
    if type(value) in (str, int, type(None)):
        return value
    kind = "list" if isinstance(value, tuple) else type(value).__name__  # JSON knows no tuples
    return (kind, json.dumps(value, sort_keys=True, default=repr))


class _Search:
    """One depth-first search over one key. `holds` is None after `budget` states.

    A state is the set of operations that have taken effect, and the register's value. Answered operations are
    numbered by their begin: all below `low` have taken effect, and `mask` tells for those from `low` on (bit 0 is
    `low` itself, never set). Operations without an answer are few kinds; for each kind the earliest goes first,
    so it is enough to count how many of it have taken effect.
    """

    def __init__(self, history: Sequence[Operation], initial: Any, budget: int) -> None:
        answered = sorted((one for one in history if one.end is not None), key=lambda one: one.begin)
        self._answered = [(one.begin, one.end or one.begin, *self._meaning(one)) for one in answered]
        self._operations = answered
        self._kinds = self._unanswered(history)
        self._budget = budget
        self.states = 0
        self.order: list[Operation] = []
        self.holds = self._search(_same(initial))

    @staticmethod
    def _meaning(one: Operation) -> tuple[str, Any, Any]:
        """(what, needed, new): a write needs nothing, a failed cas needs another value than the expected one."""
        if one.name == "read":
            return ("read", _same(one.result), None)
        if one.name == "write":
            return ("write", None, _same(one.argument))
        expected, new = one.argument
        if one.end is not None and not one.result:
            return ("other", _same(expected), None)
        return ("cas", _same(expected), _same(new))

    def _unanswered(self, history: Sequence[Operation]) -> list[tuple[tuple[str, Any, Any], list[Operation]]]:
        """Operations without an answer by kind; those that can explain nothing are left out.

        A read has no effect. A value that nobody needs to find can be of use only to a cas that failed.
        """
        kinds: dict[tuple[str, Any, Any], list[Operation]] = {}
        for one in history:
            if one.end is None and one.name != "read":
                kinds.setdefault(self._meaning(one), []).append(one)
        if not any(what == "other" for _, _, what, _, _ in self._answered):
            while True:
                needed = {needs for _, _, what, needs, _ in self._answered if what != "write"}
                needed |= {needs for what, needs, _ in kinds if what == "cas"}
                useless = [kind for kind in kinds if kind[2] not in needed]
                if not useless:
                    break
                for kind in useless:
                    del kinds[kind]
        return [(kind, sorted(some, key=lambda one: one.begin)) for kind, some in kinds.items()]

    def _search(self, value: Any) -> bool | None:
        every = len(self._answered)
        start = (0, 0, (0,) * len(self._kinds), value)
        seen = {start}
        path: list[Operation] = []
        stack = [self._steps(start)]
        if not every:
            return True
        while stack:
            step = next(stack[-1], None)
            if step is None:
                stack.pop()
                if path:
                    path.pop()
                continue
            operation, state = step
            if state in seen:
                continue
            seen.add(state)
            self.states = len(seen)
            if self.states > self._budget:
                return None
            path.append(operation)
            if state[0] == every:
                self.order = path
                return True
            stack.append(self._steps(state))
        return False

    def _steps(self, state: tuple[int, int, tuple[int, ...], Any]) -> Any:
        """The operations that may take effect next, each with the state after it."""
        low, mask, used, value = state
        answered, every = self._answered, len(self._answered)
        first_end, number, bits = _NEVER, low, mask
        open_ones = []
        while number < every and answered[number][0] <= first_end:
            if not bits & 1:
                open_ones.append(number)
                first_end = min(first_end, answered[number][1])
            bits >>= 1
            number += 1
        for number in open_ones:
            begin, _, what, needed, new = answered[number]
            if begin > first_end:
                continue
            if what == "read":
                if value != needed:
                    continue
                after = value
            elif what == "other":
                if value == needed:
                    continue
                after = value
            elif what == "cas" and value != needed:
                continue
            else:
                after = new
            moved, rest = low, mask | (1 << (number - low))
            while rest & 1:
                rest >>= 1
                moved += 1
            yield self._operations[number], (moved, rest, used, after)
        for kind, ((what, needed, new), some) in enumerate(self._kinds):
            count = used[kind]
            if count < len(some) and some[count].begin <= first_end and new != value:
                if what == "cas" and value != needed:
                    continue
                yield some[count], (low, mask, (*used[:kind], count + 1, *used[kind + 1 :]), new)


def _explained(history: list[Operation], initial: Any, budget: int) -> tuple[Operation, list[Operation]]:
    """The first operation at which `history` cannot be explained, and a smallest part of it that cannot be.

    Every prefix of a linearizable history is linearizable, so the first bad prefix is found by halving.
    """
    answered = sorted((one for one in history if one.end is not None), key=lambda one: (one.end, one.begin))
    good, bad = 0, len(answered)
    while bad - good > 1:
        middle = (good + bad) // 2
        if _Search(_prefix(history, answered[middle - 1]), initial, budget).holds is False:
            bad = middle
        else:
            good = middle
    culprit = answered[bad - 1]
    reason = _smaller(_near(_prefix(history, culprit), initial, culprit), initial, culprit)
    return culprit, sorted(reason, key=lambda one: one.begin)


def _prefix(history: Sequence[Operation], last: Operation) -> list[Operation]:
    """The history up to the answer of `last`: what began later is gone, later answers are not known yet."""
    assert last.end is not None
    return [
        one if one.end is not None and one.end <= last.end else replace(one, result=None, end=None)
        for one in history
        if one.begin <= last.end
    ]


def _near(history: list[Operation], initial: Any, culprit: Operation) -> list[Operation]:
    """A part that cannot be explained either: the last answers, and whatever deals with the culprit's value.

    Tried with one, two, four, ... last answers. A reason is seldom farther away, and small parts are searched fast.
    """
    needed = _Search._meaning(culprit)[1]
    answered = sorted((one for one in history if one.end is not None), key=lambda one: one.end or 0.0)
    same = {id(one) for one in history if needed in _Search._meaning(one)[1:]} | {id(culprit)}
    last = 1
    while last < len(answered):
        kept = same | {id(one) for one in answered[-last - 1 :]}
        parts = [[one] if id(one) in kept else _without_answers([one]) for one in history]
        part = _useful([one for some in parts for one in some])
        if _Search(part, initial, _SMALL_BUDGET).holds is False:
            return part
        last *= 2
    return history


def _smaller(history: list[Operation], initial: Any, culprit: Operation) -> list[Operation]:
    """`history` with as much forgotten as it can while no order explains it: halves, quarters, ..., single ones.

    To forget asks less of an order, never more. First, operations without effect (read, failed cas) are left out:
    what is left then binds few values, and the searches stay short. Second, the answers of those with effect are
    taken away, and whatever can explain nothing any more goes with them.
    """
    for forget in (_without_readers, _without_answers):
        size = max(1, len(history) // 2)
        while size:
            begin = 0
            while begin < len(history):
                kept = [one for one in history[begin : begin + size] if one is culprit]
                rest = [one for one in history[begin : begin + size] if one is not culprit]
                shorter = _useful(history[:begin] + forget(rest) + kept + history[begin + size :])
                changed = [id(one) for one in shorter] != [id(one) for one in history]
                if changed and _Search(shorter, initial, _SMALL_BUDGET).holds is False:
                    ahead = {id(one) for one in history[begin + size :]}
                    history = shorter
                    begin = next((n for n, one in enumerate(history) if id(one) in ahead), len(history))
                else:
                    begin += size
            size //= 2
    return history


def _without_readers(chunk: Sequence[Operation]) -> list[Operation]:
    return [one for one in chunk if one.name == "write" or (one.name == "cas" and (one.end is None or one.result))]


def _without_answers(chunk: Sequence[Operation]) -> list[Operation]:
    return [one if one.end is None else replace(one, result=None, end=None) for one in _without_readers(chunk)]


def _useful(history: list[Operation]) -> list[Operation]:
    """Without the unanswered operations that can explain nothing."""
    search = _Search(history, None, 0)
    useful = {id(one) for _, some in search._kinds for one in some}
    return [one for one in history if one.end is not None or id(one) in useful]
