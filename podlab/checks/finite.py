"""JSON as learners' code may have written it: what is read here holds only numbers that can be compared.

Of nan neither "larger" nor "smaller" is true, so that it would pass for any number; and a whole number of 400 digits
cannot be compared with a fraction at all.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from numbers import Number
from typing import Any


def read(text: str | bytes | bytearray) -> Any:
    """The value of a JSON text; ValueError if it is none, or if a number in it is not finite."""
    return json.loads(text, **_STRICT)


def objects(line: str) -> list[dict[str, Any]]:
    """The JSON objects with which a line begins, one behind the other; what comes after them is left out.

    `print` writes a text and the end of its line one after the other: two threads that print at once may share a line.
    """
    found, rest = [], line.strip()
    while rest:
        try:
            value, end = _DECODER.raw_decode(rest)
        except (ValueError, RecursionError):
            break
        if isinstance(value, dict):
            found.append(value)
        rest = rest[end:].lstrip()
    return found


def plain(value: Any) -> Any:
    """A number of numpy's, a Decimal or a Fraction as one of Python's own, which JSON can hold; all else as it is."""
    if type(value).__module__ == "numpy" and getattr(value, "size", 0) == 1:
        value = value.item()
    if isinstance(value, Number) and not isinstance(value, int | float | complex):
        try:
            return float(value)  # type: ignore[arg-type]
        except Exception:  # a learner's own kind of number may raise anything
            return value
    return value


def comparable(value: float) -> bool:
    """Whether a number is none of nan and infinity, nor larger than every fraction."""
    return abs(value) <= sys.float_info.max


def _number(kind: Callable[[str], float]) -> Callable[[str], float]:
    def made(text: str) -> float:
        value = kind(text)
        return value if comparable(value) else _refused(text)

    return made


def _refused(text: str) -> Any:
    raise ValueError(f"{text[:20]} is no finite number")


_STRICT: dict[str, Any] = {"parse_constant": _refused, "parse_float": _number(float), "parse_int": _number(int)}
_DECODER = json.JSONDecoder(**_STRICT)
