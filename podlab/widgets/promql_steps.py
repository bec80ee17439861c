"""An expression of PromQL as the steps in which Prometheus works it out: the innermost selector first. Pure.

The tree is Prometheus' own (`Prometheus.parse`), so nothing is guessed about brackets and precedence here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from podlab.addons.prometheus import Series, shown

#: A node of the tree: its `type`, and parts that are nodes again.
Node = Mapping[str, Any]

#: What a function gives for each series that it gets.
FUNCTIONS = {
    "rate": "growth per second of each counter in its window; a fall counts as a restart",
    "irate": "growth per second between the last two values of each counter",
    "increase": "growth of each counter in its window; a fall counts as a restart",
    "delta": "last minus first value of each gauge in its window; it knows of no restarts",
    "idelta": "last minus last but one value of each gauge",
    "deriv": "slope per second of a straight line through each gauge's values",
    "predict_linear": "where each gauge will be if it goes on along a straight line",
    "changes": "how often each value changed in its window",
    "resets": "how often each counter fell in its window: restarts",
    "histogram_quantile": "reads a quantile off buckets, by their label le",
    "histogram_fraction": "the share of observations between two bounds",
    "label_replace": "the same values, with a label made from another",
    "label_join": "the same values, with a label made from several",
    "vector": "a number as a series without labels",
    "scalar": "the value of the only series as a number",
    "absent": "1 if there is no such series, else nothing",
    "absent_over_time": "1 if there was no such series in the window, else nothing",
    "time": "the moment of the question, in seconds since 1970",
    "timestamp": "when each value was scraped, in seconds since 1970",
    "sort": "the series in the order of their values",
    "sort_desc": "the series in the order of their values, the largest first",
    "clamp_min": "each value, or the bound if it lies below",
    "clamp_max": "each value, or the bound if it lies above",
    "abs": "each value without its sign",
    "ceil": "each value rounded up",
    "floor": "each value rounded down",
    "round": "each value rounded",
}
#: What *_over_time does with the values of one series in its window.
OVER_TIME = {
    "avg": "the mean",
    "min": "the smallest",
    "max": "the largest",
    "sum": "the sum",
    "count": "the number",
    "last": "the newest",
    "first": "the oldest",
    "quantile": "a quantile",
    "stddev": "the standard deviation",
    "stdvar": "the variance",
    "present": "1 if there is one",
}
#: What an aggregation does with the series of one group; {0} is its parameter.
AGGREGATIONS = {
    "sum": "adds up the series",
    "avg": "the mean of the series",
    "min": "the smallest of the series",
    "max": "the largest of the series",
    "count": "how many series there are",
    "group": "1 where there is a series",
    "stddev": "the standard deviation of the series",
    "stdvar": "the variance of the series",
    "topk": "keeps the {0} series with the largest values, with all their labels",
    "bottomk": "keeps the {0} series with the smallest values, with all their labels",
    "quantile": "the {0}-quantile of the series",
    "count_values": "how many series have each value, which becomes the label {0}",
    "limitk": "keeps {0} of the series",
    "limit_ratio": "keeps a share of {0} of the series",
}
#: What an operator does; {0} is its right side.
OPERATORS = {
    "+": "left plus {0}",
    "-": "left minus {0}",
    "*": "left times {0}",
    "/": "left divided by {0}",
    "%": "what is left over when left is divided by {0}",
    "^": "left to the power of {0}",
    "atan2": "the angle of left and {0}",
    "and": "those on the left for which the right has something",
    "or": "those on the left, and those of the right that the left has not",
    "unless": "those on the left for which the right has nothing",
}
#: Results of these are several values for each series: no line can be drawn of them.
_RANGES = ("matrixSelector", "subquery")
_UNITS = (("d", 86400000), ("h", 3600000), ("m", 60000), ("s", 1000), ("ms", 1))


@dataclass(frozen=True)
class Step:
    """A part of an expression, and what it does in words; `drawn` is the part whose values make its lines."""

    expression: str
    words: str
    drawn: str


def steps(node: Node) -> list[Step]:
    """The steps of a tree in the order in which they are worked out, the whole expression last."""
    found = [step for part in _parts(node) for step in steps(part)]
    if node["type"] in ("numberLiteral", "stringLiteral", "parenExpr"):
        return found
    if node["type"] == "matrixSelector":
        found = steps({**node, "type": "vectorSelector", "offset": 0, "timestamp": None, "startOrEnd": None})
    expression = text(node)
    drawn = found[-1].drawn if node["type"] in _RANGES and found else expression
    return [*found, Step(expression, words(node), drawn)]


def told_apart(series: Sequence[Series]) -> list[str]:
    """A short name for each series: the one label that tells all of them apart, else all those that differ."""
    if len(series) == 1:
        return [shown(series[0].labels) if series[0].labels else "the result"]
    keys = {key for one in series for key in one.labels}
    kinds = {key: {one.labels.get(key, "") for one in series} for key in keys}
    alone = [key for key in keys if len(kinds[key]) == len(series)]
    # Of a pod's labels its name says most.
    chosen = [min(alone, key=lambda key: (key != "pod", key))] if alone else [k for k in keys if len(kinds[k]) > 1]
    return [shown({key: one.labels[key] for key in chosen if key in one.labels}) for one in series]


def told(series: Sequence[Series]) -> str:
    """The result of a step in words: how many series, and one of them."""
    if not series:
        return "no series"
    first, number = series[0], "1 series" if len(series) == 1 else f"{len(series)} series"
    window = f" with {len(first.points)} values" if len(first.points) > 1 else ""
    if len(series) == 1 and not first.labels:
        return f"{first.value:.4g}" if not window else f"one series{window}, the last {first.value:.4g}"
    return f"{number}, such as {told_apart(series)[0]}{window}: {first.value:.4g}"


def words(node: Node) -> str:
    """What one node does with the results of its parts."""
    kind = node["type"]
    if kind == "vectorSelector":
        return f"the newest value of each series that the selector finds{_when(node)}"
    if kind == "matrixSelector":
        return f"all values of the last {duration(node['range'])} of each of these series{_when(node)}"
    if kind == "subquery":
        every = duration(node["step"]) if node["step"] else "the usual step"
        return f"a query over a query: asked every {every} of the last {duration(node['range'])}{_when(node)}"
    if kind == "unaryExpr":
        return "each value with its sign turned" if node["op"] == "-" else "the same values"
    if kind == "call":
        name = node["func"]["name"]
        if name.endswith("_over_time") and name not in FUNCTIONS:
            values = OVER_TIME.get(name.removesuffix("_over_time"), name)
            return f"{values} of the values that each series had in its window"
        return FUNCTIONS.get(name, f"the function {name}")
    if kind == "aggregation":
        parameter = text(node["param"]) if node["param"] else ""
        what = AGGREGATIONS.get(str(node["op"]), str(node["op"])).format(parameter)
        labels = ", ".join(node["grouping"])
        if node["without"]:
            return f"{what}, for each set of other labels than {labels}" if labels else what
        return f"{what}, for each {labels}" if labels else what
    if kind == "binaryExpr":
        right = text(node["rhs"]) if node["rhs"]["type"] == "numberLiteral" else "right"
        if node["op"] in OPERATORS:
            return OPERATORS[node["op"]].format(right) + _matched(node)
        compared = f"left {node['op']} {right}{_matched(node)}"
        return f"1 where {compared}, else 0" if node["bool"] else f"keeps those for which {compared}"
    return kind


def text(node: Node) -> str:
    """A node as PromQL."""
    kind = node["type"]
    if kind == "numberLiteral":
        return str(node["val"])
    if kind == "stringLiteral":
        return _quoted(node["val"])
    if kind == "parenExpr":
        return f"({text(node['expr'])})"
    if kind == "unaryExpr":
        return node["op"] + text(node["expr"])
    if kind == "vectorSelector":
        return _selector(node) + _moved(node)
    if kind == "matrixSelector":
        return f"{_selector(node)}[{duration(node['range'])}]{_moved(node)}"
    if kind == "subquery":
        every = duration(node["step"]) if node["step"] else ""
        return f"{text(node['expr'])}[{duration(node['range'])}:{every}]{_moved(node)}"
    if kind == "call":
        return f"{node['func']['name']}({', '.join(text(part) for part in node['args'])})"
    if kind == "aggregation":
        given = [text(part) for part in (node["param"], node["expr"]) if part]
        labels = ", ".join(node["grouping"])
        group = f" without ({labels}) " if node["without"] else f" by ({labels}) " if labels else ""
        return f"{node['op']}{group}({', '.join(given)})"
    if kind == "binaryExpr":
        return f"{text(node['lhs'])} {node['op']}{' bool' if node['bool'] else ''}{_matching(node)} {text(node['rhs'])}"
    return kind


def duration(milliseconds: int) -> str:
    """A duration as PromQL writes it, such as 1m30s."""
    rest, told = abs(milliseconds), ""
    for unit, size in _UNITS:
        if rest >= size:
            told, rest = f"{told}{rest // size}{unit}", rest % size
    return ("-" if milliseconds < 0 else "") + (told or "0s")


def _parts(node: Node) -> Iterator[Node]:
    for key in ("param", "lhs", "rhs", "expr"):
        if node.get(key):
            yield node[key]
    if node["type"] == "call":
        yield from node["args"]


def _selector(node: Node) -> str:
    matchers = [one for one in node["matchers"] if (one["name"], one["value"]) != ("__name__", node["name"])]
    inside = ", ".join(f"{one['name']}{one['type']}{_quoted(one['value'])}" for one in matchers)
    return node["name"] + (f"{{{inside}}}" if inside or not node["name"] else "")


def _moved(node: Node) -> str:
    at = f" @ {node['timestamp'] / 1000:.3f}" if node["timestamp"] is not None else ""
    at = f" @ {node['startOrEnd']}()" if node["startOrEnd"] else at
    return at + (f" offset {duration(node['offset'])}" if node["offset"] else "")


def _when(node: Node) -> str:
    fixed = ", at one fixed moment" if node["timestamp"] is not None or node["startOrEnd"] else ""
    ago = f", {duration(node['offset'])} ago" if node["offset"] > 0 else ""
    return fixed + (f", {duration(-node['offset'])} later" if node["offset"] < 0 else ago)


def _matching(node: Node) -> str:
    matching = node["matching"]
    if not matching:
        return ""
    labels = ", ".join(matching["labels"])
    told = f" {'on' if matching['on'] else 'ignoring'} ({labels})" if matching["on"] or labels else ""
    side = {"many-to-one": "left", "one-to-many": "right"}.get(matching["card"])
    return told + (f" group_{side} ({', '.join(matching['include'])})" if side else "")


def _matched(node: Node) -> str:
    matching = node["matching"]
    if not matching:
        return ""
    labels = ", ".join(matching["labels"])
    if matching["on"]:
        return f", where {labels or 'anything'} is the same"
    return ", where all labels" + (f" but {labels}" if labels else "") + " are the same"


def _quoted(value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'
