"""Prometheus' text format: families of samples to text, and back. Pure.

Source: https://prometheus.io/docs/instrumenting/exposition_formats/ (text format, version 0.0.4).
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


@dataclass(frozen=True)
class Sample:
    """One value; `time` in seconds since the epoch, if it was measured at another time than it is read."""

    value: float
    labels: Mapping[str, str] = field(default_factory=dict)
    time: float | None = None


@dataclass(frozen=True)
class Family:
    """All samples of one name."""

    name: str
    help: str
    kind: Literal["counter", "gauge"]
    samples: Iterable[Sample]


def render(families: Iterable[Family]) -> str:
    """Return the text; a family without samples is left out."""
    lines: list[str] = []
    for family in families:
        shown = [_line(family.name, sample) for sample in family.samples]
        if shown:
            lines.append(f"# HELP {family.name} {_escape(family.help)}")
            lines.append(f"# TYPE {family.name} {family.kind}")
            lines.extend(shown)
    return "\n".join(lines) + "\n" if lines else ""


def _line(name: str, sample: Sample) -> str:
    labels = ",".join(f'{key}="{_escape(value, quotes=True)}"' for key, value in sample.labels.items())
    time = "" if sample.time is None else f" {round(sample.time * 1000)}"
    return f"{name}{{{labels}}} {_number(sample.value)}{time}" if labels else f"{name} {_number(sample.value)}{time}"


def _number(value: float) -> str:
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    return "NaN" if math.isnan(value) else repr(value)


def _escape(text: str, *, quotes: bool = False) -> str:
    text = text.replace("\\", r"\\").replace("\n", r"\n")
    return text.replace('"', r"\"") if quotes else text


_LABEL = re.compile(r'\s*([a-zA-Z_][a-zA-Z0-9_]*)\s*=\s*"((?:[^"\\]|\\.)*)"\s*,?')
_SAMPLE = re.compile(r'([a-zA-Z_:][a-zA-Z0-9_:]*)\s*(?:\{((?:[^"{}]|"(?:[^"\\]|\\.)*")*)\})?\s+(\S+)(?:\s+(-?\d+))?\s*')
_ESCAPED = {r"\\": "\\", r"\"": '"', r"\n": "\n"}


def parse(text: str) -> Iterator[tuple[str, Sample]]:
    """Yield (name, sample) of every line that is one; comments and what cannot be read are passed over."""
    for line in text.split("\n"):
        if line.startswith("#") or not (match := _SAMPLE.fullmatch(line)):
            continue
        name, labels, value, time = match.groups()
        try:
            number = float(value)
        except ValueError:
            continue
        shown = {
            key: re.sub(r"\\.", lambda escape: _ESCAPED.get(escape[0], escape[0]), quoted)
            for key, quoted in _LABEL.findall(labels or "")
        }
        yield name, Sample(number, shown, int(time) / 1000 if time else None)
