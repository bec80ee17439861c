"""Memory and start time of every process of the recommender, monolith and services, beside a bare web process."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

import httpx
from common import Figure, announce, finish, machine, median, options, table
from processes import Used, used

from movies.runner import BROKER, Running, free_ports, start
from podlab import waiting

_MIB = 2**20
_PATIENCE = 180
#: The same framework and server with one route.
BARE = """
import sys, uvicorn
from fastapi import FastAPI
app = FastAPI()
@app.get("/readyz")
async def readyz(): return "ok"
uvicorn.run(app, port=int(sys.argv[1]), log_level="error")
"""


def bare() -> tuple[float, Used]:
    """Seconds until it answers, and what it uses."""
    (port,) = free_ports(1)
    began = time.monotonic()
    process = subprocess.Popen([sys.executable, "-c", BARE, str(port)])
    try:
        url = f"http://127.0.0.1:{port}/readyz"
        waiting.until(
            lambda: httpx.get(url, trust_env=False).status_code == 200,
            "the bare process answers", timeout=_PATIENCE, ignore=(httpx.HTTPError,),
        )  # fmt: skip
        return time.monotonic() - began, used(process.pid)
    finally:
        process.terminate()
        process.wait()


def measured(running: Running, name: str, repeats: int) -> tuple[float, Used]:
    """Seconds from the start of one process until it is ready (the middle of several), and what it uses then."""
    seconds = []
    for _ in range(repeats):
        running.stop_one(name)
        began = time.monotonic()
        running.restart(name, seconds=_PATIENCE)
        seconds.append(time.monotonic() - began)
    return median(seconds), used(running.pid(name))


def main() -> None:
    given = options(__doc__, ratings=(20_000, 3_000, "ratings to generate"), repeats=(3, 1, "starts of every process"))
    here = machine()
    announce("footprint", here)
    rows, total = [], {}
    floor = [bare() for _ in range(given.repeats)]
    bare_seconds, bare_memory = median([one[0] for one in floor]), floor[-1][1].resident / _MIB
    rows.append(("bare", "one route", bare_seconds, bare_memory, floor[-1][1].proportional / _MIB))
    for kind in ("monolith", "processes"):
        with tempfile.TemporaryDirectory(prefix="movies-") as folder:
            quick = {"MOVIES_DRAIN_SECONDS": "0"}
            with start(kind, Path(folder), ratings=given.ratings, environment=quick, seconds=_PATIENCE) as running:
                total[kind] = 0.0
                for name in running.names:
                    seconds, found = measured(running, name, 1 if name == BROKER else given.repeats)
                    rows.append((kind, name, seconds, found.resident / _MIB, found.proportional / _MIB))
                    total[kind] += found.proportional / _MIB
    table("Start and memory of each process", ("as", "process", "ready s", "RSS MiB", "PSS MiB"), rows)
    more: dict[str, object] = {"monolith_mib": round(total["monolith"]), "ratings": given.ratings}
    # "bare" and "monolith" by the form, the parts by their name.
    names = {row[1] if row[0] == "processes" else row[0]: row for row in rows}
    more |= {"ready_s": {name: round(row[2], 2) for name, row in names.items()}}
    more |= {"pss_mib": {name: round(row[4], 1) for name, row in names.items()}}
    figure = Figure("footprint", total["processes"], "MiB of all services (PSS)", total["monolith"], more=more)
    finish(figure, here)


if __name__ == "__main__":
    main()
