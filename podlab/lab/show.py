"""What the lab shows: lists of objects, reports, predictions; as HTML and as plain text, with the same facts."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from html import escape
from typing import Any

from podlab.checks.api import Object
from podlab.checks.contract import Report, Verdict
from podlab.checks.world import is_ready, restarts
from podlab.widgets.model import STATES, tile

Column = tuple[str, Callable[[Object], str]]

#: Sign, words and colour of a verdict; never the colour alone.
VERDICTS = {
    Verdict.PASS: ("✓", "pass", "#0072b2"),
    Verdict.FAIL: ("✗", "fail", "#b34700"),
    Verdict.NOT_GRADABLE: ("–", "not gradable here", "#666666"),
    Verdict.INFRASTRUCTURE: ("!", "could not be measured", "#666666"),
}


#: On paper a line of code that is too long goes on in the next one; otherwise nbconvert and JupyterLab cut it off.
ON_PAPER = (
    "<style>@media print { .jp-InputArea-editor :is(pre, .cm-content) "
    "{ white-space: pre-wrap !important; overflow-wrap: anywhere; flex-shrink: 1 !important; } }</style>"
)


class Shown:
    """Something with a text twin: `text` for print and paper, `html` for the notebook."""

    text = ""
    html = ""

    def __repr__(self) -> str:
        return self.text

    def _repr_html_(self) -> str:
        return self.html


class Note(Shown):
    """One message; `kind` is plain or warning."""

    def __init__(self, text: str, kind: str = "plain") -> None:
        self.text = text
        bar = "#0072b2" if kind == "plain" else "#d55e00"
        self.html = (
            f'<div style="border-left:4px solid {bar};padding:4px 10px;white-space:pre-wrap">{escape(text)}</div>'
        )


class Listing(list[Object], Shown):
    """A list of objects that shows itself as kubectl would; items are plain dictionaries."""

    def __init__(self, items: Sequence[Object], columns: Sequence[Column], title: str = "") -> None:
        super().__init__(items)
        self.columns = columns
        self.title = title

    @property
    def rows(self) -> list[list[str]]:
        """The cells as they are shown."""
        return [[cell(item) for _, cell in self.columns] for item in self]

    def _table(self) -> tuple[list[str], list[list[str]]]:
        return [name for name, _ in self.columns], self.rows

    @property
    def text(self) -> str:  # type: ignore[override]
        """The table in plain text."""
        head, rows = self._table()
        return plain_table(head, rows) if rows else f"No {self.title or 'objects'}."

    @property
    def html(self) -> str:  # type: ignore[override]
        """The table in HTML."""
        head, rows = self._table()
        return html_table(head, rows, shown=_broken) if rows else f"<p>No {escape(self.title or 'objects')}.</p>"

    __repr__ = Shown.__repr__


def plain_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns as wide as their widest cell, like kubectl's."""
    widths = [max(len(row[index]) for row in [head, *rows]) for index in range(len(head))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in [head, *rows]]
    return "\n".join(line.rstrip() for line in lines)


def _broken(cell: str) -> str:
    """A cell as HTML whose long words, such as addresses, may go on in the next line: paper is narrow."""
    return re.sub(r"\S{20,}", lambda long: re.sub(r"([-/.:=,])(?=\w)", r"\1<wbr>", long[0]), escape(cell))


def html_table(
    head: Sequence[str], rows: Sequence[Sequence[str]], caption: str = "", shown: Callable[[str], str] = escape
) -> str:
    """A table with header cells; `shown` makes HTML of a cell's text."""
    title = f"<caption>{escape(caption)}</caption>" if caption else ""
    top = "".join(f'<th scope="col" style="text-align:left">{escape(cell)}</th>' for cell in head)
    body = "".join(
        "<tr>" + "".join(f'<td style="text-align:left">{shown(cell)}</td>' for cell in row) + "</tr>" for row in rows
    )
    return f"<table>{title}<thead><tr>{top}</tr></thead><tbody>{body}</tbody></table>"


def age(item: Mapping[str, Any]) -> str:
    """How old an object is, as kubectl writes it."""
    made = item.get("metadata", {}).get("creationTimestamp")
    return since(made) if made else ""


def since(moment: str) -> str:
    """The time from an API timestamp to now: 45s, 3m, 2h, 4d."""
    then = datetime.fromisoformat(moment.replace("Z", "+00:00"))
    seconds = max(0, int((datetime.now(UTC) - then).total_seconds()))
    for size, unit in ((86400, "d"), (3600, "h"), (60, "m")):
        if seconds >= 2 * size:
            return f"{seconds // size}{unit}"
    return f"{seconds}s"


def name(item: Object) -> str:
    """metadata.name."""
    return item["metadata"]["name"]


def _pod_ready(pod: Object) -> str:
    statuses = pod.get("status", {}).get("containerStatuses") or []
    count = len(pod["spec"]["containers"])
    return f"{sum(bool(entry.get('ready')) for entry in statuses)}/{count}"


def _pod_status(pod: Object) -> str:
    seen = tile(pod)
    return seen.reason or STATES[seen.state][1]


def _node_status(node: Object) -> str:
    words = ["Ready" if is_ready(node) else "NotReady"]
    if node.get("spec", {}).get("unschedulable"):
        words.append("SchedulingDisabled")
    return ",".join(words)


def _taints(node: Object) -> str:
    return ", ".join(f"{taint['key']}:{taint['effect']}" for taint in node.get("spec", {}).get("taints") or [])


def _deployment_ready(item: Object) -> str:
    return f"{item.get('status', {}).get('readyReplicas', 0)}/{item['spec'].get('replicas', 1)}"


