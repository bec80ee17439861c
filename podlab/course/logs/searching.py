"""Exercise 22.1: what happened to one request, which requests failed, and where. LogsQL against the known truth."""

from __future__ import annotations

import time
from dataclasses import dataclass

from podlab.addons.logs import Line
from podlab.checks.bench import Bench
from podlab.checks.contract import Answer, Exercise, HandIn, Hint
from podlab.course.logs.incident import Incident, Request, happened, stamp
from podlab.course.logs.scenes import LESSON, found
from podlab.course.logs.store import Store
from podlab.course.plain import Problem, judged

ONE, FAILED, SERVICES = "one_request", "failed_requests", "troubled_services"


@dataclass
class Scene:
    """The questions, the store, and what is in it."""

    answer: Answer
    store: Store
    incident: Incident


def stage(answer: Answer, bench: Bench) -> Scene:
    """Half an hour of logs in a store of its own."""
    incident = happened(time.time() - 5, bench.random)
    store = Store()
    try:
        store.fill(incident.lines)
    except BaseException:
        store.close()
        raise
    return Scene(answer, store, incident)


def closing(scene: Scene, _bench: Bench) -> None:
    """End the store."""
    scene.store.close()


EXERCISE = Exercise(
    id="22.1",
    title="What happened to this request?",
    points=10,
    handed_in=tuple(HandIn(name, "value") for name in (ONE, FAILED, SERVICES)),
    stage=stage,
    closing=closing,
    cluster=False,
    lesson=f"{LESSON}#A-word,-or-a-field",
    hints=(
        Hint(
            "Your first question finds lines of other requests. What does a word without a field's name search in?",
            lambda situation: situation.failed("request"),
        ),
        Hint(
            "The lines of a request come from several pods. Who has promised you that they come in the order of time?",
            lambda situation: situation.failed("order"),
        ),
        Hint(
            "Serving failed, features tried again, and the visitor got an answer. Did this request fail? Whose line "
            "says what the visitor got?",
            lambda situation: situation.failed("failed"),
        ),
        Hint(
            "A shipper may send a line twice, and a request may leave two errors in one service. What do you count: "
            "lines, or different trace ids?",
            lambda situation: situation.failed("services"),
        ),
        Hint("Who else writes into this store? Look at the field `app`."),
    ),
    debrief=(
        "A word is searched in the text of a message, and people write ids into messages; a field says whose line it "
        "is. The store promises no order: lines lie in streams, one for each pod, so an order must be asked for. And "
        "at least once means that lines are not events: count different ids. `uniq by` and `stats by (...)` are two "
        "ways to have each request once; in Elasticsearch these would be a `term` filter with `sort`, and a "
        "`cardinality` aggregation inside of `terms`."
    ),
)


def requests(scene: Scene, begin: float, end: float) -> list[Request]:
    """The shop's requests that failed in a time."""
    return [one for one in scene.incident.within(begin, end) if one.status >= 500]


def chosen(scene: Scene) -> Request:
    """A request of the incident that failed, and that others speak of."""
    return requests(scene, scene.incident.begin, scene.incident.end)[1]


def of_one(scene: Scene, request: Request) -> list[Line] | Problem:
    """The lines that the first question finds for a request, each once; a Problem if they are not its lines."""
    rows = found(scene.store.ask, scene.answer, ONE, {"TRACE": request.trace})
    if isinstance(rows, Problem):
        return rows
    if rows and not all("_msg" in row and "service" in row for row in rows):
        return Problem(
            f"the lines have the fields {', '.join(sorted(rows[0])) or 'none'}",
            "A pipe has taken the fields `_msg` or `service` away.",
            "Leave them: | fields _time, service, _msg",
        )
    truth = {str(line["message"]) for line in request.lines}
    seen = list(dict.fromkeys(row["_msg"] for row in rows))
    others = [text for text in seen if text not in truth]
    if others:
        return Problem(
            f"{len(others)} lines of other requests are among them, such as {others[0]!r}",
            "The id stands in the text of other requests, or in another field, and the question does not ask whose "
            "line it is.",
            'Ask for the field: trace_id:="TRACE".',
        )
    if missing := len(truth) - len(seen):
        return Problem(
            f"{missing} of the {len(truth)} lines of the request are missing",
            "The question asks for more than the trace, or keeps only some of the lines.",
            "Take conditions off until all services are there.",
        )
    return rows


@EXERCISE.check("request", "All lines of a request, and no others", weight=2)
@judged("one_request finds every line that the request left in any service, and no line of another request")
def request(scene: Scene, bench: Bench) -> str | Problem:
    """For a request that others speak of."""
    one = chosen(scene)
    rows = of_one(scene, one)
    if isinstance(rows, Problem):
        return rows
    return f"all {len(one.lines)} lines of {one.trace[:4]}, from {len({row['service'] for row in rows})} services"


@EXERCISE.check("order", "In the order of time", weight=2, needs=["request"])
@judged("the lines of the request come in the order in which they were written, whichever pods they are from")
def order(scene: Scene, bench: Bench) -> str | Problem:
    """The way through the services."""
    one = chosen(scene)
    rows = of_one(scene, one)
    if isinstance(rows, Problem):
        return rows
    truth = [str(line["message"]) for line in one.lines]
    seen = list(dict.fromkeys(row["_msg"] for row in rows))
    way = " → ".join(row["service"] for row in rows)
    if seen == truth:
        return way
    if seen == truth[::-1]:
        return Problem(f"{way}: the newest comes first", "It is sorted the other way round.", "Leave out `desc`.")
    return Problem(
        way, "Lines lie in streams, one for each pod, and come stream by stream.", "Add a pipe: | sort by (_time)"
    )


