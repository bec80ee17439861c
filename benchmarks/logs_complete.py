"""logs-complete: how many of the lines that pods write are missing in the log store when parts are killed at random.

Pods write numbered lines. Meanwhile, one after the other: the process of a shipper, of a spool or of the store is
killed, or a pod that writes is deleted without grace, after its last line was read by `kubectl logs`; the next comes
when the part is back. A pod that was deleted has a successor, which goes on after that line. In the end the store is
asked, pod by pod, for gaps, for the last line known, and for lines that came twice. The value is the number of missing
lines; it must be 0.
"""

from __future__ import annotations

import json
import os
import random
import signal
import textwrap
import time
from dataclasses import dataclass, field

from clusters import NAME, running, supervisor
from common import Figure, announce, finish, machine, options, say, table
from processes import descendants, used

from podlab import addons
from podlab.addons.logs import Logs
from podlab.checks.api import Api
from podlab.checks.world import make_namespace
from podlab.cluster import clusters
from podlab.errors import AddonError, WaitTimeout
from podlab.waiting import pause, until

PLACE = "logs-complete"
PROGRAMS = ("vlagent", "spool.py", "victoria-logs")
WRITES = "a pod that writes"
#: Not a verdict on speed: so long may a part be away, and the last lines be on their way.
PATIENCE = 900
WRITER = """
import json, os, sys, time
first, last, rate, life = int(os.environ["FIRST"]), int(os.environ["LAST"]), int(os.environ["RATE"]), os.environ["LIFE"]
began = time.monotonic()
for n in range(first, last):
    print(json.dumps({"message": "line %d of %s, and some words as lines have them" % (n, life), "life": life, "n": n}))
    if n % 20 == 19:
        sys.stdout.flush()
        time.sleep(max(0, began + (n - first) / rate - time.monotonic()))
sys.stdout.flush()
time.sleep(86400)
"""


@dataclass
class Life:
    """One pod: the lines [first, last) that it is to write, and the number of lines that it has surely written."""

    writer: int
    name: str
    first: int
    last: int
    known: int = 0


@dataclass
class Run:
    """What is written, killed and measured."""

    api: Api
    logs: Logs
    lines: int
    rate: int
    chance: random.Random
    parts: tuple[str, ...]
    lives: list[Life] = field(default_factory=list)
    kills: dict[str, int] = field(default_factory=dict)
    peak: dict[str, float] = field(default_factory=dict)

    def begin(self, writer: int, first: int) -> None:
        """Start a pod that writes the lines of a writer from `first` on."""
        life = Life(writer, f"w{writer}-{len(self.lives)}", first, self.lines)
        settings = {"FIRST": first, "LAST": self.lines, "RATE": self.rate, "LIFE": life.name}
        container = {
            "name": "main",
            "image": "podlab/python:3",
            "imagePullPolicy": "IfNotPresent",
            "command": ["python3", "-S", "-c", textwrap.dedent(WRITER)],
            "env": [{"name": key, "value": str(value)} for key, value in settings.items()],
        }
        spec = {"restartPolicy": "Never", "terminationGracePeriodSeconds": 0, "containers": [container]}
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": life.name}, "spec": spec}
        self.api.apply(pod, PLACE)
        self.lives.append(life)

    def current(self) -> list[Life]:
        """The newest life of each writer."""
        return list({life.writer: life for life in self.lives}.values())

    def written(self, life: Life) -> int:
        """The number of the line after the last that stands in a pod's log; its first if there is none yet."""
        path = f"/api/v1/namespaces/{PLACE}/pods/{life.name}/log"
        answer = self.api.raw("GET", path, query={"tailLines": "2"}, timeout=60)
        for line in reversed(answer.data.decode("utf-8", "replace").splitlines() if answer.status == 200 else ()):
            try:
                return int(json.loads(line)["n"]) + 1
            except (ValueError, KeyError):
                continue
        return life.first

    def processes(self, name: str) -> list[int]:
        """The processes of a program in pods of this cluster."""
        found = []
        for pid in descendants(supervisor()):
            try:
                with open(f"/proc/{pid}/cmdline", "rb") as file:  # noqa: PTH123 (a file that may be gone)
                    words = file.read().split(b"\0")
            except OSError:
                continue
            # A Python program is the second word.
            word = words[1] if words[0].rpartition(b"/")[2].startswith(b"python") else words[0]
            if word.decode(errors="replace").rsplit("/", 1)[-1] == name:
                found.append(pid)
        return found

    def look(self) -> None:
        """Note the memory of each part."""
        for name in PROGRAMS:
            for pid in self.processes(name):
                self.peak[name] = max(self.peak.get(name, 0.0), used(pid).resident / 2**20)

    def kill(self) -> None:
        """Kill one part, and return when it is back."""
        what = self.chance.choice(self.parts)
        if what in PROGRAMS:
            before = self.processes(what)
            if not before:
                return
            victim = self.chance.choice(before)
            os.kill(victim, signal.SIGKILL)
            until(
                lambda: len(self.processes(what)) >= len(before) and victim not in self.processes(what),
                f"{what} being back",
                timeout=PATIENCE,
            )
            until(lambda: addons.status("logging", NAME).state == "ready", "the add-on being ready", timeout=PATIENCE)
        else:
            busy = [life for life in self.current() if life.first < self.written(life) < self.lines]
            if not busy:
                return
            life = self.chance.choice(busy)
            life.known = self.written(life)
            self.api.delete("Pod", life.name, PLACE, grace=0)
            self.begin(life.writer, life.known)
        self.kills[what] = self.kills.get(what, 0) + 1

    def restarts(self) -> str:
        """How often the containers of the add-on were started again, and why the last one of each ended."""
        told = []
        for pod in self.api.list("Pod", "logging"):
            for one in pod["status"].get("containerStatuses") or ():
                if one["restartCount"]:
                    why = ((one.get("lastState") or {}).get("terminated") or {}).get("reason", "")
                    told.append(f"{pod['metadata']['name']}/{one['name']} {one['restartCount']} ({why})")
        return ", ".join(told) or "none"

    def found(self) -> dict[str, tuple[int, int, int, int]]:
        """Life -> lines, different ones, the first and the last number, as the store has them."""
        rows = self.logs.query(
            f'kubernetes.pod_namespace:="{PLACE}" '
            "| stats by (life) count() lines, count_uniq(n) different, min(n) least, max(n) most"
        )
        return {
            row["life"]: (int(row["lines"]), int(row["different"]), int(row["least"]), int(row["most"]))
            for row in rows
            if row.get("life")
        }

    def missing(self) -> int:
        """How many lines that were surely written, or lie between two that were found, are not found."""
        found, lost = self.found(), 0
        for life in self.lives:
            _, different, least, most = found.get(life.name, (0, 0, life.first, life.first - 1))
            end = max(life.known, most + 1)
            lost += (end - life.first) - (different if least >= life.first else 0)
        return lost

    def gaps(self) -> list[str]:
        """The lives of which lines are missing, and what the store has of them."""
        found, told = self.found(), []
        for life in self.lives:
            _, different, least, most = found.get(life.name, (0, 0, life.first, life.first - 1))
            end = max(life.known, most + 1)
            if (end - life.first) - different:
                told.append(
                    f"{life.name}: {life.first} to {end - 1} written; {different} of them found, {least} to {most}"
                )
        return told