#: How the kinds that the course looks at are shown; any other kind gets NAME and AGE.
COLUMNS: dict[str, Sequence[Column]] = {
    "Pod": (
        ("NAME", name),
        ("READY", _pod_ready),
        ("STATUS", _pod_status),
        ("RESTARTS", lambda pod: str(restarts(pod))),
        ("AGE", age),
        ("NODE", lambda pod: pod["spec"].get("nodeName") or "none"),
    ),
    "Node": (("NAME", name), ("STATUS", _node_status), ("TAINTS", _taints), ("AGE", age)),
    "Deployment": (
        ("NAME", name),
        ("READY", _deployment_ready),
        ("UP-TO-DATE", lambda item: str(item.get("status", {}).get("updatedReplicas", 0))),
        ("AGE", age),
    ),
    "Service": (
        ("NAME", name),
        ("TYPE", lambda item: item["spec"].get("type", "")),
        ("CLUSTER-IP", lambda item: item["spec"].get("clusterIP", "")),
        ("PORT", lambda item: ",".join(str(port["port"]) for port in item["spec"].get("ports") or [])),
        ("AGE", age),
    ),
    "EndpointSlice": (
        ("NAME", name),
        ("READY", lambda item: ", ".join(_addresses(item, True)) or "none"),
        ("NOT READY", lambda item: ", ".join(_addresses(item, False)) or "none"),
    ),
    "Event": (
        ("LAST SEEN", lambda item: since(_event_time(item)) if _event_time(item) else ""),
        ("TYPE", lambda item: item.get("type", "")),
        ("REASON", lambda item: item.get("reason", "")),
        ("OBJECT", lambda item: f"{item['involvedObject']['kind']}/{item['involvedObject'].get('name', '')}"),
        ("COUNT", lambda item: str(event_count(item))),
        ("MESSAGE", lambda item: " ".join(str(item.get("message", "")).split())[:200]),
    ),
}
OTHERWISE: Sequence[Column] = (("NAME", name), ("AGE", age))


def _addresses(item: Object, ready: bool) -> list[str]:
    return [
        f"{address} ({(entry.get('targetRef') or {}).get('name', '')})"
        for entry in item.get("endpoints") or []
        for address in entry["addresses"]
        if bool(entry.get("conditions", {}).get("ready")) is ready
    ]


def _event_time(item: Object) -> str:
    series = item.get("series") or {}
    return (
        series.get("lastObservedTime")
        or item.get("lastTimestamp")
        or item.get("eventTime")
        or item["metadata"].get("creationTimestamp")
        or ""
    )


def event_count(item: Object) -> int:
    """How often an event was seen."""
    return (item.get("series") or {}).get("count") or item.get("count") or 1


def event_time(item: Object) -> str:
    """When an event was last seen, as the API writes it; sorts as text."""
    return _event_time(item)


@dataclass
class ReportView(Shown):
    """A report of checks as the learner reads it."""

    report: Report
    debrief: str = ""
    lesson: str = ""

    @property
    def verdict(self) -> str:
        """The report in one line."""
        report = self.report
        score = report.score
        earned = f"{score:g} of {report.points} points" if score is not None else "no score"
        if report.passed:
            return f"Exercise {report.exercise}, {report.title}: passed ({earned})."
        if score is None:
            kinds = {line.result.verdict for line in report.lines}
            why = "it could not be measured" if Verdict.INFRASTRUCTURE in kinds else "it cannot be graded here"
            return f"Exercise {report.exercise}, {report.title}: {why}. Nothing is scored."
        return f"Exercise {report.exercise}, {report.title}: {earned} so far."

    @property
    def text(self) -> str:  # type: ignore[override]
        """The report in plain text."""
        lines = [self.verdict]
        for line in self.report.lines:
            sign, words, _ = VERDICTS[line.result.verdict]
            lines.append(f"{sign} {line.title}: {words} (weight {line.weight})")
            lines.extend(f"    {label}: {value}" for label, value in self._facts(line))
        lines.append(self._footer())
        return "\n".join(filter(None, lines))

    @property
    def html(self) -> str:  # type: ignore[override]
        """The report in HTML."""
        parts = [f"<p><strong>{escape(self.verdict)}</strong></p>"]
        for line in self.report.lines:
            sign, words, colour = VERDICTS[line.result.verdict]
            facts = "".join(f"<li>{label}: {escape(value)}</li>" for label, value in self._facts(line))
            parts.append(
                f'<div style="border-left:4px solid {colour};padding:2px 10px;margin:4px 0">'
                f"<strong>{sign} {escape(line.title)}</strong>: {words} (weight {line.weight})<ul>{facts}</ul></div>"
            )
        parts.append(f"<p>{escape(self._footer())}</p>")
        return "".join(parts)

    def _facts(self, line: Any) -> list[tuple[str, str]]:
        result = line.result
        facts = [("expected", result.expected), ("observed", result.observed)]
        if not result.passed:
            facts += [("likely cause", result.cause), ("next", result.next_step)]
            if "replay" in result.evidence and not line.hidden:
                facts.append(("to see the moment", f'lab.replay("{self.report.exercise}")'))
        return [(label, value) for label, value in facts if value]

    def _footer(self) -> str:
        report = self.report
        words = [f"It took {report.seconds:.0f} s; seed {report.seed}, attempt {report.attempts}."]
        if report.passed and self.debrief:
            words.append(self.debrief)
        elif self.lesson and not report.passed:
            words.append(f'For a hint: lab.hint("{report.exercise}"). To read again: {self.lesson}.')
        return "\n".join(words)
