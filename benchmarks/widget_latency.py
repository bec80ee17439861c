"""The live map in a real JupyterLab: milliseconds from a change in the kernel to the page, and the modules' sizes.

A change is one that the map's feeder publishes, which it does at most 15 times a second; the page shows it when the
attribute that tells of it has changed. Kernel and page are on one machine and read one clock.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import resources
from pathlib import Path
from typing import Any

from common import Figure, announce, finish, machine, options, percentile, say, table

from podlab.waiting import until
from podlab.widgets import news

RATE, LIMIT, MODULE = 15, 50.0, 20_000
#: Changes a second below which it was not the rate that is asked for.
LEAST_RATE = 0.98 * RATE
PATIENCE = 300_000
SETUP = """
import json, time
from podlab.widgets.model import Record
from podlab.widgets.views import ClusterMap
def pod(number, restarts=0):
    return {"metadata": {"uid": f"u{number}", "name": f"serving-{number}"},
            "spec": {"nodeName": f"node-{number % 4 + 1}", "containers": [{}]},
            "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}],
                       "containerStatuses": [{"restartCount": restarts, "state": {"running": {}}}]}}
record = Record()
for number in range(1, 5):
    node = {"metadata": {"name": f"node-{number}"}, "spec": {},
            "status": {"conditions": [{"type": "Ready", "status": "True"}]}}
    record.apply("node", "ADDED", node, time.time())
for number in range(PODS):
    record.apply("pod", "ADDED", pod(number), time.time())
view = ClusterMap(record, "Latency")
view
"""
#: Each change is told by the restarts of one pod, which the page shows in the tile's label.
DRIVE = """
from podlab.waiting import pause
sent, begin = [], time.monotonic()
for number in range(1, UPDATES + 1):
    pause(max(0.0, begin + number / RATE - time.monotonic()))
    sent.append(1000 * time.time())
    record.apply("pod", "MODIFIED", pod(0, number), time.time())
    view.refresh()
print(json.dumps(sent))
"""
LISTEN = """() => {
  window.seen = {};
  const tile = document.querySelector('[data-uid=u0]');
  new MutationObserver(() => {
    const found = /(\\d+) restart/.exec(tile.getAttribute('aria-label'));
    if (found) window.seen[found[1]] ??= performance.timeOrigin + performance.now();
  }).observe(tile, { attributes: true });
}"""
READY = """async () => {
  const panel = jupyterapp.shell.currentWidget;
  await panel.context.ready;
  await panel.sessionContext.ready;
  await panel.sessionContext.session.kernel.info;
}"""
OUTPUT = """() => {
  const cell = jupyterapp.shell.currentWidget.content.widgets[1];
  return cell.model.outputs.toJSON().map((output) => [output.text].flat().join('')).join('');
}"""


def main() -> None:
    """Measure and tell."""
    given = options(__doc__, updates=(900, 45, "changes of one pod"), pods=(200, 200, "pods on the map"))
    here = machine()
    announce("widget-latency", here)
    sizes = modules()
    table("bytes of each module", ("module", "bytes"), list(sizes.items()))
    sent, seen = measured(given.pods, given.updates)
    late = latencies(sent, seen)
    p50, p99 = percentile(late, 50), percentile(late, 99)
    rate = rate_of(sent)
    rows = [("p50", p50), ("p95", percentile(late, 95)), ("p99", p99), ("most", max(late))]
    table(f"milliseconds from kernel to page, {len(seen)} of {given.updates} changes seen", ("", "ms"), rows)
    met = p99 <= LIMIT and rate >= LEAST_RATE and max(sizes.values()) <= MODULE
    more = {"p50": round(p50, 1), "seen": len(seen), "updates": given.updates, "pods": given.pods, "modules": sizes}
    more["hertz"] = round(rate, 2)
    limit = f"p99 at most {LIMIT:g} ms at {RATE} Hz, every module at most {MODULE} bytes"
    finish(Figure("widget-latency", p99, "ms", None, limit, met, more), here)


def modules() -> dict[str, int]:
    """Bytes of every view's module as a page gets it, with what all share."""
    names = sorted(each.name for each in resources.files("podlab.widgets").iterdir() if each.name.endswith(".js"))
    return {name: len(news.script(name).encode()) for name in names if name not in news.SHARED}


