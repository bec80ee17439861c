"""Asking a Prometheus: PromQL, targets, alerts, notifications. That of a cluster through the API server's proxy."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import yaml

from podlab.checks.api import AGAIN, Api, permitted
from podlab.checks.pods import printed
from podlab.errors import AddonError, WaitTimeout
from podlab.waiting import until

Object = dict[str, Any]
Labels = Mapping[str, str]

NAMESPACE = "monitoring"
#: The first and the last of what it says of a reload that it refuses.
_FIRST, LAST = 'msg="Loading configuration file"', "Error reloading config"
#: Seconds until what it has said is in its pod's log, too: not a verdict on speed.
_HEARD = 10.0


class QueryError(AddonError):
    """A question that Prometheus refuses; the message has its words, and the question with the place marked."""


@dataclass(frozen=True)
class Series:
    """One time series: its labels, and (seconds since the epoch, value) in the order of time."""

    labels: Labels
    points: Sequence[tuple[float, float]]

    @property
    def value(self) -> float:
        """The newest value."""
        return self.points[-1][1]


#: (method, path, query) -> status and body.
Exchange = Callable[[str, str, Mapping[str, str] | None], tuple[int, bytes]]


class Prometheus:
    """One Prometheus, behind an `exchange` of requests.

    `log` gives the newest lines of its log, `own_rules` its user's files of rules by their names.
    """

    def __init__(
        self,
        exchange: Exchange,
        log: Callable[[], str] | None = None,
        own_rules: Callable[[], Mapping[str, str]] = dict,
    ) -> None:
        self._exchange, self._log, self._own_rules = exchange, log, own_rules

    @classmethod
    def of_cluster(cls, api: Api) -> Prometheus:
        """The one of the add-on `monitoring`."""

        def exchange(method: str, path: str, query: Mapping[str, str] | None) -> tuple[int, bytes]:
            answer = permitted(api.raw(method, _path("prometheus", 9090, path), query=query, timeout=30))
            return answer.status, answer.data

        def log() -> str:
            return printed(api, "prometheus-0", NAMESPACE, container="prometheus", sinceSeconds="60")

        def own_rules() -> Mapping[str, str]:
            answer = api.raw("GET", f"/api/v1/namespaces/{NAMESPACE}/configmaps/prometheus-own-rules", again=AGAIN)
            return (json.loads(answer.data).get("data") or {}) if answer.status == 200 else {}

        return cls(exchange, log, own_rules)

    def query(self, expression: str, at: float | None = None) -> list[Series]:
        """The result of an expression at a moment (now): a series for each set of labels, with one point each.

        A scalar is a series without labels. QueryError with Prometheus' own words if it refuses.
        """
        parameters = {"query": expression} | ({} if at is None else {"time": f"{at:.3f}"})
        return series(self._ask("query", parameters, expression))

    def query_range(self, expression: str, begin: float, end: float, step: float) -> list[Series]:
        """The results between two moments, every `step` seconds."""
        times = {"start": f"{begin:.3f}", "end": f"{end:.3f}", "step": f"{step:g}"}
        return series(self._ask("query_range", {"query": expression, **times}, expression))

    def number(self, expression: str, at: float | None = None) -> float | None:
        """The one value of an expression, None if it has none; QueryError if it has several."""
        found = self.query(expression, at)
        if len(found) > 1:
            raise QueryError(
                f"{expression} has {len(found)} values, one for each of {shown(found[0].labels)}, ...",
                hint="Put them together: sum(...), max(...), or choose one by a label.",
            )
        return found[0].value if found else None

    def now(self) -> float:
        """Its time, in seconds since the epoch: a notebook's clock may be another."""
        return self.query("time()")[0].value

    def parse(self, expression: str) -> Object:
        """The tree of an expression as Prometheus reads it: the `type` of each node, and its parts. QueryError."""
        found: Object = self._ask("parse_query", {"query": expression}, expression)
        return found

    def targets(self) -> list[Object]:
        """What is scraped: `labels`, `scrapeUrl`, `health`, `lastError` and more of each."""
        found: list[Object] = self._ask("targets", {"state": "active"})["activeTargets"]
        return found

    def rules(self) -> list[Object]:
        """Every rule with its `health`, `lastError` and, for alerts, `state`."""
        return [rule for group in self._ask("rules", {})["groups"] for rule in group["rules"]]

    def alerts(self) -> list[Object]:
        """The alerts that are pending or firing."""
        found: list[Object] = self._ask("alerts", {})["alerts"]
        return found

    def reload(self) -> None:
        """Have it read its rules and the file of its configuration anew; QueryError with its words if they are wrong.

        In a cluster that file is a copy from the pod's start: what was changed there since needs a new pod.
        """
        before = self._log() if self._log else ""
        status, body = self._exchange("POST", "-/reload", None)
        if status != 200:
            said = self._heard(before) or body.decode("utf-8", "replace").strip()
            raise QueryError(f"Prometheus keeps its old configuration: {said}{self._marked(said)}")

    def _marked(self, said: str) -> str:
        """The places that its words on its user's rules name, where it has read these as they are now."""
        places = []
        for name, text in self._own_rules().items():
            with suppress(yaml.YAMLError, LookupError, TypeError, StopIteration):
                found = _named(text, said.partition(f"/{name}: ")[2])
                if found and not self._reads(found[0]):
                    places.append(_place(*found))
        return "".join(places)

    def _reads(self, expression: str) -> bool:
        with suppress(QueryError):
            self.parse(expression)
            return True
        return False

    def _heard(self, before: str) -> str:
        """What its log says of the reload that it has just refused: it is there a moment after the answer."""
        if not (log := self._log):
            return ""

        def told() -> str:
            now = log()
            return now if _newest(now)[0] != _newest(before)[0] and LAST in _newest(now)[1] else ""

        with suppress(WaitTimeout):
            return complaints(until(told, "its words", timeout=_HEARD))
        return ""

    def _ask(self, what: str, parameters: Mapping[str, str], expression: str = "") -> Any:
        status, body = self._exchange("GET", f"api/v1/{what}", parameters or None)
        try:
            content = json.loads(body)
        except ValueError:
            content = {}
        if content.get("status") == "success":
            return content["data"]
        if content.get("status") == "error":
            raise QueryError(refusal(expression, content.get("error", "")))
        raise AddonError(
            f"Prometheus does not answer (status {status}).",
            hint="See `podlab addon status monitoring`; bring it in with `podlab addon enable monitoring`.",
        )


