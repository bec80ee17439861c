"""A release-shaped tree of small shell scripts on a loopback HTTP server that can misbehave on request."""

from __future__ import annotations

import hashlib
import io
import re
import tarfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from podlab.cluster.embedded.binaries import ALL, ETCD_VERSION, VERSION
from podlab.cluster.embedded.binaries.download import release
from podlab.cluster.embedded.binaries.versions import architecture

#: Long enough for several chunks of a download.
PADDING = 600_000


def script(name: str, version: str, padding: int = PADDING) -> bytes:
    """A shell script that says `version` as the binary `name` does, made long by a comment."""
    say = {
        "etcd": f"etcd Version: {version.removeprefix('v')}",
        "kubectl": f'{{"clientVersion": {{"gitVersion": "{version}"}}}}',
    }.get(name, f"Kubernetes {version}")
    return f"#!/bin/sh\necho '{say}'\nexit 0\n#".encode() + b"x" * padding


def put(folder: Path, name: str, version: str) -> Path:
    """Write such a script as an executable file."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_bytes(script(name, version, 10))
    path.chmod(0o755)
    return path


class ReleaseServer:
    """`files` by path, `log` of (path, Range header). A cut ends one answer after so many bytes of its body."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.log: list[tuple[str, str | None]] = []
        self.cuts: dict[str, list[int]] = {}
        self.ranges = True
        #: While this is not set, an answer with a body of more than a chunk stops in its middle.
        self.go_on = threading.Event()
        self.go_on.set()
        self.in_the_middle = threading.Event()
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                server._answer(self)

            def log_message(self, *_: object) -> None:
                pass

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._http.server_address[1]}"
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.05})
        self._thread.start()

    def close(self) -> None:
        self.go_on.set()
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()

    def publish(self, version: str = VERSION) -> None:
        """Put all five binaries and their checksums where the official release has them."""
        for name in ALL:
            self.publish_one(name, script(name, ETCD_VERSION if name == "etcd" else version))

    def publish_one(self, name: str, content: bytes) -> None:
        what = release(name, architecture(), "")
        if what.member:
            content = _archive(what.member, content)
        self.files[what.url] = content
        checksum = hashlib.sha256(content).hexdigest()
        line = f"{checksum}  {what.file}\n" if what.member else checksum
        self.files[what.checksum_url] = line.encode()

    def asked(self, name: str) -> list[str | None]:
        """The Range headers of the requests for the file of a binary."""
        return [header for path, header in self.log if path == release(name, architecture(), "").url]

    def _answer(self, handler: BaseHTTPRequestHandler) -> None:
        path = re.sub(r"^http://[^/]+", "", handler.path)
        header = handler.headers.get("Range")
        self.log.append((path, header))
        content = self.files.get(path)
        if content is None:
            handler.send_error(404)
            return
        begin = int(header.removeprefix("bytes=").rstrip("-")) if header and self.ranges else 0
        if begin >= len(content) and begin:
            handler.send_error(416)
            return
        handler.send_response(206 if begin else 200)
        if begin:
            handler.send_header("Content-Range", f"bytes {begin}-{len(content) - 1}/{len(content)}")
        body = content[begin:]
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        self._send(handler, path, body)

    def _send(self, handler: BaseHTTPRequestHandler, path: str, body: bytes) -> None:
        if cuts := self.cuts.get(path):
            body = body[: cuts.pop(0)]
            handler.close_connection = True
        half = len(body) // 2
        try:
            handler.wfile.write(body[:half])
            if half > 1000:
                self.in_the_middle.set()
                self.go_on.wait(60)
            handler.wfile.write(body[half:])
        except OSError:
            handler.close_connection = True


def _archive(member: str, content: bytes) -> bytes:
    buffer = io.BytesIO()
    # Not compressed, so that the archive has several chunks too.
    with tarfile.open(fileobj=buffer, mode="w:gz", compresslevel=0) as tar:
        info = tarfile.TarInfo(member)
        info.size = len(content)
        tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()
