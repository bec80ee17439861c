"""pods-100: a Deployment of 100 from its creation until every pod is Running and Ready.

Floor: a loop of subprocess.Popen that starts the same program 100 times and waits for the first line of each.
From scheduling to process start: from the scheduler's own Event (microseconds) to the first line that the
program writes, as the node's log has it (nanoseconds).
"""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Callable
from datetime import datetime

from api import DEPLOYMENTS, PODS, Api, Object, Refused, deployment, is_ready
from clusters import running, states, supervisor
from common import Figure, announce, finish, machine, median, options, percentile, say, table
from processes import AGENT_SIDE, CONTROL_PLANE, Used, parts, total

from podlab import waiting

#: Seconds to all Ready and until all are deleted; the CPU time of the agent side for each second of the control plane.
READY, DELETED, SHARE = 4.5, 4.0, 0.35
_ARGV = ["sh", "-c", "echo started; exec sleep 3600"]
_CONTAINER = {"image": "podlab/toolbox:1", "command": _ARGV}
_EVENTS = "/apis/events.k8s.io/v1/namespaces/default/events"


class Watcher:
    """Notes when each pod was first seen Running, first seen Ready, and gone; seconds since `began`.

    Pods with the label app=APP, or all of the namespace.
    """

    def __init__(self, api: Api, app: str = "") -> None:
        self.running: dict[str, float] = {}
        self.ready: dict[str, float] = {}
        self.gone: dict[str, float] = {}
        self.began = time.monotonic()
        #: How often the watch ended early and everything was listed anew.
        self.lists = 0
        self._api, self._selector = api, f"app={app}" if app else ""
        self._ended = False
        version = self._list()
        threading.Thread(target=self._follow, args=(version,), daemon=True).start()

    def _list(self) -> str:
        """Take note of all pods as they are; returns the version from which a watch goes on."""
        answer = self._api.get(PODS, labelSelector=self._selector)
        for pod in answer["items"]:
            self._see(pod)
        there = {pod["metadata"]["name"] for pod in answer["items"]}
        for name in self.running.keys() - there:
            self.gone.setdefault(name, self._now())
        self.lists += 1
        return answer["metadata"]["resourceVersion"]

    def end(self) -> None:
        """Stop following."""
        self._ended = True

    def _follow(self, version: str) -> None:
        """The end of a stream, early as it may come under load, means nothing but: look again."""
        while not self._ended:
            try:
                query = {"labelSelector": self._selector, "resourceVersion": version, "timeoutSeconds": 300}
                for event in self._api.watch(PODS, **query):
                    if event["type"] == "ERROR" or self._ended:
                        break
                    if event["type"] == "DELETED":
                        self.gone.setdefault(event["object"]["metadata"]["name"], self._now())
                    else:
                        self._see(event["object"])
                version = version if self._ended else self._list()
            except (OSError, Refused):
                waiting.pause(0.1)

    def _see(self, pod: Object) -> None:
        name = pod["metadata"]["name"]
        if pod["status"].get("phase") == "Running":
            self.running.setdefault(name, self._now())
            if is_ready(pod):
                self.ready.setdefault(name, self._now())

    def _now(self) -> float:
        return time.monotonic() - self.began

    def wait(self, what: str, times: dict[str, float], count: int, state: Callable[[], str]) -> float:
        """Return when `times` has `count` entries; seconds until the last."""
        waiting.until(lambda: len(times) >= count, f"{count} pods {what}", timeout=300, interval=0.02, state=state)
        return max(times.values())


def floor(count: int) -> float:
    """Seconds until `count` processes were started one after the other and each has written its line."""
    started: list[subprocess.Popen[bytes]] = []
    began = time.monotonic()
    try:
        for _ in range(count):
            process = subprocess.Popen(_ARGV, stdout=subprocess.PIPE)
            started.append(process)
            assert process.stdout and process.stdout.readline() == b"started\n"
        return time.monotonic() - began
    finally:
        for process in started:
            process.kill()
            process.wait()


def burst(api: Api, count: int, number: int) -> Object:
    """One Deployment made and deleted; seconds, CPU seconds and the latencies of its pods."""
    app = f"burst-{number}"
    first = parts(supervisor())
    watcher = Watcher(api, app)
    api.post(DEPLOYMENTS, deployment(app, count, _CONTAINER))
    state = lambda: states(api, app)  # noqa: E731
    running_ = watcher.wait("Running", watcher.running, count, state)
    ready = watcher.wait("Ready", watcher.ready, count, state)
    second = parts(supervisor())
    latencies = start_latencies(api, app)
    watcher.began = time.monotonic()
    api.delete(f"{DEPLOYMENTS}/{app}", propagationPolicy="Background")
    gone = watcher.wait("gone", watcher.gone, count, state)
    watcher.end()
    return {
        "running": running_,
        "ready": ready,
        "gone": gone,
        "latencies": latencies,
        "agent side": _spent(first, second, AGENT_SIDE),
        "control plane": _spent(first, second, CONTROL_PLANE),
    }