def exactly(scene: Scene, begin: float, end: float) -> str | Problem:
    """Whether the second question finds exactly the requests that failed in a time."""
    rows = found(scene.store.ask, scene.answer, FAILED, {"BEGIN": stamp(begin), "END": stamp(end)})
    if isinstance(rows, Problem):
        return rows
    truth = {one.trace for one in requests(scene, begin, end)}
    if not all(set(row) >= {"trace_id"} for row in rows):
        return Problem(
            f"there are rows without a trace_id: {short_row(rows)}",
            "The rows are lines without a trace, or sums over all requests.",
            "One row for each request: | uniq by (trace_id)",
        )
    seen = {row["trace_id"] for row in rows}
    if extra := seen - truth:
        return Problem(
            f"{len(seen)} requests, of which {len(extra)} did not fail: {_what(scene, extra, begin, end)}",
            _why(scene, extra, begin, end),
            "Take one of them and look at its lines: what did the visitor get?",
        )
    if missing := truth - seen:
        return Problem(
            f"{len(missing)} of {len(truth)} failed requests are missing",
            "Not every failure has this status, this path or these words.",
            "What do all failures have in common? status:>=500 compares numbers.",
        )
    if len(rows) > len(seen):
        return Problem(
            f"{len(rows)} rows for {len(seen)} requests",
            "Some lines were sent twice: a shipper promises at least once.",
            "Put them together: | uniq by (trace_id)",
        )
    return f"exactly the {len(truth)} requests that failed"


def short_row(rows: list[Line]) -> str:
    """One row in words."""
    return ", ".join(f"{key}={value}" for key, value in list(rows[0].items())[:3]) or "an empty row"


def _first(scene: Scene, traces: set[str]) -> Request | None:
    return next((one for one in scene.incident.requests if one.trace in traces), None)


def _what(scene: Scene, extra: set[str], begin: float, end: float) -> str:
    one = _first(scene, extra)
    return f"{one.trace[:8]} of {one.app} was answered with {one.status}" if one else "some are no requests at all"


def _why(scene: Scene, extra: set[str], begin: float, end: float) -> str:
    one = _first(scene, extra)
    if one is None:
        return "The rows do not hold trace ids as they are in the lines."
    if one.app != "shop":
        return "Another app writes into the same store."
    if not begin <= one.at < end:
        return "The question does not keep to the time between BEGIN and END."
    if one.status == 404:
        return "404 is no failure of the shop: there is no such page."
    if any(line.get("status") == 503 for line in one.lines):
        return "Serving failed, it was tried again, and the visitor got what was asked for."
    return "The question looks for a number as a word, which stands in messages and in users' numbers too."


@EXERCISE.check("failed", "Exactly the requests of the incident that failed", weight=3)
@judged("failed_requests has one row for each request of the shop that was answered with 5xx from BEGIN to END")
def failed(scene: Scene, bench: Bench) -> str | Problem:
    """In the time of the incident."""
    return exactly(scene, scene.incident.begin, scene.incident.end)


def troubled(scene: Scene, begin: float, end: float) -> dict[str, int]:
    """Service -> how many requests left an error in it in a time."""
    counts: dict[str, set[str]] = {}
    for one in scene.incident.requests:
        for line in one.lines:
            if one.app == "shop" and line["level"] == "error" and stamp(begin) <= str(line["@timestamp"]) < stamp(end):
                counts.setdefault(str(line["service"]), set()).add(one.trace)
    return {service: len(traces) for service, traces in counts.items()}


@EXERCISE.check("services", "Where the trouble is", weight=2)
@judged("troubled_services has one row for each service with an error, `requests` says how many requests met one there")
def services(scene: Scene, bench: Bench) -> str | Problem:
    """In the time of the incident."""
    begin, end = scene.incident.begin, scene.incident.end
    rows = found(scene.store.ask, scene.answer, SERVICES, {"BEGIN": stamp(begin), "END": stamp(end)})
    if isinstance(rows, Problem):
        return rows
    if not rows or not all("service" in row and row.get("requests", "").isdigit() for row in rows):
        return Problem(
            f"there are {len(rows)} rows" + (f", the first with {short_row(rows)}" if rows else ""),
            "Each row needs the fields `service` and `requests`.",
            "| stats by (service) count_uniq(trace_id) requests",
        )
    truth, seen = troubled(scene, begin, end), {row["service"]: int(row["requests"]) for row in rows}
    if seen == truth and len(rows) == len(seen):
        return ", ".join(f"{service}: {number}" for service, number in sorted(truth.items()))
    told = ", ".join(f"{service}: {number}" for service, number in sorted(seen.items()))
    right = ", ".join(f"{service}: {number}" for service, number in sorted(truth.items()))
    if set(seen) == set(truth) and all(seen[each] >= truth[each] for each in truth):
        cause = "Lines are counted, or another app's or another time's requests too: a line may be there twice."
        return Problem(f"{told}; different requests: {right}", cause, "count_uniq(trace_id), app and _time.")
    return Problem(
        f"{told}; right is {right}", "Other lines than errors are counted, or not all errors.", 'level:="error"'
    )
