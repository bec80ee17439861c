"""promql-truth: what PromQL says of a load beside what its generator has counted, and whether alerts tell the truth.

First requests of known codes and delays go to three pods for some minutes, while one of them is deleted, and processes
of theirs end and are started again. Rate, share of errors, median and 95th percentile by PromQL over that time stand
beside the generator's own; the value is the largest difference in percent. What a process has counted after its last
scrape is lost with it, so some difference is honest. Then apps with a burst of errors and apps with a few errors all
the time, side by side: the receiver must be told of each of the former and of none of the latter.
"""

from __future__ import annotations

import asyncio
import random
import textwrap
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from clusters import NAME, running
from common import Figure, announce, finish, machine, options, percentile, say, table

from podlab import addons
from podlab.addons.prometheus import Prometheus, notifications
from podlab.checks.api import Api
from podlab.checks.world import is_ready, make_namespace
from podlab.cluster import clusters
from podlab.distributed import load
from podlab.errors import AddonError, WaitTimeout
from podlab.waiting import pause, until

PLACE, ALERT = "promql-truth", "HighErrorRatio"
#: Percent of difference; seconds that something may take, which is no verdict on speed.
LIMIT, PATIENCE = 2.0, 900
#: Seconds of load before and after the time that is compared: scrapes lie in it, not at its edges.
EDGE = 15
#: The share of errors of the load. One in so many requests fails in a burst, and in healthy apps (the alert: 5 %).
ERRORS, BURST, FEW = 0.12, 2, 50
PROGRAM = """
import http.server, os, threading, time, urllib.parse
BOUNDS = [number / 20 for number in range(1, 33)] + [float("inf")]
LOCK, CODES, ROW, SUM = threading.Lock(), {}, [0] * len(BOUNDS), [0.0]

class Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        began, (path, _, query) = time.monotonic(), self.path.partition("?")
        if path == "/end":
            os._exit(1)
        if path == "/metrics":
            return self.send(200, counted())
        asked = dict(urllib.parse.parse_qsl(query))
        threading.Event().wait(float(asked.get("delay", 0)))
        code, seconds = int(asked.get("code", 200)), time.monotonic() - began
        with LOCK:
            CODES[code] = CODES.get(code, 0) + 1
            SUM[0] += seconds
            for number, bound in enumerate(BOUNDS):
                ROW[number] += seconds <= bound
        self.send(code, "done")

    def send(self, code, text):
        self.send_response(code)
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_words):
        pass

def counted():
    with LOCK:
        lines = ["# TYPE http_requests_total counter"]
        lines += [f'http_requests_total{{code="{code}"}} {number}' for code, number in CODES.items()]
        lines.append("# TYPE http_request_duration_seconds histogram")
        for bound, number in zip(BOUNDS, ROW):
            edge = "+Inf" if bound == BOUNDS[-1] else f"{bound:g}"
            lines.append(f'http_request_duration_seconds_bucket{{le="{edge}"}} {number}')
        lines += [f"http_request_duration_seconds_count {ROW[-1]}", f"http_request_duration_seconds_sum {SUM[0]:.6f}"]
    return "\\n".join(lines) + "\\n"

class Server(http.server.ThreadingHTTPServer):
    daemon_threads, request_queue_size = True, 128

Server(("", 8080), Page).serve_forever()
"""


