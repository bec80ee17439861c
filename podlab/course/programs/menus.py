"""The two services that a page of exercise 10.5 asks: HTTP servers on this machine, with faults of the network."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import outside  # noqa: F401 - nobody looks into this process

#: Every request as [service, path], in the order in which they came.
ASKED: list = []
#: The servers: whoever is away keeps its port, too.
OPEN: list = []


def begin(menus, faults):
    """Open the services; name -> address. `menus`: service -> path -> answer; `faults` by service, or service and path.

    is away: nobody listens. fails: status 500. breaks off: half of the bytes. talks nonsense: as many, but no JSON.
    """
    addresses = {}
    for name, menu in menus.items():
        # Bound and not listening: connections are refused, and nobody else gets the port.
        server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(name, menu, faults), bind_and_activate=False)
        server.daemon_threads = True
        server.server_bind()
        OPEN.append(server)
        addresses[name] = f"http://127.0.0.1:{server.server_port}"
        if faults.get(name) != "is away":
            server.server_activate()
            threading.Thread(target=server.serve_forever, daemon=True).start()
    return addresses


def asked():
    """What has been asked until now."""
    return ASKED


def _handler(name, menu, faults):
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            ASKED.append([name, self.path])
            fault = faults.get(name) or faults.get(name + self.path)
            found = menu.get(self.path)
            body = json.dumps(found).encode()
            self.send_response(500 if fault == "fails" else 404 if found is None else 200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if fault == "breaks off":
                body = body[: len(body) // 2]
            if fault == "talks nonsense":
                body = b"<html>" + b"x" * (len(body) - 6)
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    return Handler
