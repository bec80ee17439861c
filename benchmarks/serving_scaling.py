"""What more copies cost: serving alone from 1 to 4 processes, beside as many copies of the whole monolith.

The same clients ask for recommendations, spread over the copies. Throughput stands beside the CPU and the memory of
everything that has to run for it. On a machine with few cores more copies cannot answer more: what remains is what a
copy costs, which is why memory per copy is the figure.
"""

from __future__ import annotations

import tempfile
from argparse import Namespace
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import httpx
from common import Figure, announce, finish, machine, options, say, table
from processes import used
from serving import Load, endless, put_under_load

from movies.runner import Running, start

_PATIENCE, _MIB = 300, 2**20
_QUICK = {"MOVIES_DRAIN_SECONDS": "0", "MOVIES_TRAIN_AFTER": "0", "MOVIES_LOG_LEVEL": "WARNING"}


class Point(NamedTuple):
    """One measurement: how many copies, what clients saw, and the memory of all processes (PSS, MiB)."""

    copies: int
    load: Load
    memory: float


def counts(most: int) -> list[int]:
    """1, 2, 4 ... up to `most`."""
    found = [1]
    while 2 * found[-1] <= most:
        found.append(2 * found[-1])
    return found


def pids_of(running: Running) -> list[int]:
    """Numbers of all processes of a recommender."""
    return [running.pid(name) for name in running.names]


def point(copies: int, urls: Sequence[str], prefix: str, pids: Sequence[int], users: int, given: Namespace) -> Point:
    """Load the copies, and see what they use meanwhile."""
    load = put_under_load(urls, endless(prefix, users), pids, given.clients, given.seconds)
    found = Point(copies, load, sum(used(pid).proportional for pid in pids) / _MIB)
    say(f"  {copies} copies: {load.rate:.0f} requests/s, {found.memory:.0f} MiB, {load.failed} failed")
    return found


def services(given: Namespace) -> list[Point]:
    """Serving is copied; the other services and the broker are there once."""
    found = []
    with (
        tempfile.TemporaryDirectory(prefix="movies-") as folder,
        start("processes", Path(folder), ratings=given.ratings, environment=_QUICK, seconds=_PATIENCE) as running,
    ):
        users = httpx.get(f"{running.url('features')}/status", trust_env=False).json()["users"]
        names = ["serving"]
        for copies in counts(given.copies):
            while len(names) < copies:
                names.append(running.copy("serving", seconds=_PATIENCE))
            found.append(point(copies, [running.url(name) for name in names], "", pids_of(running), users, given))
    return found


def monoliths(given: Namespace) -> list[Point]:
    """The whole is copied, with its own log: each copy serves and does everything else as well."""
    found, running = [], list[Running]()
    with ExitStack() as stack:
        for copies in counts(given.copies):
            while len(running) < copies:
                folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="movies-"))
                one = start("monolith", Path(folder), ratings=given.ratings, environment=_QUICK, seconds=_PATIENCE)
                running.append(stack.enter_context(one))
            users = httpx.get(f"{running[0].url('features')}/status", trust_env=False).json()["users"]
            pids = [pid for one in running for pid in pids_of(one)]
            found.append(point(copies, [one.address for one in running], "/serving", pids, users, given))
    return found


def per_copy(points: Sequence[Point]) -> float:
    """MiB that one more copy takes."""
    first, last = points[0], points[-1]
    return (last.memory - first.memory) / max(1, last.copies - first.copies)


def main() -> None:
    given = options(
        __doc__,
        ratings=(100_000, 3_000, "ratings to generate"),
        copies=(4, 2, "copies at most"),
        clients=(16, 4, "clients at once"),
        seconds=(10, 2, "of each measurement"),
    )
    here = machine()
    announce("serving-scaling", here)
    found = {"serving alone": services(given), "whole monolith": monoliths(given)}
    rows = [
        (
            what, one.copies, one.load.rate, one.load.cpu_ms, one.memory,
            1024 * one.load.rate / one.memory, one.load.failed,
        )
        for what, points in found.items()
        for one in points
    ]  # fmt: skip
    headings = ("copied", "copies", "1/s", "CPU ms", "MiB", "1/s per GiB", "failed")
    table(f"{given.clients} clients, {given.ratings} ratings", headings, rows)
    ours, whole = (per_copy(points) for points in found.values())
    failed = sum(one.load.failed for points in found.values() for one in points)
    more = {"failed": failed, "monolith_mib": round(whole, 1)}
    unit = "MiB of one more copy of serving (PSS)"
    finish(Figure("serving-scaling", ours, unit, whole, "no failed request", not failed, more), here)


if __name__ == "__main__":
    main()
