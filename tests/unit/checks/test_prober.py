"""The prober's program as it runs in a pod, asked without a cluster between."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import types
import urllib.request
from collections.abc import Iterator
from importlib import resources
from urllib.parse import urlencode

import pytest

from podlab import waiting
from podlab.checks.contract import Inconclusive
from podlab.checks.traffic import Prober

PROGRAM = str(resources.files("podlab.checks").joinpath("programs/prober.py"))


class Direct:
    """The API server's pod proxy, without the API server: every path leads to one port of this machine."""

    def __init__(self, port: int) -> None:
        self._port = port

    def raw(self, method: str, path: str, *, query: dict | None, timeout: float) -> types.SimpleNamespace:
        page = re.sub(r".*/proxy", "", path)
        with urllib.request.urlopen(f"http://127.0.0.1:{self._port}{page}?{urlencode(query or {})}") as answer:
            return types.SimpleNamespace(status=answer.status, data=answer.read())


@pytest.fixture
def silent() -> Iterator[str]:
    """The address of a server that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0), backlog=1000) as listener:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/"


def test_requests_that_could_not_be_sent_prove_nothing(silent: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as reserved:
        port = reserved.getsockname()[1]
    settings = {"TARGET": silent, "RATE": "1000", "PATIENCE": "60", "PORT": str(port)}
    with subprocess.Popen([sys.executable, PROGRAM], env=os.environ | settings, stdout=subprocess.PIPE) as program:
        try:
            assert program.stdout is not None and program.stdout.readline()
            prober = Prober(types.SimpleNamespace(api=Direct(port), namespace="n"), "prober")  # type: ignore[arg-type]
            with pytest.raises(Inconclusive, match="too busy"):
                waiting.until(lambda: prober.poll() < 0, "more requests than may be under way", timeout=60)
        finally:
            program.kill()
