"""Asking a VictoriaLogs: LogsQL, and lines in bulk. That of a cluster through the API server's proxy."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

from podlab.addons.prometheus import QueryError, marked
from podlab.checks.api import Api, permitted
from podlab.errors import AddonError

NAMESPACE = "logging"
_SERVICE = f"/api/v1/namespaces/{NAMESPACE}/services/victoria-logs:9428/proxy"
#: What the bulk interface must be told, or messages and times end in fields of other names.
_FIELDS = {"_msg_field": "message", "_time_field": "@timestamp"}
_LINES = "application/x-ndjson"
_OWN = ("_msg", "_stream", "_stream_id", "_time")

Line = dict[str, str]
#: (method, path, query, body or nothing, headers) -> status and body.
Exchange = Callable[[str, str, Mapping[str, str], bytes | None, Mapping[str, str]], tuple[int, bytes]]


class Logs:
    """One log store, behind an `exchange` of requests."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange

    @classmethod
    def of_cluster(cls, api: Api) -> Logs:
        """The one of the add-on `logging`."""

        def exchange(
            method: str, path: str, query: Mapping[str, str], body: bytes | None, headers: Mapping[str, str]
        ) -> tuple[int, bytes]:
            sent: dict[str, Any] = (
                {"body": body.decode(), "content_type": headers["Content-Type"]} if body is not None else {}
            )
            answer = permitted(api.raw(method, f"{_SERVICE}/{path}", query=query, timeout=60, **sent))
            return answer.status, answer.data

        return cls(exchange)

    def query(self, question: str, limit: int = 1000, *, within: str = "") -> list[Line]:
        """The lines (or the rows, after a pipe) that a LogsQL question finds; QueryError with its words if refused.

        More than `limit` are not given; 0 is no limit. `within`: filters, as LogsQL, that hold whatever the question
        says, also for the questions inside it.
        """
        limited = {"limit": str(limit)} if limit else {}
        text = self._ask("select/logsql/query", {"query": question, **limited, **_only(within)}, question)
        return [json.loads(line) for line in text.split("\n") if line]

    def count(self, question: str) -> int:
        """How many lines a question finds.

        VictoriaLogs leaves lines of a new stream out until, some seconds later, it can tell its name, wherever the name
        is wanted, as `query` does; so the name is wanted here too, and what was counted is found.
        """
        return sum(int(row["lines"]) for row in self.query(f"{question} | stats by (_stream) count() lines", limit=0))

    def now(self) -> float:
        """Its time, in seconds since the epoch: a notebook's clock may be another."""
        (row,) = self.query("_time:1ns | generate_sequence 1 | math now() as now")
        return int(row["now"]) / 1e9

    def hits(
        self, question: str, begin: float, end: float, parts: int = 40, *, within: str = ""
    ) -> list[tuple[float, int]]:
        """How many lines a question finds, before its pipes, in each of some equal parts of a time.

        (Beginning of the part in seconds since the epoch, lines); `within` as in `query`.
        """
        step = max(1, round((end - begin) / parts))
        begin = begin // step * step
        query = {"query": question, "start": f"{begin:.0f}", "end": f"{end:.3f}", "step": f"{step}s"}
        query |= {"ignore_pipes": "1", **_only(within)}
        found = dict.fromkeys(range(int(begin), int(end) + 1, step), 0)
        for group in json.loads(self._ask("select/logsql/hits", query, question))["hits"]:
            for moment, lines in zip(group["timestamps"], group["values"], strict=True):
                at = int(datetime.fromisoformat(moment.replace("Z", "+00:00")).timestamp())
                found[at] = found.get(at, 0) + lines
        return sorted((float(at), lines) for at, lines in found.items())

    def fields(self, question: str, *, within: str = "") -> dict[str, int]:
        """The fields of the lines that a question finds before its pipes -> in how many lines; `within` as in `query`.

        Without those that VictoriaLogs gives every line: `_time`, `_msg`, `_stream`, `_stream_id`.
        """
        query = {"query": question, "ignore_pipes": "1", **_only(within)}
        found = json.loads(self._ask("select/logsql/field_names", query, question))["values"]
        return {one["value"]: one["hits"] for one in found if one["value"] not in _OWN}

    def bulk(self, lines: Sequence[Mapping[str, object]], stream: Sequence[str] = ()) -> None:
        """Put lines in by the bulk interface of Elasticsearch: `message` and `@timestamp`, and any other fields.

        Lines with the same values of the fields `stream` are kept together. AddonError with its words if it takes none.
        """
        body = "".join(f'{{"create":{{}}}}\n{json.dumps(line)}\n' for line in lines)
        query = {**_FIELDS, **({"_stream_fields": ",".join(stream)} if stream else {})}
        sent = {"Content-Type": _LINES}
        status, answer = self._exchange("POST", "insert/elasticsearch/_bulk", query, body.encode(), sent)
        if status != 200:
            raise _failed(status, answer.decode("utf-8", "replace"))

    def _ask(self, path: str, query: Mapping[str, str], question: str) -> str:
        status, body = self._exchange("GET", path, query, None, {})
        text = body.decode("utf-8", "replace")
        if status == 400:
            raise QueryError(refusal(question, text.strip()))
        if status != 200:
            raise _failed(status, text)
        return text


def _only(filters: str) -> dict[str, str]:
    """Filters apart from the question: put into its text, they would depend on how it is read."""
    return {"extra_filters": filters} if filters else {}


def refusal(question: str, said: str) -> str:
    """VictoriaLogs' words, and below them the line of the question with the place marked, if they name one.

    They name it by what they have read, of which the last 50 bytes are shown: the mark is below the last of it.
    """
    words, _, context = said.rpartition("; context: [")
    # Where letters are cut apart. What follows a whole question is told as its tail.
    read = context.partition("]; tail: [")[0].removesuffix("]").lstrip("\ufffd")
    if not read.strip() or (question.count(read) != 1 and not question.startswith(read)):
        return f"VictoriaLogs refuses the question {question!r}: {said}"
    before = question[: question.index(read)] + read.rstrip()
    words = words.removeprefix(f"cannot parse `query` arg [{question}]: ")
    lines = before.splitlines()
    return f"VictoriaLogs refuses the question: {words}{marked(question, len(lines), len(lines[-1]))}"


def _failed(status: int, said: str) -> AddonError:
    """With the words of VictoriaLogs, if it is not the API server that answers in its place."""
    try:
        away = json.loads(said).get("kind") == "Status"
    except (ValueError, AttributeError):
        away = not said.strip()
    if not away:
        return AddonError(
            f"VictoriaLogs does not do it (status {status}): {said.strip()}",
            hint=f"Its log may say more: kubectl --namespace {NAMESPACE} logs victoria-logs-0",
        )
    return AddonError(
        f"VictoriaLogs, which is asked here in LogsQL, does not answer (status {status}).",
        hint="See `podlab addon status logging`; bring it in with `podlab addon enable logging`. "
        "An OpenSearch has no LogsQL: ask it with lab.opensearch.",
    )