def _spent(first: dict[str, Used], second: dict[str, Used], names: tuple[str, ...]) -> float:
    missing = {"agents", "machines", "supervisor", *CONTROL_PLANE} - second.keys()
    if missing:
        raise RuntimeError(f"No process was recognised as {', '.join(sorted(missing))}: the figures would be wrong.")
    return total(second, names).since(total(first, names))


def start_latencies(api: Api, app: str) -> list[float]:
    """Seconds from scheduling to the first line of the program, for each pod."""
    scheduled = {}
    for event in api.get(_EVENTS, fieldSelector="reason=Scheduled")["items"]:
        name = event["regarding"]["name"]
        if name.startswith(f"{app}-") and event.get("eventTime"):
            scheduled[name] = datetime.fromisoformat(event["eventTime"]).timestamp()
    found = []
    for name, bound in scheduled.items():
        line = api.text(f"{PODS}/{name}/log", timestamps="true", limitBytes=200)
        found.append(seconds(line.split(" ", 1)[0]) - bound)
    return found


def seconds(stamp: str) -> float:
    """Seconds since the epoch of an RFC 3339 time with nanoseconds."""
    whole, _, rest = stamp.rstrip("Z").partition(".")
    return datetime.fromisoformat(whole + "+00:00").timestamp() + float(f"0.{rest or 0}")


def main() -> None:
    """Measure and tell."""
    given = options(__doc__, pods=(100, 5, "pods"), nodes=(3, 1, "nodes"), repeats=(5, 1, "bursts"))
    here = machine()
    announce("pods-100", here)
    bursts, floors = [], []
    with running(given.nodes) as api:
        for number in range(1, given.repeats + 1):
            floors.append(floor(given.pods))
            bursts.append(burst(api, given.pods, number))
            say(f"  burst {number}/{given.repeats}: all Ready after {bursts[-1]['ready']:.2f} s")
    points = {
        "running": "all Running",
        "ready": "all Ready",
        "gone": "all gone (grace 1 s)",
        "agent side": "CPU agent side",
        "control plane": "CPU control plane",
    }
    rows: list[tuple] = []
    for name, label in points.items():
        values = [one[name] for one in bursts]
        rows.append((label, min(values), median(values), max(values)))
    rows.append(("floor: Popen loop", min(floors), median(floors), max(floors)))
    table(
        f"Seconds, {given.pods} pods on {given.nodes} nodes, {given.repeats} bursts",
        ("", "least", "median", "most"),
        rows,
    )
    latencies = [value for one in bursts for value in one["latencies"]]
    ready, running_ = median([one["ready"] for one in bursts]), median([one["running"] for one in bursts])
    share = median([one["agent side"] / one["control plane"] for one in bursts])
    rates = [
        ("pods/s to Running", given.pods / running_),
        ("pods/s to Ready", given.pods / ready),
        ("processes/s, Popen loop", given.pods / median(floors)),
        ("scheduling to process start p50, s", percentile(latencies, 50)),
        ("scheduling to process start p99, s", percentile(latencies, 99)),
        ("CPU agent side / control plane", share),
    ]
    table("Rates and latencies", ("", ""), rates)
    deleted = median([one["gone"] for one in bursts])
    figure = Figure("pods-100", ready, "s to Ready", median(floors))
    figure.limit = f"at most {READY} s, {DELETED} s to delete, agent side's CPU {SHARE} x the control plane's"
    figure.met = given.small or (ready <= READY and deleted <= DELETED and share <= SHARE)
    figure.more = {
        "pods": given.pods,
        "pods_per_second_running": round(given.pods / running_, 2),
        "pods_per_second_ready": round(given.pods / ready, 2),
        "start_p50": round(percentile(latencies, 50), 4),
        "start_p99": round(percentile(latencies, 99), 4),
        "cpu_agent_side": round(median([one["agent side"] for one in bursts]), 3),
        "cpu_control_plane": round(median([one["control plane"] for one in bursts]), 3),
        "cpu_share": round(share, 3),
        "deleted": round(deleted, 3),
    }
    finish(figure, here)


if __name__ == "__main__":
    main()