def watch(run: Run, every: int) -> None:
    """Kill a part every so many seconds while there is something to write; return when all is written."""
    while True:
        run.look()
        for life in run.current():
            life.known = max(life.known, run.written(life))
        if all(life.known >= run.lines for life in run.current()):
            return
        pause(every)
        if run.parts:
            run.kill()


def main() -> None:
    """Write, kill, count, tell."""
    given = options(
        __doc__,
        lines=(1_000_000, 20_000, "lines altogether"),
        pods=(30, 6, "pods that write"),
        rate=(2000, 300, "lines per second, altogether"),
        every=(10, 4, "seconds between two kills"),
        nodes=(3, 2, "nodes"),
        shippers=(1, 1, "1: shippers are killed"),
        spools=(1, 1, "1: spools are killed"),
        stores=(1, 1, "1: the store is killed"),
        writers=(1, 1, "1: pods that write are killed"),
        seed=(1, 1, "seed of the kills"),
    )
    here = machine()
    announce("logs-complete", here)
    with running(given.nodes):
        api = Api.connect(clusters.get(NAME).kubeconfig)
        addons.enable("logging", NAME)
        make_namespace(api, PLACE, "benchmark")
        each, rate = -(-given.lines // given.pods), max(1, given.rate // given.pods)
        chosen = zip((given.shippers, given.spools, given.stores, given.writers), (*PROGRAMS, WRITES), strict=True)
        parts = tuple(name for wanted, name in chosen if wanted)
        run = Run(api, Logs.of_cluster(api), each, rate, random.Random(given.seed), parts)
        began = time.monotonic()
        for writer in range(given.pods):
            run.begin(writer, 0)
        watch(run, given.every)
        wrote = time.monotonic() - began
        say(f"  all written after {wrote:.0f} s; kills: {run.kills}")
        try:
            until(
                lambda: run.missing() == 0,
                "every line being found",
                timeout=min(PATIENCE, 60 + wrote),
                interval=2,
                ignore=(AddonError,),  # the store is on its way back
            )
        except WaitTimeout as error:
            say(f"  {error}")
        took = time.monotonic() - began
        until(lambda: addons.status("logging", NAME).state == "ready", "the add-on being ready", timeout=PATIENCE)
        lost, counts = run.missing(), run.found()
        run.look()
        say(f"  containers that were started again: {run.restarts()}")
        for gap in run.gaps():
            say(f"  {gap}")
    lines, different = (sum(row[place] for row in counts.values()) for place in (0, 1))
    told = [("missing", lost), ("different lines", different), ("came again", lines - different)]
    table("lines", ("", "number"), [*told, ("per second, to the last found", round(different / took))])
    table("killed", ("part", "times"), list(run.kills.items()))
    table("highest memory of a process, MiB", ("part", "resident"), list(run.peak.items()))
    figure = Figure("logs-complete", lost, "lines missing", limit="0", met=lost == 0)
    figure.more = {
        "lines": different,
        "again": lines - different,
        "per_second": round(different / took, 1),
        "kills": run.kills,
        "resident": {name: round(value, 1) for name, value in run.peak.items()},
    }
    finish(figure, here)


if __name__ == "__main__":
    main()
