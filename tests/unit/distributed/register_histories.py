"""Histories of a register with a known verdict, of any length; for tests and a benchmark."""

from __future__ import annotations

import random
from dataclasses import replace

from podlab.distributed.histories import Operation


def register_history(
    chance: random.Random, count: int, *, processes: int = 10, keys: int = 1, unanswered: float = 0.0
) -> list[Operation]:
    """A linearizable history of `count` operations: each takes effect on a real register at a moment within it."""
    drawn = []
    free = [0.0] * processes
    for number in range(count):
        process = min(range(processes), key=free.__getitem__)
        begin = free[process] + chance.expovariate(2.0)
        length = chance.expovariate(1.0)
        free[process] = begin + length
        drawn.append((begin + chance.random() * length, number, f"p{process}", begin, begin + length))
    registers: dict[str, object] = {}
    history = []
    for _, number, process, begin, end in sorted(drawn):
        key = f"k{chance.randrange(keys)}"
        name = chance.choice(("read", "read", "write", "cas"))
        silent = chance.random() < unanswered
        effect = not silent or chance.random() < 0.5
        value = registers.get(key)
        argument, result = None, None
        if name == "read":
            result = value
        elif name == "write":
            argument = number
            if effect:
                registers[key] = number
        else:
            argument = (value if chance.random() < 0.7 else number - 1, number)
            result = argument[0] == value
            if effect and result:
                registers[key] = number
        if silent:
            history.append(Operation(process, name, key, argument, None, begin, None))
        else:
            history.append(Operation(process, name, key, argument, result, begin, end))
    return history


def broken(chance: random.Random, history: list[Operation]) -> tuple[list[Operation], Operation]:
    """The history with a read late in it that returns a value overwritten long before; and that read."""
    reads = sorted((one for one in history if one.name == "read" and one.end is not None), key=lambda one: one.begin)
    for read in reads[len(reads) * 3 // 4 :]:
        before = [one for one in history if one.key == read.key and one.end is not None and one.end < read.begin]
        written = sorted((one for one in before if one.name == "write"), key=lambda one: one.end or 0.0)
        if len(written) > 6:
            lie = replace(read, result=chance.choice(written[: len(written) // 2]).argument)
            return [lie if one is read else one for one in history], lie
    raise ValueError("the history is too short to be spoiled")
