"""Requests as evidence: to one pod through the API server, and to a Service from a prober inside the cluster.

The first reaches a pod whether or not a Service would (that is how a fault is switched on and proven). The second
goes the way of real clients: name, cluster address, the node's rules, pod. Both work alike on every provider.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from podlab.checks import finite
from podlab.checks.api import Api, ApiAway, ApiError
from podlab.checks.contract import Inconclusive

if TYPE_CHECKING:
    from podlab.checks.world import Room

PROBER_PORT = 8099
#: What programs/prober.py says of a request that it had no room to send.
_UNSENT = "too many requests under way"


@dataclass(frozen=True)
class Reply:
    """What a pod said: `status` 0 means that no answer came; `body` is {} unless it was a JSON object."""

    status: int
    body: Mapping[str, Any]
    error: str = ""

    @property
    def ok(self) -> bool:
        """Whether the status is 2xx."""
        return 200 <= self.status < 300


def ask(
    api: Api,
    namespace: str,
    pod: str,
    path: str,
    *,
    method: str = "GET",
    port: int = 8080,
    timeout: float = 5.0,
    **query: Any,
) -> Reply:
    """Ask one pod through the API server's pod proxy; no answer within `timeout` seconds is a Reply of status 0."""
    where = f"/api/v1/namespaces/{namespace}/pods/{pod}:{port}/proxy{path}"
    try:
        response = api.raw(method, where, query=query or None, timeout=timeout)
    except ApiAway as error:
        try:
            api.request("GET", "/readyz/ping", timeout=10)  # tells a silent pod from a silent API server
        except ApiError as refusal:
            if refusal.server:
                raise  # who may only edit one namespace is refused, too, which is an answer
        return Reply(0, {}, str(error.message))
    try:
        body = finite.read(response.data)
    except ValueError:
        body = {}
    if isinstance(body, dict) and body.get("kind") == "Status":
        # The proxy itself speaks: the pod could not be reached.
        return Reply(0, {}, str(body.get("message", ""))[:300])
    return Reply(response.status, body if isinstance(body, dict) else {})


@dataclass(frozen=True)
class Record:
    """One request of the prober. `sent` is in its own clock, in seconds; `status` 0 means no answer."""

    sent: float
    status: int
    pod: str
    instance: str
    error: str
    took: float
    #: The address from which the pod saw the request come, where it says so.
    client: str = ""

    @property
    def ok(self) -> bool:
        """Whether it was answered with 2xx."""
        return 200 <= self.status < 300


@dataclass(frozen=True)
class Window:
    """The requests of a span of time."""

    records: Sequence[Record]

    def __len__(self) -> int:
        return len(self.records)

    @property
    def failed(self) -> list[Record]:
        """Requests without a 2xx answer."""
        return [record for record in self.records if not record.ok]

    def share(self) -> Counter[str]:
        """How many requests each pod answered, with whatever status; unanswered ones count under ''."""
        return Counter(record.pod for record in self.records)

    def since(self, moment: float) -> Window:
        """Those sent at or after `moment`."""
        return Window([record for record in self.records if record.sent >= moment])

    def until(self, moment: float) -> Window:
        """Those sent before `moment`."""
        return Window([record for record in self.records if record.sent < moment])

    def summary(self) -> str:
        """In words: how many, how many failed and how, who answered."""
        if not self.records:
            return "no request"
        answered = ", ".join(f"{pod or 'nobody'} {count}" for pod, count in sorted(self.share().items()))
        how = Counter(
            f"status {record.status}" if record.status else record.error or "no answer" for record in self.failed
        )
        failures = f", {len(self.failed)} failed ({', '.join(f'{n} × {what}' for what, n in how.most_common(3))})"
        return f"{len(self.records)} requests{failures if self.failed else ', none failed'}; answered by: {answered}"


class Silent(ApiError):
    """A program of ours in the cluster does not answer."""


class Prober:
    """A pod that asks a Service at a steady rate; started by Room.prober."""

    def __init__(self, room: Room, name: str) -> None:
        self.room = room
        self.name = name
        self._next = 0
        self._seen: list[Record] = []

    def poll(self) -> float:
        """Fetch what is new and return the prober's own time now; Silent if the prober cannot be asked.

        Inconclusive if it could not send at a steady rate. Its patience lets 200 requests be under way at once only
        on a machine that starves it, and what it did not send proves nothing about who would have been asked.
        """
        reply = ask(
            self.room.api, self.room.namespace, self.name, "/records", port=PROBER_PORT, timeout=10, since=self._next
        )
        if not reply.ok:
            raise Silent(503, "ProberAway", f"The prober {self.name} does not answer: {reply.error or reply.status}.")
        self._next = reply.body["next"]
        fresh = _records(reply.body["records"])
        self._seen.extend(fresh)
        if unsent := sum(record.error == _UNSENT for record in fresh):
            raise Inconclusive(f"the machine is too busy for steady requests: {unsent} of {len(fresh)} were not sent")
        return float(reply.body["now"])

    @property
    def records(self) -> list[Record]:
        """Everything fetched so far, in the order in which the requests ended."""
        return list(self._seen)

    def window(self, start: float | None = None, end: float | None = None) -> Window:
        """Everything fetched so far that was sent in [start, end), in the prober's time."""
        window = Window(sorted(self._seen, key=lambda record: record.sent))
        if start is not None:
            window = window.since(start)
        return window.until(end) if end is not None else window


