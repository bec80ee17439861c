"""The checker of linearizability: known verdicts, a brute-force oracle, and reasons that are small and true."""

from __future__ import annotations

import random
from itertools import chain, combinations, permutations
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from register_histories import broken, register_history

from podlab.distributed.histories import Operation
from podlab.distributed.linearizability import check_linearizable
from podlab.errors import UsageError


def op(name: str, begin: float, end: float | None, argument: Any = None, result: Any = None, key: str = "x"):
    return Operation(f"p{begin:g}", name, key, argument, result, begin, end)


KNOWN = {
    "nothing": ([], True),
    "read of the initial value": ([op("read", 0, 1)], True),
    "a value from nowhere": ([op("read", 0, 1, result=7)], False),
    "read after write": ([op("write", 0, 1, 1), op("read", 2, 3, result=1)], True),
    "stale read": ([op("write", 0, 1, 1), op("read", 2, 3)], False),
    "overlap allows the old value": ([op("write", 0, 3, 1), op("read", 1, 2)], True),
    "overlap allows the new value": ([op("write", 0, 3, 1), op("read", 1, 2, result=1)], True),
    "new, then old again": (
        [op("write", 0, 9, 1), op("read", 1, 2, result=1), op("read", 3, 4)],
        False,
    ),
    "two readers disagree on the order of two writes": (
        [
            op("write", 0, 10, 1),
            op("write", 0.5, 10, 2),
            op("read", 1, 2, result=1),
            op("read", 3, 4, result=2),
            op("read", 5, 6, result=1),
        ],
        False,
    ),
    "touching ends overlap": ([op("write", 0, 1, 1), op("read", 1, 2)], True),
    "a write without an answer took effect late": (
        [op("write", 0, None, 1), op("read", 1, 2), op("read", 3, 4, result=1)],
        True,
    ),
    "a write without an answer never took effect": ([op("write", 0, None, 1), op("read", 5, 6)], True),
    "a write cannot take effect before its call": ([op("read", 0, 1, result=1), op("write", 2, None, 1)], False),
    "a write without an answer takes effect once": (
        [
            op("write", 0, None, 1),
            op("read", 1, 2, result=1),
            op("write", 3, 4, 2),
            op("read", 5, 6, result=1),
        ],
        False,
    ),
    "cas": ([op("write", 0, 1, 1), op("cas", 2, 3, (1, 2), True), op("read", 4, 5, result=2)], True),
    "cas that should have failed": ([op("write", 0, 1, 1), op("cas", 2, 3, (5, 2), True)], False),
    "cas that should have been done": ([op("write", 0, 1, 1), op("cas", 2, 3, (1, 2), False)], False),
    "two cas from one value": ([op("cas", 0, 3, (None, 1), True), op("cas", 1, 4, (None, 2), True)], False),
    "an unanswered write explains a failed cas": (
        [op("write", 0, None, 9), op("cas", 1, 2, (None, 1), False)],
        True,
    ),
    "an unanswered cas": ([op("cas", 0, None, (None, 3)), op("read", 5, 6, result=3)], True),
    "keys are apart": (
        [op("write", 0, 1, 1, key="x"), op("read", 2, 3, key="y"), op("read", 4, 5, result=1, key="x")],
        True,
    ),
    "a tuple is read as a list": ([op("write", 0, 1, (1, 2)), op("read", 2, 3, result=[1, 2])], True),
    "true is not 1": ([op("write", 0, 1, True), op("read", 2, 3, result=1)], False),
}


@pytest.mark.parametrize("name", KNOWN)
def test_known_histories(name: str) -> None:
    history, expected = KNOWN[name]
    assert check_linearizable(history).holds is expected


def explains(order: tuple[Operation, ...], initial: Any = None) -> bool:
    """Whether `order` is legal: answers as of one register, and real time respected."""
    value = initial
    for place, one in enumerate(order):
        if any(later.end is not None and later.end < one.begin for later in order[place + 1 :]):
            return False
        if one.name == "read":
            if one.end is not None and one.result != value:
                return False
        elif one.name == "write":
            value = one.argument
        else:
            done = value == one.argument[0]
            if one.end is not None and bool(one.result) != done:
                return False
            value = one.argument[1] if done else value
    return True


def oracle(history: list[Operation]) -> bool:
    """All orders of all choices of unanswered operations."""
    sure = [one for one in history if one.end is not None]
    perhaps = [one for one in history if one.end is None]
    chosen = chain.from_iterable(combinations(perhaps, count) for count in range(len(perhaps) + 1))
    return any(explains(order) for some in chosen for order in permutations([*sure, *some]))


values = st.sampled_from([None, 1, 2])
times = st.tuples(st.integers(0, 8), st.one_of(st.none(), st.integers(0, 5), st.integers(0, 5), st.integers(0, 5)))


@st.composite
def operations(draw: Any) -> Operation:
    begin, length = draw(times)
    end = None if length is None else begin + length
    name = draw(st.sampled_from(["read", "write", "cas"]))
    if name == "read":
        return op("read", begin, end, None, draw(values) if end is not None else None)
    if name == "write":
        return op("write", begin, end, draw(values))
    return op("cas", begin, end, (draw(values), draw(values)), draw(st.booleans()) if end is not None else None)


@settings(max_examples=400)
@given(st.lists(operations(), max_size=5))
def test_agrees_with_brute_force(history: list[Operation]) -> None:
    found = check_linearizable(history)
    assert found.holds is oracle(history)
    if found.holds:
        order = tuple(found.order.get("x", ()))
        assert explains(order)
        assert {id(one) for one in history if one.end is not None} <= {id(one) for one in order}
    else:
        assert not oracle(list(found.reason))
        assert any(found.culprit.begin == one.begin for one in found.reason)


@pytest.mark.parametrize("seed", range(5))
def test_real_registers_are_linearizable_and_a_lie_is_found(seed: int) -> None:
    history = register_history(random.Random(seed), 400, processes=6, keys=2, unanswered=0.05)
    assert check_linearizable(history).holds is True
    spoiled, lie = broken(random.Random(seed), history)
    found = check_linearizable(spoiled)
    assert found.holds is False
    assert found.key == lie.key
    assert found.culprit == lie
    assert len(found.reason) <= 8


def test_the_reason_of_a_stale_read_is_small() -> None:
    writes = [op("write", 10 * n, 10 * n + 1, n) for n in range(1, 41)]
    reads = [op("read", 10 * n + 2, 10 * n + 3, result=n) for n in range(1, 41)]
    stale = op("read", 406, 407, result=17)
    found = check_linearizable([*writes, *reads, stale])
    assert found.culprit == stale
    assert stale in found.reason
    assert {one.argument for one in found.reason if one.name == "write"} >= {17}
    assert len(found.reason) <= 4
    assert "not linearizable at key 'x'" in str(found)


def test_gives_up_without_a_verdict() -> None:
    history = [op("write", n / 100, 50, n) for n in range(14)] + [op("read", 60, 61, result="none of them")]
    found = check_linearizable(history, budget=1000)
    assert found.holds is None and not found
    assert "undecided" in str(found)


@pytest.mark.parametrize("one", [op("pop", 0, 1), op("cas", 0, 1, 3), op("read", 2, 1)])
def test_refuses_what_no_register_knows(one: Operation) -> None:
    with pytest.raises(UsageError):
        check_linearizable([one])
