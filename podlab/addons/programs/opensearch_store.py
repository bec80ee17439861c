"""OpenSearch as the spool's store: vlagent's blocks become documents of `_bulk`.

What OpenSearch has taken is on its disk (index.translog.durability is `request`): nothing has to be held back.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from typing import Any

try:
    from podlab.addons.programs.packing import unpacked
except ImportError:  # in a pod the programs lie side by side
    from packing import unpacked  # type: ignore[no-redef]

Document = dict[str, Any]
#: (method, path, body, headers) -> status and body; OSError if the store is away.
Ask = Callable[..., tuple[int, bytes]]

#: Where lines are written, and where they are looked for.
WRITE, READ = "logs-write", "logs"
LABELS = "kubernetes.pod_labels"
#: Fields of a line, beyond which it comes as a text: an index has 1000 for all programs, and gives none back.
MOST_FIELDS = 200
JSON, LINES = {"Content-Type": "application/json"}, {"Content-Type": "application/x-ndjson"}

KEYWORD = {"type": "keyword", "ignore_above": 1024}
#: What the shipper adds to each line. A name may be all digits, and is no number.
OF_KUBERNETES = ("container_id", "container_name", "pod_ip", "pod_name", "pod_namespace", "pod_node_name")
TEMPLATE = {
    "index_patterns": ["logs-0*"],
    "template": {
        "settings": {
            "number_of_shards": 1,
            "number_of_replicas": 0,
            # A field that is a number in one program and a word in another stays findable as a number.
            "index.mapping.ignore_malformed": True,
            "index.refresh_interval": "1s",
        },
        "aliases": {READ: {}},
        "mappings": {
            "numeric_detection": True,
            "date_detection": False,
            "dynamic_templates": [
                # Digits alone make no number of these.
                {"names": {"match_pattern": "regex", "match": "^(.*_)?id$", "mapping": KEYWORD}},
                {"words": {"match_mapping_type": "string", "mapping": KEYWORD}},
            ],
            # All that `plain` keeps: an index that has no room for another field takes texts all the same.
            "properties": {
                "@timestamp": {"type": "date_nanos"},
                "message": {"type": "text"},
                "exception": {"type": "text"},
                LABELS: {"type": "flat_object"},
                **{f"kubernetes.{name}": KEYWORD for name in OF_KUBERNETES},
                "refused": KEYWORD,
                "original": {"type": "keyword", "index": False, "doc_values": False},
            },
        },
    },
}


def document(line: Document) -> Document:
    """A line as vlagent has it, under the names that Elasticsearch's shippers use."""
    found = {name: value for name, value in line.items() if not name.startswith(("_stream", f"{LABELS}."))}
    found["@timestamp"] = found.pop("_time", None)
    found["message"] = found.pop("_msg", "")
    # Names of labels have dots that do not mean a tree.
    if labels := {k.removeprefix(f"{LABELS}."): v for k, v in line.items() if k.startswith(f"{LABELS}.")}:
        found[LABELS] = labels
    return found


def plain(line: Document, reason: str) -> Document:
    """A line whose fields OpenSearch refuses: as a text, with what it said."""
    told = document(line)
    names = ["@timestamp", "message", *(f"kubernetes.{name}" for name in OF_KUBERNETES)]
    if isinstance(told.get(LABELS), dict):  # a program may have said it, too
        names.append(LABELS)
    return {**{name: told[name] for name in names if name in told}, "refused": reason, "original": json.dumps(line)}


class OpenSearch:
    """The store of the add-on `opensearch`."""

    def __init__(self, ask: Ask) -> None:
        self._ask, self._prepared = ask, ""
        self.lags = False  # what it has taken is on its disk
        self.texts = 0

    def process(self) -> str:
        """The moment at which it was started. A process that is seen first is given the template, and an index."""
        status, body = self._ask("GET", "/_nodes/_local?filter_path=nodes.*.jvm.start_time_in_millis")
        if status != 200:
            raise OSError(f"the store answers {status}")
        word = body.decode()
        if word != self._prepared:
            self._prepare()
            self._prepared = word
        return word

    def send(self, path: str, block: bytes) -> bool:
        """Hand a block on. A line that is refused with its fields is sent as a text; False if that is refused too.

        False also of a block that cannot be read, now or ever.
        """
        try:
            lines = [json.loads(line.decode(errors="replace")) for line in unpacked(block).splitlines() if line]
        except ValueError as error:
            print(f"a block cannot be read: {error}", file=sys.stderr, flush=True)
            return False
        refused = self._bulk([self._narrow(line) for line in lines])
        return not self._bulk([self._text(lines[place], reason) for place, reason in refused])

    def _narrow(self, line: Document) -> Document:
        told = document(line)
        if len(told) <= MOST_FIELDS:
            return told
        return self._text(line, f"{len(told)} fields, where a line may have {MOST_FIELDS}")

    def _text(self, line: Document, reason: str) -> Document:
        self.texts += 1
        return plain(line, reason)

    def _bulk(self, documents: Sequence[Document]) -> list[tuple[int, str]]:
        """Put documents in; returns which were refused for good, and why."""
        if not documents:
            return []
        body = "".join(f'{{"create":{{}}}}\n{json.dumps(one)}\n' for one in documents)
        status, answer = self._ask("POST", f"/{WRITE}/_bulk", body.encode(), LINES)
        if status == 400:
            return [(place, answer[:300].decode(errors="replace")) for place in range(len(documents))]
        if status != 200:
            raise OSError(f"the store answers {status}")
        refused = []
        for place, item in enumerate(json.loads(answer)["items"]):
            one = item["create"]
            if one["status"] == 400:
                refused.append((place, "".join(str(one["error"].get("reason", "")).splitlines()[:1])[:300]))
            elif one["status"] // 100 != 2:  # busy, or no room: all of it again later
                raise OSError(f"the store answers {one['status']}: {one['error'].get('reason', '')}")
        return refused

    def _prepare(self) -> None:
        self._must("PUT", "/_index_template/logs", TEMPLATE)
        if self._ask("GET", f"/_alias/{WRITE}")[0] == 404:
            self._must("PUT", f"/{READ}-000001", {"aliases": {WRITE: {"is_write_index": True}}})

    def _must(self, method: str, path: str, body: Document) -> None:
        status, answer = self._ask(method, path, json.dumps(body).encode(), JSON)
        if status // 100 != 2 and b"resource_already_exists" not in answer:  # another spool was quicker
            raise OSError(f"the store answers {status} to {method} {path}: {answer[:300].decode(errors='replace')}")
