"""A JupyterLab of a test's own: its settings, its files and its address are in one folder."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from podlab import waiting

#: Milliseconds for JupyterLab and its kernels on a machine that has much else to do.
PATIENCE = 300_000


@contextmanager
def served(command: Sequence[str], folder: Path, at: Path | None = None) -> Iterator[dict]:
    """What the JupyterLab that `command` starts in `at` says of itself; what it writes of its own is in `folder`."""
    environment = {
        **os.environ,
        "HOME": str(folder),
        "PODLAB_HOME": str(folder / "home"),
        "PODLAB_PROGRESS": str(folder / "progress"),
        "JUPYTER_RUNTIME_DIR": str(folder / "runtime"),
        "JUPYTER_CONFIG_DIR": str(folder / "config"),
        "JUPYTERLAB_SETTINGS_DIR": str(folder / "settings"),
        "JUPYTERLAB_WORKSPACES_DIR": str(folder / "workspaces"),
    }
    options = ["--no-browser", "--ServerApp.port=0", "--expose-app-in-browser"]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([*command, *options], cwd=at, env=environment, stdout=log, stderr=log)
    try:
        yield waiting.until(lambda: _address(folder, process), "JupyterLab's answer", timeout=300)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=120)


def _address(folder: Path, process: subprocess.Popen[bytes]) -> dict | None:
    assert process.poll() is None, (folder / "log").read_text()[-3000:]
    for path in (folder / "runtime").glob("jpserver-*.json"):
        info = json.loads(path.read_text() or "{}")
        # The line with the port comes when the server listens.
        if info.get("port") and "is running at" in (folder / "log").read_text():
            return info
    return None


def open_at(page, server: dict, path: str):
    """`page`, with JupyterLab ready on `path`, such as "lab/tree/notebooks/x.ipynb"."""
    page.goto(f"{server['url']}{path}?token={server['token']}&reset")
    page.wait_for_function("window.jupyterapp !== undefined")
    page.evaluate("jupyterapp.restored")
    return page