def app(api: Api, name: str, replicas: int) -> int:
    """Make an app that Prometheus scrapes; returns the port on this machine at which it can be asked."""
    labels = {"app": name}
    container = {
        "name": "main",
        "image": "podlab/python:3",
        "imagePullPolicy": "IfNotPresent",
        "command": ["python3", "-S", "-c", textwrap.dedent(PROGRAM)],
        "readinessProbe": {"tcpSocket": {"port": 8080}, "periodSeconds": 1},
    }
    scraped = {"prometheus.io/scrape": "true", "prometheus.io/port": "8080"}
    template = {
        "metadata": {"labels": labels, "annotations": scraped},
        "spec": {"terminationGracePeriodSeconds": 0, "containers": [container]},
    }
    spec = {"replicas": replicas, "selector": {"matchLabels": labels}, "template": template}
    api.apply({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name}, "spec": spec}, PLACE)
    service = {"type": "NodePort", "selector": labels, "ports": [{"port": 80, "targetPort": 8080}]}
    made = api.apply({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": service}, PLACE)
    port: int = made["spec"]["ports"][0]["nodePort"]
    return port


def gone(api: Api, names: Sequence[str]) -> None:
    """Take apps away and wait for the end of their pods."""
    for name in names:
        api.delete("Service", name, PLACE)
        api.delete("Deployment", name, PLACE)
    until(lambda: not api.list("Pod", PLACE), "the end of the apps", timeout=PATIENCE, interval=0.3)


def scraped(api: Api, ask: Prometheus, names: Sequence[str], pods: int) -> None:
    """Return when all pods of some apps are Ready and have been scraped."""
    chosen = f'up{{namespace="{PLACE}", app=~"{"|".join(names)}"}}'

    def all_of_them() -> bool:
        ready = sum(is_ready(pod) for pod in api.list("Pod", PLACE))
        return ready >= pods and (ask.number(f"sum({chosen})") or 0) >= pods

    until(all_of_them, f"{pods} pods being scraped", timeout=PATIENCE, interval=0.5, ignore=(AddonError,))


async def asked(port: int, path: str) -> int:
    """The code of the answer to one request on a connection of its own."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(f"GET {path} HTTP/1.0\r\n\r\n".encode())
        answer = await reader.read()
        return int(answer.split(b" ", 2)[1])
    finally:
        writer.close()


@contextmanager
def under_load(jobs: Sequence[Callable[[threading.Event], Any]]) -> Iterator[list[Any]]:
    """Run coroutines (each is told by an event when to end) in a thread beside the block; their results in the end."""
    enough, results = threading.Event(), []

    async def all_of_them() -> None:
        results.extend(await asyncio.gather(*(job(enough) for job in jobs)))

    thread = threading.Thread(target=lambda: asyncio.run(all_of_them()))
    thread.start()
    try:
        yield results
    finally:
        enough.set()
        thread.join()


def while_not(enough: threading.Event, due: Iterator[float]) -> Iterator[float]:
    """What is due until it is enough."""
    for moment in due:
        if enough.is_set():
            return
        yield moment


@dataclass
class Seen:
    """The time that is compared, as one of the two saw it: per second, a share, seconds, seconds."""

    rate: float
    errors: float
    median: float
    high: float


def compare(
    api: Api, ask: Prometheus, rate: int, seconds: int, deletions: int, restarts: int, seed: int
) -> tuple[Seen, Seen, int]:
    """Load three pods, delete some, end some of their processes, ask both; how many processes were started again."""
    port, chance = app(api, "truth", 3), random.Random(seed)
    scraped(api, ask, ["truth"], 3)
    began = 0.0

    async def requests(enough: threading.Event) -> load.Report:
        nonlocal began

        def path() -> str:
            slow = chance.random() < 0.1
            delay = chance.uniform(0.8, 1.4) if slow else chance.uniform(0.2, 0.8)
            return f"/ask?code={503 if chance.random() < ERRORS else 200}&delay={delay:.3f}"

        began = time.time()
        due = while_not(enough, load.arrivals(rate, 86_400, process="even"))
        return await load.generate(lambda _: asked(port, path()), due, timeout=60)

    with under_load([requests]) as results:
        pause(EDGE)
        step = seconds / (deletions + restarts + 1)
        for _ in range(deletions):  # first: a pod takes the number of its restarts with it
            pause(step)
            api.delete("Pod", chance.choice(api.list("Pod", PLACE))["metadata"]["name"], PLACE, grace=0)
        for _ in range(restarts):
            pause(step)
            try:
                asyncio.run(asked(port, "/end"))
            except (OSError, IndexError):
                pass  # it ends before it answers
        pause(EDGE + step)
    report: load.Report = results[0]
    end = began + EDGE + seconds
    ours = f'{{namespace="{PLACE}", app="truth"'
    window = f"[{seconds}s]"
    total = f"sum(rate(http_requests_total{ours}}}{window}))"
    buckets = f"sum by (le) (rate(http_request_duration_seconds_bucket{ours}}}{window}))"
    failed = f'sum(rate(http_requests_total{ours}, code=~"5.."}}{window}))'
    questions = (total, f"{failed} / {total}", *(f"histogram_quantile({part}, {buckets})" for part in (0.5, 0.95)))
    said = Seen(*(ask.number(question, at=end) or 0.0 for question in questions))
    inside = [one for one in report.answered if EDGE <= one.ended < EDGE + seconds]
    times = [one.service for one in inside]
    truth = Seen(
        len(inside) / seconds,
        sum(one.value >= 500 for one in inside) / len(inside),
        percentile(times, 50),
        percentile(times, 95),
    )
    again = sum(one["status"]["containerStatuses"][0]["restartCount"] for one in api.list("Pod", PLACE))
    gone(api, ["truth"])
    return truth, said, again


@dataclass
class Alerts:
    """What the receiver was told of, and how long after the beginning of a burst."""

    told: set[str] = field(default_factory=set)
    took: list[float] = field(default_factory=list)


def fired(api: Api) -> set[str]:
    """The apps of whose errors the receiver has been told."""
    return {
        str(alert["labels"]["app"])
        for notification in notifications(api)
        for alert in notification["alerts"]
        if alert["labels"].get("alertname") == ALERT and alert["labels"].get("namespace") == PLACE
    }


def round_of_alerts(api: Api, ask: Prometheus, bursts: list[str], healthy: list[str], rate: int, found: Alerts) -> None:
    """Some apps of each kind side by side: a burst of 45 s in some, one request in fifty failing in the others."""
    ports = {name: app(api, name, 1) for name in (*bursts, *healthy)}
    scraped(api, ask, list(ports), len(ports))
    bursting = threading.Event()

    def job(name: str) -> Callable[[threading.Event], Any]:
        def path(number: int) -> str:
            every = FEW if name in healthy else BURST if bursting.is_set() else 0
            bad = every and number % every == every - 1
            return f"/ask?code={503 if bad else 200}"

        async def requests(enough: threading.Event) -> None:
            due = while_not(enough, load.arrivals(rate, 86_400, process="even"))
            await load.generate(lambda number: asked(ports[name], path(number)), due, timeout=60)

        return requests

    with under_load([job(name) for name in ports]):
        pause(20)
        bursting.set()
        began, missing = time.monotonic(), set(bursts)

        def all_told() -> bool:
            now = missing & fired(api)
            found.took.extend([time.monotonic() - began] * len(now))
            missing.difference_update(now)
            if time.monotonic() - began > 45:
                bursting.clear()
            return not missing and not bursting.is_set()

        try:
            until(all_told, "the receiver being told", timeout=180, interval=0.5, ignore=(AddonError,))
        except WaitTimeout as error:
            say(f"  {error}")
    found.told |= fired(api)
    # The receiver is not all: an alert that fired and was not passed on has fired.
    rows = ask.query(f'count by (app) (last_over_time(ALERTS{{alertname="{ALERT}", alertstate="firing"}}[10m]))')
    found.told |= {row.labels["app"] for row in rows if row.labels.get("app") in healthy}
    gone(api, list(ports))


def main() -> None:
    """Compare, burst, tell."""
    given = options(
        __doc__,
        seconds=(300, 60, "of the load that is compared"),
        rate=(40, 20, "its requests per second"),
        deletions=(1, 0, "pods that are deleted meanwhile"),
        restarts=(3, 0, "processes that end meanwhile"),
        runs=(50, 2, "apps with a burst, and as many healthy ones"),
        at_once=(10, 2, "of each kind side by side"),
        app_rate=(4, 4, "requests per second of such an app"),
        seed=(1, 1, "of delays and errors"),
        nodes=(3, 2, "nodes"),
    )
    here = machine()
    announce("promql-truth", here)
    alerts, bursts, calm = Alerts(), [], []
    with running(given.nodes):
        api = Api.connect(clusters.get(NAME).kubeconfig)
        addons.enable("monitoring", NAME)
        ask = Prometheus.of_cluster(api)
        make_namespace(api, PLACE, "benchmark")
        truth, said, again = compare(api, ask, given.rate, given.seconds, given.deletions, given.restarts, given.seed)
        for first in range(0, given.runs, given.at_once):
            numbers = range(first, min(given.runs, first + given.at_once))
            some, others = [f"burst-{n}" for n in numbers], [f"calm-{n}" for n in numbers]
            round_of_alerts(api, ask, some, others, given.app_rate, alerts)
            bursts += some
            calm += others
            say(f"  told of {len(alerts.told & {*bursts})} of {len(bursts)} bursts, {len(alerts.told & {*calm})} calm")
    names = {"rate": "requests per second", "errors": "share of errors", "median": "median, s", "high": "p95, s"}
    off = {name: 100 * abs(getattr(said, name) / getattr(truth, name) - 1) for name in names}
    rows = [(title, getattr(truth, name), getattr(said, name), off[name]) for name, title in names.items()]
    table(f"{given.seconds} s, {again} processes started again", ("", "generator", "PromQL", "differs by %"), rows)
    right, wrong = len(alerts.told & {*bursts}), len(alerts.told & {*calm})
    slowest = max(alerts.took, default=0.0)
    table("alerts", ("", "of", "fired"), [("bursts", len(bursts), right), ("healthy", len(calm), wrong)])
    value = max(off.values())
    met = value <= LIMIT and right == len(bursts) and not wrong and again == given.restarts
    more = {"differs": {name: round(one, 2) for name, one in off.items()}, "restarts": again}
    more["deletions"] = given.deletions
    more |= {"bursts": len(bursts), "fired": right, "fired_healthy": wrong, "slowest_seconds": round(slowest, 1)}
    limit = f"{LIMIT:g} %, each burst and no healthy app fires"
    finish(Figure("promql-truth", value, "% off", limit=limit, met=met, more=more), here)


if __name__ == "__main__":
    main()
