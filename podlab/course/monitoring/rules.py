"""An alerting rule over a history: when it would have been pending, when firing, when over.

Prometheus evaluates the expression at every step; what becomes of an alert between two steps is said here, as its rule
manager does it (https://prometheus.io/docs/prometheus/latest/configuration/alerting_rules/).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import yaml

from podlab.addons.prometheus import QueryError, Series, in_rules
from podlab.course.monitoring.engine import Engine

#: Seconds between two evaluations.
STEP = 5.0
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0, "y": 31536000.0}


@dataclass(frozen=True)
class Rule:
    """One alerting rule, times in seconds."""

    name: str
    expression: str
    wait: float = 0.0
    keep: float = 0.0
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)


def seconds(text: object) -> float:
    """Seconds of a duration such as 1m30s; ValueError if it is none."""
    parts = re.findall(r"(\d+)(ms|[smhdwy])", str(text))
    if str(text) != "0" and (not parts or "".join(number + unit for number, unit in parts) != str(text)):
        raise ValueError(f"{text!r} is no duration; write 30s or 1m")
    return sum(int(number) * _UNITS[unit] for number, unit in parts)


def read(text: str) -> list[Rule]:
    """The alerting rules of a file of rules; ValueError says what is wrong with its form."""
    try:
        content = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(f"it is no YAML: {error}") from error
    if not isinstance(content, dict) or not isinstance(content.get("groups"), list):
        raise ValueError("a file of rules begins with `groups:`, a list")
    found = []
    for group in content["groups"]:
        for rule in (group or {}).get("rules") or ():
            if isinstance(rule, dict) and "record" in rule:
                raise ValueError(
                    f"{rule['record']} is a recording rule, and recorded series are not made here; "
                    "write its expression into the alert itself"
                )
            if isinstance(rule, dict) and "alert" in rule:
                found.append(
                    Rule(
                        str(rule["alert"]),
                        str(rule.get("expr", "")),
                        seconds(rule.get("for", "0")),
                        seconds(rule.get("keep_firing_for", "0")),
                        rule.get("labels") or {},
                        rule.get("annotations") or {},
                    )
                )
    return found


def load(engine: Engine, text: str) -> list[Rule]:
    """The alerting rules of a file, after Prometheus itself has read it; ValueError with its words if it refuses."""
    try:
        engine.load_rules(text)
    except QueryError as error:
        said = engine.why_refused() or error.message
        raise ValueError(f"Prometheus says: {said}{in_rules(text, said)}") from error
    return read(text)


def firing(engine: Engine, rule: Rule, begin: float, end: float) -> list[tuple[float, float]]:
    """When any alert of a rule was firing between two moments: (begin, end) of each time, in order."""
    steps = [begin + STEP * number for number in range(int((end - begin) / STEP) + 1)]
    found = engine.ask.query_range(rule.expression, steps[0], steps[-1], STEP)
    return together(span for series in found for span in _firing(rule, series, steps))


def _firing(rule: Rule, series: Series, steps: Sequence[float]) -> list[tuple[float, float]]:
    """The times at which the alert of one series was firing."""
    there = {round(at * 1000) for at, _ in series.points}
    spans: list[list[float]] = []
    since: float | None = None
    last_true, active = float("-inf"), False
    for at in steps:
        if round(at * 1000) in there:
            since = at if since is None else since
            last_true = at
            fires = at - since >= rule.wait
        else:
            fires = active and at - last_true < rule.keep
            since = since if fires else None
        if fires and not active:
            spans.append([at, at])
        if fires:
            spans[-1][1] = at + STEP
        active = fires
    return [(begin, end) for begin, end in spans]


def together(spans: Iterable[tuple[float, float]]) -> list[tuple[float, float]]:
    """Spans of time in order, those that touch made one."""
    found: list[tuple[float, float]] = []
    for begin, end in sorted(spans):
        if found and begin <= found[-1][1]:
            found[-1] = (found[-1][0], max(found[-1][1], end))
        else:
            found.append((begin, end))
    return found
