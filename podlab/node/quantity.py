"""Kubernetes quantities (100m, 64Mi, 1e3) as exact numbers, and what a pod asks of a node."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from fractions import Fraction
from typing import Any

_SUFFIXES = {
    "n": Fraction(1, 10**9),
    "u": Fraction(1, 10**6),
    "m": Fraction(1, 1000),
    "": Fraction(1),
    **{letter: Fraction(1000**power) for power, letter in enumerate("kMGTPE", 1)},
    **{f"{letter}i": Fraction(1024**power) for power, letter in enumerate("KMGTPE", 1)},
}
_QUANTITY = re.compile(r"([+-]?(?:\d+\.?\d*|\.\d+))(?:([eE][+-]?\d+)|([a-zA-Z]*))")


def parse(text: str | int | float) -> Fraction:
    """The exact value of a quantity; ValueError if it is none."""
    found = _QUANTITY.fullmatch(str(text).strip())
    if not found or (found[3] or "") not in _SUFFIXES:
        raise ValueError(f"{text!r} is not a Kubernetes quantity")
    number, exponent, suffix = found.groups()
    value = Fraction(number) * _SUFFIXES[suffix or ""]
    return value * Fraction(10) ** int(exponent[1:]) if exponent else value


def milli(text: str | int | float) -> int:
    """The value in thousandths, rounded up: milli-CPUs."""
    return math.ceil(parse(text) * 1000)


def whole(text: str | int | float) -> int:
    """The value as a whole number, rounded up: bytes, pods."""
    return math.ceil(parse(text))


def in_units(value: str, divisor: str | None, resource: str) -> str:
    """A resource's value divided by `divisor` and rounded up, as the downward API gives it."""
    unit = parse(divisor or "1") or Fraction(1)
    return str(math.ceil(parse(value) / unit))


def _add(total: dict[str, Fraction], more: Mapping[str, Any]) -> None:
    for name, value in more.items():
        total[name] = total.get(name, Fraction(0)) + parse(value)


def _largest(total: dict[str, Fraction], other: Mapping[str, Fraction]) -> None:
    for name, value in other.items():
        total[name] = max(total.get(name, Fraction(0)), value)


def requests(spec: Mapping[str, Any]) -> dict[str, Fraction]:
    """What a pod asks of its node: the sum over containers and sidecars, or an init container's, if larger.

    As in k8s.io/component-helpers/resource: an init container runs beside the sidecars started before it.
    """
    total: dict[str, Fraction] = {}
    for container in spec.get("containers") or ():
        _add(total, _asked(container))
    sidecars: dict[str, Fraction] = {}
    during_init: dict[str, Fraction] = {}
    for container in spec.get("initContainers") or ():
        if container.get("restartPolicy") == "Always":
            _add(total, _asked(container))
            _add(sidecars, _asked(container))
            _largest(during_init, sidecars)
        else:
            step = dict(sidecars)
            _add(step, _asked(container))
            _largest(during_init, step)
    _largest(total, during_init)
    if pod_level := (spec.get("resources") or {}).get("requests"):
        total.update({name: parse(value) for name, value in pod_level.items()})
    _add(total, spec.get("overhead") or {})
    return total


def _asked(container: Mapping[str, Any]) -> Mapping[str, Any]:
    return (container.get("resources") or {}).get("requests") or {}


def total(specs: Iterable[Mapping[str, Any]]) -> dict[str, Fraction]:
    """The sum of `requests` over several pods."""
    result: dict[str, Fraction] = {}
    for spec in specs:
        for name, value in requests(spec).items():
            result[name] = result.get(name, Fraction(0)) + value
    return result
