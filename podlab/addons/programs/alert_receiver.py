"""A receiver of alerts: Alertmanager posts notifications here, and whoever asks gets the newest of them.

A pod's program. POST / takes a notification, GET /notifications gives them as a JSON list (oldest first), each with
the time at which it came. The file KEPT survives a restart. Each notification is also a line of the pod's log.
Format: https://prometheus.io/docs/alerting/latest/configuration/#webhook_config.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections import deque
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

PORT, MOST = 8080, 1000


class Notifications:
    """The newest notifications, kept in a file."""

    def __init__(self, file: Path) -> None:
        self._file, self._lock = file, threading.Lock()
        lines = file.read_text().split("\n") if file.exists() else []
        self._kept: deque[dict[str, Any]] = deque((one for line in lines if (one := _read(line))), maxlen=MOST)
        self._written = len(lines)

    def take(self, notification: dict[str, Any]) -> str:
        """Keep a notification; returns the line that was written. OSError if the disk takes none."""
        line = json.dumps({"received": time.time(), **notification})
        with self._lock:
            if self._written > 2 * MOST:
                self._rewrite()
            with self._file.open("a") as file:
                file.write(f"\n{line}\n")  # a line of its own also after one that a full disk cut off
            self._written += 1
            self._kept.append(json.loads(line))
        return line

    def _rewrite(self) -> None:
        """Leave in the file what is kept, and no more."""
        whole = self._file.with_suffix(".half")
        whole.write_text("".join(json.dumps(one) + "\n" for one in self._kept))
        whole.rename(self._file)
        self._written = len(self._kept)

    def all(self) -> list[dict[str, Any]]:
        """The newest notifications, oldest first."""
        with self._lock:
            return list(self._kept)


def _read(line: str) -> dict[str, Any] | None:
    """The notification of a line; None of one that a death left half written."""
    try:
        found: dict[str, Any] = json.loads(line)
    except ValueError:
        return None
    return found


def main() -> None:
    """Serve for ever."""
    kept = Notifications(Path(os.environ["KEPT"]))

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._say(200, kept.all() if self.path.startswith("/notifications") else "ok")

        def do_POST(self) -> None:
            try:
                content = json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)))
                if not isinstance(content, dict):
                    raise ValueError("a notification is a JSON object")
            except ValueError as error:
                self._say(400, str(error))
                return
            try:
                print(kept.take(content), flush=True)
            except OSError as error:  # Alertmanager tries again
                self._say(503, str(error))
                return
            self._say(200, "taken")

        def _say(self, code: int, answer: object) -> None:
            body = json.dumps(answer).encode()
            self.send_response(code)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    ThreadingHTTPServer(("", PORT), Handler).serve_forever()


if __name__ == "__main__":
    main()
