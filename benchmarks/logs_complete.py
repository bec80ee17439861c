"""logs-complete: how many of the lines that pods write are missing in the log store when parts are killed at random.

Pods write numbered lines. Meanwhile, one after the other: the process of a shipper, of a spool or of the store is
killed, or a pod that writes, and of which the store has a line, is deleted without grace, after its last line was read
by `kubectl logs`; the next comes when the part is back. A pod that was deleted has a successor, which goes on after
that line. With `--stalls` the whole cluster stands still for so long just before a process is killed, as on a machine
that has no time for it. In the end the store is asked, pod by pod, for gaps, for the last line known, and for lines
that came twice. The value is the number of missing lines; it must be 0. Of each gap is told what happened around it,
and where its lines still are.
"""

from __future__ import annotations

import json
import os
import random
import re
import signal
import textwrap
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime

import lost_lines
from clusters import NAME, running, supervisor
from common import Figure, announce, finish, machine, options, say, table
from lost_lines import Event
from processes import descendants, used

from podlab import addons
from podlab.addons.logs import Logs
from podlab.checks.api import Api
from podlab.checks.world import make_namespace
from podlab.cluster import clusters
from podlab.cluster.embedded.folder import cluster_folder
from podlab.errors import AddonError, WaitTimeout
from podlab.waiting import pause, until

PLACE = "logs-complete"
PROGRAMS = ("vlagent", "spool.py", "victoria-logs")
WRITES = "a pod that writes"
#: Not a verdict on speed: so long may a part be away, and the last lines be on their way.
PATIENCE = 900
#: Seconds by which a pause may be too long; if it is longer, that is told with the gaps around it.
LATE = 5.0
#: Lines of the account of gaps that are told.
MOST = 60
#: Counters of lines or blocks that a part has left out.
LEFT_OUT = (
    r"^(vm_persistentqueue_blocks_dropped_total|vlagent_remotewrite_packets_dropped_total|spool_refused_blocks_total"
    r"|vl_rows_dropped_total|vl_too_long_lines_skipped_total)(?:\{.*\})? (\S+)$"
)
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
    began: float = field(default_factory=time.time)
    ended: float | None = None


