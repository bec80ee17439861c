"""A program of an add-on as a plain process on loopback, with data of its own: what checks without a cluster ask."""

from __future__ import annotations

import ctypes
import os
import re
import shutil
import signal
import subprocess
import tempfile
import threading
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path

from podlab.checks.contract import Inconclusive, NotGradable
from podlab.cluster.embedded import binaries
from podlab.errors import WaitTimeout
from podlab.waiting import until

#: Not a verdict on speed: an idle machine needs half a second.
PATIENCE = 120.0
_PR_SET_PDEATHSIG = 1


class Service:
    """A running program. A subclass says how it is called, and what there is to ask. End it with `close`."""

    #: The program's name; what it is called in a sentence; where it says its address; the page that says it is ready.
    program, title, listening, ready = "", "", r"(127\.0\.0\.1:\d+)", ""

    def __init__(self) -> None:
        found = binaries.find(self.program)
        if found is None:
            raise NotGradable(
                f"{self.title} is not on this machine. `podlab binaries ensure {self.program}` gets it "
                "(where it has to be built, that takes some minutes)."
            )
        self.folder = Path(tempfile.mkdtemp(prefix=f"podlab-{self.program}-"))
        self.said: list[str] = []
        self._base = ""
        self._process = subprocess.Popen(
            [str(found), *self.arguments()],
            env={"PATH": os.defpath, "GOMAXPROCS": "1", "NO_PROXY": "*"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            preexec_fn=_die_with_us,
        )
        threading.Thread(target=self._listen, daemon=True, name=f"{self.program}'s words").start()
        try:
            until(lambda: self._base or self._process.poll() is not None, f"{self.title} listening", timeout=PATIENCE)
            until(self._is_ready, f"{self.title} being ready", timeout=PATIENCE, ignore=(OSError,))
        except BaseException as error:
            self.close()
            if isinstance(error, WaitTimeout):
                raise Inconclusive(f"{self.title} did not start: {error} {' '.join(self.said[-3:])}") from error
            raise

    def arguments(self) -> Sequence[str]:
        """The program's arguments; its data belong into `self.folder`."""
        raise NotImplementedError

    def exchange(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None = None,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> tuple[int, bytes]:
        """Status and body of a request."""
        url = f"{self._base}/{path}" + (f"?{urllib.parse.urlencode(query)}" if query else "")
        what = urllib.request.Request(url, method=method, data=body, headers=dict(headers or {}))
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(what, timeout=60) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()

    def close(self) -> None:
        """End it, and remove what it kept."""
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        if self._process.stderr is not None:
            self._process.stderr.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _listen(self) -> None:
        assert self._process.stderr is not None
        for raw in self._process.stderr:
            line = raw.decode("utf-8", "replace").strip()
            self.said = [*self.said[-20:], line]
            if found := re.search(self.listening, line):
                self._base = f"http://{found[1]}"

    def _is_ready(self) -> bool:
        if self._process.poll() is not None:
            raise Inconclusive(f"{self.title} ended: {' '.join(self.said[-3:])}")
        return self.exchange("GET", self.ready)[0] == 200


def _die_with_us() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
