"""The clients of Prometheus and VictoriaLogs, against an API server that gives prepared answers."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from podlab.addons import logs
from podlab.addons.logs import Logs
from podlab.addons.opensearch import OpenSearch
from podlab.addons.prometheus import (
    Prometheus,
    QueryError,
    complaints,
    marked,
    notifications,
    refusal,
    series,
    shown,
)
from podlab.checks.api import ApiError
from podlab.checks.contract import NotGradable
from podlab.course.logs.store import Store
from podlab.errors import AddonError


class Answers:
    """An API server that says the same to every request and keeps what was asked."""

    def __init__(self, status: int, body: str) -> None:
        self.status, self.body = status, body
        self.asked: list[tuple[str, str, dict[str, Any]]] = []

    def raw(self, method: str, path: str, **options: Any) -> SimpleNamespace:
        self.asked.append((method, path, options))
        return SimpleNamespace(status=self.status, data=self.body.encode())


def prometheus(data: Any) -> Prometheus:
    return Prometheus.of_cluster(Answers(200, json.dumps({"status": "success", "data": data})))  # type: ignore[arg-type]


VECTOR = {
    "resultType": "vector",
    "result": [{"metric": {"app": "a"}, "value": [1.5, "2"]}, {"metric": {"app": "b"}, "value": [1.5, "NaN"]}],
}


def test_results_of_every_type_are_series() -> None:
    first = series(VECTOR)[0]
    assert (first.labels, first.points) == ({"app": "a"}, [(1.5, 2.0)])
    matrix = {"resultType": "matrix", "result": [{"metric": {}, "values": [[1, "1"], [2, "3"]]}]}
    assert series(matrix)[0].points == [(1, 1), (2, 3)] and series(matrix)[0].value == 3
    assert series({"resultType": "scalar", "result": [1, "4"]})[0].value == 4
    with pytest.raises(QueryError, match="a text"):
        series({"resultType": "string", "result": [1, "x"]})


def test_one_number_is_asked_for_and_several_are_refused_with_what_to_do() -> None:
    assert prometheus({"resultType": "vector", "result": []}).number("nothing") is None
    assert prometheus({"resultType": "scalar", "result": [1, "4"]}).number("4") == 4
    with pytest.raises(QueryError, match=r'has 2 values, one for each of \{app="a"\}.*sum'):
        prometheus(VECTOR).number("rate(x[1m])")


@pytest.mark.parametrize(
    "ask",
    [
        lambda api: Prometheus.of_cluster(api).query("up"),
        lambda api: Logs.of_cluster(api).query("*"),
        lambda api: OpenSearch(api).ask("GET", "_search"),
        notifications,
    ],
    ids=["prometheus", "logs", "opensearch", "notifications"],
)
def test_who_may_not_ask_through_the_api_server_is_told_the_right_and_not_to_enable_what_is_there(ask: Any) -> None:
    right = 'User "ada" cannot get resource "services/proxy" in API group "" in the namespace "monitoring"'
    body = json.dumps({"kind": "Status", "reason": "Forbidden", "message": f'services "x" is forbidden: {right}'})
    with pytest.raises(ApiError, match='cannot get resource "services/proxy"') as caught:
        ask(Answers(403, body))
    assert "Ask those who run the cluster" in (caught.value.hint or "")
    with pytest.raises(AddonError, match="status 403"):
        ask(Answers(403, "a program behind the proxy has rules of its own"))


def test_a_refusal_has_prometheus_own_words_and_marks_the_place() -> None:
    said = "invalid parameter \"query\": 1:15: parse error: unexpected right parenthesis ')'"
    body = json.dumps({"status": "error", "errorType": "bad_data", "error": said})
    with pytest.raises(QueryError) as caught:
        Prometheus.of_cluster(Answers(400, body)).query("rate(requests))")  # type: ignore[arg-type]
    first, line, mark = caught.value.message.splitlines()
    assert "parse error: unexpected right parenthesis" in first
    assert line.strip() == "rate(requests))" and line[len(mark) - 1] == ")" and mark.index("^") == 2 + 14


EARLIER = """\
time=1 level=INFO source=main.go:1 msg="Loading configuration file" filename=c.yml
time=1 level=ERROR source=manager.go:2 msg="loading groups failed" component="rule manager" err="an earlier one"
time=1 level=ERROR source=main.go:3 msg="Error reloading config" err="one or more errors occurred"
"""
RELOADED = """\
time=2 level=INFO source=main.go:1 msg="Loading configuration file" filename=c.yml
time=2 level=ERROR source=manager.go:2 msg="loading groups failed" component="rule manager" err="/a.yaml: \\"X\\": bad"
time=2 level=ERROR source=main.go:3 msg="Error reloading config" err="one or more errors occurred"
"""


def refuse(method: str, path: str, query: Any) -> tuple[int, bytes]:
    """A Prometheus that takes no rules and can read no sum."""
    if method == "POST":
        return 500, b"failed to reload config: one or more errors occurred\n"
    assert path == "api/v1/parse_query"
    if "sum" in query["query"]:
        return 400, b'{"status": "error", "error": "1:5: parse error: bad"}'
    return 200, b'{"status": "success", "data": {}}'


def test_why_rules_are_refused_is_said_in_the_words_of_the_log() -> None:
    """Which come a moment after the answer, behind those of an earlier refusal."""
    begun = RELOADED.splitlines(keepends=True)
    seen = iter([EARLIER, EARLIER, EARLIER + begun[0], EARLIER + begun[0] + begun[1], EARLIER + RELOADED])
    with pytest.raises(QueryError, match=r'keeps its old configuration: /a\.yaml: "X": bad$'):
        Prometheus(refuse, lambda: next(seen)).reload()
    with pytest.raises(QueryError, match="configuration: failed to reload config"):
        Prometheus(refuse).reload()
    assert complaints('level=ERROR err="yaml: line 3"\n') == "yaml: line 3"


OWN = 'groups: [{name: g, rules: [{record: a, expr: up}, {record: r, expr: "up\\n + sum(up"}]}]'


@pytest.mark.parametrize(
    ("rules", "place"),
    [
        ({"a.yaml": OWN, "b.yaml": OWN}, ["   + sum(up", " " * 11 + "^"]),
        ({"b.yaml": OWN.replace("sum(up", "down")}, []),
        ({"b.yaml": "groups:"}, []),
    ],
    ids=["as it was read", "mended, which the pod has not yet", "without groups by now"],
)
def test_a_refusal_of_ones_own_rules_marks_the_place_in_the_expression(rules: dict[str, str], place: list[str]) -> None:
    said = r"/b.yaml: 5:11: group \"g\", rule 2, \"r\": could not parse expression: 2:10: parse error: bad"
    log = iter(["", RELOADED.replace(r"/a.yaml: \"X\": bad", said)])
    with pytest.raises(QueryError, match=r"b\.yaml.* bad") as caught:
        Prometheus(refuse, lambda: next(log), lambda: rules).reload()
    assert caught.value.message.splitlines()[1:] == place


def test_the_place_is_in_the_line_that_is_named() -> None:
    assert refusal("sum(\n  rate(x[)\n)", "2:10: parse error: bad").splitlines()[1:] == ["    rate(x[)", " " * 11 + "^"]
    assert refusal('up{a="é"} foo', "1:12: parse error: bad").splitlines()[2] == " " * 12 + "^", "it counts bytes"
    assert refusal("\tup foo", "1:5: parse error: bad").splitlines()[2] == "  \t   ^", "as wide as what is above it"
    assert refusal("x", "query timed out") == "Prometheus refuses the question: query timed out"


def test_without_the_add_on_it_is_said_how_to_get_it() -> None:
    away = Answers(404, '{"kind": "Status", "message": "services prometheus not found"}')
    with pytest.raises(AddonError, match="podlab addon enable monitoring"):
        Prometheus.of_cluster(away).query("up")  # type: ignore[arg-type]
    with pytest.raises(AddonError, match="podlab addon enable logging"):
        Logs.of_cluster(away).query("*")  # type: ignore[arg-type]


def test_labels_as_promql_writes_them() -> None:
    assert shown({"__name__": "up", "job": "x", "app": "y"}) == 'up{app="y", job="x"}'


def test_lines_of_logs_come_as_dictionaries_and_refusals_with_their_words() -> None:
    api = Answers(200, '{"_msg": "one\u2028and\x85more"}\n{"_msg": "two"}\n')
    found = [line["_msg"] for line in Logs.of_cluster(api).query("*", limit=5)]  # type: ignore[arg-type]
    assert found == ["one\u2028and\x85more", "two"]
    assert api.asked[0][2]["query"] == {"query": "*", "limit": "5"}
    with pytest.raises(QueryError, match="cannot parse"):
        Logs.of_cluster(Answers(400, "cannot parse query [|]")).query("|")  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def store() -> Iterator[Store]:
    try:
        found = Store()
    except NotGradable as error:
        pytest.skip(str(error))
    yield found
    found.close()


def test_a_log_store_says_what_time_it_is(store: Store) -> None:
    before = time.time()
    assert before - 0.001 <= store.ask.now() <= time.time() + 0.001


FAR = " or ".join(f"word{number}" for number in range(20))


@pytest.mark.parametrize(
    ("question", "line", "end"),
    [
        ("* | stats by (x) counts() n", "* | stats by (x) counts() n", "counts"),
        ("* |\n  stats bogus(x)\n  | limit 1", "  stats bogus(x)", "bogus"),
        ("größe:( | x", "größe:( | x", "|"),
        (f"{FAR} | foo bar", f"{FAR} | foo bar", "foo"),
        ("(a b ", "(a b ", "b"),
        ("a b) c", "a b) c", ")"),
    ],
)
def test_a_refusal_of_logsql_marks_the_place(store: Store, question: str, line: str, end: str) -> None:
    with pytest.raises(QueryError) as caught:
        store.ask.query(question)
    first, shown_, mark = caught.value.message.splitlines()
    assert first.startswith("VictoriaLogs refuses the question: ") and "context" not in first and question not in first
    assert shown_ == f"  {line}" and shown_[: len(mark)].endswith(end) and mark.strip() == "^"


def test_where_the_words_name_no_place_none_is_marked() -> None:
    assert logs.refusal("a", "cannot parse; context: []").endswith("context: []")
    twice = "x" * 49 + " " + "x" * 50
    assert "^" not in logs.refusal(f"({twice}", f"bad; context: [{'x' * 49}]")


@pytest.mark.parametrize("status", [422, 429, 500, 503])
def test_why_a_log_store_that_answers_cannot_is_said_in_its_words(status: int) -> None:
    full = Logs.of_cluster(Answers(status, "cannot add rows: the storage is in read-only mode\n"))  # type: ignore[arg-type]
    for ask in (lambda: full.query("*"), lambda: full.bulk([{"message": "one"}])):
        with pytest.raises(AddonError, match=rf"{status}\): .*read-only mode .*logs victoria-logs-0$") as caught:
            ask()
        assert "enable" not in str(caught.value)


def test_a_bulk_that_is_refused_is_told_in_the_words_of_the_real_store(store: Store) -> None:
    with pytest.raises(AddonError, match=r'status 400.*cannot parse unix timestamp "zzz"'):
        store.ask.bulk([{"message": "one", "@timestamp": "zzz"}])
    away = Logs.of_cluster(Answers(503, '{"kind": "Status", "message": "no endpoints available"}'))  # type: ignore[arg-type]
    with pytest.raises(AddonError, match="podlab addon enable logging"):
        away.bulk([{"message": "one"}])


def test_lines_in_bulk_are_pairs_and_tell_where_message_and_time_are() -> None:
    api = Answers(200, "{}")
    Logs.of_cluster(api).bulk([{"message": "one", "@timestamp": "0"}], stream=["app"])  # type: ignore[arg-type]
    _, path, options = api.asked[0]
    assert path.endswith("/insert/elasticsearch/_bulk")
    assert options["body"].splitlines() == ['{"create":{}}', '{"message": "one", "@timestamp": "0"}']
    assert options["query"] == {"_msg_field": "message", "_time_field": "@timestamp", "_stream_fields": "app"}


def test_the_end_of_a_text_is_behind_its_last_line() -> None:
    """An expression under `expr: |` ends with a line break, and what is missing at its end is on a line of its own."""
    assert marked("sum(x\n", 2, 1) == "\n  sum(x\n       ^"
    assert marked("", 1, 1) == "\n  \n  ^"