@dataclass
class Run:
    """What is written, killed and measured."""

    api: Api
    logs: Logs
    lines: int
    rate: int
    chance: random.Random
    parts: tuple[str, ...]
    stalls: int = 0
    lives: list[Life] = field(default_factory=list)
    kills: dict[str, int] = field(default_factory=dict)
    peak: dict[str, float] = field(default_factory=dict)
    events: list[Event] = field(default_factory=list)

    @contextmanager
    def noted(self, what: str) -> Iterator[None]:
        """Note what happens in the block, also if it is not seen to end."""
        began = time.time()
        try:
            yield
        finally:
            self.events.append(Event(began, time.time(), what))

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
            killed = f"{what} of {self.place(victim)} was killed, until all was ready"
            if self.stalls:
                self.stall()
            with self.noted(killed):
                signal_all([victim], signal.SIGKILL)
                until(
                    lambda: len(self.processes(what)) >= len(before) and victim not in self.processes(what),
                    f"{what} being back",
                    timeout=PATIENCE,
                )
                until(
                    lambda: addons.status("logging", NAME).state == "ready", "the add-on being ready", timeout=PATIENCE
                )
        else:
            # Of a pod that no shipper has heard of when it is deleted by force nothing is promised.
            try:
                found = self.found()
            except AddonError:  # the store does not answer now
                return
            busy = [
                life for life in self.current() if life.name in found and life.first < self.written(life) < self.lines
            ]
            if not busy:
                return
            life = self.chance.choice(busy)
            life.known = self.written(life)
            pod = self.api.get("Pod", life.name, PLACE) or {"spec": {}}
            with self.noted(f"{life.name} on {pod['spec'].get('nodeName')} was deleted after line {life.known - 1}"):
                self.api.delete("Pod", life.name, PLACE, grace=0)
            life.ended = time.time()
            self.begin(life.writer, life.known)
        self.kills[what] = self.kills.get(what, 0) + 1

    def stall(self) -> None:
        """The whole cluster stands still."""
        with self.noted("the cluster stood still"):
            whole = [supervisor(), *descendants(supervisor())]
            try:
                signal_all(whole, signal.SIGSTOP)
                pause(self.stalls)
            finally:
                signal_all(whole, signal.SIGCONT)
        self.kills["the cluster for a while"] = self.kills.get("the cluster for a while", 0) + 1
        pause(self.chance.random() / 2)

    def place(self, pid: int) -> str:
        """The pod of a process, and its node."""
        try:
            with open(f"/proc/{pid}/environ", "rb") as file:  # noqa: PTH123 (a file that may be gone)
                settings = dict(one.partition(b"=")[::2] for one in file.read().split(b"\0"))
        except OSError:
            return "?"
        name = settings.get(b"HOSTNAME", b"?").decode(errors="replace")
        pod = self.api.get("Pod", name, "logging")
        return f"{name} on {pod['spec'].get('nodeName')}" if pod else name

    def left_out(self) -> str:
        """What the parts say that they left out, since their last start."""
        told = []
        for pod in self.api.list("Pod", "logging"):
            name = pod["metadata"]["name"]
            for port in (9429, 9430) if pod["metadata"]["labels"]["app"] == "vlagent" else (9428,):
                answer = self.api.raw("GET", f"/api/v1/namespaces/logging/pods/{name}:{port}/proxy/metrics")
                counts = re.findall(LEFT_OUT, answer.data.decode(errors="replace"), re.MULTILINE)
                told += [f"{name} {counter} {value}" for counter, value in counts if float(value)]
        return ", ".join(told) or "nothing"

    def said(self) -> list[str]:
        """What the spools say of blocks that they left out, and why, since the last two starts of each."""
        told = []
        for pod in self.api.list("Pod", "logging"):
            if pod["metadata"]["labels"]["app"] != "vlagent":
                continue
            name = pod["metadata"]["name"]
            for previous in ("true", "false"):
                query = {"container": "spool", "previous": previous}
                answer = self.api.raw("GET", f"/api/v1/namespaces/logging/pods/{name}/log", query=query)
                lines = answer.data.decode(errors="replace").splitlines() if answer.status == 200 else []
                told += [f"{name}: {line[:300]}" for line in lines if "left out" in line or "the store answers" in line]
        return told

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
        """Each gap in the lines of a life: what the store has, what happened around it, where its lines still are."""
        found, told = self.found(), list[str]()
        nodes = cluster_folder(NAME).path / "nodes"
        spooled = lost_lines.in_spools(nodes)
        for life in self.lives:
            _, different, least, most = found.get(life.name, (0, 0, life.first, life.first - 1))
            end = max(life.known, most + 1)
            if (end - life.first) - different:
                told.append(
                    f"{life.name}: {life.first} to {end - 1} written; {different} of them found, {least} to {most}"
                )
                files = lost_lines.in_files(nodes, PLACE, life.name)
                for gap in lost_lines.gaps(life.first, end, self.times(life)):
                    events = lost_lines.around(gap, self.events, life.began, life.ended or time.time())
                    told += [f"  {text}" for text in lost_lines.told(gap, events, files, spooled.get(life.name, set()))]
        return told[:MOST] + [f"and {len(told) - MOST} lines of this account more"] * (len(told) > MOST)

    def times(self, life: Life) -> dict[int, float]:
        """Line -> when it was written, of those that the store has of a life."""
        rows = self.logs.query(
            f'kubernetes.pod_namespace:="{PLACE}" life:="{life.name}" | stats by (n) min(_time) at', limit=0
        )
        return {int(row["n"]): datetime.fromisoformat(row["at"].replace("Z", "+00:00")).timestamp() for row in rows}


def signal_all(processes: list[int], number: int) -> None:
    """Send a signal to each that still runs."""
    for pid in processes:
        with suppress(ProcessLookupError):
            os.kill(pid, number)


def watch(run: Run, every: int) -> None:
    """Kill a part every so many seconds while there is something to write; return when all is written."""
    while True:
        run.look()
        for life in run.current():
            life.known = max(life.known, run.written(life))
        if all(life.known >= run.lines for life in run.current()):
            return
        began = time.time()
        pause(every)
        if time.time() - began > every + LATE:
            run.events.append(Event(began, time.time(), f"a pause of {every} s took so long: the machine was busy"))
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
        stalls=(0, 0, "seconds for which the cluster stands still before a process is killed"),
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
        run = Run(api, Logs.of_cluster(api), each, rate, random.Random(given.seed), parts, given.stalls)
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
        if lost:
            say(f"  left out: {run.left_out()}")
            for line in run.said():
                say(f"  {line}")
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