def notifications(api: Api) -> list[Object]:
    """What Alertmanager has told the receiver of a cluster, oldest first, each with `received`."""
    answer = permitted(api.raw("GET", _path("alert-receiver", 80, "notifications"), again=AGAIN))
    if answer.status != 200:
        raise AddonError(
            f"The receiver of alerts does not answer (status {answer.status}).",
            hint="See `podlab addon status monitoring`.",
        )
    found: list[Object] = json.loads(answer.data)
    return found


def series(data: Mapping[str, Any]) -> list[Series]:
    """The series of a result of the API, whatever its type."""
    kind, result = data["resultType"], data["result"]
    if kind == "scalar":
        return [Series({}, [_point(result)])]
    if kind == "string":
        raise QueryError("The expression is a text, which has no value.")
    return [Series(one["metric"], [_point(p) for p in one.get("values") or [one["value"]]]) for one in result]


def refusal(expression: str, said: str) -> str:
    """Prometheus' words, and below them the line of the expression with the place marked, if they name one."""
    place = re.match(r'(?:invalid parameter "query": )?(\d+):(\d+): ', said)
    lines = expression.splitlines()
    if not place or not 1 <= int(place[1]) <= len(lines):
        return f"Prometheus refuses the question: {said}"
    return f"Prometheus refuses the question: {said}{_place(expression, int(place[1]), int(place[2]))}"


def in_rules(text: str, said: str) -> str:
    """Below Prometheus' words on a file of rules: the line of the expression with the place, if they name one."""
    found = _named(text, said)
    return _place(*found) if found else ""


def _named(text: str, said: str) -> tuple[str, int, int] | None:
    """The expression in a file of rules that Prometheus' words name, with line and column in it."""
    found = re.search(r'group "([^"]*)", rule (\d+), .*?could not parse expression: (\d+):(\d+): ', said)
    if not found:
        return None
    rules = next(group["rules"] for group in yaml.safe_load(text)["groups"] if group["name"] == found[1])
    return rules[int(found[2]) - 1]["expr"], int(found[3]), int(found[4])


def _place(text: str, line: int, column: int) -> str:
    """As `marked`, of a column as Prometheus counts it: in bytes."""
    before = "".join(text.splitlines()[line - 1 : line]).encode()[: column - 1]
    return marked(text, line, len(before.decode("utf-8", "ignore")) + 1)


def marked(text: str, line: int, column: int) -> str:
    """What goes below an error's words: a line of a text, both counted from 1, with a column marked.

    The end of a text that ends with a line break is behind its last line.
    """
    lines = text.splitlines() or [""]
    if line > len(lines):
        line, column = len(lines), len(lines[-1]) + 1
    shown = lines[line - 1]
    # A tab is as wide as the one above it.
    return f"\n  {shown}\n  {''.join(one if one == chr(9) else ' ' for one in shown[: column - 1].ljust(column - 1))}^"


def complaints(log: str) -> str:
    """What a log of Prometheus says of the rules, or else of the configuration, that it refused last."""
    newest = [line for line in _newest(log)[1].splitlines() if "ERROR" in line]
    of_rules = [line for line in newest if 'msg="loading groups failed"' in line]
    said = [found[1] for line in of_rules or newest if (found := re.search(r' err=("(?:[^"\\]|\\.)*")', line))]
    # Go quotes as Python does.
    return "; ".join(dict.fromkeys(map(ast.literal_eval, said)))


def _newest(log: str) -> tuple[str, str]:
    """When its newest load of a configuration began, in its own words, and what it has said since."""
    before, _, behind = log.rpartition(_FIRST)
    return before.rpartition("\n")[2], behind


def shown(labels: Labels) -> str:
    """Labels as PromQL writes them, the name in front."""
    rest = ", ".join(f'{key}="{value}"' for key, value in sorted(labels.items()) if key != "__name__")
    return labels.get("__name__", "") + f"{{{rest}}}"


def _point(pair: Sequence[Any]) -> tuple[float, float]:
    return float(pair[0]), float(pair[1])


def _path(service: str, port: int, rest: str) -> str:
    return f"/api/v1/namespaces/{NAMESPACE}/services/{service}:{port}/proxy/{rest}"