def rate_of(sent: Sequence[float]) -> float:
    """Changes a second, as they were really made: a kernel that cannot follow makes fewer."""
    return 1000 * (len(sent) - 1) / (sent[-1] - sent[0])


def latencies(sent: Sequence[float], seen: Mapping[int, float]) -> list[float]:
    """Milliseconds until the page showed each change, or a later one that has overtaken it: none drops out.

    `sent`: when changes 1, 2, ... were made; `seen`: when the page showed those that it did, the last one among them.
    """
    found, shown = [], math.inf
    for number in range(len(sent), 0, -1):
        shown = min(shown, seen.get(number, math.inf))
        found.append(shown - sent[number - 1])
    return found[::-1]


def measured(pods: int, updates: int) -> tuple[list[float], dict[int, float]]:
    """When each change was made, and when the page showed those that it did (milliseconds since the epoch)."""
    from playwright.sync_api import sync_playwright

    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if not chromium:
        sys.exit("chromium is not installed: apt-get install chromium")
    cells = [SETUP.replace("PODS", str(pods)), DRIVE.replace("UPDATES", str(updates)).replace("RATE", str(RATE))]
    with jupyterlab(cells) as address, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1280, "height": 1000})
        page.set_default_timeout(PATIENCE)
        page.goto(address)
        page.wait_for_function("window.jupyterapp !== undefined")
        page.wait_for_selector(".jp-Notebook .jp-CodeCell")
        page.evaluate(READY)
        say("  JupyterLab and its kernel are ready")
        page.evaluate("jupyterapp.commands.execute('notebook:run-cell-and-select-next')")
        page.wait_for_selector("[data-uid=u0]")
        page.evaluate(LISTEN)
        page.evaluate("jupyterapp.commands.execute('notebook:run-cell')")
        page.wait_for_function(f"window.seen['{updates}'] !== undefined")
        sent = json.loads(until(lambda: page.evaluate(OUTPUT), "the times at which the kernel sent", timeout=60))
        seen: dict[str, Any] = page.evaluate("window.seen")
        browser.close()
    return sent, {int(number): at for number, at in seen.items()}


@contextmanager
def jupyterlab(sources: list[str]) -> Iterator[str]:
    """The address of a notebook with these cells, in a JupyterLab as `podlab lab` starts it."""
    with tempfile.TemporaryDirectory(prefix="podlab-bench-") as place:
        folder = Path(place)
        course = folder / "course"
        for name in ("manuscript", "notebooks"):
            (course / name).mkdir(parents=True)
        (course / "notebooks" / "latency.ipynb").write_text(json.dumps(notebook(sources)))
        homes = {
            "PODLAB_HOME": "home",
            "JUPYTER_RUNTIME_DIR": "runtime",
            "JUPYTER_CONFIG_DIR": "config",
            "JUPYTERLAB_SETTINGS_DIR": "settings",
            "JUPYTERLAB_WORKSPACES_DIR": "workspaces",
        }
        environment = {**os.environ, **{name: str(folder / where) for name, where in homes.items()}}
        command = [sys.executable, "-m", "podlab", "lab", "--no-cluster", f"--course={course}", "--no-browser"]
        command += ["--ServerApp.port=0", "--expose-app-in-browser"]
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        try:
            yield until(lambda: _address(folder, process), "JupyterLab's answer", timeout=300)
        finally:
            process.terminate()
            process.wait(timeout=120)


def _address(folder: Path, process: subprocess.Popen[bytes]) -> str:
    """The notebook's address once the server listens; '' before."""
    said = (folder / "log").read_text()
    if process.poll() is not None:
        raise RuntimeError(f"JupyterLab ended: {said[-2000:]}")
    for path in (folder / "runtime").glob("jpserver-*.json"):
        info = json.loads(path.read_text() or "{}")
        if info.get("port") and "is running at" in said:
            return f"{info['url']}lab/tree/notebooks/latency.ipynb?token={info['token']}&reset"
    return ""


def notebook(sources: list[str]) -> dict[str, Any]:
    """A notebook of code cells."""
    cells = [
        {"cell_type": "code", "id": f"c{at}", "metadata": {}, "execution_count": None, "outputs": [], "source": source}
        for at, source in enumerate(sources)
    ]
    kernel = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}
    return {"cells": cells, "metadata": kernel, "nbformat": 4, "nbformat_minor": 5}


if __name__ == "__main__":
    main()
