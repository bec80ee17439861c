"""idle-100: what 100 Ready pods with HTTP probes cost the agent side when nothing happens.

Floor: the control plane's own CPU over the same time. Limits: 3 % of one core and 150 MiB.
"""

from __future__ import annotations

import time

from api import DEPLOYMENTS, Object, deployment
from clusters import running, supervisor, until_ready
from common import Figure, announce, finish, machine, options, say, table
from processes import AGENT_SIDE, CONTROL_PLANE, Used, parts, total

from podlab.waiting import pause

CPU, MEMORY = 3.0, 150
MIB = 2**20
_SERVER = """
import http.server

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
    def log_message(self, *_):
        pass

http.server.ThreadingHTTPServer(("", 8080), Handler).serve_forever()
"""


def server(period: int) -> Object:
    """A container with an HTTP server, asked by two probes every `period` seconds."""
    probe = {"httpGet": {"path": "/", "port": 8080}, "periodSeconds": period}
    return {
        "image": "podlab/python:3",
        "command": ["python", "-c", _SERVER],
        "readinessProbe": probe,
        "livenessProbe": probe,
    }


def main() -> None:
    """Measure and tell."""
    given = options(
        __doc__,
        pods=(100, 5, "pods"),
        nodes=(3, 1, "nodes"),
        period=(10, 1, "seconds between two probes of a kind"),
        settle=(30, 2, "seconds before the measurement"),
        seconds=(120, 5, "of the measurement"),
    )
    here = machine()
    announce("idle-100", here)
    with running(given.nodes) as api:
        api.post(DEPLOYMENTS, deployment("idle", given.pods, server(given.period)))
        until_ready(api, "idle", given.pods)
        say(f"  {given.pods} pods Ready")
        pause(given.settle)
        first, began = parts(supervisor()), time.monotonic()
        pause(given.seconds)
        second, seconds = parts(supervisor()), time.monotonic() - began
    names = [*AGENT_SIDE, *CONTROL_PLANE, "pods"]
    rows = []
    for name in names:
        after = second.get(name, Used())
        share = 100 * after.since(first.get(name, Used())) / seconds
        rows.append((name, after.processes, share, after.resident / MIB, after.proportional / MIB))
    title = f"{given.pods} pods, each with two probes every {given.period} s, over {seconds:.0f} s"
    table(title, ("part", "processes", "% of a core", "resident MiB", "proportional MiB"), rows)
    agent = 100 * total(second, AGENT_SIDE).since(total(first, AGENT_SIDE)) / seconds
    plane = 100 * total(second, CONTROL_PLANE).since(total(first, CONTROL_PLANE)) / seconds
    memory = total(second, AGENT_SIDE).proportional / MIB
    limit = f"at most {CPU} % of a core and {MEMORY} MiB"
    figure = Figure("idle-100", agent, "% of a core", plane, limit)
    figure.met = None if given.small else agent <= CPU and memory <= MEMORY
    figure.more = {"memory": round(memory, 1), "resident": round(total(second, AGENT_SIDE).resident / MIB, 1)}
    finish(figure, here)


if __name__ == "__main__":
    main()
