from __future__ import annotations

import http.server
import socket
import threading
from collections.abc import Iterator

import pytest

from podlab.images.tools import fetch, lookup


class _Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        status = 404 if self.path == "/missing" else 200
        self.send_response(status)
        self.send_header("X-Test", self.headers.get("X-Ask", ""))
        self.end_headers()
        self.wfile.write(f"{self.command} {self.path}".encode())

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(201)
        self.end_headers()
        self.wfile.write(b"got " + body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[str]:
    running = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    threading.Thread(target=running.serve_forever, daemon=True).start()
    yield f"127.0.0.1:{running.server_port}"
    running.shutdown()
    running.server_close()


def test_a_body_is_printed(server: str, capfdbinary: pytest.CaptureFixture) -> None:
    assert fetch.main([f"{server}/a?b=c"]) == 0
    assert capfdbinary.readouterr().out == b"GET /a?b=c"


def test_headers_data_and_status(server: str, capfdbinary: pytest.CaptureFixture) -> None:
    assert fetch.main(["-i", "-H", "X-Ask: 7", f"http://{server}/missing"]) == 0
    out = capfdbinary.readouterr().out
    assert out.startswith(b"HTTP/1.0 404 Not Found\r\n") and b"X-Test: 7\r\n" in out
    assert fetch.main(["-f", f"http://{server}/missing"]) == 22
    assert fetch.main(["-d", "some text", f"http://{server}/"]) == 0
    assert capfdbinary.readouterr().out.endswith(b"got some text")


def test_exit_statuses_are_those_of_curl(capfd: pytest.CaptureFixture) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        port = silent.getsockname()[1]
        assert fetch.main([f"http://127.0.0.1:{port}/"]) == 7
        silent.listen()
        assert fetch.main(["-t", "0.1", f"http://127.0.0.1:{port}/"]) == 28
    assert fetch.main(["http://no.such.host.invalid/"]) == 6
    assert fetch.main(["ftp://x/"]) == 3
    assert "fetch: " in capfd.readouterr().err


def test_lookup_prints_addresses(capsys: pytest.CaptureFixture) -> None:
    assert lookup.main(["127.0.0.5"]) == 0
    assert capsys.readouterr().out == "127.0.0.5\n"
    assert lookup.main(["no.such.host.invalid"]) == 2
    assert lookup.main([]) == 64
