"""pod-latency: one pod at a time, from the request that creates it until the watch shows it Ready.

Floor: subprocess.Popen of the same program until its first line. Limits: p50 at most 100 ms, p99 at most 400 ms.
"""

from __future__ import annotations

import subprocess
import time

from api import PODS, Api, pod
from clusters import running, states
from common import Figure, announce, finish, machine, options, percentile, say, table
from pods_100 import Watcher

from podlab import waiting

P50, P99 = 0.100, 0.400
_ARGV = ["sh", "-c", "echo started; exec sleep 3600"]


def one(api: Api, seen: Watcher, name: str) -> tuple[float, float]:
    """Seconds from the request to Ready, and from the request to delete until it has gone."""
    began = time.monotonic() - seen.began
    api.post(PODS, pod(name, {"image": "podlab/toolbox:1", "command": _ARGV}))
    waiting.until(
        lambda: name in seen.ready, f"{name} Ready", timeout=120, interval=0.001, state=lambda: states(api, name)
    )
    deleted = time.monotonic() - seen.began
    api.delete(f"{PODS}/{name}", gracePeriodSeconds=0)
    waiting.until(lambda: name in seen.gone, f"{name} gone", timeout=120, interval=0.001)
    return seen.ready[name] - began, seen.gone[name] - deleted


def floor() -> float:
    """Seconds until the program, started as a child, has written its line."""
    began = time.monotonic()
    with subprocess.Popen(_ARGV, stdout=subprocess.PIPE) as process:
        assert process.stdout and process.stdout.readline() == b"started\n"
        seconds = time.monotonic() - began
        process.kill()
    return seconds


def main() -> None:
    """Measure and tell."""
    given = options(__doc__, pods=(100, 3, "pods, one after the other"), nodes=(3, 1, "nodes"))
    here = machine()
    announce("pod-latency", here)
    ready, gone, floors = [], [], []
    with running(given.nodes) as api:
        seen = Watcher(api)
        one(api, seen, "warm-up")
        for number in range(given.pods):
            up, down = one(api, seen, f"one-{number}")
            ready.append(up)
            gone.append(down)
            floors.append(floor())
            if number % 20 == 19:
                say(f"  {number + 1} pods")
    rows = [
        (name, *(1000 * percentile(values, percent) for percent in (50, 90, 99)))
        for name, values in (("created to Ready", ready), ("deleted to gone", gone), ("Popen to first line", floors))
    ]
    table(f"Milliseconds, {given.pods} pods one after the other", ("", "p50", "p90", "p99"), rows)
    value = percentile(ready, 50)
    figure = Figure("pod-latency", value, "s", percentile(floors, 50), f"p50 at most {P50} s, p99 at most {P99} s")
    figure.met = None if given.small else value <= P50 and percentile(ready, 99) <= P99
    figure.more = {"p99": round(percentile(ready, 99), 4), "gone_p50": round(percentile(gone, 50), 4)}
    finish(figure, here)


if __name__ == "__main__":
    main()
