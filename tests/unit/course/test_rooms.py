"""A room in which a learner's program runs: it serves, and when the room is closed nothing of it is left."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest

from podlab.checks.bench import Bench
from podlab.course.fit_for_a_cluster.room import Room
from podlab.waiting import until

SERVES = """
import http.server, os

def serve():
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            body = str(os.getpid()).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
    http.server.HTTPServer(("127.0.0.1", int(os.environ["PORT"])), Handler).serve_forever()
"""


def test_a_room_that_is_closed_leaves_no_process_and_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    with Room(Bench(seed=1), SERVES, "serve") as room:
        answer = room.serve("/").ask("/")
        assert answer.status == 200 and list(tmp_path.iterdir())
        pid = int(answer.text)
        os.kill(pid, 0)
    assert not list(tmp_path.iterdir())
    until(lambda: not Path(f"/proc/{pid}").exists(), f"the end of process {pid}", timeout=60)