def _records(rows: Iterable[Mapping[str, Any]]) -> list[Record]:
    return [
        Record(
            row["sent"],
            row["status"] if row.get("nonce") == "own" or row["status"] >= 400 else 0,
            row["pod"],
            row["instance"],
            row["error"],
            row["took"],
        )
        for row in rows
    ]


class Client:
    """A pod that does what it is told: looks names up and visits pages; started by Room.client."""

    def __init__(self, room: Room, name: str) -> None:
        self.room = room
        self.name = name

    def _told(self, path: str, timeout: float, **query: Any) -> Mapping[str, Any]:
        reply = ask(self.room.api, self.room.namespace, self.name, path, port=PROBER_PORT, timeout=timeout, **query)
        if not reply.ok:
            raise Silent(503, "ClientAway", f"The client {self.name} does not answer: {reply.error or reply.status}.")
        return reply.body

    def resolve(self, name: str) -> list[str]:
        """The addresses that the cluster's DNS gives this pod for a name; none if it knows no such name."""
        return list(self._told("/resolve", 15, name=name)["addresses"])

    def visit(
        self, target: str, times: int = 1, *, keep: bool = False, patience: float | None = None, every: float = 0
    ) -> Window:
        """Ask a page some times, one after the other, `every` seconds after the last answer.

        `keep`: all over one connection, as far as the server lets. An answer may take `patience` seconds; 8, stretched,
        if nothing is said: a program that stands still for a moment has not refused anybody.
        """
        patience = patience or self.room.world.deadline(8)
        query = {"url": target, "times": times, "keep": int(keep), "patience": patience, "every": every}
        rows = self._told("/visit", times * (patience + every) + 15, **query)["answers"]
        return Window(
            [
                Record(
                    row["sent"], row["status"], row["pod"], row["instance"], row["error"], 0.0, row.get("client", "")
                )
                for row in rows
            ]
        )


def prober_objects(
    name: str, target: str, *, rate: float, patience: float, image: str, node: str | None = None
) -> list[dict[str, Any]]:
    """The objects that make a prober: its program in a ConfigMap, and the pod."""
    environment = {"TARGET": target, "RATE": f"{rate:g}", "PATIENCE": f"{patience:g}"}
    return _program_objects(name, "prober", environment, image=image, node=node)


def client_objects(name: str, *, image: str, node: str | None = None) -> list[dict[str, Any]]:
    """The objects that make a client."""
    return _program_objects(name, "client", {}, image=image, node=node)


def _program_objects(
    name: str, program: str, environment: Mapping[str, str], *, image: str, node: str | None
) -> list[dict[str, Any]]:
    source = resources.files("podlab.checks").joinpath(f"programs/{program}.py").read_text()
    environment = {**environment, "PORT": str(PROBER_PORT)}
    spec: dict[str, Any] = {
        "terminationGracePeriodSeconds": 1,
        "automountServiceAccountToken": False,
        "containers": [
            {
                "name": program,
                "image": image,
                "imagePullPolicy": "IfNotPresent",
                "command": ["python3", "-S", f"/program/{program}.py"],
                "env": [{"name": key, "value": value} for key, value in environment.items()],
                "readinessProbe": {
                    "httpGet": {"path": "/healthz", "port": PROBER_PORT},
                    "periodSeconds": 1,
                    "timeoutSeconds": 5,
                },
                "volumeMounts": [{"name": "program", "mountPath": "/program"}],
            }
        ],
        "volumes": [{"name": "program", "configMap": {"name": name}}],
    }
    if node:
        spec["nodeName"] = node
    labels = {"podlab.dev/ours": program}
    return [
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": name, "labels": labels},
            "data": {f"{program}.py": source},
        },
        {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": labels}, "spec": spec},
    ]


def url(service: str, namespace: str, path: str, port: int = 80, **query: str) -> str:
    """The address of a Service's page as clients inside the cluster write it.

    The final dot says that the name is whole, so that DNS is asked for one name and not for four.
    """
    return f"http://{service}.{namespace}.svc.cluster.local.:{port}{path}" + (f"?{urlencode(query)}" if query else "")
