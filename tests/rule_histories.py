"""Rules of the add-on `monitoring`, by a real Prometheus over histories: one trouble in each namespace.

No rule manager has been there: what a rule reads of recorded series is put into its expression, and what an alert waits
for is looked up in the history.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from typing import Any

import pytest
import yaml

from podlab.addons import TABLE
from podlab.addons.objects import objects
from podlab.cluster.embedded import binaries
from podlab.course.monitoring.engine import Engine
from podlab.course.monitoring.rules import seconds

#: Text of each file of rules, by its name.
FILES: Mapping[str, str] = next(
    thing["data"]
    for thing in objects(TABLE["monitoring"], own=True)
    if (thing["kind"], thing["metadata"]["name"]) == ("ConfigMap", "prometheus-rules")
)

#: Seconds between two scrapes, and of each history; its end is moment 0.
SCRAPE, LENGTH = 5, 1200
NOW = SCRAPE * (time.time() // SCRAPE)

#: Value at a moment.
Curve = Callable[[float], float]
#: Name and labels of a series.
Key = tuple[str, frozenset[tuple[str, str]]]
Series = Mapping[Key, Curve]
Rule = Mapping[str, Any]


def of(name: str, **labels: str) -> Key:
    return name, frozenset(labels.items())


def rising(rate: float, since: float = -LENGTH, until: float = 0) -> Curve:
    return lambda at: rate * (min(max(at, since), until) - since)


def always(value: float) -> Curve:
    return lambda _at: value


def turned(moment: float, before: float, value: float) -> Curve:
    return lambda at: value if at > moment else before


def rules(*names: str) -> list[Rule]:
    """The rules of some files."""
    return [rule for name in names for group in yaml.safe_load(FILES[name])["groups"] for rule in group["rules"]]


class Seen:
    """A Prometheus that has seen all troubles, each in the namespace of its name, and the rules that read them."""

    def __init__(self, read: list[Rule], healthy: Series, troubles: Mapping[str, Series]) -> None:
        if binaries.find("prometheus") is None:
            pytest.skip("`podlab binaries ensure prometheus` gets it")
        self.recorded = {rule["record"]: rule["expr"] for rule in read if "record" in rule}
        self.engine = Engine()
        try:
            moments = range(-LENGTH, 1, SCRAPE)
            for namespace, other in troubles.items():
                self.engine.write(
                    [
                        (
                            {"namespace": namespace, "instance": "pod", "__name__": name, **dict(labels)},
                            [(NOW + at, curve(at)) for at in moments],
                        )
                        for (name, labels), curve in {**healthy, **other}.items()
                    ]
                )
        except BaseException:
            self.engine.close()
            raise

    def inlined(self, expression: str) -> str:
        """An expression with what it reads of recorded series in its place."""
        while names := set(re.findall(r"\w+:\w+:\w+", expression)):
            for name in names:
                expression = expression.replace(name, f"({self.recorded[name]})")
        return expression

    def firing(self, alert: Rule) -> list[Mapping[str, str]]:
        """Labels of what fires at the end: its expression has held for as long as the rule wants."""
        wait = seconds(alert["for"])
        found = self.engine.ask.query_range(self.inlined(alert["expr"]), NOW - wait, NOW, SCRAPE)
        return [series.labels for series in found if len(series.points) == wait // SCRAPE + 1]

    def values(self, record: str, trouble: str, by: str) -> dict[str, float]:
        """What a recording rule would record in a trouble, by the value of a label."""
        return {
            series.labels[by]: series.value
            for series in self.engine.ask.query(self.inlined(self.recorded[record]), NOW)
            if series.labels["namespace"] == trouble
        }
